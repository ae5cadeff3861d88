#!/usr/bin/env bash
# Figure 5: accuracy of WRN-28-10 under FGSM: launches what is missing, renders ours (the paper's numbers are not printed):
#   bash scripts/figure5.sh [--methods NAME ...] [--seeds N] [--limit N] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables figure5 "$@"
