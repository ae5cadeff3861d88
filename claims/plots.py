"""The study's figures: each a frame, which is published beside it, and a function that draws it."""

import functools
import io
import math

import numpy as np
import pandas as pd

import recipes
from claims import statistics
from claims.accuracy import sized
from claims.robustness import EPSILONS, affine_error, attacked, testable_space
from claims.scope import in_order, minus
from data import affine
from data.corruptions import SCORED, SEVERITIES
from scripts.figures.charts import NAMES, PAGE, PRINT, STYLES, Line2D, plt, styles
from scripts.grid import comparison

METHODS = tuple(STYLES)
PNG_DPI = 150


def figures(scopes):
    """{name: (frame, draw)} of the networks of one scale; draw() gives the figure. Those without data are left out."""
    found = {}
    for name, (frame_of, draw) in FIGURES.items():
        frame = pd.concat([frame_of(scope) for scope in scopes], ignore_index=True)
        if len(frame):
            found[name] = frame, functools.partial(draw, frame)
    return found


def png(draw):
    """What draw() draws, as PNG."""
    buffer = io.BytesIO()
    with plt.rc_context(PRINT):
        figure = draw()
        figure.savefig(buffer, format="png", dpi=PNG_DPI)
    plt.close(figure)
    return buffer.getvalue()


def summary(numbers):
    """n, mean and the 95 % t interval of {seed: value}, a dict."""
    values = in_order(numbers)
    low, high, _ = statistics.t_interval(values)
    return {"n": len(values), "mean": values.mean() if len(values) else np.nan, "low": low, "high": high}


def rows(scope, points):
    """A frame of points, (what names it, {seed: value}), with model and summary; those without runs are left out."""
    return pd.DataFrame([{"model": scope.model} | names | summary(one) for names, one in points if one])


# ---- frames ----


def error_frame(scope):
    """Test error of every method, and every seed's beside it."""
    found = {method: scope.error(method) for method in METHODS}
    frame = rows(scope, [({"method": method}, one) for method, one in found.items()])
    texts = [" ".join(f"{value:.2f}" for value in in_order(found[method])) for method in frame.get("method", ())]
    return frame.assign(seeds=texts) if len(frame) else frame


def size_frame(scope):
    """Test error by images a class and epochs."""
    points = []
    for images, epochs in recipes.STUDY_SIZES[scope.scale]:
        for method in recipes.COMPARED:
            place = {"images": images, "epochs": epochs, "method": method}
            points.append((place, sized(scope, method, (images, epochs))))
    return rows(scope, points)


def curve_frame(scope):
    """Training loss and validation error by epoch, means over seeds."""
    here = scope.records.epochs[scope.records.epochs.model == scope.model]
    means = here.groupby(["model", "method", "epoch"], sort=False)[["train_loss", "val_error"]].mean().reset_index()
    return means.assign(n=here.groupby(["method", "epoch"], sort=False).seed.nunique().to_numpy())


def robustness_frame(scope):
    """Differences to No Mixup: error on affine sets and under kinds of corruption, accuracy under FGSM."""

    def corrupted(kind):
        def mean(record):
            sums = [record["sums"][name] for name, its_kind in SCORED.items() if its_kind == kind]
            return float(np.mean(sums)) / len(SEVERITIES)

        return lambda method: scope.evaluated("corruption", method, mean)

    space = testable_space(scope)

    panels = {
        "affine": {case: functools.partial(affine_error, scope, case=case) for case in ("clean", *affine.SETS)},
        "fgsm": {
            epsilon: functools.partial(attacked, scope, case=f"{space}@{epsilon}", kind="fgsm")
            for epsilon in EPSILONS[space]
        },
        "corruption": {kind: corrupted(kind) for kind in dict.fromkeys(SCORED.values())},
    }
    points = []
    for panel, cases in panels.items():
        for case, number in cases.items():
            none = number(method="none")
            for method in METHODS[1:]:
                points.append(({"panel": panel, "case": case, "method": method}, minus(number(method=method), none)))
    return rows(scope, points)


def calibration_frame(scope):
    """Mean confidence minus accuracy on clean test images, and ECE."""
    points = []
    for method in METHODS:
        points.append(({"measure": "confidence - accuracy (points)", "method": method}, scope.confidence_gap(method)))
        ece = {seed: 100 * value for seed, value in scope.metric("test_ece", method).items()}
        points.append(({"measure": "ECE (points)", "method": method}, ece))
    return rows(scope, points)


# ---- drawing ----


def whisker(axis, place, row, method):
    """A mean with its interval at a place on the x axis."""
    look = STYLES[method]
    axis.vlines(place, row.low, row.high, color=look.color, linewidth=1.2)
    axis.plot(place, row.mean, **look.line() | {"linestyle": "none"})


def method_axis(axis, rows):
    """A whisker a method, named below."""
    methods = list(styles(rows.method))
    for place, method in enumerate(methods):
        whisker(axis, place, next(rows[rows.method == method].itertuples()), method)
    names = [NAMES[method] for method in methods]
    axis.set_xticks(range(len(methods)), names, fontsize=6.5, rotation=35, ha="right", rotation_mode="anchor")
    axis.grid(axis="y")


def draw_errors(frame):
    """Test error by method: mean, 95 % t interval, and every seed."""
    size = {"figsize": (PAGE, 2.6), "layout": "constrained", "squeeze": False}
    figure, axes = plt.subplots(1, frame.model.nunique(), **size)
    for axis, (model, rows) in zip(axes[0], frame.groupby("model", sort=False)):
        method_axis(axis, rows)
        for place, method in enumerate(styles(rows.method)):
            seeds = [float(value) for value in rows[rows.method == method].seeds.iloc[0].split()]
            axis.scatter([place + 0.18] * len(seeds), seeds, s=5, color="0.4", zorder=3)
        axis.set(title=comparison.NAMES[model], ylabel="test error (%)")
    return figure


def draw_sizes(frame):
    """Test error by method, a panel a number of images and epochs."""
    panels = list(frame.groupby(["model", "images", "epochs"], sort=False))
    size = {"figsize": (PAGE, 2.4), "layout": "constrained", "squeeze": False, "sharey": True}
    figure, axes = plt.subplots(1, len(panels), **size)
    for axis, ((model, images, epochs), rows) in zip(axes[0], panels):
        method_axis(axis, rows)
        title = f"{comparison.NAMES[model]},\n{images} images, {epochs} epochs"
        axis.set(title=title, ylabel="test error (%)" * (axis is axes[0, 0]))
    return figure


def draw_curves(frame):
    """Training loss and validation error by epoch."""
    models = list(frame.groupby("model", sort=False))
    size = {"figsize": (PAGE, 0.5 + 2.2 * len(models)), "layout": "constrained", "squeeze": False}
    figure, axes = plt.subplots(len(models), 2, **size)
    for row, (model, rows) in zip(axes, models):
        for axis, name, words in zip(row, ("train_loss", "val_error"), ("training loss", "validation error (%)")):
            for i, method in enumerate(styles(rows.method)):
                one = rows[rows.method == method]
                axis.plot(one.epoch + 1, one[name], markevery=(0.02 * i, 0.2), **STYLES[method].line())
            axis.set(xlabel="epoch", ylabel=words, title=comparison.NAMES[model])
            axis.grid()
    legend(figure, frame)
    return figure


def draw_robustness(frame):
    """Differences to No Mixup, a panel a kind of deformation; 95 % t intervals."""
    words = {
        "affine": "error - No Mixup's (points)",
        "fgsm": "accuracy - No Mixup's (points)",
        "corruption": "error - No Mixup's (points)",
    }
    panels = list(frame.groupby(["model", "panel"], sort=False))
    size = {"figsize": (PAGE, 0.5 + 2.2 * len(panels)), "layout": "constrained", "squeeze": False}
    figure, axes = plt.subplots(len(panels), 1, **size)
    for axis, ((model, panel), rows) in zip(axes[:, 0], panels):
        cases, methods = list(dict.fromkeys(rows.case)), list(styles(rows.method))
        for row in rows.itertuples():
            offset = (methods.index(row.method) - (len(methods) - 1) / 2) * 0.8 / len(methods)
            whisker(axis, cases.index(row.case) + offset, row, row.method)
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set_xticks(range(len(cases)), [case.replace("_", "\n") for case in cases], fontsize=5.5)
        axis.set(ylabel=words[panel], title=f"{comparison.NAMES[model]}, {TITLES[panel]}")
        axis.grid(axis="y")
    legend(figure, frame)
    return figure


TITLES = {
    "affine": "affine sets",
    "fgsm": "FGSM, by epsilon (of 255: on pixels, else in normalised input)",
    "corruption": "corruptions by kind, mean over its three or four and their severities",
}


def draw_calibration(frame):
    """Confidence minus accuracy, and ECE, by method."""
    panels = list(frame.groupby(["model", "measure"], sort=False))
    lines = math.ceil(len(panels) / 2)
    size = {"figsize": (PAGE, 2.4 * lines), "layout": "constrained", "squeeze": False}
    figure, axes = plt.subplots(lines, min(2, len(panels)), **size)
    for axis, ((model, measure), rows) in zip(axes.flat, panels):
        method_axis(axis, rows)
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set(ylabel=measure, title=comparison.NAMES[model])
    return figure


def legend(figure, frame):
    """One legend for all panels, above them."""
    handles = [Line2D([], [], label=NAMES[method], **STYLES[method].line()) for method in styles(frame.method)]
    figure.legend(handles=handles, loc="outside upper center", ncols=5)


CAPTIONS = {
    "errors": "test error on clean images, mean and 95 % t interval over seeds; grey: each seed. Verdicts are of "
    "differences at the same seeds.",
    "sizes": "test error by images a class and epochs, mean and 95 % t interval over seeds (none of one seed).",
    "curves": "training loss and validation error by epoch, means over seeds. The loss is of mixed targets, PatchUp's "
    "the sum of two terms.",
    "robustness": "difference to No Mixup at the same seeds, mean and 95 % t interval.",
    "calibration": "mean confidence minus accuracy (above 0: over-confident) and ECE, mean and 95 % t interval.",
}
FIGURES = {
    "errors": (error_frame, draw_errors),
    "sizes": (size_frame, draw_sizes),
    "curves": (curve_frame, draw_curves),
    "robustness": (robustness_frame, draw_robustness),
    "calibration": (calibration_frame, draw_calibration),
}
