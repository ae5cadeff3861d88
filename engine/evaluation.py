"""What the evaluation scripts share: checkpoints in, one record beside each out, a plain table of them printed.

A script is an Evaluation and its flags (see eval_affine.py). For a checkpoint <run>.best.pt it writes

    <run>.best.<name>.json           setting, error, NLL and ECE of every case, recipe, versions; written last
    <run>.best.<name>.npz            what became of every image: rows, labels, <case>/predicted, <case>/nll, ...
    <run>.best.<name>.partial.npz    while it runs: what is done so far

The name is the kind of evaluation with what differs from its plain setting, --limit included: affine-limit1000.
"""

import argparse
import copy
import hashlib
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

import recipes
from engine import cli, metrics
from engine.device import environment, select_device
from engine.evaluation_files import EvaluationFiles, Partial
from engine.files import NUMBER, BadInput, locked, make_folder, read_json
from engine.metrics import EVALUATION_BATCH, calibration_error
from engine.runs import sha256
from engine.signals import Stopped, StopSignals
from engine.subject import load_subject, unchanged

SAVE_SECONDS = 60
CLEAN_TOLERANCE = 0.5  # percentage points between clean errors here and in training, which may have run in bf16
TABLE_WIDTH = 120  # characters


class Evaluation:
    """One kind of evaluation with its setting. on(subject) is the same, prepared for a network.

    kind: names its files; plain: the setting whose files have the shortest name; fields: of its records, beside those
    of all kinds, as read_json takes them; tasks: the units of work, each a pass
    over the images; batch: images at a time; unit, better: of the numbers that are shown; better is `lower`, `higher`,
    or nothing where neither is.

    Prepared, it also has subject; rows [n] and labels [n] of the evaluated images, numpy int64; and stamp, a text that
    says what else, beside weights, rows and labels, an interrupted evaluation must find as it was.
    """

    kind = ""
    plain = {}
    fields = {}
    tasks = ()
    batch = EVALUATION_BATCH
    unit = "error (%)"
    better = "lower"
    stamp = ""

    def __init__(self, limit=None, **setting):
        """limit: so many test images (None: all); setting: all else that decides a result, {name: JSON value}."""
        self.setting = setting | {"limit": limit}

    @property
    def name(self):
        """The kind, and what of its setting is not plain."""
        changes = {name: value for name, value in self.setting.items() if value != self.plain.get(name)}
        words = (f"-{name}{'' if value is True else value}" for name, value in changes.items())
        return self.kind + "".join(words).replace("/", "_")

    def on(self, subject):
        """This evaluation, prepared for a subject."""
        prepared = copy.copy(self)
        prepared.subject = subject
        prepared.prepare()
        return prepared

    def prepare(self):
        """Set rows and labels, by default those of the (limited) test set, and what else the subject decides.

        Raises BadInput where the subject cannot be evaluated.
        """
        test = self.subject.test
        self.rows, self.labels = test.positions, test.labels.cpu().numpy()[test.positions]

    def batches(self, task, start):
        """Yield x uint8 [B, 3, H, W], y int64 [B], rows int64 [B], on the subject's device, from the start-th image on.

        By default the clean test images; rows are their places in the whole test set.
        """
        yield from self.subject.test.pixel_batches(self.batch, self.subject.device, start)

    def evaluate(self, task, x, y, rows, sums):
        """{case: {name: tensor [B]}} for one batch; outcomes(logits, y) gives what every case needs.

        sums: {name: float64 numpy array} over all batches so far, to be added to; stored with the arrays.
        """
        return {task: outcomes(self.subject.logits(x), y)}

    def conclude(self, cases, arrays, sums):
        """More entries for the record. cases: its {case: {error, ...}}, to be added to."""
        return {}

    def shown(self, record):
        """{label: number} of what tables show of a record."""
        return {case: values["error"] for case, values in record["cases"].items()}

    def remark(self, records):
        """A sentence to stand with a table of records. May raise BadInput for what does not go together."""
        return ""


def outcomes(logits, labels):
    """predicted, nll and confidence of every image (see metrics.outcomes), as small as they can be kept."""
    values = metrics.outcomes(logits, labels)
    small = torch.uint8 if logits.shape[1] <= 256 else torch.int16
    return {
        "predicted": values["predicted"].to(small),
        "nll": values["nll"].float(),
        "confidence": values["confidence"].float(),
    }


# ---- one checkpoint ----


def evaluate(prepared, record, bar, signals):
    """Do what is left of a prepared evaluation, and return its record.

    Raises signals.Stopped after a signal; what is done is saved then, and every SAVE_SECONDS.
    """
    subject, rows, labels = prepared.subject, prepared.rows, prepared.labels
    images = hashlib.sha256(rows.tobytes() + labels.tobytes()).hexdigest()
    partial = Partial.load(record.partial, f"{sha256(subject.path)} {images} {prepared.stamp}")
    saved = time.monotonic()
    bar.update(sum(partial.done.values()))
    with unchanged(subject.net):
        for task in prepared.tasks:
            start = partial.done.get(task, 0)
            if start == len(rows):
                continue
            bar.set_postfix_str(task)
            for x, y, places in prepared.batches(task, start):
                partial.add(task, len(y), prepared.evaluate(task, x, y, places, partial.sums))
                bar.update(len(y))
                if signals.received:
                    partial.save()
                    raise Stopped(signals.received)
                if time.monotonic() - saved > SAVE_SECONDS:
                    partial.save()
                    saved = time.monotonic()
    result = conclude(prepared, partial)
    record.finish({"rows": rows, "labels": labels, **partial.arrays, **partial.sums}, result)
    compare_with_training(subject, result["cases"], len(rows))
    return result


def conclude(prepared, partial):
    """The record of a prepared evaluation of which all is done."""
    subject = prepared.subject
    cases = summarise(partial.arrays, prepared.labels)
    return {
        **{name: getattr(subject.recipe, name) for name in ("dataset", "model", "method", "seed")},
        "evaluation": prepared.kind,
        "setting": prepared.setting,
        "checkpoint": subject.path.name,
        "checkpoint_sha256": sha256(subject.path),
        "images": len(prepared.rows),
        "classes": len(subject.classes),
        "digest": subject.digest,
        **prepared.conclude(cases, partial.arrays, partial.sums),
        "cases": cases,
        "seconds": round(partial.seconds, 1),
        "recipe": recipes.used(subject.recipe),
        "environment": environment(subject.device),
    }


def summarise(arrays, labels):
    """{case: {error in percent, nll in nats, ece in [0, 1]}} from the arrays <case>/predicted, nll, confidence."""
    cases = {}
    for case in dict.fromkeys(name.rpartition("/")[0] for name in arrays):
        right = arrays[f"{case}/predicted"] == labels
        confidence = torch.from_numpy(arrays[f"{case}/confidence"].astype(np.float64))
        cases[case] = {
            "error": float(100 * (1 - right.mean())),
            "nll": float(arrays[f"{case}/nll"].astype(np.float64).mean()),
            "ece": calibration_error(confidence, torch.from_numpy(right)).item(),
        }
    return cases


def compare_with_training(subject, cases, images):
    """Warn where the clean error is not the one that the training measured: most likely the images are others."""
    seed, _, weights = subject.path.name.removesuffix(".pt").partition(".")
    name = {"best": "test_error", "last": "last_epoch_test_error"}.get(weights)
    path = subject.path.with_name(f"{seed}.json")
    if "clean" not in cases or images != len(subject.test.labels) or not name or not path.exists():
        return
    try:
        in_training = read_json(path, if_there={name: NUMBER}).get(name)
    except BadInput as error:
        warnings.warn(str(error), stacklevel=2)
        return
    error = cases["clean"]["error"]
    if in_training is not None and abs(error - in_training) > CLEAN_TOLERANCE:
        words = f"{subject.path}: the clean error is {error:.2f} %, in training it was {in_training:.2f} %"
        warnings.warn(f"{words}: are these the same images?", stacklevel=2)


# ---- many checkpoints ----


def run(evaluation, paths, data_dir=None, device="auto", workers=0):
    """Evaluate the checkpoints at paths under one progress bar; what is done is only read.

    Returns {path: record} and, for the checkpoints that had to be left out, the errors.
    """
    torch.backends.cudnn.allow_tf32 = False  # float32 is meant
    torch.set_float32_matmul_precision("highest")
    records = {path: EvaluationFiles(path, evaluation) for path in paths}
    results = {path: record.finished() for path, record in records.items()}
    left, errors = [path for path, result in results.items() if not result], []
    if left:
        select_device(device)  # refused once, not for every checkpoint
    with StopSignals() as signals, progress(silent=not left) as bar:
        for number, path in enumerate(left):
            try:
                subject = load_subject(path, data_dir, device, workers, evaluation.setting["limit"])
                make_folder(path.parent, "folder, with a copy of the checkpoint")
                prepared = evaluation.on(subject)
                bar.total = bar.n + len(prepared.rows) * len(prepared.tasks) * (len(left) - number)
                place = f"{evaluation.name} {number + 1}/{len(left)}"
                bar.set_description(f"{place}: {subject.recipe.method}", refresh=False)
                with locked(records[path].lock, f"{path} is being evaluated"):
                    # another process may have finished it since
                    results[path] = records[path].finished() or evaluate(prepared, records[path], bar, signals)
            except BadInput as error:
                errors.append(error)
    return {path: result for path, result in results.items() if result}, errors


def progress(silent=False):
    """The progress bar over all images of all tasks and checkpoints."""
    interval = 0.5 if sys.stderr.isatty() else 60  # a log file is no screen
    options = {"unit": "img", "unit_scale": True, "dynamic_ncols": True, "leave": False}
    return tqdm(total=0, mininterval=interval, disable=silent, **options)


def table(evaluation, results):
    """The numbers of {path: record} as plain text, a column a checkpoint.

    Raises BadInput where the records do not go together.
    """
    remark = evaluation.remark(list(results.values()))
    common = os.path.commonpath([path.resolve().parent for path in results])
    columns = {
        str(path.resolve().relative_to(common).with_suffix("")): evaluation.shown(record)
        for path, record in results.items()
    }
    images = " or ".join(map(str, sorted({record["images"] for record in results.values()})))
    title = f"{evaluation.name}: {evaluation.unit}, {images} images. {remark}".rstrip()
    numbers = pd.DataFrame(columns).to_string(float_format="{:.4g}".format, na_rep="", line_width=TABLE_WIDTH)
    return f"{title}\n\n{numbers}\n"


# ---- the command line ----


def parser(doc):
    """The command line that all evaluation scripts share."""
    shared = cli.Parser(description=doc)
    add = shared.add_argument
    add("checkpoints", nargs="*", type=checkpoint, help="files of train.py, or folders: all *.best.pt below")
    add("--weights", choices=("best", "last"), default="best", help="of the best validation epoch, or of the last")
    add("--limit", type=int, metavar="N", help="only N test images, the same for all (and recorded)")
    add("--no-run", action="store_true", help="show the records so far, evaluate nothing")
    add("--data-dir", type=Path, help="holds the images (default $PATCHUP_DATA, else datasets)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (default auto)")
    add("--workers", type=int, default=4, help="processes that prepare images (default 4)")
    return shared


def checkpoint(text):
    """The path of a file or folder, as it stands on a command line."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty name is no checkpoint and no folder")
    return Path(text)


def checkpoints(args):
    """The paths of a command line's checkpoints, each once. Raises BadInput where it names none."""
    if not args.checkpoints:
        raise BadInput("give checkpoints of train.py, or folders that hold some")
    cli.require_counts(args, "limit", most=10**9)
    cli.require_counts(args, "workers", least=0)
    paths = {}
    for path in args.checkpoints:
        inside = sorted(path.rglob(f"*.{args.weights}.pt")) if path.is_dir() else [path]
        if not inside:
            raise BadInput(f"{path} holds no *.{args.weights}.pt, the weights that train.py leaves")
        for file in inside:
            paths.setdefault(file.resolve(), file)
    return list(paths.values())


def make(args, evaluations):
    """Evaluate and print what a command line asks for. evaluations(args) gives the Evaluation objects."""
    paths, errors, missing = checkpoints(args), [], []
    chosen = evaluations(args)
    for evaluation in chosen:
        if args.no_run:
            results = {path: EvaluationFiles(path, evaluation).finished() for path in paths}
            results = {path: result for path, result in results.items() if result}
        else:
            results, new = run(evaluation, paths, args.data_dir, args.device, args.workers)
            errors += new
        if results:
            print(table(evaluation, results))
        else:
            missing.append(evaluation.name)
    lines = dict.fromkeys(map(str, errors))  # what is wrong for all of them is said once
    for line in list(lines)[1:]:
        cli.one_line(line)
    if errors:
        raise errors[0]
    if len(missing) == len(chosen):
        raise BadInput(f"nothing is evaluated yet: {', '.join(missing)}")
    return 0


def main(shared, evaluations, arguments=None):
    """What a script does with its parser and its evaluations(args); the exit status (see cli.explain)."""
    args = shared.parse_args(arguments)
    return cli.explain(lambda: make(args, evaluations))
