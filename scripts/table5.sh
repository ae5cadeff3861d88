#!/usr/bin/env bash
# Table 5: WRN-28-10 on Tiny-ImageNet under attacks: launches what is missing, renders ours beside the paper's:
#   bash scripts/table5.sh [--methods NAME ...] [--seeds N] [--limit N] [--attacks NAME ...] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables table5 "$@"
