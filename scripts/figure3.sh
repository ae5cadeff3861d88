#!/usr/bin/env bash
# Figure 3: two boxes that CutMix can draw, over background and over the objects:
#   bash scripts/figure3.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--seed N]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.figures.illustrations figure3 "$@"
