#!/usr/bin/env bash
# Figure 15: errors of ResNet101 and 152 under common corruptions of Tiny-ImageNet, of the runs that are trained:
#   bash scripts/figure15.sh [--released DIR] [--seeds N] [--methods NAME ...] [--limit N] [--no-run]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python eval_corruption.py --table figure15 "$@"
