#!/usr/bin/env bash
# Figure 7: Hard PatchUp by its own mask on images:
#   bash scripts/figure7.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--seed N]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.figures.illustrations figure7 "$@"
