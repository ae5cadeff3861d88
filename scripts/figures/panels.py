"""Pictures in panels: pixels are squares of whole dots, feature maps grey, masks dark where features are altered."""

import numpy as np
from matplotlib.collections import LineCollection

from scripts.figures.charts import DPI, PAGE, plt, withStroke

MARK = "#FFD500"  # of altered blocks; with a black rim it is seen on any picture
RIM = 2.2  # points, over a line of 0.9
HALO = [withStroke(linewidth=RIM, foreground="black")]
MASKED = 0.25  # grey of altered features in a mask


def sheet(rows, columns, pixels, width=PAGE, *, left=0.02, top=0.02, bottom=0.02, gap=0.05, gap_down=0.05):
    """A figure of square panels for pictures of `pixels` a side: the figure and its axes [rows, columns].

    About `width` inches wide; left, top, bottom: margins, gap, gap_down: between panels, in inches. A pixel is a square
    of whole dots and every panel begins at a whole dot.
    """
    left, top, bottom, gap, gap_down = (round(value * DPI) for value in (left, top, bottom, gap, gap_down))
    room = (round(width * DPI) - left - gap * (columns - 1)) // columns
    side = max(1, (room - 4) // pixels) * pixels
    across = left + columns * side + (columns - 1) * gap + 4
    down = top + rows * side + (rows - 1) * gap_down + bottom
    figure = plt.figure(figsize=(across / DPI, down / DPI))
    axes = np.empty((rows, columns), object)
    for i, j in np.ndindex(rows, columns):
        x, y = left + j * (side + gap), bottom + (rows - 1 - i) * (side + gap_down)
        axes[i, j] = figure.add_axes([x / across, y / down, side / across, side / down], xticks=[], yticks=[])
        axes[i, j].spines[:].set_visible(False)
    return figure, axes


def show(axis, picture, title=""):
    """A picture [H, W] or [H, W, 3] of values in [0, 1], others cut off."""
    axis.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(title, pad=3)


def show_mask(axis, mask, title=""):
    """A mask [H, W] of values in [0, 1], framed: white where it is 1, dark where it is 0."""
    show(axis, MASKED + (1 - MASKED) * mask, title)
    axis.spines[:].set(visible=True, linewidth=0.4)


def outline(axis, altered):
    """Outline the True part of a bool [H, W] along the borders of its pixels."""
    for color, width in (("black", RIM), (MARK, 0.9)):
        lines = LineCollection(edges(altered), colors=color, linewidths=width, capstyle="projecting", clip_on=False)
        axis.add_collection(lines)


def edges(altered):
    """The borders of the True part of a bool [H, W]: segments [n, 2, 2] of points (x, y), pixels about integers."""
    padded = np.pad(altered, 1)
    y, x = np.nonzero(np.diff(padded, axis=0)[:, 1:-1])
    level = np.stack([np.stack([x, y], 1), np.stack([x + 1, y], 1)], 1)
    y, x = np.nonzero(np.diff(padded, axis=1)[1:-1])
    upright = np.stack([np.stack([x, y], 1), np.stack([x, y + 1], 1)], 1)
    return np.concatenate([level, upright]) - 0.5


def arrow(left, right, text=""):
    """An arrow from one panel to another on its right, with a text above its middle."""
    ends = {"xy": (-0.03, 0.5), "xycoords": right.transAxes, "xytext": (1.03, 0.5), "textcoords": left.transAxes}
    look = {"arrowstyle": "-|>", "linewidth": 0.7, "color": "black", "shrinkA": 0, "shrinkB": 0}
    left.annotate("", **ends, arrowprops=look)
    middle = (left.get_position().x1 + right.get_position().x0) / 2
    place = left.get_position()
    left.figure.text(middle, (place.y0 + place.y1) / 2 + 0.02, text, ha="center", va="bottom")
