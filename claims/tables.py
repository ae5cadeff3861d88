"""The study's own tables: every row's numbers, and its differences to No Mixup in pairs."""

import functools
import math

import pandas as pd

from claims import evidence
from claims.claim import Part
from claims.evidence import METHODS, TRAINED
from claims.robustness import SPACES, affine_mean, corruption_error, fgsm_accuracy
from claims.scope import in_order, minus
from scripts.grid import comparison

LEGEND = (
    "Mean ± sample standard deviation (seeds done). Differences are to No Mixup at the same seeds, with their paired "
    "95 % t interval."
)
METRICS = {
    "test_error": "test error (%)",
    "test_nll": "test NLL",
    "test_ece": "ECE",
    "last_epoch_test_error": "test error of the last epoch (%)",
}
EVALUATED = {  # of the methods alone
    "confidence_gap": ("confidence - accuracy (points)", lambda scope, method: scope.confidence_gap(method)),
    "affine": ("error on eight affine sets (%)", affine_mean),
    **{
        f"fgsm_{space}": (f"accuracy under FGSM, {words} (%)", functools.partial(fgsm_accuracy, space=space))
        for space, words in SPACES.items()
    },
    "corruption": ("error under corruptions (%)", corruption_error),
}
COLUMNS = [
    "part",
    "model",
    "method",
    "variant",
    "label",
    "metric",
    "n",
    "wanted",
    "mean",
    "std",
    "to_none",
    "low",
    "high",
]


def none_of(row, rows):
    """The row of No Mixup that a row is compared with: that of its own variant, or the plain one."""
    found = [one for one in rows if one.method == "none" and one.variant in (row.variant, "")]
    return next((one for one in found if one.variant == row.variant), found[0])


def frame(scope):
    """Every row of the study and number of it, a DataFrame with COLUMNS."""
    found = []
    for part in TRAINED:
        shown = evidence.table_of(part, scope.scale)
        for row in shown.rows:
            none = none_of(row, shown.rows)
            for metric in METRICS:
                own, other = (scope.metric(metric, one.method, part, one.variant) for one in (row, none))
                found.append(line(scope, part, row, metric, own, None if row == none else other))
            for name, (_, number) in EVALUATED.items() if part == METHODS else ():
                own, other = (number(scope, one.method) for one in (row, none))
                found.append(line(scope, part, row, name, own, None if row == none else other))
    return pd.DataFrame(found, columns=COLUMNS)


def line(scope, part, row, metric, own, none):
    """A row of frame: a number by seed, and that of No Mixup, None in its own row."""
    mean, std = comparison.average(in_order(own))
    apart = Part("", {} if none is None else minus(own, none))
    cell = part, scope.model, row.method, row.variant, row.label, metric
    return *cell, len(own), scope.wanted(part), mean, std, apart.mean, apart.interval.low, apart.interval.high


def markdown(scope, table):
    """The tables of a scope's frame: the methods with all their numbers, then part by part the errors."""
    heads = METRICS | {name: words for name, (words, _) in EVALUATED.items()}
    lines = [f"## {scope.name}", "", LEGEND, ""]
    methods = table[table.part == METHODS]
    lines += ["| | " + " | ".join(heads.values()) + " |", "| --- |" + " ---: |" * len(heads)]
    for name, rows in methods.groupby("label", sort=False):
        texts = [number_text(row) for row in rows.itertuples()]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    for part in TRAINED:
        lines += ["", f"**{evidence.table_of(part, scope.scale).title}**", ""]
        lines += ["| | test error (%) | to No Mixup | test NLL | to No Mixup |", "| --- | ---: | ---: | ---: | ---: |"]
        rows = table[(table.part == part) & table.metric.isin(("test_error", "test_nll"))]
        for name, both in rows.groupby(["label", "variant"], sort=False):
            texts = [text for row in both.itertuples() for text in (number_text(row), difference_text(row))]
            lines.append(f"| {name[0]} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def number_text(row):
    """`85.40 ± 0.31 (3)`, or `missing`."""
    return f"{comparison.plus_minus(row.mean, row.std)} ({row.n})" if row.n else "missing"


def difference_text(row):
    """`-1.23 [-1.50, -0.96]`, or nothing."""
    return "" if math.isnan(row.to_none) else comparison.difference_text(row.to_none, row.low, row.high)


def csv(frames):
    """tables.csv of the frames of a scale's networks."""
    return evidence.csv(pd.concat(frames, ignore_index=True)).decode()
