"""Learning curves of the report page, drawn by matplotlib."""

import base64

import numpy as np
from matplotlib.ticker import MaxNLocator

from scripts.figures.charts import PRINT, line_handles, plt, png, styles

PANELS = {
    "val_error": "validation error (%)",
    "train_loss_per_term": "training loss per term",
    "train_loss": "training loss, sum of terms",
}
WIDTH, HEIGHT, DPI, SHOWN_DPI = 4.4, 3.3, 200, 105  # of a panel: inches, and dots an inch in its file and on the page


def panels(runs):
    """The pictures of runs, see panel: their errors, and their losses for each term where all logs have these."""
    per_term = all("train_loss_per_term" in line for run in runs for line in run["lines"])
    return [panel(runs, "val_error"), panel(runs, "train_loss_per_term" if per_term else "train_loss")]


def panel(runs, name):
    """A picture as the page holds it: a line a run, by epoch, in its method's colours.

    runs: dicts with `method` and `lines`, those of the log; name: what of these is drawn, a key of PANELS.
    """
    looks = styles(run["method"] for run in runs)
    with plt.rc_context(PRINT | {"lines.linewidth": 0.9}):
        figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained")
        for run in runs:
            values = np.array([line[name] for line in run["lines"]], dtype=float)  # NaN where it is not known
            ends = sorted({0, len(values) - 1})
            axes.plot(range(1, len(values) + 1), values, **looks[run["method"]].line(), markevery=ends)
        axes.set(xlabel="epoch", ylabel=PANELS[name])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid()
        figure.legend(handles=line_handles(looks), loc="outside lower center", ncols=3)
        data = base64.b64encode(png(figure)).decode()
    return {"data": data, "width": round(WIDTH * SHOWN_DPI), "height": round(HEIGHT * SHOWN_DPI), "title": PANELS[name]}
