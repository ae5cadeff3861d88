"""Decoded images on disk, next to their source, for as long as that source stays what it was."""

import contextlib
import hashlib
import os
import platform
import time
from pathlib import Path

import numpy as np

from .errors import warn

FORMAT = "2"  # to be raised when what is stored changes
ABANDONED = 3600  # seconds after which an unfinished file is taken for that of a killed process


def fingerprint(root, paths):
    """A short hash of the paths (strings below root), sizes and modification times of files. Raises OSError."""
    digest = hashlib.sha256(FORMAT.encode())
    for path in paths:
        stat = os.stat(path)  # noqa: PTH116 - ten thousands of files, several times as fast as pathlib
        digest.update(f"{path[len(root) :]}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def load(folder, label, stamp, read, check):
    """The arrays {name: array} that read() gives, kept in folder/<label>-<stamp>.npz.

    A file that does not load, whose checksum is wrong or that check(arrays) refuses by any exception is made again.
    Files of other stamps are removed. Where nothing can be written, a warning line is printed and the arrays are used
    all the same.
    """
    arrays = stored(folder, label, stamp, check)
    if arrays is None:
        arrays = read()
        keep(folder, label, stamp, arrays)
    return arrays


def stored(folder, label, stamp, check):
    """The arrays of folder/<label>-<stamp>.npz, or None where it is missing or, with a warning line, unusable."""
    path = _path(folder, label, stamp)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        check(arrays)
        return arrays
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever a damaged or foreign file makes the reader do
        warn(f"the cache file {path} is damaged and will be made anew ({error})")
        return None


def keep(folder, label, stamp, arrays):
    """Keep arrays for `stored`, and remove those of other stamps. False, after a warning line, where that cannot be."""
    path = _path(folder, label, stamp)
    try:
        _store(path, arrays)
    except OSError as error:
        warn(f"images cannot be kept in {folder} ({error.strerror or error}); they will be made again")
        return False
    _tidy(path, label)
    return True


def _path(folder, label, stamp):
    return Path(folder) / f"{label}-{stamp}.npz"


def _store(path, arrays):
    """Write the file whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}.tmp")  # of this process alone
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _tidy(path, label):
    """Remove what is left of earlier states of the same source."""
    for old in path.parent.glob(f"{label}-*"):
        with contextlib.suppress(OSError):  # another process is faster, or a folder has the name
            abandoned = time.time() - old.stat().st_mtime > ABANDONED
            if old != path and (old.suffix != ".tmp" or abandoned):
                old.unlink()
