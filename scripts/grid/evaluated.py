"""Records of evaluations as tables: ours beside the paper's."""

import pandas as pd

import eval_activations
import eval_adversarial
import eval_affine
import eval_corruption
import recipes
from engine.attacks import TABLE5_EPSILON
from engine.files import BadInput
from scripts.grid import comparison

SCRIPTS = {  # what recipes.Table.evaluation names
    "affine": eval_affine,
    "adversarial": eval_adversarial,
    "corruption": eval_corruption,
    "activations": eval_activations,
}

EVALUATIONS = {  # what --evaluate names: as recipes.Table.evaluation
    "affine": ("affine",),
    "fgsm": ("adversarial", "--attacks", "fgsm"),
    "attacks": ("adversarial", "--attacks", "table5"),
    "corruption": ("corruption",),
    "activations": ("activations",),
}


def frame(records):
    """A row a record and case: dataset, model, method, seed, images, what the images are, case, error, nll, ece, ..."""
    columns = ["dataset", "model", "method", "seed", "images", "source"]
    return pd.DataFrame(
        {name: record[name] for name in columns if name in record} | {"case": case} | values
        for record in records
        for case, values in record["cases"].items()
    )


def compare(evaluation, records, grid):
    """The comparison.compare of a grid's records: a metric a label of evaluation.shown; also what is missing."""
    numbers = [(record, evaluation.shown(record)) for record in records]
    rows = [
        (record["dataset"], record["model"], record["method"], "", record["seed"], label, value)
        for record, shown in numbers
        for label, value in shown.items()
    ]
    values = pd.DataFrame(rows, columns=[*comparison.CELL, "seed", "metric", "value"])
    cells, paper, better = grid.cells(), grid.paper(), evaluation.better
    digits = 2 if "(%)" in evaluation.unit else None
    if records:
        labels = dict.fromkeys(values.metric)
        metrics = [recipes.Metric(label, label, paper_metric(label), better, digits) for label in labels]
    else:  # what the paper has
        names = dict.fromkeys(name for *cell, name in paper if tuple(cell) in {cell[:3] for cell in cells})
        metrics = [recipes.Metric(name, name.partition("@")[2], better=better, digits=digits) for name in names]
    return comparison.compare(cells, metrics, values, paper, grid.wanted(), grid.printed())


def paper_metric(label):
    """The name in results/paper of the number that the row called label shows."""
    attack, _, epsilon = label.partition("@")
    return f"robust_accuracy_fraction@{attack}" if epsilon == TABLE5_EPSILON else f"test_error@{label}"


def publish(evaluation, records, grid, weights):
    """Write and print the table of a grid's records; its file name, or None without any record."""
    require_one_recipe(records)
    table = compare(evaluation, records, grid)
    if table.empty:
        return None
    last = weights == "last"
    images = " or ".join(map(str, sorted({record["images"] for record in records}))) or "no"
    unit = f"{evaluation.unit[:1].upper()}{evaluation.unit[1:]}, {images} images."
    remark = " ".join(filter(None, [unit, evaluation.remark(records), grid.table.remark]))
    title = f"{grid.title}: {evaluation.name}{', last epoch' * last}"
    name = f"{grid.file_name}-{evaluation.name}{'-last' * last}"
    header = comparison.Header(grid.name, title, grid.note, remark, layout="metrics")
    comparison.publish(header, table, grid.out, name, frame(records))
    return name


def require_one_recipe(records):
    """Raise BadInput where records of one data set, network and method are not of one recipe with different seeds."""
    first, seeds = {}, {}
    for record in records:
        cell, recipe = tuple(record[name] for name in ("dataset", "model", "method")), record["recipe"]
        words = recipes.differences(first.setdefault(cell, recipe) | {"seed": recipe["seed"]}, recipe)
        if recipe["seed"] in seeds.setdefault(cell, set()) or words:
            why = words or f"seed {recipe['seed']} twice"
            raise BadInput(f"runs of {', '.join(cell)} that do not belong in one column ({why}): show them apart")
        seeds[cell].add(recipe["seed"])
