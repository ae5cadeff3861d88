"""The study's tables: every row's numbers and its differences, as scripts/tables.py shows them, from the records."""

import pandas as pd

import recipes
from scripts.claims.measures import MEASURES
from scripts.claims.records import trained
from scripts.grid import comparison
from scripts.grid.grids import Cell

EVALUATED = {"affine": "lower", "corruption": "lower"} | dict.fromkeys(
    ("fgsm", "fgsm official", "foolbox", "ddn", "pgd"), "higher"
)


def comparisons(network):
    """{title: comparison (see scripts/grid/comparison.py)} of the parts with runs, and of the methods' evaluations."""
    frames = {table.title: compared(network, part, table.metrics) for part, table in trained(network.scale).items()}
    for measure, better in EVALUATED.items():
        metric = recipes.Metric(measure, MEASURES[measure].words, better=better, digits=MEASURES[measure].digits)
        frames[f"Evaluated: {metric.heading}"] = compared(network, "methods", [metric])
    return {title: frame for title, frame in frames.items() if frame.n.any()}


def compared(network, part, metrics):
    """The comparison of a part's rows; metrics: recipes.Metrics of train.py's results, or an evaluated measure."""
    place, rows = ("cifar100", network.model), network.rows[part]
    values = [
        (*place, *cell, seed, metric.name, numbers[metric.name])
        for cell, runs in network.cells[part,].items()
        for seed, record in runs.items()
        for metric in metrics
        if metric.name in (numbers := record.result | record.numbers)
    ]
    frame = pd.DataFrame(values, columns=[*comparison.CELL, "seed", "metric", "value"])
    measure = metrics[0].name if metrics[0].name in MEASURES else "error"
    wanted = {Cell(*place, *cell): network.wanted(cell, measure) for cell in rows}
    return comparison.compare({Cell(*place, *cell): row for cell, row in rows.items()}, metrics, frame, {}, wanted)


def files(network):
    """{name: text} of tables.md, and of tables.csv with all comparisons below each other."""
    frames = comparisons(network)
    texts = [comparison.markdown(comparison.Header("", title), frame) for title, frame in frames.items()]
    head = f"# The study's tables: {network.scale}, {recipes.printed(network.model)}\n\n"
    below = pd.concat([frame.assign(table=title) for title, frame in frames.items()])
    return {"tables.md": head + "\n".join(texts), "tables.csv": as_csv(below)}


def as_csv(frame):
    """A frame as CSV, with numbers of 6 digits."""
    return frame.to_csv(index=False, float_format="%.6g")
