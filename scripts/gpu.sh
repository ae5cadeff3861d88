#!/usr/bin/env bash
# The first thing to do with a new GPU: what it is, whether training on it is right, how fast it is, what it says:
#   bash scripts/gpu.sh [--minutes 8] [--data-dir DIR] [--out DIR] [--parts PART ...] [--device cpu] [--help]
#   PYTHON=python3 bash scripts/gpu.sh      (by a Python that has torch already; nothing is installed)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -n "${PYTHON:-}" ] || exec bash "$root/scripts/python.sh" -m scripts.gpu "$@"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONSAFEPATH=1
exec "$PYTHON" -m scripts.gpu "$@"
