#!/usr/bin/env bash
# The tests and a short demo on the oldest torch that will do and on a V100's, each installed into DIR (6 GB each):
#   bash scripts/versions.sh DIR [arguments of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:?give a folder for the environments}
shift
failed=0
for name in oldest v100; do
    python=$folder/$name/bin/python
    [ -x "$python" ] || "${PYTHON:-python3}" -m venv "$folder/$name"
    case $name in
        oldest) "$python" -m pip install -q -r requirements.txt torch==2.7.1 torchvision==0.22.1 ;;
        v100) "$python" -m pip install -q -r requirements-v100-lock.txt ;;
    esac
    "$python" scripts/check_install.py
    "$python" -c 'import torch, torchvision; print(f"torch {torch.__version__}, torchvision {torchvision.__version__}")'
    "$python" -m pytest -q "$@" || failed=1
    "$python" -m scripts.tables demo --methods none patchup_soft patchup_hard --seeds 1 --epochs 2 --out "$folder/demo-$name" || failed=1
done
exit $failed
