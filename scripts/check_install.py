"""Do the installed torch and torchvision fit each other? setup.sh and the training scripts ask before anything else."""

import re
import shlex
import sys
from importlib import metadata
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"


def problem(requirements: Path = REQUIREMENTS) -> str | None:
    """What keeps torch and torchvision from working together and the command that mends it, in one line, or None.

    requirements: the list that the command installs from. A compiled operator is run, because a torchvision built for
    another torch often imports and fails only there.
    """
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:  # binaries that do not fit raise nearly anything
        if isinstance(error, ModuleNotFoundError) and error.name in ("torch", "torchvision"):
            return f"{error.name} is not installed: run {_pip('-r', requirements)}"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, MemoryError) or re.search("cannot allocate|failed to map|out of memory", reason.lower()):
            return f"torch does not fit into the memory that this shell allows ({reason}): see `ulimit -v`"
        return (
            f"torch {_version('torch')} and torchvision {_version('torchvision')} do not fit each other ({reason}): "
            f"run {_pip('--force-reinstall', 'torch', 'torchvision', '-c', requirements)}"
        )
    return None


def main(requirements: Path = REQUIREMENTS) -> None:
    """Exit with code 2 and the one line if there is a problem."""
    if message := problem(requirements):
        print(message, file=sys.stderr)
        raise SystemExit(2)


def _pip(*arguments: object) -> str:
    return shlex.join([sys.executable, "-m", "pip", "install", *map(str, arguments)])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of unknown version"


if __name__ == "__main__":
    main(*(REQUIREMENTS.parent / name for name in sys.argv[1:]))
