#!/usr/bin/env bash
# Figure 9: how PatchUp's masks are made, at every hidden layer:
#   bash scripts/figure9.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--seed N]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.figures.illustrations figure9 "$@"
