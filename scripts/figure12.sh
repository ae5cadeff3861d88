#!/usr/bin/env bash
# Figure 12 stands in the paper's appendix alone, which is not available; what it shows is unknown, and this says so:
#   bash scripts/figure12.sh
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" scripts/tables.py figure12 "$@"
