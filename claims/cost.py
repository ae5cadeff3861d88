"""Claims 3 and 14: what the methods cost, from the benchmark."""

import comparison
import grids
from claims.claim import FAILS, HOLDS, OPEN, UNTESTABLE, Claim
from claims.scope import label, paper_numbers
from records import BadInput, read_json

FOLDER = grids.ROOT / "results/published/benchmarks"
RESOLVED = 1.10  # a ratio of whole steps that the benchmark resolves
LITTLE = 5  # percent of a step
CPUS = ("x86_64", "aarch64", "arm64")  # as records name them; a GPU has a name of its own


def benchmarks(scope):
    """{file name: {case: (a step over none's, own operations in percent of none's step)}} of a scope's network.

    The files are those of scripts/benchmark.py on a device of the scale's kind. Raises BadInput where one is damaged.
    """
    found = {}
    for path in sorted(FOLDER.glob("*.json")):
        record = read_json(path, maker="scripts/benchmark.py", remedy="")
        rows = record.get("methods")
        try:
            if rows and "dataset" not in record and is_of(record, scope):  # with one, it is of hours
                step = rows["none"]["step"]
                found[path.name] = {c: (row["over_none"], 100 * row["own"] / step) for c, row in rows.items()}
        except (TypeError, KeyError, AttributeError) as error:
            raise BadInput(f"{path} has no steps of methods and of none ({error})") from error
    return found


def is_of(record, scope):
    """Whether a benchmark's record is of steps of the scope's network on its kind of device."""
    kind = "cpu" if record["environment"]["device"] in CPUS else "gpu"
    return (kind, record["recipe"]["model"]) == (scope.scale, scope.model)


def in_words(rows):
    """Cases as `Soft PatchUp k=1 1.02 (own operations 1.2 %)`."""
    found = []
    for case, (ratio, own) in rows.items():
        method, *layer = case.split()
        found.append(f"{' '.join((label(method), *layer))} {ratio:.2f} (own operations {own:.1f} %)")
    return ", ".join(found)


def in_one_line(rows):
    """The largest figures of cases in words."""
    ratio, own = (max(values) for values in zip(*rows.values()))
    return f"a step takes up to {ratio:.2f} times No Mixup's, own operations up to {own:.1f} % of it"


def cost(scope, number, title, sentence, methods, judge):
    """A claim of the cost of methods: judge(their cases) gives the verdict."""
    hours = paper_numbers("table8")
    shown = dict.fromkeys(("none", *methods))
    words = (f"{label(name)} {hours['tiny_imagenet', 'wrn28_10', name, 'hours'][0]:.0f}" for name in shown)
    found = benchmarks(scope)
    rows = [(name, {c: row for c, row in cases.items() if c.split()[0] in methods}) for name, cases in found.items()]
    rows = [(name, cases) for name, cases in rows if cases]
    return Claim(
        number,
        title,
        sentence,
        f"Hours of a run on a V100, WRN-28-10 on Tiny-ImageNet (text; Table 8): {', '.join(words)}.",
        uses=("methods",),
        remarks=(
            *(f"{name}, a step of training over No Mixup's: {in_words(cases)}." for name, cases in rows),
            f"Verdict from the benchmark, whose whole steps resolve no better than {100 * (RESOLVED - 1):.0f} %; own "
            "operations are timed alone. The seconds of the study's runs depend on what else their machine did.",
        ),
        decided=judge([row for _, cases in rows for row in cases.values()]) if rows else UNTESTABLE,
        line=in_one_line(rows[0][1]) if rows else f"no benchmark of {comparison.NAMES[scope.model]}, {scope.scale}",
    )


def claim3(scope):
    """PatchUp adds no cost."""

    def judge(rows):
        if all(ratio <= RESOLVED and own <= LITTLE for ratio, own in rows):
            return HOLDS
        return FAILS if any(own > 100 * (RESOLVED - 1) for _, own in rows) else OPEN

    sentence = "PatchUp adds no significant computation to a training."
    return cost(scope, 3, "No added cost", sentence, ("patchup_soft", "patchup_hard"), judge)


def claim14(scope):
    """Puzzle Mix adds much."""

    def judge(rows):
        return HOLDS if all(ratio > RESOLVED for ratio, _ in rows) else FAILS

    sentence = "Puzzle Mix takes far longer than the other methods, 53 hours for their 23."
    return cost(scope, 14, "Puzzle Mix's cost", sentence, ("puzzlemix",), judge)
