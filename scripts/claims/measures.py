"""What is measured of a run: functions of its record, by name.

A measure is of the last epoch's weights. Those that train.py also finds of the best epoch on validation have `best`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data import affine
from engine import attacks

STAGES = ("conv1", "layer1", "layer2", "layer3", "layer4")
FOOLBOX = ("deepfool", "ddn", "cw", "pgd_linf")


class Measure(NamedTuple):
    """A number of a run: `of` its RunRecord, None where that has not what it takes.

    best: the same of the best epoch's weights; needs: the evaluation that it takes, nothing for train.py's own.
    """

    words: str
    of: Callable
    best: Callable = None
    needs: str = ""
    digits: int = 2


def trained(words, name, factor=1, digits=2):
    """The Measure of a number in train.py's result."""
    of, best = (lambda record, key=key: factor * record.result[key] for key in (f"last_epoch_{name}", name))
    return Measure(words, of, best, "", digits)


def evaluated(words, needs, number, kind=None, digits=2):
    """The Measure number(kept evaluation); kind: of the evaluation, where `needs` leaves several."""
    kind = kind or needs

    def of(record):
        return number(record.evaluations[kind]) if kind in record.evaluations else None

    return Measure(words, of, None, needs, digits)


def mean_error(cases):
    """The mean error in percent over cases of an evaluation."""
    return lambda kept: float(np.mean([kept["cases"][case]["error"] for case in cases]))


def mean_accuracy(cases):
    """The mean accuracy in percent over cases of an evaluation."""
    error = mean_error(cases)
    return lambda kept: 100 - error(kept)


PIXEL = [f"pixel@{epsilon}" for epsilon in attacks.PIXEL_EPSILONS if epsilon != "0"]
OFFICIAL = [f"official@{epsilon}" for epsilon in attacks.OFFICIAL_EPSILONS if epsilon != "0"]
FOUR = [f"{attack}@{attacks.TABLE5_EPSILON}" for attack in FOOLBOX]
MEASURES = {
    "error": trained("test error (points)", "test_error"),
    "nll": trained("test NLL (nats)", "test_nll", digits=3),
    "ece": trained("ECE (points)", "test_ece", 100),
    "affine": evaluated("error, mean of eight affine sets (points)", "affine", mean_error(affine.SETS)),
    **{
        f"affine {name}": evaluated(f"error, {name.replace('_', ' ')} (points)", "affine", mean_error([name]))
        for name in affine.SETS
    },
    "fgsm": evaluated("accuracy, mean of FGSM at 1 to 8 / 255 on pixels (points)", "fgsm", mean_accuracy(PIXEL)),
    "fgsm official": evaluated(
        "accuracy, mean of FGSM at six epsilons in normalised input (points)", "fgsm", mean_accuracy(OFFICIAL)
    ),
    "corruption": evaluated(
        "error, mean of 15 corruptions at five severities (points)", "corruption", lambda kept: kept["mean_error"]
    ),
    **{
        f"magnitude {stage}": evaluated(
            f"mean magnitude after {stage}",
            "activations",
            lambda kept, stage=stage: kept["magnitude"].get(stage),
            digits=3,
        )
        for stage in STAGES
    },
    "foolbox": evaluated("accuracy, mean of Foolbox's four (points)", "attacks", mean_accuracy(FOUR), "table5"),
    "foolbox clean": evaluated("accuracy, not attacked (points)", "attacks", mean_accuracy(["clean"]), "table5"),
    "ddn": evaluated(
        "median L2 distance, DDN of 100 steps",
        "attacks",
        lambda kept: kept["cases"]["ddn_100"].get("median_distance"),
        "converged",
        3,
    ),
    "pgd": evaluated(
        "accuracy, PGD of 40 steps at 2/255 (points)", "attacks", mean_accuracy(["pgd_linf_40@2/255"]), "converged"
    ),
}
