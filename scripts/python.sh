#!/usr/bin/env bash
# Runs a module of the checkout in its environment, which it makes at first:  bash scripts/python.sh -m scripts.tables --help
# Relative paths are those of the folder that it is called from.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/scripts/setup.sh"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONSAFEPATH=1 # no module of the caller's folder is taken for ours
exec "$root/.venv/bin/python" "$@"
