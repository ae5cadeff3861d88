"""The files of one run: lock, checkpoints, one line an epoch, weights, result. Each is written whole or not at all.

<out>/<dataset>/<model>/<method>/seed<k>.json            the result, last of all; a run that has one is finished
                                 seed<k>.jsonl           one line an epoch
                                 seed<k>.best.pt         weights of the best validation epoch, with the recipe
                                 seed<k>.last.pt         weights of the last epoch, with the recipe
                                 seed<k>.checkpoint.pt   while it runs: all it takes to go on; and the one before:
                                 seed<k>.checkpoint-before.pt
                                 seed<k>.lock            likewise
                                 seed<k>.log             what its processes printed, under a launcher
                                 seed<k>.failed          how it failed last, under a launcher

EvaluationFiles is the same for one evaluation of a checkpoint (see evaluation.py).
"""

import contextlib
import fcntl
import functools
import hashlib
import io
import json
import math
import os
import platform
import re
import struct
import tempfile
import time
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import data
import recipes

OTHER_RECIPE = "give its --out, or the file alone without --table"  # what helps where an evaluation finds one
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

    Several processes may write one path: each has an unfinished file of its own, and the last one stays. Unfinished
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

    fields, if_there: {name: the types that it may have} of what must, and may, be in it. Raises BadInput, naming the
    file and a remedy, where it is another one.
    """
    try:
        content = json.loads(Path(path).read_text())
        require_fields(content, fields or {}, if_there or {})
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not a result of {maker} ({error}){remedy}") from error
    return content


def require_fields(content, fields, if_there=()):
    """Raise ValueError where content is no dict with these fields, {name: types}, or one is a number not finite."""
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    if missing := [name for name in fields if name not in content]:
        raise ValueError(f"no {missing[0]}")
    for name, types in (fields | dict(if_there)).items():
        value = content.get(name)
        if value is None and name in if_there:
            continue
        if not isinstance(value, types) or isinstance(value, bool):
            raise ValueError(f"{name} is {str(value)[:40]!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value}")


def load_checkpoint(path):
    """The dict that train.py saved at path, on the CPU; nothing in the file is executed.

    Raises BadInput, naming the file, where it is not one or is damaged.
    """
    if not Path(path).is_file():
        raise BadInput(f"there is no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
            if broken := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {broken} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
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
        owner = path.read_text().strip() or "of unknown number"
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


def require_recipe(state, expected, path, remedy):
    """Raise BadInput unless the recipe in state, what the file at path holds, is expected, a dict of recipes.used.

    A user's own images may lie elsewhere than they did, but must be the same; files without a digest are from before.
    """
    found, folder = state.get("recipe", {}), expected.get("images")
    digest = folder and state.get("digest") and _digest(expected["dataset"], folder)
    if digest and digest != state["digest"]:
        raise BadInput(f"{path} is of other images than those in {folder}: {remedy}")
    if digest and isinstance(found, dict):
        found = found | {"images": folder}
    if found != expected:
        raise BadInput(f"{path} has another recipe ({recipes.differences(found, expected)}): {remedy}")


@functools.lru_cache(maxsize=8)
def _digest(dataset, folder):
    """The digest of the images in a folder, or None where they are not there."""
    try:
        return data.folder_digest(dataset, folder)
    except data.DataError:
        return None


@functools.lru_cache(maxsize=64)
def _sha256(path, stamp):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sha256(path):
    """The SHA-256 of a file, hex; remembered while its time and size stay."""
    stat = path.stat()
    return _sha256(path, (stat.st_mtime_ns, stat.st_size))


class State(NamedTuple):
    """How far a run is: name is finished, running, failed, stopped (to go on from a checkpoint) or missing."""

    name: str
    epoch: int  # epochs done
    epochs: int
    best_val_error: float | None = None  # percent, so far
    seconds: float | None = None  # of training, so far


NUMBER = (int, float)
MEASURED = dict.fromkeys(("test_error", "test_nll", "last_epoch_test_error", "val_error", "seconds", "classes"), NUMBER)
LINE = {"epoch": int, "val_error": NUMBER, "seconds": NUMBER}


class RunFiles:
    """The files of the run that `recipe` describes, below the folder `out`."""

    def __init__(self, out, recipe):
        self.recipe = recipes.used(recipe)
        self.out = Path(out)
        self.stem = Path(out) / recipe.dataset / recipe.model / recipe.method / f"seed{recipe.seed}"
        self.result = self.with_suffix("json")
        self.log = self.with_suffix("jsonl")
        self.best = self.with_suffix("best.pt")
        self.last = self.with_suffix("last.pt")
        self.checkpoint = self.with_suffix("checkpoint.pt")
        self.checkpoint_before = self.with_suffix("checkpoint-before.pt")
        self.output = self.with_suffix("log")
        self.failed = self.with_suffix("failed")

    def with_suffix(self, suffix):
        """A file of this run by its suffix."""
        return self.stem.with_name(f"{self.stem.name}.{suffix}")

    def require_same_recipe(self, state, path):
        """Raise BadInput unless the recipe in a file is this run's."""
        require_recipe(state, self.recipe, path, "give another --out, or remove it to start anew")

    def finished(self):
        """The result, if this run is finished, else None. Raises BadInput if it was run with another recipe."""
        try:
            self.result.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadInput(f"cannot write to {self.stem.parent} ({error.strerror}): give another --out") from error
        result = read_json(self.result, fields={"recipe": dict}, if_there=MEASURED)
        self.require_same_recipe(result, self.result)
        return result

    def state(self):
        """The State that the files show, quickly. Raises BadInput if it is finished with another recipe."""
        epochs = self.recipe["epochs"]
        if result := self.finished():
            return State("finished", epochs, epochs, result.get("val_error"), result.get("seconds"))
        started = self.checkpoint.exists() or self.checkpoint_before.exists()
        locked = is_locked(self.with_suffix("lock"))
        name = "running" if locked else "failed" if self.failed.exists() else "stopped" if started else "missing"
        lines = self.logged() if started or locked else []
        if not lines:
            return State(name, 0, epochs)
        best = min(line["val_error"] for line in lines)
        return State(name, min(len(lines), epochs), epochs, best, lines[-1]["seconds"])

    def logged(self):
        """The lines of the log, dicts; a last one that is not whole yet is left out.

        Raises BadInput where the file is no log.
        """
        lines = []
        try:
            for text in self.log.read_text().splitlines():
                try:
                    line = json.loads(text)
                except ValueError:
                    break
                require_fields(line, LINE)
                lines.append(line)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            raise BadInput(f"{self.log} is no log of train.py ({error}); remove it to run it again") from error
        return lines

    def lock(self):
        """Keep other processes off this run. Raises Locked if one is at it, BadInput for a folder without access."""
        return locked(self.with_suffix("lock"), f"{self.stem} is being trained")

    def save_checkpoint(self, state):
        """Save state, with the recipe, as the newest checkpoint; the newest so far becomes the one before."""
        fresh = self.with_suffix("checkpoint-new.pt")
        write_whole(fresh, lambda file: torch.save({"recipe": self.recipe, **state}, file))
        if self.checkpoint.exists():
            self.checkpoint.replace(self.checkpoint_before)
        fresh.replace(self.checkpoint)

    def newest_checkpoint(self):
        """The state to go on from, or None at a start. A damaged one falls back to the one before, with a warning."""
        problem = None
        for path in (self.checkpoint, self.checkpoint_before):
            if path.exists():
                try:
                    state = load_checkpoint(path)
                    if "optimizer" not in state:
                        raise BadInput(f"{path} holds weights alone, no training to go on with")
                except BadInput as error:
                    problem = error
                    continue
                self.require_same_recipe(state, path)
                if problem:
                    warnings.warn(f"{problem}; going on from the one before it", stacklevel=2)
                return state
        if problem:
            raise BadInput(f"{problem}, and there is no other: remove it to start anew")
        return None

    def cut_log(self, epochs):
        """Keep the first lines of the log, those of the epochs done at the checkpoint."""
        if self.log.is_dir():
            raise BadInput(f"{self.log} is a folder; remove it to run it again")
        lines = self.log.read_text().splitlines(keepends=True) if self.log.exists() else []
        write_whole(self.log, lambda file: file.write("".join(lines[:epochs]).encode()))

    def log_epoch(self, line):
        """Append one epoch's line. Raises RunFailed if it cannot be written."""
        try:
            with self.log.open("a") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunFailed(f"cannot write {self.log} ({error}); what was saved before is whole") from error

    def finish(self, best, last, result):
        """Write weights and result, then remove the checkpoints."""
        about = {"recipe": self.recipe, "digest": result["digest"]}
        write_whole(self.best, lambda file: torch.save({**about, "net": best}, file))
        write_whole(self.last, lambda file: torch.save({**about, "net": last}, file))
        write_json(self.result, result)
        for path in (self.checkpoint, self.checkpoint_before, self.failed):
            path.unlink(missing_ok=True)


class EvaluationFiles:
    """The files of one study of one checkpoint."""

    def __init__(self, path, study):
        self.checkpoint, self.study = Path(path), study
        self.stem = self.checkpoint.with_suffix("")
        self.result, self.images = self.with_suffix("json"), self.with_suffix("npz")
        self.partial, self.lock = self.with_suffix("partial.npz"), self.with_suffix("lock")

    def with_suffix(self, suffix):
        """A file of this record by its suffix."""
        return self.stem.with_name(f"{self.stem.name}.{self.study.name}.{suffix}")

    def finished(self, expected=None):
        """The result, if there is one, else None.

        Raises BadInput if it is of other weights, another setting or another recipe than expected (None: any).
        """
        if not self.result.exists():
            return None
        result = read_json(self.result, maker="an evaluation")
        if not self._holds(result.get("images")):
            return None
        if self.checkpoint.exists() and result.get("checkpoint_sha256") != sha256(self.checkpoint):
            raise BadInput(f"{self.result} is of other weights than {self.checkpoint}: remove it to evaluate these")
        setting = result.get("setting", {})
        odd = [name for name, value in self.study.setting.items() if value is not None and setting.get(name) != value]
        if odd:
            there, here = setting.get(odd[0]), self.study.setting[odd[0]]
            raise BadInput(f"{self.result} has another {odd[0]} ({there}, here {here}): remove it to evaluate anew")
        if expected:
            require_recipe(result, recipes.used(expected), self.result, OTHER_RECIPE)
        return result

    def _holds(self, count):
        """Whether the archive of the single images is whole and has so many."""
        try:
            with np.load(self.images, allow_pickle=False) as stored:
                return len(stored["labels"]) == count
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return False

    def save_partial(self, stamp, done, seconds, arrays, totals):
        """Keep what is done so far: images done a task, the arrays, the sums. stamp: what they belong to, a text."""
        head = {"stamp": stamp, "done": done, "seconds": seconds}
        stored = {f"array/{name}": value for name, value in arrays.items()}
        stored |= {f"total/{name}": value for name, value in totals.items()}
        write_whole(self.partial, lambda file: np.savez(file, head=json.dumps(head), **stored))

    def load_partial(self, stamp):
        """(images done a task, seconds, arrays, totals) to go on from; empty if there are none of this stamp."""
        fresh = {}, 0.0, {}, {}
        try:
            with np.load(self.partial, allow_pickle=False) as stored:
                head = json.loads(str(stored["head"]))
                parts = {name: stored[name] for name in stored.files if name != "head"}
            if head["stamp"] != stamp:
                warnings.warn(f"{self.partial} belongs to other images or weights; starting anew", stacklevel=2)
                return fresh
            done, seconds = head["done"], head["seconds"]
        except FileNotFoundError:
            return fresh
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            warnings.warn(f"{self.partial} is damaged ({error}); starting anew", stacklevel=2)
            return fresh
        arrays, totals = (
            {name.removeprefix(kind): value for name, value in parts.items() if name.startswith(kind)}
            for kind in ("array/", "total/")
        )
        return done, seconds, arrays, totals

    def finish(self, arrays, result):
        """Write arrays and result, then remove what was kept on the way."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_whole(self.images, lambda file: file.write(buffer.getbuffer()))
        write_json(self.result, result)
        self.partial.unlink(missing_ok=True)
