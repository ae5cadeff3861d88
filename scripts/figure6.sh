#!/usr/bin/env bash
# Figure 6: activation magnitudes of WRN-28-10 on CIFAR-100 after the first two layers, of the runs that are trained:
#   bash scripts/figure6.sh [--seeds N] [--methods NAME ...] [--limit N] [--no-run]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python eval_activations.py --table figure6 "$@"
