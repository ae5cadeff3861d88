#!/usr/bin/env bash
# Figure 5: accuracy of WRN-28-10 under FGSM on CIFAR-100 and Tiny-ImageNet, of the runs that are trained:
#   bash scripts/figure5.sh [--seeds N] [--methods NAME ...] [--limit N] [--no-run]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python eval_adversarial.py --table figure5 --attacks fgsm "$@"
