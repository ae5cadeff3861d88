#!/usr/bin/env bash
# Lint, format check, tests; arguments go to pytest:  bash scripts/test.sh tests/test_setup.py -k python
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
.venv/bin/python -m ruff check
.venv/bin/python -m ruff format --check
exec .venv/bin/python -m pytest "$@"
