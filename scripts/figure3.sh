#!/usr/bin/env bash
# Figure 3: two boxes that CutMix can draw, over background and over the objects:
#   bash scripts/figure3.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--seed N]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python scripts/illustrations.py figure3 "$@"
