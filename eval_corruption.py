"""Error of trained networks under common corruptions: Figures 4 and 15.

python eval_corruption.py results/runs/cifar100 --reference results/runs/cifar100/wrn28_10/none
python eval_corruption.py results/runs/tiny_imagenet/wrn28_10 --released datasets/Tiny-ImageNet-C

E_c is the error in percent summed over the five severities of a corruption, 0 to 500; mCE the mean of 100 E_c / E_c of
the reference (Hendrycks and Dietterich, 2019, divide by AlexNet's).

By default the test images are corrupted here, as those of the released set of the nearest size were, but for what
data/corruptions.py says; an image has the same random numbers for all checkpoints. What is made is kept
in <data-dir>/.cache/corrupted for the next checkpoint: 2.3 GB for all cases of CIFAR, 9.2 GB for Tiny-ImageNet
(--no-keep). ImageNet's are made anew every time.

--released reads, instead, an unpacked CIFAR-10-C or CIFAR-100-C (<corruption>.npy, labels.npy), Tiny-ImageNet-C or
ImageNet-C (<corruption>/<severity>/<class>/*.JPEG). These hold no clean images. Records of the two kinds have different
names and are never put into one row.
"""

if __name__ == "__main__":
    from engine.startup import tell_interrupts

    tell_interrupts()

import sys
from pathlib import Path

import numpy as np
import torch

from data import corrupted
from data.corruptions import HELD_OUT, SCORED, SEVERITIES, STORAGES
from engine import cli, evaluation
from engine.evaluation import Evaluation
from engine.files import BadInput
from engine.mce import RECORD, References

CLEAN = "clean"


class Corruption(Evaluation):
    """What the two kinds share. A case is a corruption and a severity, as fog-3.

    workers: processes that make or read images; reference: what mCE is relative to (see References), or None.
    """

    fields = RECORD
    unit = "error (%) summed over five severities"

    def __init__(self, limit=None, held_out=False, workers=0, reference=None, weights="best", **setting):
        super().__init__(limit, **setting, held_out=held_out)
        self.workers = workers
        self.references = reference and References(reference, weights, self.name)
        self.names = (*SCORED, *(HELD_OUT if held_out else ()))
        self.tasks = tuple(f"{name}-{severity}" for name in self.names for severity in SEVERITIES)

    def prepare(self):
        self.source = self.open()
        self.rows, self.labels, self.stamp = self.source.rows, self.source.labels, self.source.label
        if self.references:
            self.references.require_images(self.source.label, len(self.rows))

    def open(self):
        """The corrupted images of the subject (see data/corrupted.py)."""
        raise NotImplementedError

    def batches(self, task, start):
        name, severity = task.rsplit("-", 1)
        rows, labels = (torch.from_numpy(values).to(self.subject.device) for values in (self.rows, self.labels))
        for x in self.source.batches(name, int(severity), self.batch, start):
            part = slice(start, start + len(x))
            yield x.to(self.subject.device), labels[part], rows[part]
            start = part.stop

    def conclude(self, cases, arrays, sums):
        errors = sums_of(cases, SCORED)
        mean = float(np.mean(list(errors.values())))
        numbers = {"source": self.source.label, "sums": errors, "mean_sum": mean, "mean_error": mean / len(SEVERITIES)}
        return numbers | ({"held_out_sums": sums_of(cases, HELD_OUT)} if self.setting["held_out"] else {})

    def shown(self, record):
        numbers = record["sums"] | {"mean": record["mean_sum"]}
        if self.references:
            numbers |= {f"mCE (of {self.references.in_words()})": self.references.mce(record)}
        return numbers | {f"{name} (held out)": value for name, value in record.get("held_out_sums", {}).items()}

    def remark(self, records):
        sources = {}
        for record in records:
            label = sources.setdefault(record["dataset"], record["source"])
            if label != record["source"]:
                raise BadInput(f"records of {label} and of {record['source']} do not go into one row: show them apart")
        return f"Images: {'; '.join(sources.values())}."


class GeneratedCorruption(Corruption):
    """Of the test images, clean and corrupted here."""

    kind = "corruption"
    plain = {"storage": None, "seed": 0, "held_out": False}

    def __init__(self, storage=None, seed=0, keep=True, **shared):
        super().__init__(**shared, storage=storage, seed=seed)
        self.keep = keep
        self.tasks = (CLEAN, *self.tasks)

    def open(self):
        subject, folder = self.subject, self.subject.folder / ".cache" / "corrupted" if self.keep else None
        setting = self.setting["seed"], self.setting["storage"]
        return corrupted.Generated(subject.recipe.dataset, subject.test, *setting, folder, self.workers)

    def batches(self, task, start):
        return Evaluation.batches(self, task, start) if task == CLEAN else super().batches(task, start)

    def conclude(self, cases, arrays, sums):
        used = {"source": "generated", "table": self.source.table, "storage": self.source.storage}
        return {"setting": self.setting | used} | super().conclude(cases, arrays, sums)


class ReleasedCorruption(Corruption):
    """Of a released set of corrupted images in a folder."""

    kind = "corruption-released"

    def __init__(self, folder, **shared):
        self.plain = {"folder": folder, "held_out": False}
        super().__init__(**shared, folder=folder)

    def open(self):
        classes, side = tuple(self.subject.classes), self.subject.recipe.image_size
        source = Path(self.setting["folder"]), self.subject.recipe.dataset
        return corrupted.released(*source, classes, side, self.names, self.setting["limit"], self.workers)

    def conclude(self, cases, arrays, sums):
        return {"setting": self.setting | {"source": "released"}} | super().conclude(cases, arrays, sums)


def sums_of(cases, names):
    """E_c, {corruption: error in percent summed over the severities}, from {case: {error, ...}}."""
    return {name: sum(cases[f"{name}-{severity}"]["error"] for severity in SEVERITIES) for name in names}


def parser():
    """The command line."""
    corruption_parser = evaluation.parser(__doc__)
    add = corruption_parser.add_argument
    add("--released", type=Path, metavar="DIR", help="read the released corrupted images there, generate none")
    add("--held-out", action="store_true", help="the four held-out corruptions too; no mean includes them")
    add("--storage", choices=STORAGES, help="of generated images (default as released: png at 32 px, else jpeg85)")
    add("--corruption-seed", type=int, default=0, metavar="K", help="of generated images (default 0)")
    add("--no-keep", action="store_true", help="keep no generated images for the next checkpoint")
    add("--reference", type=Path, metavar="PATH", help="a record, or a folder of them: show mCE relative to it")
    return corruption_parser


def evaluations(args):
    """The evaluation that a command line asks for. Raises BadInput where its flags do not go together."""
    cli.require_counts(args, "corruption_seed", least=0, most=2**63 - 1)
    given = {"--storage": args.storage, "--corruption-seed": args.corruption_seed, "--no-keep": args.no_keep}
    if args.released and (odd := [flag for flag, value in given.items() if value]):
        raise BadInput(f"{odd[0]} is about generated images and means nothing with --released")
    names = "limit", "held_out", "workers", "reference", "weights"
    shared = {name: getattr(args, name) for name in names}
    if args.released:
        return [ReleasedCorruption(str(args.released.expanduser().resolve()), **shared)]
    return [GeneratedCorruption(args.storage, args.corruption_seed, not args.no_keep, **shared)]


def main(arguments=None):
    """The exit status of a command line (see cli.explain)."""
    return evaluation.main(parser(), evaluations, arguments)


if __name__ == "__main__":
    sys.exit(main())
