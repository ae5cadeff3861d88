"""Claims 3 and 14: what the methods cost, from the benchmark."""

from claims.claim import FAILS, HOLDS, OPEN, UNTESTABLE, Claim
from claims.scope import label, paper_numbers
from engine.files import BadInput, read_json
from scripts.grid import comparison, grids

FOLDER = grids.ROOT / "results/published/benchmarks"
RESOLVED = 1.10  # a ratio of whole steps that the benchmark resolves
LITTLE = 5  # percent of a step
FAR = 1.20  # a ratio of whole steps that is more than noise
CPUS = ("x86_64", "aarch64", "arm64")  # as records name them; a GPU has a name of its own


def benchmarks(scope):
    """{in words: {case: (a step over none's, own operations in percent of none's step)}} of a scope's network.

    The files are those of the benchmark on a device of the scale's kind. Raises BadInput where one is damaged.
    """
    found = {}
    for path in sorted(FOLDER.glob("*.json")):
        record = read_json(path, maker="scripts/bench/benchmark.py", remedy="")
        rows = record.get("methods")
        try:
            if rows and "dataset" not in record and is_of(record, scope):  # with one, it is of hours
                step = rows["none"]["step"]
                cases = {c: (row["over_none"], 100 * row["own"] / step) for c, row in rows.items()}
                found[about(path, record)] = cases
        except (TypeError, KeyError, AttributeError) as error:
            raise BadInput(f"{path} has no steps of methods and of none ({error})") from error
    return found


def about(path, record):
    """A benchmark's file, command and circumstances."""
    recipe, environment = record["recipe"], record["environment"]
    return (
        f"[{path.name}](benchmarks/{path.name}) (`{record['command']}`; width {recipe['width']}, batch "
        f"{recipe['batch_size']}; {environment['device']}, {environment['threads']} threads, {record['rounds']} rounds)"
    )


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
    """The largest figures of all benchmarks' cases in words."""
    ratio, own = (max(values) for values in zip(*(row for _, cases in rows for row in cases.values())))
    return f"a step takes up to {ratio:.2f} times No Mixup's, own operations up to {own:.1f} % of it"


def cost(scope, number, title, sentence, methods, judge, rule):
    """A claim of the cost of methods: judge(their cases) gives the verdict, by a rule in words."""
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
        remarks=(
            *(f"Of {name}, a step of training over No Mixup's: {in_words(cases)}." for name, cases in rows),
            f"Judged by the benchmark, at the full width, since the seconds of the study's runs depend on what else "
            f"their machine did. {rule} Whole steps are medians that resolve no better than "
            f"{100 * (RESOLVED - 1):.0f} %; own operations are timed alone.",
        ),
        decided=judge([row for _, cases in rows for row in cases.values()]) if rows else UNTESTABLE,
        line=in_one_line(rows) if rows else f"no benchmark of {comparison.NAMES[scope.model]}, {scope.scale}",
    )


def claim3(scope):
    """PatchUp adds no cost."""

    def judge(rows):
        if all(ratio <= RESOLVED and own <= LITTLE for ratio, own in rows):
            return HOLDS
        return FAILS if any(ratio > FAR or own > 100 * (RESOLVED - 1) for ratio, own in rows) else OPEN

    sentence = "PatchUp adds no significant computation to a training."
    rule = (
        f"It holds where every step takes at most {RESOLVED:.2f} times No Mixup's and own operations at most {LITTLE} "
        f"% of it; it does not where a step takes more than {FAR:.2f} times or own operations more than "
        f"{100 * (RESOLVED - 1):.0f} %."
    )
    return cost(scope, 3, "PatchUp costs nothing", sentence, ("patchup_soft", "patchup_hard"), judge, rule)


def claim14(scope):
    """Puzzle Mix adds much."""

    def judge(rows):
        if all(ratio > FAR for ratio, _ in rows):
            return HOLDS
        return FAILS if any(ratio <= RESOLVED for ratio, _ in rows) else OPEN

    sentence = "Puzzle Mix takes far longer than the other methods, 53 hours for their 23."
    rule = (
        f"It holds where a step takes more than {FAR:.2f} times No Mixup's, and does not at {RESOLVED:.2f} or less; "
        "the paper's hours are 2.30 times."
    )
    return cost(scope, 14, "Puzzle Mix is far slower", sentence, ("puzzlemix",), judge, rule)
