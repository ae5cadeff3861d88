"""Every corruption of a few test images at every severity, as eval_corruption.py makes them.

python -m scripts.figures.contact_sheet cifar100 --data-dir IMAGES
"""

import argparse
import sys
from pathlib import Path

import torch

import data
from data import corrupted
from data.corruptions import HELD_OUT, SCORED, SEVERITIES, STORAGES
from engine import cli
from engine.files import ROOT
from engine.subject import test_images
from scripts.figures import charts

PICTURES = 2  # test images


def parser():
    """The command line."""
    sheet = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
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
    pictures = [{"clean": image[None].numpy()} for image in clean]
    for name in (*SCORED, *HELD_OUT):
        cases = [torch.cat(list(source.batches(name, severity, PICTURES))) for severity in SEVERITIES]
        for picture, images in zip(pictures, torch.stack(cases, 1)):
            picture[name] = images.numpy()
    path = args.out / "figures" / f"corruptions-{args.dataset}"
    print(charts.contact_sheet(pictures, path, note=f"Images: {source.label}."))
    print(f"written to {path}.png and {path}.pdf")
    return 0


def main(arguments=None):
    """The exit status of a command line (see cli.explain)."""
    args = parser().parse_args(arguments)
    return cli.explain(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
