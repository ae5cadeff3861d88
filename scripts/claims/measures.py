"""What is measured of a run: numbers from its record, by name, of the last epoch's weights.

Of the best epoch on validation are those whose names end with BEST.
"""

from typing import NamedTuple

import numpy as np

from data import affine
from engine import attacks

STAGES = ("conv1", "layer1", "layer2", "layer3", "layer4")
FOOLBOX = ("deepfool", "ddn", "cw", "pgd_linf")
BEST = ", best epoch"
FACTORS = {"error": 1, "nll": 1, "ece": 100}  # of train.py's numbers


class Measure(NamedTuple):
    """How a number is headed and printed; needs: the evaluation that it takes (nothing: train.py measures it)."""

    words: str
    needs: str = ""
    digits: int = 2


MEASURES = {
    "error": Measure("test error (points)"),
    "nll": Measure("test NLL (nats)", digits=3),
    "ece": Measure("ECE (points)"),
    "affine": Measure("error, mean of eight affine sets (points)", "affine"),
    **{f"affine {name}": Measure(f"error, {name.replace('_', ' ')} (points)", "affine") for name in affine.SETS},
    "fgsm": Measure("accuracy, mean of FGSM at 1 to 8 / 255 on pixels (points)", "fgsm"),
    "fgsm official": Measure("accuracy, mean of FGSM at six epsilons in normalised input (points)", "fgsm"),
    "corruption": Measure("error, mean of 15 corruptions at five severities (points)", "corruption"),
    **{f"magnitude {stage}": Measure(f"mean magnitude after {stage}", "activations", 3) for stage in STAGES},
    "foolbox": Measure("accuracy, mean of Foolbox's four (points)", "attacks"),
    "foolbox clean": Measure("accuracy, not attacked (points)", "attacks"),
    "ddn": Measure("median L2 distance, DDN of 100 steps", "attacks", 3),
    "pgd": Measure("accuracy, PGD of 40 steps at 2/255 (points)", "attacks"),
}
AFFINE = {"affine": affine.SETS} | {f"affine {name}": (name,) for name in affine.SETS}
ATTACKED = {  # {kind of evaluation: {measure: cases whose mean it is}}
    "fgsm": {
        "fgsm": [f"pixel@{epsilon}" for epsilon in attacks.PIXEL_EPSILONS if epsilon != "0"],
        "fgsm official": [f"official@{epsilon}" for epsilon in attacks.OFFICIAL_EPSILONS if epsilon != "0"],
    },
    "table5": {"foolbox": [f"{attack}@{attacks.TABLE5_EPSILON}" for attack in FOOLBOX], "foolbox clean": ["clean"]},
    "converged": {"pgd": ["pgd_linf_40@2/255"]},
}


def numbers(result, evaluations, diversity):
    """{measure: number} of a run, of what its record has (see records.py).

    Beside the MEASURES: `confidence`, the mean confidence less the accuracy, in points, and the diversity of the
    run's method in its network. Raises KeyError, TypeError or ValueError where the record has another shape.
    """
    values = {}
    for name, factor in FACTORS.items():
        values[name] = factor * result[f"last_epoch_test_{name}"]
        values[name + BEST] = factor * result[f"test_{name}"]
    if "affine" in evaluations:
        values |= {name: mean_error(evaluations["affine"], cases) for name, cases in AFFINE.items()}
    for kind in ATTACKED.keys() & evaluations.keys():
        values |= {name: 100 - mean_error(evaluations[kind], cases) for name, cases in ATTACKED[kind].items()}
    if "corruption" in evaluations:
        values["corruption"] = evaluations["corruption"]["mean_error"]
    if "converged" in evaluations:
        distance = evaluations["converged"]["cases"]["ddn_100"].get("median_distance")
        values |= {} if distance is None else {"ddn": distance}  # None: infinite
    activations = evaluations.get("activations", {})
    values |= {f"magnitude {stage}": magnitude for stage, magnitude in activations.get("magnitude", {}).items()}
    if "confidence" in activations:
        values["confidence"] = activations["confidence"] - 100 + values["error"]
    return values | {measure: mean for method, measure, mean in diversity if method == result["method"]}


def mean_error(evaluation, cases):
    """The mean error in percent over cases of an evaluation."""
    return float(np.mean([evaluation["cases"][case]["error"] for case in cases]))
