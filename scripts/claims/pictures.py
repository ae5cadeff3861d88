"""The study's pictures: each a frame, which is published beside it, and a function that draws it."""

import functools
import io

import numpy as np
import pandas as pd

import recipes
from scripts.claims.catalogue import TABLE2
from scripts.claims.network import MAIN
from scripts.figures.charts import PAGE, PRINT, Line2D, plt, styles
from scripts.grid.statistics import Interval, t_interval

DPI = 150
CAPTIONS = {
    "errors": "Test error of the last epoch, mean and 95 % interval for comparing (pooled residual), grey: each seed; "
    "beside it the paper's, with 95 % intervals of five runs. The axes span different errors.",
    "sizes": "Test error by training images a class at equal steps, mean and 95 % interval for comparing; and less No "
    "Mixup's, with its 95 % interval.",
    "robustness": "Differences to No Mixup at the same seeds, with 95 % intervals (pooled residual).",
}


def pictures(network):
    """{name: (frame, draw)} of the pictures that have data; draw() gives the figure."""
    drawn = {}
    for name, (frame_of, draw) in PICTURES.items():
        frame = frame_of(network)
        if len(frame):
            drawn[name] = frame, functools.partial(draw, frame)
    return drawn


def png(draw):
    """What draw() draws, as PNG."""
    buffer = io.BytesIO()
    with plt.rc_context(PRINT):
        figure = draw()
        figure.savefig(buffer, format="png", dpi=DPI)
    plt.close(figure)
    return buffer.getvalue()


# ---- frames ----


def errors(network):
    """Test error of every method: ours and the paper's, with intervals; seeds as text."""
    model, values = network.additive("error", MAIN), network.values("error", MAIN)
    table2, rows = TABLE2._replace(model=network.model), []
    for method in network.design.methods:
        cell = method, ""
        if cell in model.values:
            seeds = " ".join(f"{value:.2f}" for value in values[cell].values())
            rows.append(("ours", method, len(values[cell]), *model.mean(cell)[:3], seeds))
        if printed := table2.of(cell):
            mean, deviation, runs = printed
            rows.append(("paper", method, runs, *t_interval(mean, deviation / runs**0.5, runs - 1)[:3], ""))
    frame = pd.DataFrame(rows, columns=["whose", "method", "n", "mean", "low", "high", "seeds"])
    return frame if (frame.whose == "ours").any() else frame[:0]


def sizes(network):
    """Test error by method and images a class, and its difference to No Mixup's."""
    model, rows = network.additive("error", ("size",)), []
    for cell in network.rows.get("size", ()):
        method, variant = cell
        images, epochs = map(int, variant.split("x"))
        error, apart = model.mean(cell), model.contrast({cell: 1, ("none", variant): -1})
        if np.isfinite(error.mean):
            apart = apart if method != "none" else Interval()
            rows.append((method, images, epochs, len(model.values[cell]), *error[:3], *apart[:3]))
    columns = ["method", "images", "epochs", "n", "mean", "low", "high", "to_none", "to_none_low", "to_none_high"]
    return pd.DataFrame(rows, columns=columns)


def robustness(network):
    """Differences to No Mixup in the evaluations' means."""
    rows = []
    for measure, words in ROBUST.items():
        model = network.additive(measure, MAIN)
        for method in network.design.methods:
            mean, low, high, _ = model.contrast({(method, ""): 1, ("none", ""): -1})
            if method != "none" and np.isfinite(mean):
                rows.append((words, method, len(model.values[method, ""]), mean, low, high))
    return pd.DataFrame(rows, columns=["measure", "method", "n", "mean", "low", "high"])


ROBUST = {
    "affine": "affine sets: error (points)",
    "corruption": "corruptions: error (points)",
    "fgsm": "FGSM: accuracy (points)",
}


# ---- drawing ----


def whiskers(axis, rows):
    """A mean with its interval a method, named below."""
    looks = styles(rows.method)
    for place, method in enumerate(looks):
        row = next(rows[rows.method == method].itertuples())
        axis.vlines(place, row.low, row.high, color=looks[method].color, linewidth=1.2)
        axis.plot(place, row.mean, **looks[method].line() | {"linestyle": "none"})
        for value in str(getattr(row, "seeds", "")).split():
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
    places, looks = sorted(set(frame.images)), styles(frame.method)
    for axis, column, label in zip(axes, ("", "to_none"), ("test error (%)", "less No Mixup's (points)")):
        low, high = f"{column}_low".strip("_"), f"{column}_high".strip("_")
        for number, (method, look) in enumerate(looks.items()):
            rows = frame[frame.method == method].sort_values("images")
            x = [places.index(images) + 0.08 * (number - (len(looks) - 1) / 2) for images in rows.images]
            axis.vlines(x, rows[low], rows[high], color=look.color, linewidth=1.2)
            axis.plot(x, rows[column or "mean"], **look.line())
        epochs = dict(zip(frame.images, frame.epochs))
        axis.set_xticks(range(len(places)), [f"{images}\n({epochs[images]} epochs)" for images in places])
        axis.set(xlabel="training images a class", ylabel=label)
        axis.grid(axis="y")
    handles = [Line2D([], [], label=recipes.printed(method), **look.line()) for method, look in looks.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def draw_robustness(frame):
    """A panel an evaluation."""
    measures = list(dict.fromkeys(frame.measure))
    size = {"figsize": (PAGE, 2.6), "layout": "constrained", "squeeze": False}
    figure, axes = plt.subplots(1, len(measures), **size)
    for axis, measure in zip(axes[0], measures):
        whiskers(axis, frame[frame.measure == measure])
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set(title=measure)
    axes[0, 0].set_ylabel("less No Mixup's")
    return figure


PICTURES = {
    "errors": (errors, draw_errors),
    "sizes": (sizes, draw_sizes),
    "robustness": (robustness, draw_robustness),
}
