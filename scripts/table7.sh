#!/usr/bin/env bash
# Table 7: the layers that Hard PatchUp acts on: launches what is missing, renders ours beside the paper's:
#   bash scripts/table7.sh [--datasets NAME ...] [--models NAME ...] [--methods NAME ...] [--seeds N] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables table7 "$@"
