#!/usr/bin/env bash
# Table 1: test error and NLL on Tiny-ImageNet: launches what is missing, renders ours beside the paper's:
#   bash scripts/table1.sh [--datasets NAME ...] [--models NAME ...] [--methods NAME ...] [--seeds N] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables table1 "$@"
