#!/usr/bin/env bash
# One page with every table and figure, run states and learning curves, results/report.html, from what is there:
#   bash scripts/report.sh [--out DIR]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.report "$@"
