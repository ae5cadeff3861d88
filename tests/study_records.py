"""Records of a study that was never run, with known numbers, for the tests of claims."""

import numpy as np

import recipes
import regularizers
from claims import evidence
from data import affine
from data.corruptions import SCORED, SEVERITIES
from engine import attacks

IMAGES, CLASSES = 400, 100
STAGES = ("conv1", "layer1", "layer2", "layer3", "layer4")
ENVIRONMENT = {"python": "3", "torch": "2", "numpy": "2", "device": "x86_64", "threads": 1, "code": "unknown"}
NOISE = (0.0, 0.3, -0.2, 0.1, -0.1)  # of a seed, on top of what all rows share


def order(*methods):
    """{method: rank} of all methods, those named first, in this order."""
    rest = [method for method in regularizers.PAPER if method not in methods]
    return {method: rank for rank, method in enumerate((*methods, *rest))}


PAPER_ORDER = order("patchup_hard", "patchup_soft")


def plain_error(part, method, variant, seed):
    """Test error in percent: 2 points between neighbours in the paper's order, and a little noise of row and seed."""
    rank = PAPER_ORDER[method]
    return 60 + 2.0 * rank + 3 * seed + NOISE[(rank + seed + len(variant)) % len(NOISE)]


def make(folder, error=plain_error, scale="cpu", seeds=None, evaluated=True, gap=0.1):
    """Write the records of a study at a scale below folder; returns it. seeds: of all parts, by default the tables'.

    error(part, method, variant, seed): test error in percent, None for a run that is missing; evaluated: with
    evaluations, whose errors follow the clean one; gap: confidence minus accuracy of all methods.
    """
    model, runs, epochs, evaluations, diversity = recipes.STUDY_MODELS[scale][0], [], [], [], []
    predictions = {"labels": np.arange(IMAGES, dtype=np.uint8) % CLASSES}
    for name, table in recipes.STUDIES[scale].items():
        if table.evaluation:
            continue
        part = evidence.part_of(name, scale)
        for row in table.rows:
            for seed in seeds or table.seeds:
                value = error(part, row.method, row.variant, seed)
                if value is not None:
                    runs.append(([[part, row.variant]], result(table, row, seed, value, model)))
    for _, one in (run for run in runs if run[0] == [["methods", ""]]):
        method, seed, value = one["method"], one["seed"], one["test_error"]
        epochs += [(model, method, seed, epoch, 4.0 - epoch, value) for epoch in range(3)]
        if evaluated:
            evaluations += list(records_of(one))
            predicted, confidence = outcomes(predictions["labels"], value, gap + NOISE[seed] / 100)
            predictions[f"{model}/{method}/{seed}/predicted"] = predicted
            predictions[f"{model}/{method}/{seed}/confidence"] = confidence
            if method in ("manifold_mixup", "patchup_soft", "patchup_hard"):
                diversity += list(diverse(model, method, seed))
    evidence.write(folder, scale, runs, epochs, evaluations, predictions, diversity)
    return folder


def result(table, row, seed, value, model):
    """A result of train.py."""
    options = recipes.applicable(row.method, table.overrides | row.overrides)
    recipe = recipes.resolve("cifar100", model, row.method, seed, **options)
    return {
        **{name: getattr(recipe, name) for name in ("dataset", "model", "method", "seed")},
        **{"test_error": value, "test_nll": value / 20, "test_ece": value / 1000, "last_epoch_test_error": value},
        **{"val_error": value, "seconds": 100.0 + seed, "classes": CLASSES},
        "images": {"train": CLASSES * (recipe.train_per_class or 450), "val": 500, "test": IMAGES},
        "recipe": recipes.used(recipe),
        "environment": ENVIRONMENT,
    }


def outcomes(labels, error, gap):
    """(predicted, confidence) that have this error in percent and confidence minus accuracy."""
    wrong = round(len(labels) * error / 100)
    predicted = np.where(np.arange(len(labels)) < wrong, (labels + 1) % CLASSES, labels).astype(np.uint8)
    confidence = np.full(len(labels), (1 - wrong / len(labels)) + gap, np.float16)
    return predicted, confidence


def records_of(run):
    """The evaluations of a run; the worse it is the worse all of them are."""
    error, rank = run["test_error"], PAPER_ORDER[run["method"]]
    base = {name: run[name] for name in ("dataset", "model", "method", "seed", "recipe", "environment")}
    base |= {"images": IMAGES, "classes": CLASSES, "seconds": 36.0, "setting": {}}

    def record(kind, cases, **more):
        return base | {"evaluation": kind, "cases": cases} | more

    def case(value, **more):
        return {"error": value, "nll": value / 20, "ece": 0.1} | more

    yield record("affine", {"clean": case(error)} | {name: case(error + 5 + i) for i, name in enumerate(affine.SETS)})
    levels = {stage: (i + 1) * (10.0 - rank - 0.01 * run["seed"]) for i, stage in enumerate(STAGES)}
    curves = {stage: {"magnitude": [level, level], "relu": [0.0, 0.0]} for stage, level in levels.items()}
    yield record("activations", {"clean": case(error)}, curves=curves)
    official = {f"official@{epsilon}": case(error + i / 10) for i, epsilon in enumerate(attacks.OFFICIAL_EPSILONS)}
    pixel = {f"pixel@{epsilon}": case(error - rank - i / 10) for i, epsilon in enumerate(attacks.PIXEL_EPSILONS)}
    yield record("fgsm", official | pixel)
    sums = {name: len(SEVERITIES) * (error + i) for i, name in enumerate(SCORED)}
    yield record("corruption", {"clean": case(error)}, sums=sums, mean_error=error + 8, source="generated")
    cases = {"clean": case(error), "ddn": case(100.0, median_distance=0.81)}
    cases |= {f"{attack}@8/255": case(error + 1) for attack in ("deepfool", "ddn", "cw")}
    yield record("table5", cases | {"pgd_linf@8/255": case(error, remark="weaker than FGSM, whose error is 99 %")})
    cases = {"ddn_100": case(100.0, median_distance=1 - error / 200), "pgd_linf_40@2/255": case(error)}
    yield record("converged", cases)


def diverse(model, method, seed):
    """Rows of diversity.csv for one network."""
    for place, interpolation in enumerate(("manifold_mixup", "patchup_soft", "patchup_hard")):
        for measure, unit in (("dimensions", 1.0), ("distance", 0.2)):
            yield model, method, seed, interpolation, measure, unit * (place + 0.01 * seed * place)
