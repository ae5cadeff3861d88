#!/usr/bin/env bash
# Figure 2: where ManifoldMixup's and PatchUp's samples of three hidden states lie:
#   bash scripts/figure2.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--layer K] [--seed N]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python scripts/illustrations.py figure2 "$@"
