"""What a card is, whether training on it is right, how fast it is: bash scripts/gpu.sh."""
