#!/usr/bin/env bash
# Figure 2: where ManifoldMixup's and PatchUp's samples of three hidden states lie:
#   bash scripts/figure2.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--layer K] [--seed N]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.figures.illustrations figure2 "$@"
