#!/usr/bin/env bash
# Makes .venv and installs requirements.txt into it; does nothing where that is done. The other scripts call it first.
#   PYTHON=/path/to/python bash scripts/setup.sh      (default: python3; needed only until .venv is there)
#   REQUIREMENTS=requirements-v100.txt bash scripts/demo.sh      (another list; .venv keeps to it from then on)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
    echo "setup: $*" >&2
    exit 2
}
version() {
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null
}
content() { # of the list and, since another list names it, of requirements.txt
    echo "$requirements"
    cat "$requirements" requirements.txt
}

venv=.venv/bin/python
stamp=.venv/.installed # name and content of the list that was installed to the end
requirements=${REQUIREMENTS:-$(head -n 1 "$stamp" 2>/dev/null || true)}
if [ ! -f "$requirements" ]; then
    [ -z "${REQUIREMENTS:-}" ] || die "there is no '$requirements' for REQUIREMENTS; there are" requirements*.txt
    requirements=requirements.txt
fi
[ -x "$venv" ] && content | cmp -s - "$stamp" && exit 0

python=$venv
version "$venv" >/dev/null || python=${PYTHON:-python3}
found=$(version "$python") ||
    die "no Python at '$python': install Python 3.10 or newer, or name one by PYTHON=/path/to/python"
IFS=. read -r major minor _ <<<"$found"
((major * 100 + minor >= 310)) ||
    die "needs Python 3.10 or newer, '$python' is $found: remove any .venv and name another by PYTHON=/path/to/python"

if [ "$python" != "$venv" ]; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "'$python' has no venv: install it (Debian, Ubuntu: apt-get install python3-venv) and run this again"
    echo "setup: making .venv with Python $found"
    "$python" -m venv --clear --without-pip .venv
fi
"$venv" -m pip --version >/dev/null 2>&1 || "$venv" -m ensurepip >/dev/null ||
    die "pip cannot be put into .venv: remove .venv and run this again"
echo "setup: installing $requirements into .venv (once: some minutes; 6 to 8 GB, 12 GB while it installs)"
"$venv" -m pip install -q -r "$requirements" ||
    die "pip's reason for $requirements stands above; run this again, it goes on from there"
"$venv" scripts/check_install.py "$requirements"
content >"$stamp"
echo "setup: done"
