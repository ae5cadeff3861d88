"""Speed: the targets of a step, and the hours of a training."""
