#!/usr/bin/env bash
# Figure 8: masks of CutMix and PatchUp in input space and of PatchUp in hidden space:
#   bash scripts/figure8.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--layer K] [--seed N]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python scripts/illustrations.py figure8 "$@"
