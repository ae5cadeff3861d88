"""The study's pictures: each a frame, which is published beside it, and a function that draws it."""

import functools

import numpy as np
import pandas as pd

import recipes
from scripts.claims.catalogue import NONE, table2
from scripts.claims.network import MAIN
from scripts.figures import charts
from scripts.figures.charts import PAGE, PRINT, line_handles, plt, styles
from scripts.grid.statistics import Interval, t_interval

DPI = 150
ROBUST = {
    "affine": "affine sets: error (points)",
    "corruption": "corruptions: error (points)",
    "fgsm": "FGSM: accuracy (points)",
}


def pictures(network):
    """{name: (frame, draw)} of the pictures that have data; draw() gives the figure."""
    drawn = {
        "errors": (errors(network), draw_errors),
        "sizes": (sizes(network), draw_sizes),
        "robustness": (robustness(network), draw_robustness),
    }
    return {name: (frame, functools.partial(draw, frame)) for name, (frame, draw) in drawn.items() if len(frame)}


def png(draw):
    """What draw() draws, as PNG."""
    with plt.rc_context(PRINT):
        return charts.png(draw(), DPI)


# ---- frames ----


def errors(network):
    """Test error of every method: ours and the paper's, with intervals; seeds as text."""
    model, paper, rows = network.additive("error", MAIN), table2(network.model), []
    for method in network.design.methods:
        cell = method, ""
        if cell in model.values:
            seeds = " ".join(f"{value:.2f}" for value in model.values[cell].values())
            rows.append(("ours", method, len(model.values[cell]), *model.mean(cell)[:3], seeds))
        if cell in paper:
            mean, deviation, runs = paper[cell]
            rows.append(("paper", method, runs, *t_interval(mean, deviation / runs**0.5, runs - 1)[:3], ""))
    frame = pd.DataFrame(rows, columns=["whose", "method", "n", "mean", "low", "high", "seeds"])
    return frame if (frame.whose == "ours").any() else frame[:0]


def sizes(network):
    """Test error by method and images a class, and its difference to No Mixup's."""
    model, rows = network.additive("error", ("size",)), []
    for method, size in network.rows.get("size", ()):
        images, epochs = map(int, size.split("x"))
        error, apart = model.mean((method, size)), model.contrast({(method, size): 1, (NONE, size): -1})
        if np.isfinite(error.mean):
            apart = apart if method != NONE else Interval()
            rows.append((method, images, epochs, len(model.values[method, size]), *error[:3], *apart[:3]))
    columns = ["method", "images", "epochs", "n", "mean", "low", "high", "to_none", "to_none_low", "to_none_high"]
    return pd.DataFrame(rows, columns=columns)


def robustness(network):
    """Differences to No Mixup in the evaluations' means."""
    rows = []
    for measure, words in ROBUST.items():
        model = network.additive(measure, MAIN)
        for method in network.design.methods:
            mean, low, high, _ = model.contrast({(method, ""): 1, (NONE, ""): -1})
            if method != NONE and np.isfinite(mean):
                rows.append((words, method, len(model.values[method, ""]), mean, low, high))
    return pd.DataFrame(rows, columns=["measure", "method", "n", "mean", "low", "high"])


# ---- drawing ----


def whiskers(axis, rows):
    """A mean with its interval a method, named below."""
    looks = styles(rows.method)
    for place, method in enumerate(looks):
        row = next(rows[rows.method == method].itertuples())
        axis.vlines(place, row.low, row.high, color=looks[method].color, linewidth=1.2)
        axis.plot(place, row.mean, **looks[method].line() | {"linestyle": "none"})
        for value in getattr(row, "seeds", "").split():
            axis.plot(place + 0.2, float(value), ".", color="0.5", markersize=3)
    names = [recipes.printed(method) for method in looks]
    axis.set_xticks(range(len(names)), names, fontsize=6.5, rotation=35, ha="right", rotation_mode="anchor")
    axis.grid(axis="y")


def draw_errors(frame):
    """Ours beside the paper's."""
    figure, axes = plt.subplots(1, 2, figsize=(PAGE, 2.8), layout="constrained")
    for axis, whose, title in zip(axes, ("ours", "paper"), ("here", "the paper, full size")):
        whiskers(axis, frame[frame.whose == whose])
        axis.set(title=title, ylabel="test error (%)")
    return figure


def draw_sizes(frame):
    """A line a method over images a class: errors, and differences to No Mixup."""
    figure, axes = plt.subplots(1, 2, figsize=(PAGE, 2.8), layout="constrained")
    epochs, looks = dict(sorted(zip(frame.images, frame.epochs))), styles(frame.method)
    panels = (("mean", "low", "high"), "test error (%)"), (frame.columns[-3:], "less No Mixup's (points)")
    for axis, ((mean, low, high), label) in zip(axes, panels):
        for number, (method, look) in enumerate(looks.items()):
            rows = frame[frame.method == method].sort_values("images")
            x = [[*epochs].index(images) + 0.08 * (number - (len(looks) - 1) / 2) for images in rows.images]
            axis.vlines(x, rows[low], rows[high], color=look.color, linewidth=1.2)
            axis.plot(x, rows[mean], **look.line())
        axis.set_xticks(range(len(epochs)), [f"{images}\n({count} epochs)" for images, count in epochs.items()])
        axis.set(xlabel="training images a class", ylabel=label)
        axis.grid(axis="y")
    figure.legend(handles=line_handles(looks), loc="outside upper center", ncols=len(looks))
    return figure


def draw_robustness(frame):
    """A panel an evaluation."""
    measures = frame.measure.unique()
    figure, axes = plt.subplots(1, len(measures), figsize=(PAGE, 2.6), layout="constrained", squeeze=False)
    for axis, measure in zip(axes[0], measures):
        whiskers(axis, frame[frame.measure == measure])
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set(title=measure)
    axes[0, 0].set_ylabel("less No Mixup's")
    return figure
