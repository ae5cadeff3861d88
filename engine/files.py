"""Files that are written whole or not at all, read with the shape that they must have, and locked."""

import contextlib
import fcntl
import json
import math
import os
import pickle
import platform
import re
import struct
import tempfile
import time
import zipfile
from pathlib import Path

import torch

NUMBER = (int, float)  # a shape for read_json
LONGEST_NAME = 150  # characters of a file's name that its unfinished file has, too; names may have 255
UNFINISHED = re.compile(r"\.[^.].*-\d+\.tmp$")  # the end of their names
ABANDONED = 24 * 3600  # seconds

FLOCK = "hhqqi"  # Linux's struct flock: type, whence, start, length, process

ROOT = Path(__file__).resolve().parent.parent  # of the checkout


class BadInput(Exception):
    """What the user gave cannot be used: the scripts print it in one line and exit with status 2."""


class Locked(BadInput):
    """Another process is at it: the scripts exit with status 75, as it may be free or finished later."""


class RunFailed(Exception):
    """A run cannot go on (disk full, loss not finite): the scripts print it in one line and exit with status 1."""


def write_whole(path, write):
    """Let write(file) fill a binary file that appears under its name only when it is complete.

    Several processes may write one path: each has its unfinished file, and the last one stays. Unfinished
    files that killed processes left in the folder are removed after a day.

    Raises RunFailed, and leaves what was there before, if it cannot be written (disk full, no permission).
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name[:LONGEST_NAME]}.{platform.node()[:64]}-{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        remove_abandoned(path.parent)
    except (OSError, RuntimeError) as error:
        cause = error.__context__ if isinstance(error.__context__, OSError) else error  # torch.save hides a full disk
        raise RunFailed(f"cannot write {path} ({cause}); what was saved before is whole") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def remove_abandoned(folder):
    """Remove the unfinished files in a folder that nobody has written to for a day."""
    for file in folder.glob("*.tmp"):
        with contextlib.suppress(OSError):  # its owner, or another process, was faster
            if UNFINISHED.search(file.name) and time.time() - file.stat().st_mtime > ABANDONED:
                file.unlink()


def make_folder(path, flag="--out"):
    """Make a folder for results, with those above it. Raises BadInput where that cannot be, or it cannot be written.

    flag: what names the folder on the command line.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise BadInput(f"cannot write to {path} ({error.strerror}): give another {flag}") from error


def write_json(path, value):
    """Write value as indented JSON, whole."""
    write_whole(path, lambda file: file.write((json.dumps(value, indent=1) + "\n").encode()))


def read_json(path, maker="train.py", remedy="; remove it to run it again", fields=None, if_there=None):
    """The JSON object in a file that maker wrote.

    fields, if_there: {name: shape} of what must, and may, be in it. A shape is a type, several, or such a dict again;
    the name `...` stands for every name. Raises BadInput, naming the file and a remedy, where the content has another.
    """
    try:
        content = json.loads(Path(path).read_text())
        require_fields(content, fields or {}, if_there or {})
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not a result of {maker} ({error}){remedy}") from error
    return content


def require_fields(content, fields, if_there=()):
    """Raise ValueError where content lacks these fields (see read_json) or holds a number that is not finite."""
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    if missing := [name for name in fields if name is not ... and name not in content]:
        raise ValueError(f"no {missing[0]}")
    for name, shape in (fields | dict(if_there)).items():
        for key in content if name is ... else {name} & content.keys():
            value = content[key]
            if value is None and name not in fields:
                continue
            if isinstance(shape, dict):
                require_fields(value, shape)
            elif not isinstance(value, shape) or isinstance(value, bool):
                raise ValueError(f"{key} is {str(value)[:40]!r}")
            elif isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{key} is {value}")


def load_checkpoint(path):
    """The dict that train.py saved at path, on the CPU; nothing in the file is executed.

    Raises BadInput, naming the file, where it is damaged or no checkpoint.
    """
    if not Path(path).is_file():
        raise BadInput(f"there is no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
            if broken := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {broken} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's words are of its own history
        raise BadInput(f"{path} is no checkpoint of train.py: it holds objects that loading would execute") from error
    except Exception as error:  # a flipped bit raises nearly anything
        reason = str(error).strip().partition("\n")[0][:100]
        raise BadInput(f"{path} is damaged or no checkpoint of train.py ({reason})") from error
    if not isinstance(state, dict) or "recipe" not in state or "net" not in state:
        raise BadInput(f"{path} is no checkpoint of train.py: it holds no recipe and network")
    return state


@contextlib.contextmanager
def locked(path, what):
    """Hold the lock file at path. Raises Locked, beginning with what, if a process has it; BadInput if it cannot be."""
    make_folder(path.parent)
    file = _lock_file(path, what)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _lock_file(path, what):
    """The file at path, open and locked by this process alone (lockf: children of it do not hold the lock)."""
    while True:
        try:
            file = path.open("a+")
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                file.truncate(0)
                file.write(f"{os.getpid()} on {platform.node()}")
                file.flush()
                return file
            file.close()  # its last owner has just removed it
        except (BlockingIOError, PermissionError) as error:
            with contextlib.suppress(FileNotFoundError):  # its owner has just removed it
                raise _refusal(path, what, error) from None
        except OSError as error:
            raise BadInput(f"cannot lock {path} ({error.strerror}): give another --out") from error


def _refusal(path, what, error):
    """The exception that says why the lock file at path cannot be locked."""
    if isinstance(error, BlockingIOError) or is_locked(path):
        owner = path.read_text(errors="replace").strip() or "of unknown number"
        return Locked(f"{what} by process {owner}")
    held = " and nobody holds it" if os.access(path, os.R_OK, effective_ids=True) else ""
    return BadInput(f"{path} belongs to user {path.stat().st_uid}{held}: remove it, or give another --out")


def is_locked(path):
    """Whether another process holds the lock file at path. Not for its holder, who would lose the lock by looking.

    It asks without taking the lock, so that a process that starts meanwhile is not refused; this works on NFS too.
    """
    question = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with path.open("rb") as file:
            return struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, question))[0] != fcntl.F_UNLCK
    except OSError:
        return False
