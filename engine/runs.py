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

Epochs count from 1 in a result, log or checkpoint of `format` 2, and from 0 in those without `format`, from before.
The files of an evaluation of a checkpoint are in evaluation_files.py.
"""

import contextlib
import functools
import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import torch

import data
import models
import recipes
from engine.files import (
    NUMBER,
    BadInput,
    RunFailed,
    is_locked,
    load_checkpoint,
    locked,
    read_json,
    require_fields,
    write_json,
    write_whole,
)


def require_recipe(state, expected, path, remedy):
    """Raise BadInput unless the recipe in state, what the file at path holds, is expected, a dict of recipes.used.

    A user's own images may lie elsewhere than they did, but must be the same; files without a digest are from before.
    """
    stored, folder = state.get("recipe", {}), expected.get("images")
    digest = folder and state.get("digest") and _digest(expected["dataset"], folder)
    if digest and digest != state["digest"]:
        raise BadInput(f"{path} is of other images than those in {folder}: {remedy}")
    if digest and isinstance(stored, dict):
        stored = stored | {"images": folder}
    if stored != expected:
        raise BadInput(f"{path} has another recipe ({recipes.differences(stored, expected)}): {remedy}")


@functools.lru_cache(maxsize=8)
def _digest(dataset, folder):
    """The digest of the images in a folder, or None where the folder does not hold them."""
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


FORMAT = 2  # of results, lines of logs, and checkpoints


def in_this_format(content, path):
    """What the file at path holds (a result, a line of a log, or a checkpoint), as this code writes it.

    A checkpoint without `format` has the whole loss of every step, so the loss of each term is NaN. Raises BadInput
    where a later version of this code wrote the file.
    """
    version = content.get("format", 1)
    if version == FORMAT:
        return content
    if version != 1:
        raise BadInput(f"{path} has format {version}, this code reads {FORMAT} at most: use a later version of it")
    content = content | {"format": FORMAT}
    for name in ("epoch", "best_epoch"):
        if content.get(name) is not None:
            content[name] += 1
    if content.get("best"):
        content["best"] = content["best"] | {"epoch": content["best"]["epoch"] + 1}
    if "losses" in content:
        whole = content["losses"]
        content["losses"] = torch.stack([whole, torch.full_like(whole, torch.nan)])
    return content


MEASURED = ("test_error", "test_nll", "last_epoch_test_error", "val_error", "best_epoch", "seconds", "classes")
MEASURED = dict.fromkeys(MEASURED, NUMBER)
LINE = {"epoch": int, "val_error": NUMBER, "seconds": NUMBER}


class RunFiles:
    """The files of the run that `recipe` describes, below the folder `out`."""

    def __init__(self, out, recipe):
        self.recipe = recipes.used(recipe)
        self.out = Path(out)
        model = models.as_file_name(recipe.model)
        self.stem = Path(out) / recipe.dataset / model / recipe.method / f"seed{recipe.seed}"
        self.result = self.with_suffix("json")
        self.log = self.with_suffix("jsonl")
        self.best = self.with_suffix("best.pt")
        self.last = self.with_suffix("last.pt")
        self.checkpoint = self.with_suffix("checkpoint.pt")
        self.checkpoint_before = self.with_suffix("checkpoint-before.pt")
        self.output = self.with_suffix("log")
        self.failed = self.with_suffix("failed")

    @property
    def name(self):
        """As `cifar100/wrn28_10/none/seed0`, with the folder before it where that is not `runs`."""
        path = self.stem.relative_to(self.out)
        return str(path if self.out.name == "runs" else Path(self.out.name, path))

    def with_suffix(self, suffix):
        """A file of this run by its suffix."""
        return self.stem.with_name(f"{self.stem.name}.{suffix}")

    def require_same_recipe(self, state, path):
        """Raise BadInput unless the recipe in a file is this run's."""
        require_recipe(state, self.recipe, path, "give another --out, or remove it to start anew")

    def finished(self, needed=()):
        """The result, if this run is finished, else None; needed: names of MEASURED that it must have.

        Raises BadInput if it was run with another recipe, or is damaged.
        """
        try:
            self.result.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadInput(f"cannot write to {self.stem.parent} ({error.strerror}): give another --out") from error
        fields = {"recipe": dict} | dict.fromkeys(needed, NUMBER)
        result = read_json(self.result, fields=fields, if_there=MEASURED)
        self.require_same_recipe(result, self.result)
        return in_this_format(result, self.result)

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
        """The lines of the log, dicts, without a last line that is not whole yet.

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
                lines.append(in_this_format(line, self.log))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            raise BadInput(f"{self.log} is no log of train.py ({error}); remove it to run it again") from error
        return lines

    def lock(self):
        """Keep other processes off this run. Raises Locked if it is in use, BadInput for a folder without access."""
        return locked(self.with_suffix("lock"), f"{self.stem} is being trained")

    def save_checkpoint(self, state):
        """Save state, with the recipe, as the newest checkpoint; the newest so far becomes the previous one."""
        fresh = self.with_suffix("checkpoint-new.pt")
        write_whole(fresh, lambda file: torch.save({"recipe": self.recipe, **state}, file))
        if self.checkpoint.exists():
            self.checkpoint.replace(self.checkpoint_before)
        fresh.replace(self.checkpoint)

    def newest_checkpoint(self):
        """The state to go on from, or None at a start. If the newest is damaged, the previous one, with a warning."""
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
                    warnings.warn(f"{problem}; going on from the checkpoint before it", stacklevel=2)
                return in_this_format(state, path)
        if problem:
            raise BadInput(f"{problem}, and no other exists: remove it to start anew")
        return None

    def cut_log(self, epochs):
        """Keep the first lines of the log, of the epochs done at the checkpoint. Raises BadInput, as logged does."""
        self.logged()
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
        self.tidy()

    def tidy(self):
        """Remove what a finished run needs no more."""
        for path in (self.checkpoint, self.checkpoint_before, self.failed):
            path.unlink(missing_ok=True)

    def tidy_after_a_kill(self):
        """The same, and the lock, of a run killed after it had written its result; not while a process is at it."""
        if any(path.exists() for path in (self.checkpoint, self.checkpoint_before, self.with_suffix("lock"))):
            with contextlib.suppress(BadInput), self.lock():  # leaving it removes the lock
                self.tidy()
