#!/usr/bin/env bash
# Table 2: test error on CIFAR-10, CIFAR-100 and SVHN: launches what is missing, renders ours beside the paper's:
#   bash scripts/table2.sh [--datasets NAME ...] [--models NAME ...] [--methods NAME ...] [--seeds N] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables table2 "$@"
