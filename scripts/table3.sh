#!/usr/bin/env bash
# Table 3: validation error on ImageNet (the other methods' numbers are the paper's citations): launches what is missing, renders ours beside the paper's:
#   bash scripts/table3.sh [--datasets NAME ...] [--models NAME ...] [--methods NAME ...] [--seeds N] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables table3 "$@"
