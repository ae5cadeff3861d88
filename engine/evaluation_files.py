"""The files of one evaluation of one checkpoint: its record, and what is done of it while it runs."""

import io
import json
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

import recipes
from engine.files import NUMBER, BadInput, read_json, write_json, write_whole
from engine.runs import require_recipe, sha256

FIELDS = {  # what a record of every kind holds, among others
    "dataset": str,
    "setting": dict,
    "cases": {...: {"error": NUMBER}},
    "images": int,
    "recipe": dict,
}


class EvaluationFiles:
    """The files of one evaluation of one checkpoint: both names are in theirs."""

    def __init__(self, path, evaluation):
        self.checkpoint, self.evaluation = Path(path), evaluation
        self.stem = self.checkpoint.with_suffix("")
        self.result, self.images = self.with_suffix("json"), self.with_suffix("npz")
        self.partial, self.lock = self.with_suffix("partial.npz"), self.with_suffix("lock")

    def with_suffix(self, suffix):
        """A file of this record by its suffix."""
        return self.stem.with_name(f"{self.stem.name}.{self.evaluation.name}.{suffix}")

    def finished(self, expected=None):
        """The record, or None where it does not exist.

        Raises BadInput if it is of other weights, another setting or another recipe than expected (None: any).
        """
        if not self.result.exists():
            return None
        result = read_json(self.result, "an evaluation", fields=FIELDS | self.evaluation.fields)
        if not self._holds(result["images"]):
            return None
        if self.checkpoint.exists() and result.get("checkpoint_sha256") != sha256(self.checkpoint):
            raise BadInput(f"{self.result} is of other weights than {self.checkpoint}: remove it to evaluate these")
        setting = result["setting"]
        for name, value in self.evaluation.setting.items():
            if value is not None and setting.get(name) != value:
                words = f"another {name} ({setting.get(name)}, here {value})"
                raise BadInput(f"{self.result} has {words}: remove it to evaluate anew")
        if expected:
            require_recipe(result, recipes.used(expected), self.result, "give its --out")
        return result

    def _holds(self, count):
        """Whether the archive of the single images is whole and has so many."""
        try:
            with np.load(self.images, allow_pickle=False) as stored:
                return len(stored["labels"]) == count
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return False

    def finish(self, arrays, result):
        """Write arrays and record, then remove what was kept on the way."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_whole(self.images, lambda file: file.write(buffer.getbuffer()))
        write_json(self.result, result)
        self.partial.unlink(missing_ok=True)


class Partial:
    """What is done so far of an evaluation, kept at path while it runs.

    stamp: what it belongs to, a text; done: {task: images}; arrays: {<case>/<name>: [images so far]}; sums: {name:
    float64 array} over the images so far.
    """

    def __init__(self, path, stamp):
        self.path, self.stamp = path, stamp
        self.done, self.sums, self._parts, self._seconds = {}, {}, {}, 0.0
        self._started = time.monotonic()

    @classmethod
    def load(cls, path, stamp):
        """What was saved at path; empty, with a warning, where that is damaged or has another stamp."""
        partial = cls(path, stamp)
        try:
            with np.load(path, allow_pickle=False) as stored:
                head = json.loads(str(stored["head"]))
                arrays = {name.partition("/")[::2]: stored[name] for name in stored.files if name != "head"}
            if head["stamp"] != stamp:
                warnings.warn(f"{path} belongs to other images or weights; starting anew", stacklevel=2)
                return partial
            done, seconds = dict(head["done"]), float(head["seconds"])
        except FileNotFoundError:
            return partial
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            warnings.warn(f"{path} is damaged ({error}); starting anew", stacklevel=2)
            return partial
        partial.done, partial._seconds = done, seconds
        partial._parts = {name: [values] for (kind, name), values in arrays.items() if kind == "array"}
        partial.sums = {name: values for (kind, name), values in arrays.items() if kind == "total"}
        return partial

    def add(self, task, images, cases):
        """So many more images of a task are done: cases is {case: {name: tensor [images]}}."""
        for case, values in cases.items():
            for name, tensor in values.items():
                self._parts.setdefault(f"{case}/{name}", []).append(tensor.cpu().numpy())
        self.done[task] = self.done.get(task, 0) + images

    @property
    def arrays(self):
        """{<case>/<name>: [images so far]}."""
        for name, parts in self._parts.items():
            if len(parts) > 1:
                self._parts[name] = [np.concatenate(parts)]
        return {name: parts[0] for name, parts in self._parts.items()}

    @property
    def seconds(self):
        """Seconds spent, those before an interruption too."""
        return self._seconds + time.monotonic() - self._started

    def save(self):
        """Keep it at path."""
        head = {"stamp": self.stamp, "done": self.done, "seconds": self.seconds}
        stored = {f"array/{name}": values for name, values in self.arrays.items()}
        stored |= {f"total/{name}": values for name, values in self.sums.items()}
        write_whole(self.path, lambda file: np.savez(file, head=json.dumps(head), **stored))
