"""The study's tables: every row's numbers and its differences, as scripts/tables.py shows them, from the records."""

import pandas as pd

import recipes
from scripts.claims.measures import MEASURES
from scripts.claims.network import MAIN
from scripts.claims.records import trained
from scripts.grid import comparison
from scripts.grid.grids import Cell

EVALUATED = {"affine": "lower", "corruption": "lower"} | dict.fromkeys(
    ("fgsm", "fgsm official", "foolbox", "ddn", "pgd"), "higher"
)


def comparisons(network):
    """{title: comparison (see scripts/grid/comparison.py)} of the parts with runs, and of the methods' evaluations."""
    parts, frames = trained(network.scale), {}
    for part, table in parts.items():
        numbers = {
            metric: {
                cell: {seed: record.result[metric.name] for seed, record in runs.items()}
                for cell, runs in network.cells((part,)).items()
            }
            for metric in table.metrics
        }
        wanted = {(row.method, row.variant): row.seeds for row in table.rows}
        frames[table.title] = compared(network, table.rows, numbers, wanted)
    rows = parts["methods"].rows
    for measure, better in EVALUATED.items():
        metric = recipes.Metric(measure, MEASURES[measure].words, better=better)
        wanted = {(row.method, row.variant): network.wanted((row.method, row.variant), measure) for row in rows}
        frames[f"Evaluated: {metric.heading}"] = compared(
            network, rows, {metric: network.values(measure, MAIN)}, wanted
        )
    return {title: frame for title, frame in frames.items() if frame.n.any()}


def compared(network, rows, numbers, wanted):
    """The comparison of {Metric: {(method, variant): {seed: value}}}; wanted: {(method, variant): seeds}."""
    place = "cifar100", network.model
    runs = [
        (*place, *cell, seed, metric.name, value)
        for metric, values in numbers.items()
        for cell, by_seed in values.items()
        for seed, value in by_seed.items()
    ]
    frame = pd.DataFrame(runs, columns=[*comparison.CELL, "seed", "metric", "value"])
    cells = {Cell(*place, row.method, row.variant): row for row in rows}
    return comparison.compare(cells, list(numbers), frame, {}, {cell: wanted[cell[2:]] for cell in cells})


def markdown(network):
    """tables.md."""
    texts = [comparison.markdown(comparison.Header("", title), frame) for title, frame in comparisons(network).items()]
    return f"# The study's tables: {network.name}\n\n" + "\n".join(texts)


def csv(network):
    """tables.csv: all comparisons below each other."""
    return as_csv(pd.concat([frame.assign(table=title) for title, frame in comparisons(network).items()]))


def as_csv(frame):
    """A frame as CSV, with numbers of 6 digits."""
    return frame.to_csv(index=False, float_format="%.6g")
