#!/usr/bin/env bash
# Table 11: test error and NLL on CIFAR-10 and CIFAR-100: launches what is missing, renders ours beside the paper's:
#   bash scripts/table11.sh [--datasets NAME ...] [--models NAME ...] [--methods NAME ...] [--seeds N] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables table11 "$@"
