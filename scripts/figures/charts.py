"""The paper's figures from tables of evaluations, each as PNG, PDF and a caption that names the seeds.

All take a DataFrame with a row a run (dataset, model, method, seed) and point, and

    path: where to write, without suffix: <path>.png, <path>.pdf and the caption, <path>.txt
    expected: methods that should have runs; the caption names those without (default: the table's)
    note: a sentence to end the caption, as how the corruptions were made or how many images were seen

and return the caption. They raise BadInput for a table without rows, for a row that occurs twice, and where one run
lacks a point that others of its network have: the mean would be over other seeds from point to point.
"""

import io
import itertools
import math
import string
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

import recipes
from data.corruptions import HELD_OUT, SCORED
from engine.files import BadInput, make_folder, write_whole

COLUMN, PAGE, TALL = 3.3, 6.9, 8.8  # inches: the width of a column and of both, and a page's height less its caption
DPI = 300
PRINT = {
    "font.size": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "hatch.linewidth": 0.5,
    "figure.dpi": DPI,
    "pdf.fonttype": 42,  # TrueType: publishers refuse matplotlib's Type 3
}
RUN = ("dataset", "model", "method", "seed")
BAR_ROWS = (("noise", "blur"), ("weather", "digital"), ("held out",))  # groups of corruptions


class Style(NamedTuple):
    """What one method looks like in every figure."""

    color: str
    marker: str
    dashes: str | tuple
    hatch: str

    def line(self):
        """Keyword arguments of a line."""
        look = {"color": self.color, "marker": self.marker, "linestyle": self.dashes}
        size = 6.5 if self.marker == "*" else 4.5  # a star looks smaller than it is
        return look | {"markersize": size, "markeredgecolor": "black", "markeredgewidth": 0.4}

    def bar(self):
        """Keyword arguments of a bar; its hatch is white on dark colours."""
        ink = "black" if grey(self.color) > 0.4 else "white"
        return {"facecolor": self.color, "hatch": self.hatch, "edgecolor": ink, "linewidth": 0}


def grey(color):
    """The brightness of a colour printed without colour, in [0, 1] (ITU-R BT.601)."""
    return float(np.dot(to_rgb(color), (0.299, 0.587, 0.114)))


STYLES = {  # greys 0.08 apart; hues that stay apart for protanopes, deuteranopes and tritanopes
    "none": Style("#240C0A", "o", "-", ""),
    "mixup": Style("#518FE7", "s", "--", "/////"),
    "manifold_mixup": Style("#162D65", "D", ":", "....."),
    "cutout": Style("#D4E24E", "^", (0, (5, 1)), "\\\\\\\\\\"),
    "dropblock": Style("#743603", "v", "-.", "-----"),
    "cutmix": Style("#44E1FE", "P", (0, (3, 1, 1, 1)), "xxxxx"),
    "puzzlemix": Style("#6240BF", "X", (0, (2, 1)), "|||||"),
    "patchup_soft": Style("#E88950", "h", "-", "ooo"),
    "patchup_hard": Style("#BF486F", "*", "-", "+++++"),
}
SPARE = (Style("#9A9A9A", "<", "-", "///"), Style("#C0C0C0", ">", "--", "\\\\\\"), Style("#7C7C7C", "p", ":", "..."))


def styles(methods):
    """{method: Style} in the paper's order; a method that has none comes last, in the next of SPARE."""
    methods, spare = set(methods), itertools.cycle(SPARE)
    known = [method for method in STYLES if method in methods]
    return {method: STYLES.get(method) or next(spare) for method in (*known, *sorted(methods - set(known)))}


# ---- the figures ----


def corruption_bars(table, path, expected=None, note=""):
    """Figures 4 and 15: E_c by corruption, a bar a method, for every network two rows of bars.

    table: also `corruption` and `sum_error`, the error in percent summed over the five severities, in [0, 500].
    """
    mean, std = over_seeds(table, ["corruption"], "sum_error")
    groups = {}
    for name in dict.fromkeys((*SCORED, *HELD_OUT, *sorted(set(table.corruption)))):
        if name in set(table.corruption):
            groups.setdefault(SCORED.get(name, "held out"), []).append(name)
    rows = [{group: groups[group] for group in row if group in groups} for row in BAR_ROWS]
    networks, rows = networks_of(table), [row for row in rows if row]
    panels, titles, looks = list(itertools.product(networks, rows)), lettered(networks), styles(table.method)
    with plt.rc_context(PRINT):
        size = (PAGE, 0.5 + 1.5 * len(panels))
        figure, axes = plt.subplots(len(panels), figsize=size, sharey=True, layout="constrained", squeeze=False)
        for axis, (network, row) in zip(axes.flat, panels):
            draw_bars(axis, row, mean.loc[network], std.loc[network], looks)
            if row is rows[0]:
                axis.set_title(titles[networks.index(network)], loc="left", pad=14)
        axes.flat[0].set_ylim(0, 1.05 * (mean + std.fillna(0)).max(axis=None) or 1)  # of all panels
        handles = [Patch(label=recipes.printed(method), **look.bar()) for method, look in looks.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=columns(len(looks), 5), handleheight=1.1)
        what = "E_c, the test error (%) summed over the five severities of each corruption (0 to 500, lower is better)"
        return write(figure, path, caption(what, titles, table, "error bars", expected, note))


def draw_bars(axis, groups, mean, std, looks):
    """Bars of a mean [method, corruption] side by side, with a heading for each of the groups of corruptions."""
    corruptions = list(itertools.chain(*groups.values()))
    width = 0.88 / len(looks)
    halo = [withStroke(linewidth=1.5, foreground="white")]  # shows the error bars on dark bars
    for i, (method, look) in enumerate(looks.items()):
        if method in mean.index:
            x = np.arange(len(corruptions)) + (i - (len(looks) - 1) / 2) * width
            heights, spread = mean.loc[method, corruptions], std.loc[method, corruptions]
            axis.bar(x, heights, 0.93 * width, label=method, **look.bar())
            axis.vlines(x, heights - spread, heights + spread, color="black", linewidth=0.7, path_effects=halo)
    start = -0.5
    for group, names in groups.items():
        middle = start + len(names) / 2
        axis.text(middle, 1.02, group, ha="center", va="bottom", style="italic", transform=axis.get_xaxis_transform())
        start += len(names)
        axis.axvline(start, color="0.7", linewidth=0.6)
    axis.set_xticks(range(len(corruptions)), [name.replace("_", "\n") for name in corruptions])
    axis.tick_params(axis="x", length=0)
    axis.locator_params(axis="y", nbins=6)
    axis.set(xlim=(-0.5, start), ylabel="$E_c$ (%)")
    axis.grid(axis="y")


def accuracy_curves(table, path, expected=None, note="", strength="ε"):
    """Figures 5 and 13: accuracy against the strength of an attack, a panel a network and data set.

    table: also `eps` and `error` in percent. strength: the axis in words, as "ε of FGSM (normalised input)".
    """
    mean, std = over_seeds(table, ["eps"], "error")
    networks, looks = networks_of(table), styles(table.method)
    titles = lettered(networks)
    with plt.rc_context(PRINT):
        figure, axes = line_panels(titles, looks, strength, "test accuracy (%)")
        for axis, network in zip(axes, networks):
            for method, look in looks.items():
                if (*network, method) in mean.index:
                    accuracy = 100 - mean.loc[(*network, method)].dropna()
                    spread = std.loc[(*network, method), accuracy.index]
                    axis.plot(accuracy.index, accuracy, label=method, **look.line())
                    band = {"color": look.color, "alpha": 0.2, "linewidth": 0, "label": method}
                    axis.fill_between(accuracy.index, accuracy - spread, accuracy + spread, **band)
        what = f"Test accuracy (%) against {strength}"
        return write(figure, path, caption(what, titles, table, "bands", expected, note))


def activation_curves(table, path, expected=None, note=""):
    """Figures 6 and 14: the magnitudes of a stage's channels, sorted, a panel a stage in the order of the table.

    table: also `stage`, `channel_rank` and `magnitude`.
    """
    mean, _ = over_seeds(table, ["stage", "channel_rank"], "magnitude")
    networks, looks = networks_of(table), styles(table.method)
    panels = list(dict.fromkeys(zip(table.dataset, table.model, table.stage)))
    titles = lettered([panel if len(networks) > 1 else panel[2:] for panel in panels])
    with plt.rc_context(PRINT):
        figure, axes = line_panels(titles, looks, "rank of the channel", "mean magnitude")
        for axis, (*network, stage) in zip(axes, panels):
            for i, (method, look) in enumerate(looks.items()):
                if (*network, method) in mean.index:
                    curve = mean[stage].loc[(*network, method)].dropna()
                    every = (0.16 * i / len(looks), 0.16)  # of the panel's diagonal: no two methods' at one place
                    axis.plot(curve.index, curve, label=method, markevery=every, **look.line())
            axis.set_ylim(bottom=min(0, table.magnitude.min()))  # signed sums go below
        of = f" of {in_words(networks[0])}" if len(networks) == 1 else ""
        what = f"Magnitude of the activations of every channel{of}, in descending order"
        return write(figure, path, caption(what, titles, table, "", expected, note))


# ---- what they share ----


def over_seeds(table, point, value):
    """Mean and sample standard deviation over seeds (NaN for one), frames [(dataset, model, method), point].

    point: the columns that name one. Raises BadInput as the module says.
    """
    if table.empty:
        raise BadInput("nothing to draw: no finished evaluation")
    runs = table.set_index(list(RUN))[point + [value]]
    if len(twice := runs[runs.set_index(point, append=True).index.duplicated()]):
        raise BadInput(f"{run_in_words(twice.index[0])} has {point[-1]} {twice.iloc[0][point[-1]]} twice")
    runs = runs.pivot(columns=point, values=value)
    for _, rows in runs.groupby(level=["dataset", "model"]):
        rows = rows.dropna(axis="columns", how="all")
        if len(gaps := np.argwhere(rows.isna().to_numpy())):
            run, lacks = rows.index[gaps[0][0]], np.atleast_1d(rows.columns[gaps[0][1]])
            raise BadInput(f"{run_in_words(run)} lacks {' '.join(map(str, lacks))}, which others have")
    cells = runs.groupby(level=list(RUN[:3]))
    return cells.mean(), cells.std()


def run_in_words(run):
    """`cifar100/wrn28_10/none/seed0` for a (dataset, model, method, seed)."""
    return "/".join(run[:3]) + f"/seed{run[3]}"


def networks_of(table):
    """Every (dataset, model) of a table, in its order."""
    return list(dict.fromkeys(zip(table.dataset, table.model)))


def in_words(panel):
    """`WRN-28-10 on CIFAR-100` for a (dataset, model), with `, layer1` where a stage is given, or the stage alone."""
    if len(panel) == 1:
        return panel[0]
    dataset, model, *stage = panel
    return ", ".join([f"{recipes.printed(model)} on {recipes.printed(dataset)}", *stage])


def lettered(panels):
    """The titles of panels: with (a), (b), ... if they are several."""
    words = [in_words(panel) for panel in panels]
    return [f"({letter}) {word}" for letter, word in zip(string.ascii_letters, words)] if len(words) > 1 else words


def line_panels(titles, looks, xlabel, ylabel):
    """A figure with a panel a title and one legend for all: the figure and its axes. One panel fills one column."""
    n = len(titles)
    across = columns(n, 3)
    rows = math.ceil(n / across)
    size = (COLUMN if n == 1 else PAGE, 0.6 + rows * (1.75 if across == 3 else 2.1))
    figure, axes = plt.subplots(rows, across, figsize=size, layout="constrained", squeeze=False)
    for i, (axis, words) in enumerate(zip(axes.flat, titles)):
        axis.set(title=words, xlabel=xlabel if i + across >= n else "", ylabel=ylabel if i % across == 0 else "")
        axis.locator_params(axis="x", nbins=5)
        axis.grid()
    for axis in axes.flat[n:]:
        axis.axis("off")
    if n < axes.size:
        axes.flat[n].legend(handles=line_handles(looks), loc="center")
    else:
        across = columns(len(looks), 3 if n == 1 else 5)
        figure.legend(handles=line_handles(looks), loc="outside upper center", ncols=across)
    return figure, list(axes.flat[:n])


def line_handles(looks):
    """A legend's handles for the lines of {method: Style}, named as in print."""
    return [Line2D([], [], label=recipes.printed(method), **look.line()) for method, look in looks.items()]


def columns(count, most):
    """The columns, at most so many, that fill the rows which `count` things take as evenly as can be."""
    return math.ceil(count / math.ceil(count / most))


def caption(what, titles, table, spread, expected, note):
    """The caption: what the panels show, of how many seeds, what shows their spread (or nothing), what is missing."""
    networks = networks_of(table)
    seeds = table.groupby(list(RUN[:3])).seed.nunique()
    usual = seeds.mode().max()
    counts = f"Mean over {usual} seeds" if usual > 1 else "One seed"
    odd = [f"{n} of {methods_in_words(cells.index, networks)}" for n, cells in seeds[seeds != usual].groupby(seeds)]
    text = f"{what}: {', '.join(titles)}. {counts}" + (f" ({'; '.join(odd)})" if odd else "")
    if spread and seeds.max() > 1:
        text += f", {spread}: sample standard deviation over seeds"
    wanted = itertools.product(networks, table.method.unique() if expected is None else expected)
    missing = [(*network, method) for network, method in wanted if (*network, method) not in seeds.index]
    if missing:
        text += f". No runs of {methods_in_words(missing, networks)}"
    return f"{text}. {note}".strip()


def methods_in_words(cells, networks):
    """The methods of (dataset, model, method) cells, each with its networks unless they are all."""
    places = {}
    for *network, method in cells:
        places.setdefault(method, []).append(tuple(network))
    words = []
    for method in styles(places):
        where = "" if len(places[method]) == len(networks) else f" ({', '.join(map(in_words, places[method]))})"
        words.append(recipes.printed(method) + where)
    return ", ".join(words)


def png(figure, dpi="figure"):
    """A figure as PNG, bytes; it is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    plt.close(figure)
    return buffer.getvalue()


def save(figure, path, **options):
    """Write a figure to path, whole or not at all, in the format that its suffix says; options: savefig's."""
    write_whole(path, lambda file: figure.savefig(file, format=path.suffix[1:], **options))


def write(figure, path, text):
    """Write <path>.png, <path>.pdf and the caption <path>.txt, each whole; the caption."""
    make_folder(path.parent)
    save(figure, path.with_name(f"{path.name}.pdf"), metadata={"CreationDate": None})  # the same data, the same file
    save(figure, path.with_name(f"{path.name}.png"))
    plt.close(figure)
    write_whole(path.with_name(f"{path.name}.txt"), lambda file: file.write(f"{text}\n".encode()))
    return text
