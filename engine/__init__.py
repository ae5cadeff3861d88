"""What a run or an evaluation needs: devices, metrics, training, files, attacks, the command line."""
