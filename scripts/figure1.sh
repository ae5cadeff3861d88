#!/usr/bin/env bash
# Figure 1: the PatchUp operation on a feature map of two samples:
#   bash scripts/figure1.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--layer K] [--seed N]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.figures.illustrations figure1 "$@"
