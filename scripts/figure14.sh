#!/usr/bin/env bash
# Figure 14: activation magnitudes of WRN-28-10 on CIFAR-100 after conv1 and every layer, of the runs that are trained:
#   bash scripts/figure14.sh [--seeds N] [--methods NAME ...] [--limit N] [--no-run]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python eval_activations.py --table figure14 "$@"
