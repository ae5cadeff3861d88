#!/usr/bin/env bash
# Figure 10: how diverse interpolated hidden states are, measured:
#   bash scripts/figure10.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--layer K] [--seed N]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.figures.illustrations figure10 "$@"
