#!/usr/bin/env bash
# Figure 6: activation magnitudes of WRN-28-10 after the first two layers: launches what is missing, renders ours (the paper's numbers are not printed):
#   bash scripts/figure6.sh [--methods NAME ...] [--seeds N] [--official] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables figure6 "$@"
