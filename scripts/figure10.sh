#!/usr/bin/env bash
# Figure 10: how diverse interpolated hidden states are, measured:
#   bash scripts/figure10.sh [--dataset NAME] [--model NAME] [--checkpoint FILE] [--layer K] [--seed N]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python scripts/illustrations.py figure10 "$@"
