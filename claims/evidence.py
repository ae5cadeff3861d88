"""The records of a study, small enough to be kept in git: written by scripts/study.py, read by scripts/claims.py.

runs.jsonl         a line a run: `rows`, the [part, variant] of the study's tables that show it, and train.py's `result`
epochs.csv         epoch, train_loss and val_error of the methods' runs
evaluations.jsonl  a line an evaluation: its record without the recipe, which is the run's; numbers of 6 digits
predictions.npz    labels uint8 [N], and <model>/<method>/<seed>/predicted uint8 [N], .../confidence float16 [N]
diversity.csv      measures of scripts/figures/diversity.py: model, method, seed of the network, interpolation, mean

A part is a table of recipes.STUDIES without what they share: `methods` for study_cpu, `loss` for study_cpu_loss.
"""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import recipes
from engine.files import BadInput, make_folder, write_whole

METHODS = "methods"
TRAINED = (METHODS, "size", "loss", "layers", "official")  # the parts that have runs of their own
DIGITS = 6  # of numbers in evaluations
RUN = ["model", "method", "seed"]
COLUMNS = {
    "epochs": [*RUN, "epoch", "train_loss", "val_error"],
    "diversity": [*RUN, "interpolation", "measure", "mean"],
}


def part_of(table, scale):
    """The part that a table of recipes.STUDIES[scale] is: `loss` for study_cpu_loss."""
    return table.removeprefix(f"study_{scale}").removeprefix("_") or METHODS


def table_of(part, scale):
    """The recipes.Table of a part."""
    return recipes.STUDIES[scale][f"study_{scale}" + (f"_{part}" if part != METHODS else "")]


def rounded(value):
    """A JSON value with numbers of DIGITS digits."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


# ---- writing ----


def write(folder, scale, runs, epochs, evaluations, predictions, diversity):
    """Write the records of a study, each file whole.

    runs: [(rows, result)]; epochs, diversity: rows in the order of COLUMNS; evaluations: [record]; predictions:
    {name: array}. Raises BadInput or RunFailed where the folder cannot be written.
    """
    make_folder(folder)
    lines = [{"scale": scale, "rows": rows, "result": result} for rows, result in runs]
    records = [rounded({name: v for name, v in one.items() if name != "recipe"}) for one in evaluations]
    arrays = io.BytesIO()
    np.savez_compressed(arrays, **predictions)
    contents = {
        "runs.jsonl": as_lines(lines),
        "evaluations.jsonl": as_lines(records),
        "epochs.csv": csv(pd.DataFrame(epochs, columns=COLUMNS["epochs"])),
        "diversity.csv": csv(pd.DataFrame(diversity, columns=COLUMNS["diversity"])),
        "predictions.npz": arrays.getvalue(),
    }
    for name, content in contents.items():
        write_whole(folder / name, lambda file, content=content: file.write(content))


def as_lines(values):
    """JSON values, one a line."""
    return "".join(json.dumps(value, separators=(",", ":")) + "\n" for value in values).encode()


def csv(frame):
    """A frame as CSV, with numbers of 6 digits."""
    return frame.to_csv(index=False, float_format="%.6g").encode()


# ---- reading ----


@dataclass(frozen=True)
class Records:
    """A study's records in memory; see read.

    runs: {(part, variant, model, method, seed): result}; evaluations: {(kind, model, method, seed): record};
    predictions: {name: array}; epochs, diversity: frames.
    """

    folder: Path
    scale: str
    runs: dict
    evaluations: dict
    predictions: dict
    epochs: pd.DataFrame
    diversity: pd.DataFrame

    @property
    def models(self):
        """The networks that there are runs of, in the study's order."""
        there = {key[2] for key in self.runs}
        return [model for model in recipes.STUDY_MODELS[self.scale] if model in there]


def read(folder):
    """The Records in a folder. Raises BadInput, naming the file, where there are none or one is damaged."""
    folder = Path(folder)
    runs, scales = {}, set()
    for line in json_lines(folder / "runs.jsonl", ("scale", "rows", "result")):
        scales.add(line["scale"])
        for part, variant in line["rows"]:
            runs[(part, variant, *(line["result"].get(name) for name in RUN))] = line["result"]
    if len(scales) != 1 or not scales <= set(recipes.STUDIES):
        raise BadInput(f"{folder / 'runs.jsonl'} holds no runs of one study: {', '.join(recipes.STUDIES)}")
    evaluations = {
        (record["evaluation"], *(record[name] for name in RUN)): record
        for record in json_lines(folder / "evaluations.jsonl", ("evaluation", *RUN, "cases"))
    }
    tables = [table(folder / f"{name}.csv", columns) for name, columns in COLUMNS.items()]
    return Records(folder, *scales, runs, evaluations, arrays(folder / "predictions.npz"), *tables)


REMEDY = "scripts/study.py collects the records anew"


def json_lines(path, names):
    """The JSON objects of a file, one a line, which have these names. Raises BadInput where it is damaged."""
    found = []
    try:
        for number, text in enumerate(path.read_text().splitlines(), 1):
            line = json.loads(text)
            if missing := [name for name in names if name not in line]:
                raise ValueError(f"line {number} has no {missing[0]}")
            found.append(line)
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{path} is damaged or missing ({error}): {REMEDY}") from error
    return found


def table(path, columns):
    """A CSV file's frame. Raises BadInput where it is damaged or has other columns."""
    try:
        found = pd.read_csv(path)
        if list(found.columns) != columns:
            raise ValueError(f"columns {', '.join(found.columns)}")
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is damaged or missing ({error}): {REMEDY}") from error
    return found


def arrays(path):
    """The arrays of an .npz file. Raises BadInput where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is damaged or missing ({error}): {REMEDY}") from error
