#!/usr/bin/env bash
# Trains the methods on scikit-learn's digits and prints the comparison:
#   bash scripts/demo.sh [--methods NAME ...] [--seeds N] [--epochs N]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables demo "$@"
