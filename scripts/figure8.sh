#!/usr/bin/env bash
# Figure 8: masks of CutMix and PatchUp in input space and of PatchUp in hidden space:
#   bash scripts/figure8.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--layer K] [--seed N]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.figures.illustrations figure8 "$@"
