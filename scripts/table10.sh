#!/usr/bin/env bash
# Table 10: WRN-28-10 on affine deformations of CIFAR-100: launches what is missing, renders ours (the paper's numbers are not printed):
#   bash scripts/table10.sh [--methods NAME ...] [--seeds N] [--geometry modern] [--limit N] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables table10 "$@"
