#!/usr/bin/env bash
# Table 6: the terms of PatchUp's loss: launches what is missing, renders ours beside the paper's:
#   bash scripts/table6.sh [--datasets NAME ...] [--models NAME ...] [--methods NAME ...] [--seeds N] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables table6 "$@"
