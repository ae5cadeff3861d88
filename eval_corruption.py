"""Error of trained networks under common corruptions: Figures 4 and 15.

python eval_corruption.py --table figure4
python eval_corruption.py results/runs/cifar100 --reference results/runs/cifar100/wrn28_10/none
python eval_corruption.py --table figure4 --released datasets/Tiny-ImageNet-C
python eval_corruption.py --contact-sheet cifar100

E_c is the error in percent summed over the five severities of a corruption, 0 to 500; mCE the mean of 100 E_c / E_c of
the reference (Hendrycks and Dietterich, 2019, divide by AlexNet's).

By default the test images are corrupted here, as those of the released set of the nearest size were, but for what
data/corruptions.py says; every image has random numbers of its own, the same for all checkpoints. What is made is kept
in <data-dir>/.cache/corrupted for the next checkpoint: 2.3 GB for all cases of CIFAR, 9.2 GB for Tiny-ImageNet
(--no-keep). ImageNet's are made anew every time.

--released reads, instead, an unpacked CIFAR-10-C or CIFAR-100-C (<corruption>.npy, labels.npy), Tiny-ImageNet-C or
ImageNet-C (<corruption>/<severity>/<class>/*.JPEG). These hold no clean images. Records of the two kinds have names of
their own and are never put into one row.
"""

import functools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import recipes
from data import corrupted
from data.corruptions import HELD_OUT, SCORED, SEVERITIES, STORAGES
from engine import cli, evaluation
from engine.files import BadInput, read_json
from scripts.figures import charts
from scripts.grid import grids

CLEAN = "clean"
PICTURES = 2  # test images on the contact sheet


class Corruption(evaluation.Study):
    """What the two kinds share. A case is a corruption and a severity, as fog-3."""

    unit = "error (%) summed over five severities"

    def __init__(self, args, **setting):
        super().__init__(**setting, held_out=args.held_out)
        self.plain = dict.fromkeys(setting) | {"held_out": False}
        self.args = args
        self.names = (*SCORED, *(HELD_OUT if args.held_out else ()))
        self.tasks = tuple(f"{name}-{severity}" for name in self.names for severity in SEVERITIES)
        self.subject = self.source = None

    def images(self, subject):
        if subject is not self.subject:
            self.subject, self.source = subject, self.open(subject)
        return self.source.rows, self.source.labels

    def stamp(self):
        return self.source.label

    def open(self, subject):
        """The corrupted.Generated or corrupted.Released of a subject."""
        raise NotImplementedError

    def batches(self, task, subject, start):
        name, severity = task.rsplit("-", 1)
        rows, labels = (torch.from_numpy(values).to(subject.device) for values in self.images(subject))
        for x in self.source.batches(name, int(severity), self.batch, start):
            here = slice(start, start + len(x))
            yield x.to(subject.device), labels[here], rows[here]
            start = here.stop

    def conclude(self, cases, arrays):
        sums = sums_of(cases, SCORED)
        mean = float(np.mean(list(sums.values())))
        found = {"source": self.source.label, "sums": sums, "mean_sum": mean, "mean_error": mean / len(SEVERITIES)}
        return found | ({"held_out_sums": sums_of(cases, HELD_OUT)} if self.setting["held_out"] else {})

    # ---- what is printed and drawn ----

    def shown(self, record):
        rows = record["sums"] | {"mean": record["mean_sum"]}
        if self.args.reference:
            paths, references = self.references
            rows |= {f"mCE (of {in_words(references)})": mce(record, references, paths)}
        return rows | {f"{name} (held out)": value for name, value in record.get("held_out_sums", {}).items()}

    @functools.cached_property
    def references(self):
        """The records that mCE is relative to: their paths, and they."""
        return find_references(self.args.reference, f"*.{self.args.weights}.{self.name}.json")

    def remark(self, results):
        return f"Images: {'; '.join(sources(results))}."

    def draw(self, records, path, expected, note):
        charts.corruption_bars(bars(records), path, expected, f"{self.remark(records)} {note}".strip())


class Generated(Corruption):
    """The test images, clean and corrupted here."""

    kind = "corruption"

    def __init__(self, args):
        super().__init__(args, storage=args.storage, seed=args.corruption_seed)
        self.plain["seed"] = 0
        self.tasks = (CLEAN, *self.tasks)

    def open(self, subject):
        folder = Path(evaluation.images_folder(subject.recipe, self.args.data_dir))
        return generated(subject.recipe.dataset, subject.test, self.args, None if self.args.no_keep else folder)

    def batches(self, task, subject, start):
        if task == CLEAN:
            return evaluation.Study.batches(self, task, subject, start)
        return super().batches(task, subject, start)

    def conclude(self, cases, arrays):
        used = {"source": "generated", "table": self.source.table, "storage": self.source.storage}
        return {"setting": self.setting | used} | super().conclude(cases, arrays)


def generated(dataset, test, args, folder):
    """The corrupted.Generated of a test split, kept in the data directory folder or, if that is None, not at all."""
    folder = folder and folder.expanduser() / ".cache" / "corrupted"
    return corrupted.Generated(dataset, test, args.corruption_seed, args.storage, folder, args.workers)


class Released(Corruption):
    """A released set of corrupted images."""

    kind = "corruption-released"

    def __init__(self, args):
        super().__init__(args, folder=str(args.released.expanduser().resolve()))
        self.plain["folder"] = self.setting["folder"]

    def open(self, subject):
        classes, side = tuple(subject.classes), subject.recipe.image_size
        where = Path(self.setting["folder"]), subject.recipe.dataset
        return corrupted.released(*where, classes, side, self.names, self.args.limit, self.args.workers)

    def conclude(self, cases, arrays):
        return {"setting": self.setting | {"source": "released"}} | super().conclude(cases, arrays)


# ---- arithmetic ----


def sums_of(cases, names):
    """E_c, {corruption: error in percent summed over the severities}, from {case: {error, ...}}."""
    return {name: sum(cases[f"{name}-{severity}"]["error"] for severity in SEVERITIES) for name in names}


def find_references(path, pattern):
    """([path], [record]) at path: a record, or all below a folder whose names match. Raises BadInput where none is."""
    paths = sorted(path.rglob(pattern)) if path.is_dir() else [path]
    if not paths:
        raise BadInput(f"--reference {path} holds no {pattern}: evaluate it in the same way first")
    found = [read_json(path, maker="eval_corruption.py", remedy="") for path in paths]
    for path, record in zip(paths, found):
        if not {"source", "sums", "images", "model", "method"} <= record.keys():
            raise BadInput(f"--reference {path} is no record of eval_corruption.py")
    return paths, found


def mce(record, references, paths):
    """mCE: the mean over corruptions of 100 E_c / E_c of the references, whose E_c are averaged first.

    Raises BadInput, naming the reference of paths, where it is of other images, or makes no error to divide by.
    """
    for path, reference in zip(paths, references):
        here, there = (f"{found['source']}, {found['images']} images" for found in (record, reference))
        if here != there:
            raise BadInput(f"--reference {path} is of {there}; what is to be shown is of {here}")
    ratios = []
    for name, value in record["sums"].items():
        divisor = np.mean([reference["sums"][name] for reference in references])
        if divisor == 0:
            raise BadInput(f"--reference {paths[0]} makes no error under {name}: there is no mCE")
        ratios.append(100 * value / divisor)
    return float(np.mean(ratios))


def in_words(records):
    """The networks and methods of records and their number, as `wrn28_10 No Mixup, 5 runs`."""
    names = dict.fromkeys(f"{one['model']} {recipes.LABELS.get(one['method'], one['method'])}" for one in records)
    return f"{' and '.join(names)}, {len(records)} run{'s' * (len(records) > 1)}"


def sources(records):
    """The labels of the images that records are of. Raises BadInput where rows of a table would mix two of them."""
    found = {}
    for record in records:
        label = found.setdefault(record["dataset"], record["source"])
        if label != record["source"]:
            raise BadInput(f"records of {label} and of {record['source']} do not go into one row: show them apart")
    return list(found.values())


def bars(records):
    """The pandas frame that figures.corruption_bars draws: a row a record and corruption."""
    return pd.DataFrame(
        {name: record[name] for name in ("dataset", "model", "method", "seed")}
        | {"corruption": name, "sum_error": value}
        for record in records
        for name, value in (record["sums"] | record.get("held_out_sums", {})).items()
    )


# ---- the contact sheet ----


def draw_contact_sheet(args):
    """Draw every corruption of a few test images of a data set."""
    check(args)
    if args.checkpoints or args.table or args.released or args.reference:
        raise BadInput("--contact-sheet shows generated images and evaluates nothing: give it a data set alone")
    dataset, folder = args.contact_sheet, str(args.data_dir or cli.DATA_DIR)
    test = evaluation.test_images(dataset, args.image_size, folder, args.workers).test.limited(PICTURES)
    source = generated(dataset, test, args, None)
    (clean, _, _), *_ = test.pixel_batches(PICTURES)
    pictures = [{CLEAN: image[None].numpy()} for image in clean]
    for name in (*SCORED, *HELD_OUT):
        cases = [torch.cat(list(source.batches(name, severity, PICTURES))) for severity in SEVERITIES]
        for picture, images in zip(pictures, torch.stack(cases, 1)):
            picture[name] = images.numpy()
    path = (args.out or grids.ROOT / "results") / "figures" / f"corruptions-{dataset}"
    print(charts.contact_sheet(pictures, path, note=f"Images: {source.label}."))
    print(f"written to {path}.png and {path}.pdf")
    return 0


# ---- the command line ----


def parser():
    """The command line."""
    found = evaluation.parser(__doc__)
    add = found.add_argument
    add("--released", type=Path, metavar="DIR", help="read the released corrupted images there, generate none")
    add("--held-out", action="store_true", help="the four held-out corruptions too; no mean includes them")
    add("--storage", choices=STORAGES, help="of generated images (default as released: png at 32 px, else jpeg85)")
    add("--corruption-seed", type=int, default=0, metavar="K", help="of generated images (default 0)")
    add("--no-keep", action="store_true", help="keep no generated images for the next checkpoint")
    add("--reference", type=Path, metavar="PATH", help="a record, or a folder of them: show mCE relative to it")
    add("--contact-sheet", metavar="DATASET", help="instead: draw all corruptions of a few images to <out>/figures")
    return found


def check(args):
    """Raise BadInput where flags of this script are impossible or contradict each other."""
    if args.corruption_seed < 0:
        raise BadInput(f"--corruption-seed must be at least 0, not {args.corruption_seed}")
    if args.reference and not args.reference.exists():
        raise BadInput(f"--reference {args.reference} is missing")
    given = {"--storage": args.storage, "--corruption-seed": args.corruption_seed, "--no-keep": args.no_keep}
    if args.released and (odd := [flag for flag, value in given.items() if value]):
        raise BadInput(f"{odd[0]} is about generated images and means nothing with --released")


def studies(args):
    """The study that a command line asks for. Raises BadInput where its flags do not go together."""
    check(args)
    return [Released(args) if args.released else Generated(args)]


def make(args):
    """Do what a command line asks for."""
    return draw_contact_sheet(args) if args.contact_sheet else evaluation.make(args, studies)


def main(arguments=None):
    """The exit status of a command line (see cli.explain)."""
    args = parser().parse_args(arguments)
    return cli.explain(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
