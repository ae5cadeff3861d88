#!/usr/bin/env bash
# Figure 13: accuracy of PreActResNet18, 34 and WRN-28-10 under FGSM on CIFAR-10 and SVHN, of the runs that are trained:
#   bash scripts/figure13.sh [--seeds N] [--methods NAME ...] [--limit N] [--no-run]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python eval_adversarial.py --table figure13 --attacks fgsm "$@"
