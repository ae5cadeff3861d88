"""Speed on this machine: every method's training step beside `none`'s, and the input pipeline. Nothing else may run.

python scripts/benchmark.py                                    # PreActResNet18 at 32x32, batch 100
python scripts/benchmark.py --model wrn28_10 --batch-size 16 --rounds 3
python scripts/benchmark.py --dataset tiny_imagenet --model wrn28_10     # instead: hours of a training (Table 8)
python scripts/benchmark.py --corruptions 64                   # instead: corrupted images a second, of 64 pixels

Whole steps are timed interleaved, method by method, round by round, and compared as medians; on a shared machine they
resolve no better than 10 %. So a method's own share is timed too: its draw, its mixing and what they add to the
backward pass, alone and on the real shapes, over the time of a step of `none`.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import check_install

check_install.main()  # before anything else imports torchvision

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

import data
import engine
import estimates
import models
import recipes
import train
from data import corrupted
from data.corruptions import SCORED, SEVERITIES
from data.facts import TRAIN_IMAGES
from data.loaders import TRAIN, MemoryLoader, Pool
from records import BadInput, make_folder, write_json

BATCH = 100  # images a step, where no data set's recipe says how many


def cases(model):
    """(name, method, options): every method mixing every batch, those that draw a layer once for each of theirs."""
    for method in recipes.LABELS:
        always = recipes.applicable(method, {"prob": 1.0})
        layers = recipes.resolve("cifar100", model, method).layers
        if layers is None or method == "dropblock":  # which acts on all of its layers at once
            yield method, method, always
        else:
            for k in layers:
                yield f"{method} k={k}", method, always | {"layers": (k,)}


class Case:
    """A recipe at work on one batch of random images: its training step, and its method's own operations."""

    def __init__(self, recipe, device):
        recipe = dataclasses.replace(recipe, lr=0.01)  # random labels at a higher rate may diverge
        classes = data.FACTS[recipe.dataset].num_classes
        images, net = estimates.random_images(recipe, classes), recipes.network(recipe, classes)
        if recipe.compile:
            engine.compile_stages(net)
        self.regularizer = recipes.regularizer(recipe, classes)
        self.trainer = engine.Trainer(recipe, images, net, self.regularizer, device, files=None)
        self.net = self.trainer.net.train()
        self.x, self.y = next(iter(images.train.batches(recipe.batch_size, device, epoch=0)))
        self.device, self.count = device, 0

    def step(self):
        """One training step, with draws of its own."""
        self.trainer.epoch += 1  # of which the draws are a function
        self.trainer.train_step(self.x, self.y)

    def hidden(self):
        """An input of every stage, with the gradient that arrives there."""
        shapes = self.net.shapes(self.x.shape[-1])
        return [
            torch.randn(len(self.x), *shape, device=self.device).requires_grad_(k > 0) for k, shape in enumerate(shapes)
        ]

    def own(self, hidden, gradients):
        """The method's own operations: draw, mix at every stage, and the backward pass of the mixing."""
        self.count += 1
        self.regularizer.seed(0, self.count)
        self.regularizer.draw(self.x, self.y, self.net)
        for k, h in enumerate(hidden):
            out = self.regularizer.mix(k, h)
            if out is not h and out.requires_grad:
                torch.autograd.grad(out, h, gradients[k])


def timed(function, device, *arguments):
    """Seconds of one call."""
    synchronize(device)
    start = time.perf_counter()
    function(*arguments)
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device):
    """Wait for the GPU, if there is one."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def step_seconds(found, device, rounds):
    """{name: seconds of a training step, the median of the rounds} of the Cases in the dict found, which take turns."""
    steps = {name: [] for name in found}
    turns = [name for _ in range(rounds + 1) for name in found]
    for name in tqdm(turns, "timing", unit="step", dynamic_ncols=True):
        steps[name].append(timed(found[name].step, device))
    return {name: statistics.median(seconds[1:]) for name, seconds in steps.items()}  # the first round warms up


def methods(args, device):
    """Rows of name, step in ms, step over none's, own operations in ms, and those over none's step in percent."""
    size = {"batch_size": args.batch_size or BATCH}
    found = {}
    for name, method, options in cases(args.model):
        found[name] = Case(recipes.resolve("cifar100", args.model, method, **options, **size), device)
    steps, rows = step_seconds(found, device, args.rounds), []
    for name, case in found.items():
        hidden = case.hidden()
        gradients = [torch.randn_like(h) for h in hidden]
        own = statistics.median(timed(case.own, device, hidden, gradients) for _ in range(args.rounds * 2 + 1))
        rows.append((name, 1e3 * steps[name], steps[name] / steps["none"], 1e3 * own, 100 * own / steps["none"]))
    return rows


def training_hours(dataset, model, methods, device, rounds, timed_batch=None, **overrides):
    """The hours of every method's training, from the median of `rounds` interleaved steps on random images.

    timed_batch: images a timed step (None: the recipe's batch); the hours are those of all images of all epochs at this
    speed. overrides: fields of the recipe. Validation, evaluation and reading the images from disk come on top.
    Returns {method: {"step_ms", "hours", "over_none", "timed_batch"}}; over_none: the step over that of `none`.
    Raises recipes.RecipeError for a recipe that cannot be.
    """
    train.set_up_backends(device, deterministic=False)
    names = dict.fromkeys(("none", *methods))
    paper = {name: recipes.resolve(dataset, model, name, **recipes.applicable(name, overrides)) for name in names}
    sizes = {name: timed_batch or recipe.batch_size for name, recipe in paper.items()}
    found = {name: Case(dataclasses.replace(paper[name], batch_size=sizes[name]), device) for name in names}
    seconds = step_seconds(found, device, rounds)
    return {
        name: {
            "step_ms": 1e3 * seconds[name],
            "hours": seconds[name] / sizes[name] * estimates.training_images(paper[name]) * paper[name].epochs / 3600,
            "over_none": seconds[name] / seconds["none"],
            "timed_batch": sizes[name],
        }
        for name in methods
    }


def hours(args, device):
    """Write and print the hours of a training on a data set by every method."""
    recipe = recipes.resolve(args.dataset, args.model, "none")
    found = training_hours(args.dataset, args.model, recipes.LABELS, device, args.rounds, args.batch_size)
    size = found["none"]["timed_batch"]
    print(f"| {args.dataset}, {args.model}, batch {size} | step (ms) | over none | hours a run |")
    print("| --- | ---: | ---: | ---: |")
    for name, one in found.items():
        print(f"| {name} | {one['step_ms']:.1f} | {one['over_none']:.2f} | {one['hours']:,.2f} |")
    print(f"\nhours of {recipe.epochs} epochs of {estimates.training_images(recipe):,} images, training steps alone")
    if size != recipe.batch_size:
        print(f"scaled by the image from steps of {size}: the recipe's have {recipe.batch_size}")
    head = {"dataset": args.dataset, "model": args.model, "batch_size": recipe.batch_size}
    save(args, device, head | {"methods": found})
    return 0


def pipeline(args, device):
    """Images a second of the training batches of CIFAR-sized images: cropped, mirrored, normalised."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (45000, 3, 32, 32), dtype=np.uint8), rng.integers(0, 100, 45000)
    facts = data.FACTS["cifar100"]
    loader = MemoryLoader(
        Pool(images, labels),
        np.arange(45000),
        seed=0,
        augment=TRAIN,
        mean=facts.mean,
        std=facts.std,
        padding=2,
        flip=True,
    )
    seconds = [timed(lambda: sum(1 for _ in loader.batches(100, device)), device) for _ in range(4)]
    return 45000 / statistics.median(seconds[1:])


def corruptions(args):
    """Write and print the images a second of every scored corruption, as eval_corruption.py makes them."""
    rng, count = np.random.default_rng(0), 1000
    coarse = torch.from_numpy(rng.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8))
    images = F.interpolate(coarse, size=args.corruptions, mode="bilinear").numpy()
    test = MemoryLoader(
        Pool(images, np.zeros(count, np.int64)),
        np.arange(count),
        seed=0,
        augment=None,
        mean=(0,) * 3,
        std=(1,) * 3,
        padding=0,
        flip=False,
    )
    source = corrupted.Generated("folder", test, 0, None, None, args.workers)
    seconds = {}
    for name in SCORED:
        start = time.perf_counter()
        for severity in SEVERITIES:
            for _ in source.made(name, severity, engine.EVALUATION_BATCH, 0):
                pass
        seconds[name] = time.perf_counter() - start
    speeds = {name: len(SEVERITIES) * count / found for name, found in seconds.items()}
    speeds["all"] = len(SEVERITIES) * count * len(SCORED) / sum(seconds.values())
    print(f"| {source.label}, {args.workers} processes | images a second |\n| --- | ---: |")
    for name, speed in speeds.items():
        print(f"| {name} | {speed:,.0f} |")
    save(args, torch.device("cpu"), {"images": source.label, "images_per_second": speeds})
    return 0


def save(args, device, record):
    """Write what was measured, with command, device and versions, where --out says."""
    if args.out:
        head = {"command": " ".join(["python", *sys.argv]), "environment": engine.environment(device)}
        make_folder(args.out.parent)
        write_json(args.out, head | record)


def measure(args):
    """Measure, print a table, and write it with device and versions where --out says."""
    for name in ("rounds", "batch_size", "corruptions", "workers"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise BadInput(f"{recipes.flag(name)} must be at least 1, not {value}")
    if args.corruptions:
        return corruptions(args)
    device = engine.select_device(args.device)
    if args.dataset:
        return hours(args, device)
    rows, images = methods(args, device), pipeline(args, device)
    head = f"{args.model}, batch {args.batch_size or BATCH}"
    print(f"| {head} | step (ms) | over none | own operations (ms) | of none's step |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, step, ratio, own, share in rows:
        print(f"| {name} | {step:.0f} | {ratio:.2f} | {own:.1f} | {share:.1f} % |")
    print(f"\ninput pipeline: {images:,.0f} images a second at 32x32")
    keys = ("case", "step_ms", "over_none", "own_ms", "own_percent")
    save(args, device, {"methods": [dict(zip(keys, row)) for row in rows], "input_images_per_second": images})
    return 0


def parser():
    """The command line."""
    found = train.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = found.add_argument
    add("--dataset", choices=TRAIN_IMAGES, help="time the hours of a training on it, by its recipe")
    add("--model", default="preactresnet18", choices=models.MODELS)
    add("--batch-size", type=int, help=f"images a timed step (default {BATCH}, with --dataset the recipe's)")
    add("--rounds", "--steps", type=int, default=5, help="counted steps of every method (default 5)")
    add("--device", default="auto")
    add("--corruptions", type=int, metavar="SIDE", help="time these, on images of SIDE pixels")
    add("--workers", type=int, default=2, help="processes that corrupt (default 2)")
    add("--out", type=Path, help="a .json file for the figures")
    return found


def main(arguments=None):
    """Measure what a command line asks for; the exit status (see train.explain)."""
    args = parser().parse_args(arguments)
    return train.explain(lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
