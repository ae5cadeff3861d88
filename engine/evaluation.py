"""What the evaluation scripts share: checkpoints in, one record beside each out, a table of them printed.

A script is a Study and two lines (see eval_affine.py). For a checkpoint <run>.best.pt it writes

    <run>.best.<kind>.json           setting, error, NLL and ECE of every case, recipe, versions; written last
    <run>.best.<kind>.npz            what became of every image: rows, labels, <case>/predicted, <case>/nll, ...
    <run>.best.<kind>.partial.npz    while it runs: what is done so far

A setting other than the plain one, --limit included, is part of the names: <kind>-limit1000.
"""

import argparse
import collections
import contextlib
import functools
import hashlib
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

import data
import recipes
from engine import cli, metrics
from engine.device import environment, select_device
from engine.files import BadInput, load_checkpoint, locked, make_folder, read_json
from engine.metrics import EVALUATION_BATCH, calibration_error
from engine.runs import OTHER_RECIPE, EvaluationFiles, require_recipe, sha256
from engine.signals import Stopped, StopSignals
from scripts.grid import comparison, grids

SAVE_SECONDS = 60
CLEAN_TOLERANCE = 0.5  # percentage points between clean errors here and in training, which may have run in bf16


class Study:
    """One kind of evaluation, whatever the checkpoint.

    kind: names its files; setting: {name: JSON value}, all that decides a result beside checkpoint and images; plain:
    the setting whose files have the shortest name; tasks: the units of work, each a pass over the images; batch: images
    at a time.
    """

    kind = ""
    tasks = ()
    batch = EVALUATION_BATCH
    unit = "error (%)"  # of what is printed
    better = "lower"  # or `higher`, or nothing where neither is

    def __init__(self, **setting):
        self.setting = setting
        self.plain = {}

    def images(self, subject):
        """The rows [n] and labels [n] of the evaluated images, numpy int64; by default of the (limited) test set."""
        labels = subject.test.labels
        return subject.test.positions, labels[torch.from_numpy(subject.test.positions).to(labels.device)].cpu().numpy()

    def stamp(self):
        """What beside weights, rows and labels an interrupted evaluation must find as it was, a text."""
        return ""

    def batches(self, task, subject, start):
        """Yield x uint8 [B, 3, H, W], y int64 [B], rows int64 [B] of images(subject), on its device.

        From the start-th on. By default the clean test images; rows are their places in the whole test set.
        """
        yield from subject.test.pixel_batches(self.batch, subject.device, start)

    def evaluate(self, task, subject, x, y, rows):
        """{case: {name: tensor [B]}} for one batch; outcomes(logits, y) gives what every case needs.

        May add to self.totals, {name: float64 numpy array}: sums over all batches, stored with the arrays.
        """
        return {task: outcomes(subject.logits(x), y)}

    def conclude(self, cases, arrays):
        """More entries for the record, from its cases {case: {error, ...}} (to be added to) and the stored arrays."""
        return {}

    def shown(self, record):
        """{label: value} of what the printed table shows of a record, a row each."""
        return {case: found["error"] for case, found in record["cases"].items()}

    def paper_metric(self, label):
        """The name in results/paper of the number that the row called label shows."""
        return f"test_error@{label}"

    def heading(self, label, results):
        """How the row called label is headed in the printed table of the results."""
        return label

    def remark(self, results):
        """A sentence to stand under the printed table's title. May raise BadInput for what does not go together."""
        return ""

    def draw(self, records, path, expected, note):
        """Draw the study's picture, if it has one, from the records to path without suffix.

        expected: the methods it should show; note: a sentence that its caption should have, or nothing.
        """

    @property
    def name(self):
        """The kind, and what of its setting is not plain."""
        changes = {name: value for name, value in self.setting.items() if value != self.plain.get(name)}
        words = (f"-{name}{'' if value is True else value}" for name, value in changes.items())
        return self.kind + "".join(words).replace("/", "_")


def outcomes(logits, labels):
    """predicted, nll and confidence of every image (see engine.outcomes), as small as they can be kept."""
    found = metrics.outcomes(logits, labels)
    small = torch.uint8 if logits.shape[1] <= 256 else torch.int16
    return {
        "predicted": found["predicted"].to(small),
        "nll": found["nll"].float(),
        "confidence": found["confidence"].float(),
    }


# ---- checkpoints ----


class PixelClassifier(nn.Module):
    """A network on pixels: float32 [B, 3, H, W] in [0, 1] to logits, the normalisation inside."""

    def __init__(self, net, mean, std):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, x):
        return self.net((x - self.mean) / self.std)


@dataclass(frozen=True)
class Subject:
    """A trained network, in evaluation mode and float32, with the test images of its data set."""

    path: Path
    recipe: recipes.Recipe
    net: nn.Module
    test: data.Loader
    classes: list
    mean: tuple
    std: tuple
    device: torch.device
    digest: str = ""

    @functools.cached_property
    def classifier(self):
        """The network on pixels in [0, 1]."""
        return PixelClassifier(self.net, self.mean, self.std).to(self.device).eval()

    @torch.no_grad()
    def logits(self, x):
        """Logits float32 [B, C] of images uint8 [B, 3, H, W]."""
        return self.net(data.normalise(x, self.mean, self.std))


@functools.lru_cache(maxsize=1)
def test_images(dataset, image_size, folder, workers):
    """The data set's data.Data; the last one is kept, as many checkpoints share it."""
    return data.load(dataset, folder, seed=0, val_per_class=None, image_size=image_size, workers=workers)


def load_subject(path, args, expected=None):
    """The Subject of a checkpoint of train.py, as the command line args says.

    expected: the recipe it must have. Raises BadInput, naming the file, where it is none, or not of these images.
    """
    state = load_checkpoint(path)
    try:
        recipe = recipes.restore(dict(state["recipe"]))
    except (recipes.RecipeError, TypeError, ValueError) as error:
        raise BadInput(f"{path} has no usable recipe: {error}") from error
    if recipe.dataset not in data.FACTS:
        raise BadInput(f"{path} is of {recipe.dataset}, which does not exist here")
    if expected:
        require_recipe(state, recipes.used(expected), path, OTHER_RECIPE)
    folder = images_folder(recipe, args.data_dir)
    loaded = test_images(recipe.dataset, recipe.image_size, folder, args.workers)
    if state.get("digest", loaded.digest) != loaded.digest:
        raise BadInput(
            f"{path} was trained on other images than those in {folder} (names, sizes or labels differ): give their "
            "--data-dir"
        )
    with torch.random.fork_rng(devices=[]):
        net = recipes.network(recipe, len(loaded.classes))
    try:
        net.load_state_dict(state["net"])
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise BadInput(misfit(path, recipe, state["net"], net, loaded, folder)) from error
    if not all(torch.isfinite(tensor).all() for tensor in net.state_dict().values()):
        raise BadInput(f"{path} holds weights that are not finite")
    device = select_device(args.device)
    test = loaded.test.limited(args.limit)
    about = loaded.classes, loaded.mean, loaded.std, device, loaded.digest
    return Subject(path, recipe, net.to(device).eval(), test, *about)


def misfit(path, recipe, weights, net, loaded, folder):
    """Why weights do not fit the network, in words: another number of classes, or another network."""
    name = list(net.state_dict())[-1]  # the bias of the last layer
    bias = weights.get(name) if isinstance(weights, dict) else None
    if torch.is_tensor(bias) and bias.ndim == 1 and len(bias) != len(loaded.classes):
        here = f"{recipe.dataset} in {folder} has {len(loaded.classes)}"
        return f"{path} tells {len(bias)} classes apart, {here}"
    return f"{path} does not hold the weights of the network that its recipe names, {recipe.model}"


def images_folder(recipe, data_dir):
    """Where a recipe's images are: --data-dir, by default for `folder` where it was trained, else as train.py."""
    if data_dir is None and data.FACTS[recipe.dataset].own:
        return recipe.images
    return str((data_dir or cli.DATA_DIR).expanduser())


@contextlib.contextmanager
def unchanged(net):
    """Make sure that evaluating leaves a network in evaluation mode and its BatchNorm statistics as they were."""
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    yield
    if net.training or not all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers()):
        raise AssertionError("the evaluation changed the network")


# ---- evaluating ----


def evaluate(study, subject, record, bar, signals):
    """Do what is left of a study of a subject, and return its result.

    Raises signals.Stopped after a signal; what is done is saved then, and every SAVE_SECONDS.
    """
    rows, labels = study.images(subject)
    images = hashlib.sha256(rows.tobytes() + labels.tobytes()).hexdigest()
    stamp = f"{sha256(subject.path)} {images} {study.stamp()}"
    done, seconds, arrays, study.totals = record.load_partial(stamp)
    chunks = {name: [value] for name, value in arrays.items()}
    started = saved = time.monotonic()
    bar.update(sum(done.values()))

    def merged():
        for name, parts in chunks.items():
            chunks[name] = [np.concatenate(parts)]
        return {name: parts[0] for name, parts in chunks.items()}

    def save():
        record.save_partial(stamp, done, seconds + time.monotonic() - started, merged(), study.totals)

    with unchanged(subject.net):
        for task in study.tasks:
            start = done.get(task, 0)
            if start == len(rows):
                continue
            bar.set_postfix_str(task)
            for x, y, here in study.batches(task, subject, start):
                for case, found in study.evaluate(task, subject, x, y, here).items():
                    for name, values in found.items():
                        chunks.setdefault(f"{case}/{name}", []).append(values.cpu().numpy())
                done[task] = done.get(task, 0) + len(y)
                bar.update(len(y))
                if signals.received:
                    save()
                    raise Stopped(signals.received)
                if time.monotonic() - saved > SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
    arrays = merged()
    cases = summarise(arrays, labels)
    result = {
        **{name: getattr(subject.recipe, name) for name in ("dataset", "model", "method", "seed")},
        "evaluation": study.kind,
        "setting": study.setting,
        "checkpoint": subject.path.name,
        "checkpoint_sha256": sha256(subject.path),
        "images": len(rows),
        "classes": len(subject.classes),
        "digest": subject.digest,
        **study.conclude(cases, arrays),
        "cases": cases,
        "seconds": round(seconds + time.monotonic() - started, 1),
        "recipe": recipes.used(subject.recipe),
        "environment": environment(subject.device),
    }
    record.finish({"rows": rows, "labels": labels, **arrays, **study.totals}, result)
    compare_with_training(subject, cases, len(rows))
    return result


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
    """Warn where the clean error is not the one that the training found: most likely the images are others."""
    seed, _, weights = subject.path.name.removesuffix(".pt").partition(".")
    name = {"best": "test_error", "last": "last_epoch_test_error"}.get(weights)
    path = subject.path.with_name(f"{seed}.json")
    if "clean" not in cases or images != len(subject.test.labels) or not name or not path.exists():
        return
    try:
        there = read_json(path).get(name)
    except BadInput as error:
        warnings.warn(str(error), stacklevel=2)
        return
    here = cases["clean"]["error"]
    if there is not None and abs(here - there) > CLEAN_TOLERANCE:
        words = f"{subject.path}: the clean error is {here:.2f} %, in training it was {there:.2f} %"
        warnings.warn(f"{words}: are these the same images?", stacklevel=2)


def run(study, wanted, args):
    """Do a study of every checkpoint in wanted, [(path, recipe it must have or None)], under one progress bar.

    Returns the results and, for the checkpoints that had to be left out, the errors; what is done is only read.
    """
    torch.backends.cudnn.allow_tf32 = False  # float32 is meant
    torch.set_float32_matmul_precision("highest")
    results, errors, left = {}, [], {}
    for path, expected in wanted:
        record = EvaluationFiles(path, study)
        if result := record.finished(expected):
            results[path] = result
        else:
            left[path] = record, expected
    if left:
        select_device(args.device)  # refused once, not for every checkpoint
    with StopSignals() as signals, progress(silent=not left) as bar:
        for number, (path, (record, expected)) in enumerate(left.items()):
            try:
                subject = load_subject(path, args, expected)
                each = len(study.images(subject)[0]) * len(study.tasks)
                bar.total = bar.n + each * (len(left) - number)
                place = f"{study.name} {number + 1}/{len(left)}"
                bar.set_description(f"{place}: {subject.recipe.method}", refresh=False)
                with locked(record.lock, f"{path} is being evaluated"):
                    # another process may have finished it since
                    results[path] = record.finished(expected) or evaluate(study, subject, record, bar, signals)
            except BadInput as error:
                errors.append(error)
    return [results[path] for path, _ in wanted if path in results], errors


def progress(silent=False):
    """The progress bar over all images of all tasks and checkpoints."""
    interval = 0.5 if sys.stderr.isatty() else 60  # a log file is no screen
    options = {"unit": "img", "unit_scale": True, "dynamic_ncols": True, "leave": False}
    return tqdm(total=0, mininterval=interval, disable=silent, **options)


# ---- collecting and printing ----


def frame(results):
    """A row a result and case: dataset, model, method, seed, images, what the images are, case, error, nll, ece, ..."""
    columns = ["dataset", "model", "method", "seed", "images", "source"]
    return pd.DataFrame(
        {name: result[name] for name in columns if name in result} | {"case": case} | found
        for result in results
        for case, found in result["cases"].items()
    )


def require_one_recipe(results):
    """Raise BadInput where results of one data set, network and method are not of one recipe with different seeds."""
    seen = {}
    for result in results:
        cell = tuple(result[name] for name in ("dataset", "model", "method"))
        recipe = result["recipe"]
        first = seen.setdefault(cell, {"recipe": recipe, "seeds": []})
        words = recipes.differences(first["recipe"] | {"seed": recipe["seed"]}, recipe)
        if recipe["seed"] in first["seeds"] or words:
            why = words or f"seed {recipe['seed']} twice"
            raise BadInput(f"runs of {', '.join(cell)} that do not belong into one column ({why}): show them apart")
        first["seeds"].append(recipe["seed"])


def comparison_of(study, results, grid=None):
    """The comparison.compare of a study's results: a metric a row of study.shown; for a grid also what is missing."""
    paper = grid.paper() if grid else {}
    shown = [
        (grids.Cell(*(result[name] for name in grids.Cell._fields[:3])), result["seed"], study.shown(result))
        for result in results
    ]
    cells = grid.cells() if grid else {cell: recipes.Row(cell.method) for cell, *_ in shown}
    wanted = grid.wanted() if grid else collections.Counter(cell for cell, *_ in shown)
    labels = dict.fromkeys(label for *_, values in shown for label in values)
    metrics = [
        recipes.Metric(label, study.heading(label, results), study.paper_metric(label) or "-", study.better)
        for label in labels
    ]
    if not results:  # what the paper has
        names = dict.fromkeys(name for *cell, name in paper if tuple(cell) in {one[:3] for one in cells})
        metrics = [recipes.Metric(name, name.partition("@")[2], better=study.better) for name in names]
    rows = [(*cell, seed, label, value) for cell, seed, values in shown for label, value in values.items()]
    values = pd.DataFrame(rows, columns=[*comparison.CELL, "seed", "metric", "value"])
    return comparison.compare(cells, metrics, values, paper, wanted, grid and grid.printed())


# ---- the command line ----


def parser(doc):
    """The command line that all evaluation scripts share."""
    found = cli.Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = found.add_argument
    add("checkpoints", nargs="*", type=Path, help="files of train.py, or folders: all *.best.pt below")
    add("--table", choices=recipes.TABLES, help="instead: the checkpoints of a table or figure that are trained")
    grids.add_flags(found)
    add("--weights", choices=("best", "last"), default="best", help="of the best validation epoch, or of the last")
    add("--limit", type=int, metavar="N", help="only N test images, the same for all (and recorded)")
    add("--no-run", action="store_true", help="show what is there, evaluate nothing")
    add("--data-dir", type=Path, help="holds the images (default $PATCHUP_DATA, else datasets)")
    add("--out", type=Path, help="with --table: holds the runs, gets tables and figures (default as scripts/tables.py)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (default auto)")
    add("--workers", type=int, default=4, help="processes that prepare images (default 4)")
    recipes.add_flags(found)
    return found


def checkpoints(args):
    """([(path, recipe it must have or None)], the grids.Grid or None) of a command line.

    Raises BadInput where there are none. A table's runs that are not trained yet are named on stderr.
    """
    if bool(args.table) == bool(args.checkpoints):
        raise BadInput("give either checkpoints of train.py, or --table and the name of a table or figure")
    if args.limit is not None and args.limit < 1:
        raise BadInput(f"--limit must be at least 1, not {args.limit}")
    if args.table:
        return of_table(args)
    given = [name for name in (*grids.AXES, "seeds", "out") if getattr(args, name) is not None]
    if given := [recipes.flag(name) for name in (*given, *recipes.overrides_of(args))]:
        raise BadInput(f"{given[0]} chooses among a table's runs: give --table, or leave it out")
    found = []
    for path in args.checkpoints:
        inside = sorted(path.rglob(f"*.{args.weights}.pt")) if path.is_dir() else [path]
        if not inside:
            raise BadInput(f"{path} holds no *.{args.weights}.pt, the weights that train.py leaves")
        found += [one for one in inside if one.resolve() not in {other.resolve() for other in found}]
    return [(path, None) for path in found], None


def of_table(args):
    """The same for a table."""
    grid = grids.grid_of(args)
    wanted = [(getattr(run.files, args.weights), run.recipe) for run in grid.runs()]
    there = [(path, recipe) for path, recipe in wanted if path.exists()]
    missing = len(wanted) - len(there)
    words = f"{missing} of the {len(wanted)} runs of {grid.name} are not trained (in {grid.folder(grid.overrides)})"
    trains = f"scripts/tables.py {grid.name} with the same flags trains them"
    if not there:
        raise BadInput(f"{words}: {trains}")
    if missing:
        warnings.warn(f"{words}: {trains}", stacklevel=2)
    return there, grid


def show(study, results, grid, weights):
    """Print the table; for a grid also write it to files, and draw the picture. False where there is nothing at all."""
    require_one_recipe(results)
    table = comparison_of(study, results, grid)
    if table.empty:
        return False
    last = ", last epoch" if weights == "last" else ""
    images = " or ".join(map(str, sorted({result["images"] for result in results}))) or "no"
    remarks = [f"{study.unit[:1].upper()}{study.unit[1:]}, {images} images.", study.remark(results)]
    if not grid:
        header = comparison.Header("", f"Checkpoints: {study.name}{last}", "", joined(remarks), layout="metrics")
        print(comparison.markdown(header, table, details=False))
        return True
    remark, title = joined([*remarks, grid.table.remark]), f"{grid.title}: {study.name}{last}"
    name = f"{grid.file_name}-{study.name}" + "-last" * bool(last)
    header = comparison.Header(grid.name, title, grid.note, remark, layout="metrics")
    comparison.publish(header, table, grid.out, name, frame(results))
    if results and type(study).draw is not Study.draw:
        make_folder(grid.out / "figures")
        note = f"{grid.note[:1].upper()}{grid.note[1:]}." if grid.note else ""
        study.draw(results, grid.out / "figures" / name, grid.table.methods, note)
        print(f"drawn in {grid.out / 'figures' / name}.png and .pdf")
    return True


def joined(sentences):
    """Sentences as one text, without the empty ones."""
    return " ".join(filter(None, sentences))


def chosen_studies(args, studies):
    """The studies(args) that a command line asks for, which know of its --limit."""
    chosen = studies(args)
    for study in chosen:
        study.setting, study.plain = study.setting | {"limit": args.limit}, study.plain | {"limit": None}
    return chosen


def make(args, studies):
    """Evaluate and show what a command line asks for. studies(args) gives the Study objects."""
    wanted, grid = checkpoints(args)
    errors, missing, chosen = [], [], chosen_studies(args, studies)
    for study in chosen:
        if args.no_run:
            found = [EvaluationFiles(path, study).finished(expected) for path, expected in wanted]
            results, new = [result for result in found if result], []
        else:
            results, new = run(study, wanted, args)
        errors += new
        if not results or not show(study, results, grid, args.weights):
            missing.append(study.name)
    lines = dict.fromkeys(map(str, errors))  # what is wrong for all of them is said once
    for line in list(lines)[1:]:
        cli.one_line(line)
    if errors:
        raise errors[0]
    if len(missing) == len(chosen):
        raise BadInput(f"nothing is evaluated yet: {', '.join(missing)}")
    return 0


def main(found, studies, arguments=None):
    """What a script does with its parser and its studies(args); the exit status (see cli.explain)."""
    args = found.parse_args(arguments)
    return cli.explain(lambda: make(args, studies))
