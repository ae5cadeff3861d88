"""Where interpolated hidden states lie (Figure 2), and how diverse they are, measured (Figure 10).

What the paper calls diverse (section PatchUp Vs. ManifoldMixup) in numbers, for states h' = phi(h_i, h_j), h = g_k(x):

    dimensions     of the displacements h' - h_i of one state towards one and the same partner, by DRAWS draws: the
                   participation ratio (sum s)^2 / sum s^2 of the eigenvalues s of their Gram matrix; 1 is a line. Of
                   many draws of Hard PatchUp that each move a share q it is 1 / q^2
    distance       of h' to the nearest point of any segment between two real states of the batch, in units of the mean
                   distance between real states; 0 for ManifoldMixup by construction
    displacement   ||h' - h_i|| / ||h_j - h_i||
    to_own         cosine of h' and h_i
    to_partner     cosine of h' and h_j

A state is the whole feature map as one vector, C H W numbers, of a network in training mode. Samples that a draw makes
their own partners are left out.
"""

import itertools
import operator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from tqdm import tqdm

import recipes
from engine.files import write_json, write_whole
from scripts.figures.charts import PAGE, STYLES, plt, withStroke, write
from scripts.figures.draws import Draws
from scripts.figures.scenes import BATCH

METHODS = ("manifold_mixup", "patchup_soft", "patchup_hard")
MEASURES = {  # heading of the table and of the bars
    "dimensions": "dimensions\nof a pair",
    "distance": "distance to\nnearest segment",
    "displacement": "displacement",
    "to_own": "cosine to\nown state",
    "to_partner": "cosine to\npartner",
}
BATCHES = 10
DRAWS = 32  # of one pair
BATCH_DRAWS = 2  # of a batch, whose mean is the batch's number
SHOWN = 4  # real states in the picture
SHOWN_DRAWS = 40


def participation_ratio(vectors):
    """The effective number of dimensions of vectors [n, D] about the origin: 1 on a line, at most min(n, D).

    (sum s)^2 / sum s^2 for the eigenvalues s of the Gram matrix. NaN where all are 0.
    """
    gram = vectors.double() @ vectors.double().T
    return (gram.trace() ** 2 / gram.square().sum()).item()


def nearest_segment(points, real):
    """The distance [n] of each of the points [n, D] to the nearest segment between two of the real ones [m, D].

    From inner products alone, in float64: D may be large.
    """
    origin = real.double().mean(0)
    points, real = points.double() - origin, real.double() - origin
    a, b = torch.triu_indices(len(real), len(real), offset=1)
    inner, cross = real @ real.T, points @ real.T
    square = inner.diagonal()
    along = cross[:, b] - cross[:, a] - inner[a, b] + square[a]  # <p - a, b - a>
    length = (square[a] + square[b] - 2 * inner[a, b]).clamp(min=torch.finfo(torch.float64).tiny)
    t = (along / length).clamp(0, 1)
    start = points.square().sum(1)[:, None] - 2 * cross[:, a] + square[a]  # |p - a|^2
    return (start - 2 * t * along + t**2 * length).clamp(min=0).amin(1).sqrt()


def pair_draws(draws, keys, count):
    """Count interpolations [count, ...] of the first of two states with the second; keys never end."""
    return torch.stack([draws.mixed(key)[0] for key in itertools.islice(draws.paired(keys), count)])


def measure(draws, keys):
    """The MEASURES of the Draws of one batch; keys: an iterator of draws' keys."""
    h, regularizer = draws.h, draws.regularizer
    two = Draws(regularizer, draws.k, h[:2], draws.x[:2], draws.y[:2])
    numbers = {"dimensions": [participation_ratio((pair_draws(two, keys, DRAWS) - h[0]).flatten(1))]}
    real = h.flatten(1)
    scale = torch.pdist(real).mean().item()
    for key in itertools.islice(keys, BATCH_DRAWS):
        states, moved = draws.mixed(key).flatten(1), draws.moved
        states, start, partners = states[moved], real[moved], real[regularizer.partner[moved]]
        values = {
            "distance": nearest_segment(states, real) / scale,
            "displacement": (states - start).norm(dim=1) / (partners - start).norm(dim=1),
            "to_own": F.cosine_similarity(states, start),
            "to_partner": F.cosine_similarity(states, partners),
        }
        for name, value in values.items():
            numbers.setdefault(name, []).append(value.mean().item())
    return {name: float(np.mean(values)) for name, values in numbers.items()}


def measurements(scene, k):
    """{method: {measure: [a number for each of BATCHES]}} of a scene's network at layer k, with its images and seed."""
    numbers = {method: {name: [] for name in MEASURES} for method in METHODS}
    for number in tqdm(range(BATCHES), "batches", leave=False, dynamic_ncols=True):
        x, y = scene.batch(BATCH, number)
        h = scene.states(x, k)
        for method in METHODS:
            for name, value in measure(scene.draws(method, k, x, y, h), scene.keys(number)).items():
                numbers[method][name].append(value)
    return numbers


def rows(numbers):
    """A row a method and measure of measurements: method, measure, mean, std (sample; None for one batch), n."""
    return [
        {
            "method": method,
            "measure": name,
            "mean": float(np.mean(values)),
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "n": len(values),
        }
        for method, measures in numbers.items()
        for name, values in measures.items()
    ]


def markdown(numbers):
    """The measurements as a table: a row a method, mean ± sample standard deviation over batches."""
    heads = [text.replace("\n", " ") for text in MEASURES.values()]
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    for method, cells in itertools.groupby(rows(numbers), key=operator.itemgetter("method")):
        texts = [f"{c['mean']:.3f}" + ("" if c["std"] is None else f" ± {c['std']:.3f}") for c in cells]
        lines.append(f"| {recipes.printed(method)} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def write_numbers(numbers, path, setting):
    """Write <path>.csv, a row a method and measure, and <path>.json, with a dict setting and every batch's numbers."""
    table = pd.DataFrame(rows(numbers))
    write_whole(path.with_name(f"{path.name}.csv"), lambda file: table.to_csv(file, index=False))
    values = {"batch": BATCH, "draws": DRAWS, "draws_of_a_batch": BATCH_DRAWS} | setting
    write_json(path.with_name(f"{path.name}.json"), {"setting": values, "rows": rows(numbers), "batches": numbers})


# ---- Figure 10 ----


def figure10(scene, k, path):
    """Interpolations of a few real states in a plane, and the measurements as bars; these are printed and written too.

    Takes a Scene (see illustrations.py), the layer and the path without suffix; returns the caption.
    """
    numbers = measurements(scene, k)
    write_numbers(numbers, path, {"network": scene.about, "layer": k, "seed": scene.seed})
    print(markdown(numbers))
    figure = plt.figure(figsize=(PAGE, 4.1), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(2.3, 1.9), hspace=0.03)
    draw_plane(above.subplots(1, len(METHODS), sharex=True, sharey=True), *plane(scene, k))
    draw_bars(below.subplots(1, len(MEASURES)), numbers)
    count = min(BATCH, len(scene.datasets.train))
    return write(
        figure,
        path,
        f"Interpolated hidden states at layer k = {k} of {scene.about}. Top: {SHOWN} real states (white) and "
        f"{SHOWN_DRAWS} draws of each method, in the plane of the first two principal components of all of them; "
        "lines: the segments between real states. Bottom: mean and sample standard deviation over "
        f"{BATCHES} batches of {count} images. Dimensions of a pair: participation ratio of the displacements of one "
        f"state towards one partner in {DRAWS} draws. Distance to the nearest point of all segments between two real "
        "states of the batch, in units of the mean distance between real states. Displacement: in units of the "
        "distance to the partner.",
    )


def plane(scene, k):
    """(real states [SHOWN, 2], {method: interpolated ones [n, 2]}) on the principal axes of all of them together."""
    x, y, h = scene.samples(SHOWN, k)
    parts = [h.flatten(1)]
    for method in METHODS:
        draws = scene.draws(method, k, x, y, h)
        states = [draws.mixed(key)[draws.moved] for key in itertools.islice(scene.keys(), SHOWN_DRAWS)]
        parts.append(torch.cat(states).flatten(1))
    everything = torch.cat(parts).double()
    everything -= everything.mean(0)
    values, vectors = torch.linalg.eigh(everything @ everything.T)
    flat = (vectors[:, -2:].flip(1) * values[-2:].flip(0).clamp(min=0).sqrt()).numpy()
    real, *others = np.split(flat, np.cumsum([len(part) for part in parts[:-1]]))
    return real, dict(zip(METHODS, others))


def draw_plane(axes, real, others):
    """A panel a method: segments between real states, interpolated ones, real ones."""
    for axis, (method, states) in zip(axes, others.items()):
        for start, end in itertools.combinations(real, 2):
            axis.plot(*zip(start, end), color="0.55", linewidth=0.7, zorder=1)
        look = STYLES[method]
        axis.scatter(*states.T, s=7, marker=look.marker, color=look.color, linewidths=0, alpha=0.75, zorder=2)
        axis.scatter(*real.T, s=26, color="white", edgecolors="black", linewidths=0.9, zorder=3)
        axis.set(title=recipes.printed(method), xticks=[], yticks=[], xlabel="first component", aspect="equal")
    axes[0].set_ylabel("second component")


def draw_bars(axes, numbers):
    """A panel a measure, a bar a method."""
    halo = [withStroke(linewidth=1.6, foreground="white")]  # shows the lines on dark bars
    for axis, (name, title) in zip(axes, MEASURES.items()):
        for place, method in enumerate(METHODS):
            values = numbers[method][name]
            mean, std = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0
            axis.bar(place, mean, 0.8, **STYLES[method].bar())
            axis.vlines(place, mean - std, mean + std, color="black", linewidth=0.8, path_effects=halo)
            axis.annotate(f"{mean:.2f}", (place, mean + std), (0, 2), textcoords="offset points", ha="center", size=6)
        axis.set_title(title)
        axis.set_xticks([])
        axis.margins(y=0.18)
        axis.set_xlim(-0.6, len(METHODS) - 0.4)
        axis.locator_params(axis="y", nbins=4)
        axis.grid(axis="y")


# ---- Figure 2 ----

STATES = 3
POINT_DRAWS = 150  # of all of them together


class Points(NamedTuple):
    """Hidden states as the means of three channels: real [3, 3], {method: interpolated [n, 3]}, the channels."""

    real: np.ndarray
    interpolated: dict
    channels: list


def pooled(scene, k):
    """The Points of three images at layer k.

    Means are linear in the state: what lies between two states lies between their means.
    """
    x, y, h = scene.samples(STATES, k)
    channels = telling_channels(h.mean((2, 3)))

    def pool(states):
        return states[:, channels].mean((2, 3)).numpy()

    interpolated = {}
    for method in METHODS:
        draws = scene.draws(method, k, x, y, h)
        states = [draws.mixed(key)[draws.moved] for key in itertools.islice(scene.keys(), POINT_DRAWS)]
        interpolated[method] = pool(torch.cat(states))
    return Points(pool(h), interpolated, channels)


def telling_channels(means):
    """Three channels of means [3, C]: that of the largest spread, that which tells most beside it, and the next."""
    spread = (means - means.mean(0)).double()
    chosen = [int(spread.norm(dim=0).argmax())]
    axis = F.normalize(spread[:, chosen[0]], dim=0)
    beside = (spread - axis[:, None] * (axis @ spread)).norm(dim=0)
    return chosen + [int(channel) for channel in beside.argsort(descending=True) if channel not in chosen][:2]


def figure2(scene, k, path):
    """Where the samples that ManifoldMixup and PatchUp make of three hidden states lie, in three dimensions."""
    pools = pooled(scene, k)
    everything = np.concatenate([pools.real, *pools.interpolated.values()])
    low, high = everything.min(0), everything.max(0)
    figure = plt.figure(figsize=(PAGE, 2.3))
    for place, (method, points) in enumerate(pools.interpolated.items()):
        axis = figure.add_axes(
            [place / 3 - 0.016, -0.03, 0.335, 1.0], projection="3d", computed_zorder=False, facecolor="none"
        )
        real, points = (pools.real - low) / (high - low), (points - low) / (high - low)
        for start, end in itertools.combinations(real, 2):
            axis.plot(*zip(start, end), color="0.45", linewidth=0.9, zorder=1)
        look = STYLES[method]
        axis.scatter(*points.T, s=8, marker=look.marker, color=look.color, linewidths=0, depthshade=False, zorder=2)
        face = {"color": "white", "edgecolors": "black", "linewidths": 1.1}
        axis.scatter(*real.T, s=40, depthshade=False, zorder=3, **face)
        figure.text(place / 3 + 0.16, 0.93, recipes.printed(method), ha="center")
        axis.view_init(elev=22, azim=-60)
        axis.set_box_aspect(None, zoom=0.97)
        for name, channel in zip("xyz", pools.channels):
            axis.set(**{f"{name}lim": (-0.03, 1.03), f"{name}ticklabels": []})
            getattr(axis, f"set_{name}label")(f"channel {channel}", labelpad=-13)
    soft, hard = (scene.regularizer(method, k) for method in ("patchup_soft", "patchup_hard"))
    return write(
        figure,
        path,
        f"Three hidden states (white) at layer k = {k} of {scene.about}, and what {POINT_DRAWS} draws of each method "
        "make of them; a point is the mean of three channels over all positions. ManifoldMixup's samples lie on the "
        "lines between real states; PatchUp alters another part of every channel and leaves the lines. Gamma "
        f"{soft.gamma:g} (Soft) and {hard.gamma:g} (Hard), blocks of {hard.block_size_at(k)}.",
    )
