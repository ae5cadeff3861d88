#!/usr/bin/env bash
# Runs a script in the environment, which it makes at first:  bash scripts/python.sh train.py --help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python "$@"
