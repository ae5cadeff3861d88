#!/usr/bin/env bash
# Figure 7: Hard PatchUp by its own mask on images:
#   bash scripts/figure7.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--seed N]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python scripts/illustrations.py figure7 "$@"
