"""Records of a study that was never run, with known numbers, for the tests of claims."""

import json

import regularizers
from data import affine
from data.corruptions import SCORED, SEVERITIES
from engine import attacks
from engine.runs import FORMAT
from scripts.claims import records
from scripts.claims.measures import FOOLBOX, STAGES
from scripts.figures import diversity

IMAGES, CLASSES = 400, 100
ENVIRONMENT = {"python": "3", "torch": "2", "numpy": "2", "device": "x86_64", "threads": 1, "code": "unknown"}
NOISE = (0.0, 0.3, -0.2, 0.1, -0.1)


def order(*methods):
    """{method: rank} of all methods, those named first, in this order."""
    rest = [method for method in regularizers.PAPER if method not in methods]
    return {method: rank for rank, method in enumerate((*methods, *rest))}


PAPER_ORDER = order("patchup_hard", "patchup_soft")


def plain_error(part, method, variant, seed):
    """Test error in percent: 2 points between neighbours in the paper's order, and a little noise of row and seed."""
    rank = PAPER_ORDER[method]
    return 60 + 2.0 * rank + seed + NOISE[(rank + seed + len(variant)) % len(NOISE)]


def make(folder, error=plain_error, scale="cpu", seeds=None, evaluated=True, best=lambda error: error, **options):
    """Write the records of a study at a scale below folder; returns it. seeds: of all rows, by default the design's.

    error(part, method, variant, seed): test error in percent of the last epoch, None for a run that is missing;
    best: that of the best epoch, from it; evaluated: with evaluations, whose errors follow the clean one (options: see
    the function).
    """
    study = records.StudyRecords(scale)
    model = study.design.models[0]
    for part, table in records.trained(scale).items():
        for row in table.rows:
            recipe = records.expected(table, model, row)
            for seed in seeds or range(row.seeds):
                value, run = error(part, row.method, row.variant, seed), recipe | {"seed": seed}
                if value is not None and not study.of(run):  # else a row before shows it
                    result = result_of(run, value, best(value))
                    kept = evaluations(result, **options) if evaluated and part == "methods" and seed < 5 else {}
                    study.add(records.RunRecord(result, kept, diverse(row.method, seed) if kept else []), "made")
    records.write(folder, study)
    return folder


def result_of(recipe, value, best):
    """A result of train.py; recipe: as recipes.used gives it; value, best: errors of the last and the best epoch."""
    result = {"format": FORMAT} | {name: recipe[name] for name in ("dataset", "model", "method", "seed")}
    for head, error in (("last_epoch_test", value), ("test", best)):
        result |= {f"{head}_error": error, f"{head}_nll": error / 20, f"{head}_ece": error / 1000}
    images = {"train": CLASSES * recipe.get("train_per_class", 450), "val": 500, "test": IMAGES}
    result |= {"val_error": value, "seconds": 100.0 + recipe["seed"], "classes": CLASSES, "images": images}
    return result | {"recipe": recipe, "environment": ENVIRONMENT}


def evaluations(run, **options):
    """{kind: what is kept} of a run with a result; options: see evaluated."""
    confidence = 100 - run["last_epoch_test_error"] + 10
    return {
        kind: records.evaluation(record, confidence if kind == "activations" else None)
        for kind, record in evaluated(run, **options).items()
    }


def evaluated(run, clean=None, taken=0.5):
    """{kind: record} of a run; the worse it is the worse all of them are, but for its activations.

    clean: Foolbox's error without attack, by default the run's; taken: the share of accuracy that its attacks take.
    """
    error, rank = run["last_epoch_test_error"], PAPER_ORDER[run["method"]]
    clean = error if clean is None else clean
    base = {"images": IMAGES, "seconds": 36.0, "setting": {}}

    def case(value, **more):
        return {"error": value, "nll": value / 20, "ece": 0.1} | more

    levels = {
        stage: (i + 1) * (10.0 - rank - NOISE[(rank + run["seed"]) % len(NOISE)] / 10) for i, stage in enumerate(STAGES)
    }
    of_kinds = {
        "affine": {
            "cases": {name: case(error + 5 + i) for i, name in enumerate(affine.SETS)},
            "draws_sha256": "",
        },
        "activations": {
            "cases": {"clean": case(error)},
            "curves": {stage: {"magnitude": [level + 1, level - 1]} for stage, level in levels.items()},
        },
        "fgsm": {
            "cases": {f"official@{e}": case(error + i / 10) for i, e in enumerate(attacks.OFFICIAL_EPSILONS)}
            | {f"pixel@{e}": case(error - rank / 4 - i / 10) for i, e in enumerate(attacks.PIXEL_EPSILONS)}
        },
        "corruption": {
            "cases": {"clean": case(error)},
            "sums": {name: len(SEVERITIES) * (error + i) for i, name in enumerate(SCORED)},
            "mean_sum": len(SEVERITIES) * (error + 8),
            "mean_error": error + 8,
            "source": "generated",
        },
        "table5": {
            "cases": {"clean": case(clean)}
            | {f"{attack}@8/255": case(100 - (100 - clean) * (1 - taken)) for attack in FOOLBOX}
        },
        "converged": {
            "cases": {
                "ddn_100": case(100.0, median_distance=1 - error / 200),
                "pgd_linf_40@2/255": case(error),
            }
        },
    }
    return {kind: base | record for kind, record in of_kinds.items()}


def diverse(method, seed):
    """Rows of the diversity of three methods' interpolations in a network, which these methods alone have."""
    rows = [
        [interpolation, measure, unit * (place + 0.01 * seed * place)]
        for place, interpolation in enumerate(diversity.METHODS)
        for measure, unit in (("dimensions", 1.0), ("distance", 0.2))
    ]
    return rows if method in diversity.METHODS else []


def lines_of(folder):
    """The lines of a folder's records, dicts."""
    return [json.loads(text) for text in (folder / records.FILE).read_text().splitlines()]


def write_lines(folder, lines):
    """Write such lines to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / records.FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
