"""Every corruption of a few test images at every severity, as eval_corruption.py makes them.

python -m scripts.figures.contact_sheet cifar100 --data-dir IMAGES
"""

import math
import sys
from pathlib import Path

import numpy as np
import torch

import data
from data import corrupted
from data.corruptions import HELD_OUT, SCORED, SEVERITIES, STORAGES
from engine import cli
from engine.files import ROOT
from engine.subject import test_images
from scripts.figures import charts
from scripts.figures.charts import DPI, PAGE, PRINT, TALL, plt

PICTURES = 2  # test images


def parser():
    """The command line."""
    sheet = cli.Parser(description=__doc__)
    add = sheet.add_argument
    add("dataset", choices=data.FACTS)
    add("--image-size", type=int, metavar="PIXELS", help="of data sets whose images have any size")
    add("--storage", choices=STORAGES, help="default as released: png at 32 px, else jpeg85")
    add("--corruption-seed", type=int, default=0, metavar="K", help="default 0")
    add("--data-dir", type=Path, default=cli.DATA_DIR, help="holds the images (default $PATCHUP_DATA, else datasets)")
    add("--out", type=Path, default=ROOT / "results", help="gets figures/corruptions-<dataset> (default results)")
    add("--workers", type=int, default=4, help="processes that prepare images (default 4)")
    return sheet


def make(args):
    """Draw what a command line asks for."""
    cli.require_counts(args, "corruption_seed", least=0, most=2**63 - 1)
    cli.require_counts(args, "workers", least=0)
    test = test_images(args.dataset, args.image_size, str(args.data_dir), args.workers).test.limited(PICTURES)
    source = corrupted.Generated(args.dataset, test, args.corruption_seed, args.storage, None, args.workers)
    (clean, _, _), *_ = test.pixel_batches(PICTURES)
    names, rows = (*SCORED, *HELD_OUT), []
    for name in names:
        cases = [torch.cat(list(source.batches(name, severity, PICTURES))) for severity in SEVERITIES]
        rows.append(torch.stack([clean, *cases], 1).flatten(0, 1).numpy())  # picture by picture
    path = args.out / "figures" / f"corruptions-{args.dataset}"
    caption = f"{len(clean)} test images, clean and under every corruption (rows) at every severity (columns)."
    with plt.rc_context(PRINT | {"font.size": 7}):
        sheet = contact_sheet(np.stack(rows), names, ("clean", *SEVERITIES) * len(clean))
        print(charts.write(sheet, path, f"{caption} Images: {source.label}."))
    print(f"written to {path}.png and {path}.pdf")
    return 0


def contact_sheet(images, names, heads):
    """A figure of images uint8 [rows, columns, 3, H, W], with the names of rows and the heads of columns.

    A pixel is a square of whole pixels in the PNG; a white line ends every row and column.
    """
    framed = np.pad(images, [(0, 0)] * 3 + [(0, 1)] * 2, constant_values=255)
    rows, columns, colors, height, width = framed.shape
    canvas = framed.transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, colors)
    left, top = 1.0, 0.2  # inches for names and heads
    room = min((TALL - top) * DPI / canvas.shape[0], (PAGE - left) * DPI / canvas.shape[1])
    times = max(1, math.floor(room))
    dpi = DPI * max(1, times / room)
    canvas = canvas.repeat(times, 0).repeat(times, 1)
    height, width = canvas.shape[0] / dpi, canvas.shape[1] / dpi
    figure = plt.figure(figsize=(left + width + 0.5 / dpi, top + height + 0.5 / dpi), dpi=dpi)
    figure.figimage(canvas, xo=round(left * dpi))
    inches = figure.dpi_scale_trans
    for i, name in enumerate(names):
        y = height * (1 - (i + 0.5) / rows)
        figure.text(left - 0.05, y, name.replace("_", " "), ha="right", va="center", transform=inches)
    for i, head in enumerate(heads):
        figure.text(left + width * (i + 0.5) / columns, height + 0.05, head, ha="center", transform=inches)
    return figure


def main(arguments=None):
    """The exit status of a command line (see cli.explain)."""
    args = parser().parse_args(arguments)
    return cli.explain(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
