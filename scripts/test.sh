#!/usr/bin/env bash
# Lint, format check, tests on as many processes as there are cores, one thread each:
#   bash scripts/test.sh                     without those that train in real processes or on real images
#   bash scripts/test.sh --slow              all of them
#   bash scripts/test.sh tests/test_setup.py -k python      other arguments go to pytest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
which="not slow"
if [ "${1:-}" = --slow ]; then
    which="slow or not slow"
    shift
fi
bash scripts/setup.sh
.venv/bin/python -m ruff check
.venv/bin/python -m ruff format --check
exec .venv/bin/python -m pytest -n auto --maxprocesses 8 --dist loadfile -m "$which" "$@"
