#!/usr/bin/env bash
# Figure 4: errors of WRN-28-10 under common corruptions of Tiny-ImageNet, of the runs that are trained:
#   bash scripts/figure4.sh [--released DIR] [--seeds N] [--methods NAME ...] [--limit N] [--no-run]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python eval_corruption.py --table figure4 "$@"
