#!/usr/bin/env bash
# Trains the methods on scikit-learn's digits and prints the comparison:
#   bash scripts/demo.sh [--methods NAME ...] [--seeds N] [--epochs N]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python scripts/tables.py demo "$@"
