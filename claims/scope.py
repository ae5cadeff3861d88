"""What is known of one network at one scale of the study: numbers by seed, and what they cost.

Numbers are dicts {seed: value}, so that whatever is compared is compared at the same seeds.
"""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import recipes
from claims import evidence, statistics
from claims.evidence import METHODS, Records
from scripts.grid import comparison, grids


class Cost(NamedTuple):
    """Runs of a part that are done, and how many there shall be; the hours that they took together."""

    done: int
    wanted: int
    hours: float


@dataclass(frozen=True)
class Scope:
    """One network of a study's records."""

    records: Records
    model: str

    @property
    def scale(self):
        """The scale, as `cpu`."""
        return self.records.scale

    @property
    def name(self):
        """As `cpu, PreActResNet18`."""
        return f"{self.scale}, {comparison.NAMES[self.model]}"

    # ---- runs ----

    def rows(self, part):
        """The rows (recipes.Row) of a part."""
        return evidence.table_of(part, self.scale).rows

    def labels(self, part):
        """{(method, variant): how its row is headed} of a part."""
        return {(row.method, row.variant): row.label for row in self.rows(part)}

    @property
    def other_loss(self):
        """The variant of the official part that is trained with the loss that the scale has not."""
        return next(variant for _, variant in self.labels("official") if variant in ("bce", "ce"))

    def results(self, method, part=METHODS, variant=""):
        """{seed: result} of the runs of a row. Raises KeyError where the part has no such row."""
        self.labels(part)[method, variant]
        key = part, variant, self.model, method
        return {seed: result for (*row, seed), result in self.records.runs.items() if tuple(row) == key}

    def metric(self, name, method, part=METHODS, variant=""):
        """{seed: a number of train.py's result} of a row."""
        return {seed: result[name] for seed, result in self.results(method, part, variant).items()}

    def error(self, method, part=METHODS, variant=""):
        """{seed: test error in percent} of a row."""
        return self.metric("test_error", method, part, variant)

    def recipe(self, method="none", part=METHODS, variant=""):
        """The recipe of a row as its records have it, a dict; empty where nothing has run."""
        return next((result["recipe"] for result in self.results(method, part, variant).values()), {})

    @property
    def images_a_class(self):
        """Training images a class of the methods' runs."""
        result = next(iter(self.results("none").values()))
        return result["images"]["train"] // result["classes"]

    @property
    def chance(self):
        """The accuracy of guessing in percent."""
        return 100 / next((result["classes"] for result in self.results("none").values()), math.inf)

    # ---- evaluations ----

    def evaluated(self, kind, method, number):
        """{seed: number(record)} of the methods' evaluations of a kind; where number is None, the seed is left out."""
        key = kind, self.model, method
        records = {seed: record for (*cell, seed), record in self.records.evaluations.items() if tuple(cell) == key}
        found = {seed: number(record) for seed, record in records.items()}
        return {seed: value for seed, value in found.items() if value is not None}

    def any_record(self, kind):
        """A record of a kind, or None."""
        found = (one for key, one in self.records.evaluations.items() if key[:2] == (kind, self.model))
        return next(found, None)

    def right(self, method, seed):
        """Whether each clean test image is classified rightly, bool [N], by a method's run; None without one."""
        predicted = self.records.predictions.get(f"{self.model}/{method}/{seed}/predicted")
        return None if predicted is None else predicted == self.records.predictions["labels"]

    @property
    def predicted(self):
        """The number of clean test images that there are predictions of."""
        return len(self.records.predictions.get("labels", ()))

    def confidence_gap(self, method):
        """{seed: mean confidence minus accuracy on the clean test images, in points}: above 0 is over-confident."""
        found = {}
        for seed in self.results(method):
            right, confidence = self.right(method, seed), f"{self.model}/{method}/{seed}/confidence"
            if right is not None:
                mean = self.records.predictions[confidence].astype(np.float64).mean()
                found[seed] = 100 * float(mean - right.mean())
        return found

    def mcnemar(self, first, second):
        """{seed: statistics.McNemar} of two methods' runs on the same clean test images."""
        found = {}
        for seed in sorted(self.results(first).keys() & self.results(second).keys()):
            pair = self.right(first, seed), self.right(second, seed)
            if not any(one is None for one in pair):
                found[seed] = statistics.mcnemar(*pair)
        return found

    def diversity(self, network, interpolation, measure):
        """{seed: a measure of diversity.py} of a method's interpolations in networks trained with another."""
        rows = self.records.diversity
        chosen = (rows.model == self.model) & (rows.method == network) & (rows.interpolation == interpolation)
        rows = rows[chosen & (rows.measure == measure)]
        return dict(zip(rows.seed.tolist(), rows["mean"].tolist()))

    # ---- the rest ----

    def seeds(self, part):
        """The seeds that there are runs of in a part, a tuple in order."""
        return tuple(sorted({key[-1] for key in self.records.runs if (key[0], key[2]) == (part, self.model)}))

    def wanted(self, part):
        """The number of seeds that each row of a part is to have: its table's, or as many as there are."""
        shown = evidence.table_of(part, self.scale)
        return max(len(shown.seeds), len(self.seeds(METHODS if shown.evaluation else part)))

    def cost(self, part):
        """The Cost of a part's trainings or, for an evaluation, of its evaluations of the methods' runs."""
        shown = evidence.table_of(part, self.scale)
        wanted = len(shown.rows) * self.wanted(part)
        if not shown.evaluation:
            found = [one for key, one in self.records.runs.items() if (key[0], key[2]) == (part, self.model)]
            return Cost(len(found), wanted, sum(one["seconds"] for one in found) / 3600)
        kinds = EVALUATED[part]
        found = {key: one for key, one in self.records.evaluations.items() if key[0] in kinds and key[1] == self.model}
        done = sum(key[0] == kinds[0] for key in found)
        return Cost(done, wanted, sum(one["seconds"] for one in found.values()) / 3600)

    def hours(self):
        """Hours of all trainings, a run that several parts show once, and of all evaluations."""
        runs = {id(one): one for key, one in self.records.runs.items() if key[2] == self.model}
        evaluations = [one for key, one in self.records.evaluations.items() if key[1] == self.model]
        return tuple(sum(one["seconds"] for one in group) / 3600 for group in (runs.values(), evaluations))


EVALUATED = {  # the kinds of records that an evaluation leaves
    "affine": ("affine",),
    "activations": ("activations",),
    "fgsm": ("fgsm",),
    "corruption": ("corruption",),
    "attacks": ("table5", "unnormalised", "converged"),
}


def minus(first, second):
    """{seed: difference} at the seeds that both have."""
    return {seed: first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())}


def mean_of(numbers):
    """{seed: mean} of several {seed: value}, at the seeds that all have."""
    shared = sorted(set.intersection(*(set(one) for one in numbers))) if numbers else []
    return {seed: float(np.mean([one[seed] for one in numbers])) for seed in shared}


def in_order(numbers):
    """The values of {seed: value} in the order of the seeds, numpy [n]."""
    return np.array([numbers[seed] for seed in sorted(numbers)], float)


@functools.cache
def paper_numbers(table):
    """The paper's numbers of one table (see grids.paper_numbers)."""
    return grids.paper_numbers((table,))


def paper(table, model, method, metric, dataset="cifar100"):
    """The paper's mean ± standard deviation as text."""
    return comparison.plus_minus(*paper_numbers(table)[dataset, model, method, metric])


def label(method):
    """A method as the paper writes it."""
    return recipes.LABELS[method]
