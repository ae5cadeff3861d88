#!/usr/bin/env bash
# Figure 11 stands in the paper's appendix alone, which is not available; what it shows is unknown, and this says so:
#   bash scripts/figure11.sh
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" scripts/tables.py figure11 "$@"
