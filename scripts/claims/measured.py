"""What was measured of claims 3, 13, 14 and 15, in a sentence each: they get no verdict.

Timings depend on the machine, 13 is true by construction, and 15 is a question of ours.
"""

import numpy as np

import recipes
from engine.files import BadInput, read_json
from scripts.claims.catalogue import HARD, SOFT
from scripts.grid import grids

BENCHMARKS = grids.ROOT / "results/published/benchmarks"
CPUS = ("x86_64", "aarch64", "arm64")  # as benchmarks name them; a GPU has its product's name


def measurements(network):
    """[(number, title, text)] of the claims without verdict; those without any number say so."""
    steps = "A step of training over No Mixup's, by the benchmark at full width: "
    spread = {  # see scripts/figures/diversity.py
        "participation ratio of the displacements of a pair, k = 2": mean_by_method(network, "dimensions", ".2f"),
        "distance to the nearest segment between real states": mean_by_method(network, "distance", ".2f"),
    }
    diversity = "; ".join(f"{words}: {numbers}" for words, numbers in spread.items() if numbers)
    gaps = "mean confidence minus accuracy, in points: "
    sentences = (
        (3, "PatchUp costs nothing", steps, cost(network, (SOFT, HARD))),
        (13, "PatchUp's interpolations more diverse, by construction", "", diversity),
        (14, "Puzzle Mix is far slower: 53 hours for 23 in the paper", steps, cost(network, ("puzzlemix",))),
        (15, "All methods over-confident, a question of ours", gaps, mean_by_method(network, "confidence", "+.1f")),
    )
    return [(n, title, f"{words}{text}." if text else "Not measured.") for n, title, words, text in sentences]


def mean_by_method(network, measure, digits):
    """`ManifoldMixup 1.02, Soft PatchUp 2.04`: the means over seeds of the methods that have the measure."""
    values = network.values(measure)
    methods = [method for method in network.design.methods if values.get((method, ""))]
    means = {method: np.mean([*values[method, ""].values()]) for method in methods}
    return ", ".join(f"{recipes.printed(method)} {mean:{digits}}" for method, mean in means.items())


def cost(network, methods):
    """`Soft PatchUp k=1 1.02 (own operations 1.2 %)`, ... of every benchmark of this network."""
    words = []
    for path in sorted(BENCHMARKS.glob("*.json")):
        record = read_json(path, maker="a benchmark", remedy="")
        rows = record.get("methods")
        if not rows or "dataset" in record:  # a record of hours
            continue
        try:
            kind = "cpu" if record["environment"]["device"] in CPUS else "gpu"
            if not network.scale.startswith(kind) or record["recipe"]["model"] != network.model:
                continue
            step = rows["none"]["step"]
            for case, row in rows.items():
                method, *layer = case.split()
                if method in methods:
                    name = " ".join((recipes.printed(method), *layer))
                    words.append(f"{name} {row['over_none']:.2f} (own operations {100 * row['own'] / step:.1f} %)")
        except (TypeError, KeyError, AttributeError) as error:
            raise BadInput(f"{path} has no steps of methods and of none ({error})") from error
    return ", ".join(words)
