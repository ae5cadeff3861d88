#!/usr/bin/env bash
# Figure 9: how PatchUp's masks are made, at every hidden layer:
#   bash scripts/figure9.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--seed N]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python scripts/illustrations.py figure9 "$@"
