"""What was measured of claims 3, 13, 14 and 15, in a sentence each: they get no verdict.

Timings depend on the machine, 13 is true by construction, and 15 is a question of ours.
"""

from typing import NamedTuple

import numpy as np

import recipes
from engine.files import BadInput, read_json
from scripts.claims.catalogue import HARD, MANIFOLD, SOFT
from scripts.claims.network import MAIN
from scripts.grid import grids

BENCHMARKS = grids.ROOT / "results/published/benchmarks"
CPUS = ("x86_64", "aarch64", "arm64")  # as benchmarks name them; a GPU has a name of its own


class Measurement(NamedTuple):
    """A claim without verdict, and what was measured of it."""

    number: int
    title: str
    text: str


def measurements(network):
    """The Measurements of a network; those without any number say so."""
    steps = "A step of training over No Mixup's, by the benchmark at full width: {}."
    sentences = (
        (3, "PatchUp costs nothing", steps, cost(network, (SOFT, HARD))),
        (13, "PatchUp's interpolations more diverse, by construction", "{}.", diversity(network)),
        (14, "Puzzle Mix is far slower: 53 hours for 23 in the paper", steps, cost(network, ("puzzlemix",))),
        (15, "All methods over-confident, a question of ours", "{}.", confidence(network)),
    )
    return [
        Measurement(n, title, words.format(text) if text else "Not measured.") for n, title, words, text in sentences
    ]


def cost(network, methods):
    """`Soft PatchUp, k = 1 1.02 (own operations 1.2 %)`, ... of every benchmark of this network."""
    words = []
    for path in sorted(BENCHMARKS.glob("*.json")):
        record = read_json(path, maker="a benchmark", remedy="")
        rows = record.get("methods")
        if not rows or "dataset" in record:  # that is one of hours
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


def diversity(network):
    """Means over seeds of two measures of interpolated states, each method's in the networks trained with it."""
    words = []
    for measure, name in (
        ("dimensions", "participation ratio of the displacements of a pair, k = 2"),
        ("distance", "distance to the nearest segment between real states"),
    ):
        numbers = []
        for method in (MANIFOLD, SOFT, HARD):
            records = network.cells(MAIN).get((method, ""), {}).values()
            values = [
                mean
                for record in records
                for mixed, what, mean in record.diversity
                if (mixed, what) == (method, measure)
            ]
            numbers += [f"{recipes.printed(method)} {np.mean(values):.2f}"] if values else []
        words += [f"{name}: {', '.join(numbers)}"] if numbers else []
    return "; ".join(words)


def confidence(network):
    """Means over seeds of confidence minus accuracy on the clean test images."""
    numbers = []
    for method in network.design.methods:
        gaps = [
            record.evaluations["activations"]["confidence"] - 100 + record.result["last_epoch_test_error"]
            for record in network.cells(MAIN).get((method, ""), {}).values()
            if "confidence" in record.evaluations.get("activations", ())
        ]
        numbers += [f"{recipes.printed(method)} {np.mean(gaps):+.1f}"] if gaps else []
    return f"mean confidence minus accuracy, in points: {', '.join(numbers)}" if numbers else ""
