#!/usr/bin/env bash
# Figure 1: the PatchUp operation on a feature map of two samples:
#   bash scripts/figure1.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--layer K] [--seed N]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python scripts/illustrations.py figure1 "$@"
