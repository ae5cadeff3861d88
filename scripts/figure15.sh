#!/usr/bin/env bash
# Figure 15: errors of ResNet101 and 152 under common corruptions of Tiny-ImageNet: launches what is missing, renders ours (the paper's numbers are not printed):
#   bash scripts/figure15.sh [--methods NAME ...] [--seeds N] [--released DIR] [--limit N] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables figure15 "$@"
