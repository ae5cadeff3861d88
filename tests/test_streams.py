"""stdout and stderr that are closed, full or in ASCII fail no run; an interrupt during the imports is one line."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.streams import Tolerant

ROOT = Path(__file__).resolve().parent.parent
CODE = """
import sys
from engine.streams import make_tolerant
make_tolerant()
for number in range(3000):
    print("12.30 \\u00b1 0.40 of a line that is long enough to be written")
sys.stdout.flush()
assert sys.stderr.fileno() == 2 and sys.stdout.isatty() is False and sys.stdout.encoding
print("done \\u00b1", file=sys.stderr)
open("written", "w").write("whole")
"""


@pytest.mark.parametrize("how", ["", ">&-", "2>&-", ">&- 2>&-", "> /dev/full", "2> /dev/full", "> /dev/full 2>&1"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_cannot_be_printed_is_dropped(how, encoding, tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    command = f"{sys.executable} -c '{CODE}' {how}"
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "written").read_text() == "whole"
    if not how:
        sign = "\u00b1".encode(encoding, "replace")
        assert done.stdout.count(sign) == 3000 and done.stderr == b"done " + sign + b"\n"


def test_a_terminal_stays_one(monkeypatch):
    """Or progress bars would take it for a log file."""
    terminal = SimpleNamespace(isatty=lambda: True, reconfigure=lambda **options: None)
    assert Tolerant(terminal).isatty()


@pytest.mark.parametrize(
    "command",
    [["train.py"], ["eval_affine.py"], ["eval_corruption.py"], ["-m", "scripts.tables"], ["-m", "scripts.claims"]],
)
def test_an_interrupt_during_the_imports_is_one_line(command, tmp_path):
    for library in ("torch", "numpy", "pandas"):
        (tmp_path / f"{library}.py").write_text("raise KeyboardInterrupt\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.endswith(": interrupted; the same command starts again\n") and done.stderr.count("\n") == 1
