#!/usr/bin/env bash
# Figure 13: accuracy under FGSM on CIFAR-10 and SVHN: launches what is missing, renders ours (the paper's numbers are not printed):
#   bash scripts/figure13.sh [--methods NAME ...] [--seeds N] [--limit N] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables figure13 "$@"
