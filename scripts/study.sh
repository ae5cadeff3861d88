#!/usr/bin/env bash
# The reduced study of the paper's claims: trains and evaluates what is missing, collects the records, derives claims.md:
#   bash scripts/study.sh cpu|gpu|gpu-minutes [--quick] [--jobs N] [--data-dir DIR] [--out DIR] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.study "$@"
