"""Installation: the requirements cover the code and fit the lock, setup.sh and check_install.py say what is wrong.

setup.sh runs in a copy with a fake python, so nothing is installed.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import check_install

ROOT = Path(__file__).resolve().parent.parent
CODE = ["models", "regularizers", "data", "engine", "recipes", "scripts", "tests"]
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}  # import name -> package name, where they differ


def requirements() -> dict[str, list[tuple[str, str]]]:
    """Package -> its bounds, as [(">=", "2.2"), ("<", "3")]."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    specs = [line.split("#")[0].strip() for line in lines]
    matches = [re.fullmatch(r"([a-z0-9-]+)((?:>=|<)[\d.]+(?:,(?:>=|<)[\d.]+)*)", spec) for spec in specs if spec]
    assert all(matches), "a line of requirements.txt is not name>=low,<high"
    return {m[1]: re.findall(r"(>=|<)([\d.]+)", m[2]) for m in matches}


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_every_third_party_import_is_required():
    files = [*ROOT.glob("*.py"), *(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))]
    local = {path.stem for path in (*ROOT.glob("*.py"), *(ROOT / "tests").glob("*.py"))} | set(CODE)
    missing = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for top in {name.split(".")[0] for name in names} - local - sys.stdlib_module_names:
                if DISTRIBUTIONS.get(top, top) not in requirements():
                    missing.add((str(path.relative_to(ROOT)), top))
    assert not missing


@pytest.mark.parametrize("name", ["requirements-lock.txt", "requirements-v100-lock.txt"])
def test_lock_is_exact_and_within_the_ranges(name):
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    lock = dict(line.lower().split("==") for line in lines)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", line) for line in lines)
    for name, bounds in requirements().items():
        for operator, bound in bounds:
            assert (number(lock[name]) >= number(bound)) == (operator == ">="), (name, lock[name], operator, bound)


def test_the_lock_for_a_v100_has_its_torch():
    first, *pins = [line for line in (ROOT / "requirements-v100.txt").read_text().splitlines() if line[0] != "#"]
    assert first == "-r requirements.txt"
    assert set(pins) <= set((ROOT / "requirements-v100-lock.txt").read_text().splitlines())
    assert [pin.partition("==")[0] for pin in pins] == ["torch", "torchvision"]


# --- check_install.py: fake packages stand before the real ones, in a real process

FITTING = {
    "torch": "def zeros(*shape): return 0.0\n",
    "torchvision": "class ops:\n    nms = staticmethod(lambda boxes, scores, threshold: [])\n",
}
UNFIT = "do not fit each other", "--force-reinstall torch torchvision -c"
BROKEN = {  # package, its code, what is said of it, how to mend it
    "operator": ("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')", *UNFIT),
    "library": ("torchvision", "raise OSError('libc10.so: undefined symbol: x\\nlonger story')", *UNFIT),
    "submodule": ("torchvision", "import torch._no_such_part", *UNFIT),
    "old torch": ("torchvision", "import torch\ntorch.library", *UNFIT),
    "only when run": ("torchvision", "class ops:\n    def nms(*a): raise RuntimeError('no custom C++ ops')", *UNFIT),
    "torch itself": ("torch", "raise ImportError('libcudart.so.13: cannot open shared object file')", *UNFIT),
    "no torch": ("torch", "raise ModuleNotFoundError('', name='torch')", "torch is not installed", "-r"),
    "no vision": ("torchvision", "raise ModuleNotFoundError('', name='torchvision')", "torchvision is not inst", "-r"),
}


def check(folder: Path, *arguments: str, **packages: str) -> subprocess.CompletedProcess:
    for name, code in (FITTING | packages).items():
        (folder / f"{name}.py").write_text(code)
    script = ROOT / "scripts" / "check_install.py"
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, script, *arguments], env=environment, capture_output=True, text=True)


def test_check_passes_here():
    assert check_install.problem() is None


def test_check_passes_on_packages_that_fit(tmp_path):
    result = check(tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("case", BROKEN)
def test_check_names_the_mend_in_one_line(tmp_path, case):
    package, code, words, mend = BROKEN[case]
    result = check(tmp_path, **{package: code})
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and words in result.stderr
    assert result.stderr.endswith(f": run {sys.executable} -m pip install {mend} {ROOT / 'requirements.txt'}\n")


def test_check_names_the_list_that_it_was_asked_about(tmp_path):
    package, code, *_ = BROKEN["operator"]
    result = check(tmp_path, "requirements-v100.txt", **{package: code})
    assert result.stderr.endswith(f" -c {ROOT / 'requirements-v100.txt'}\n")


# --- setup.sh: a fake python answers what the script asks and writes down every call

FAKE_PYTHON = """#!/usr/bin/env bash
echo "$*" >>calls
case "$*" in
    *version_info*) [ -n "$FAKE_VERSION" ] && echo "$FAKE_VERSION" ;;
    *ensurepip,*) exit "${FAKE_NO_VENV:-0}" ;;
    "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip --version") exit 1 ;;
    "-m pip install"*) exit "${FAKE_PIP:-0}" ;;
    scripts/check_install.py*) exit "${FAKE_CHECK:-0}" ;;
esac
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of the tree's installation; copy(FAKE_PIP=1, ...) runs its setup.sh and returns result and calls."""
    tree = tmp_path / "a clone"
    (tree / "scripts").mkdir(parents=True)
    for name in ("requirements.txt", "requirements-v100.txt"):
        shutil.copy(ROOT / name, tree)
    shutil.copy(ROOT / "scripts" / "setup.sh", tree / "scripts")
    python = tmp_path / "fake python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)

    def run(**settings):
        (tree / "calls").write_text("")
        environment = {**os.environ, "PYTHON": str(python), "FAKE_VERSION": "3.10.2", **settings}
        command = ["bash", tree / "scripts" / "setup.sh"]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        return result, (tree / "calls").read_text()

    run.tree = tree
    return run


def test_setup_installs_once_and_then_does_nothing(copy):
    result, calls = copy()
    assert result.returncode == 0, result.stderr
    assert "installing requirements.txt" in result.stdout
    assert "-m pip install -q -r requirements.txt\n" in calls
    assert calls.endswith("scripts/check_install.py requirements.txt\n")
    result, calls = copy()
    assert (result.returncode, result.stdout, result.stderr, calls) == (0, "", "", "")


@pytest.mark.parametrize("failure", [{"FAKE_PIP": "1"}, {"FAKE_CHECK": "2"}])
def test_setup_that_failed_is_completed_by_the_next(copy, failure):
    assert copy(**failure)[0].returncode == 2
    result, calls = copy()
    assert result.returncode == 0
    assert "pip install" in calls
    assert "-m venv" not in calls


def test_setup_installs_again_when_the_requirements_change(copy):
    copy()
    with (copy.tree / "requirements.txt").open("a") as file:
        file.write("# changed\n")
    assert "pip install" in copy()[1]
    assert copy()[1] == ""


def test_setup_installs_another_list_and_keeps_to_it(copy):
    result, calls = copy(REQUIREMENTS="requirements-v100.txt")
    assert "installing requirements-v100.txt" in result.stdout
    assert "-m pip install -q -r requirements-v100.txt\n" in calls
    assert calls.endswith("scripts/check_install.py requirements-v100.txt\n")
    assert copy()[1] == ""
    with (copy.tree / "requirements.txt").open("a") as file:  # which the list names
        file.write("# changed\n")
    assert "-r requirements-v100.txt\n" in copy()[1]
    assert "-r requirements.txt\n" in copy(REQUIREMENTS="requirements.txt")[1]
    assert copy()[1] == ""


def test_setup_takes_the_usual_list_where_the_other_has_gone(copy):
    copy(REQUIREMENTS="requirements-v100.txt")
    (copy.tree / "requirements-v100.txt").unlink()
    assert "-r requirements.txt\n" in copy()[1]


def test_setup_says_which_list_pip_failed_at(copy):
    result, _ = copy(REQUIREMENTS="requirements-v100.txt", FAKE_PIP="1")
    assert result.returncode == 2 and "requirements-v100.txt" in result.stderr


def test_setup_makes_a_venv_anew_whose_python_is_gone(copy):
    copy()
    (copy.tree / ".venv" / "bin" / "python").unlink()
    assert "-m venv" in copy()[1]


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"FAKE_VERSION": "2.7.18"}, ("2.7.18", "Python 3.10 or newer", "PYTHON=")),
        ({"FAKE_VERSION": "3.9.18"}, ("3.9.18", "Python 3.10 or newer", "PYTHON=")),
        ({"PYTHON": "no-such-python"}, ("no Python at 'no-such-python'", "3.10")),
        ({"FAKE_NO_VENV": "1"}, ("has no venv", "apt-get install python3-venv")),
        ({"REQUIREMENTS": "requirements-v10.txt"}, ("no 'requirements-v10.txt'", "requirements-v100.txt")),
    ],
)
def test_setup_refuses_what_cannot_be_in_one_line_and_installs_nothing(copy, settings, words):
    result, calls = copy(**settings)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words), result.stderr
    assert "pip install" not in calls and not (copy.tree / ".venv").exists()


@pytest.mark.parametrize("version", ["3.10.0", "3.13.0", "4.0.0"])
def test_setup_takes_a_new_enough_python(copy, version):
    assert copy(FAKE_VERSION=version)[0].returncode == 0
