#!/usr/bin/env bash
# Table 12: test error and NLL on SVHN: launches what is missing, renders ours beside the paper's:
#   bash scripts/table12.sh [--datasets NAME ...] [--models NAME ...] [--methods NAME ...] [--seeds N] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables table12 "$@"
