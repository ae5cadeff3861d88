#!/usr/bin/env bash
# Table 8: hours of a training, from a few timed steps of every method: launches what is missing, renders ours beside the paper's:
#   bash scripts/table8.sh [--methods NAME ...] [--device NAME]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables table8 "$@"
