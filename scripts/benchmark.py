"""Speed on this machine: every method's training step beside `none`'s, and the input pipeline. Nothing else may run.

python scripts/benchmark.py                                    # PreActResNet18 at 32x32, batch 100
python scripts/benchmark.py --model wrn28_10 --batch-size 16 --rounds 3
python scripts/benchmark.py --corruptions 64                   # instead: corrupted images a second, of 64 pixels

Whole steps are timed interleaved, method by method, round by round, and compared as medians; on a shared machine they
resolve no better than 10 %. So a method's own share is timed too: its draw, its mixing and what they add to the
backward pass, alone and on the real shapes, over the time of a step of `none`.
"""

import argparse
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

import data
import engine
import models
import recipes
import train
from data import corrupted
from data.corruptions import SCORED, SEVERITIES
from data.loaders import TRAIN, MemoryLoader, Pool
from records import BadInput, make_folder, write_json


def cases(model):
    """(name, method, options): every method, and those that draw a layer once for each of theirs."""
    for method in recipes.LABELS:
        layers = recipes.resolve("cifar100", model, method).layers
        if layers is None or method == "dropblock":
            yield method, method, {"prob": 1.0} if method == "cutmix" else {}
        else:
            for k in layers:
                mixed = {"prob": 1.0} if method.startswith("patchup") else {}
                yield f"{method} k={k}", method, {"layers": (k,)} | mixed


class Case:
    """One method at work on fixed shapes: its training step, and its own operations."""

    def __init__(self, method, options, args, device):
        self.recipe = recipes.resolve("cifar100", args.model, method, **options)
        self.net = recipes.network(self.recipe, 100).to(device)
        self.regularizer = recipes.regularizer(self.recipe, 100)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(args.batch_size, 3, 32, 32, generator=generator).to(device)
        self.y = torch.randint(100, (args.batch_size,), generator=generator).to(device)
        self.device, self.count = device, 0

    def step(self):
        """One training step."""
        self.count += 1
        self.regularizer.seed(0, self.count)
        self.regularizer.draw(self.x, self.y, self.net)
        self.regularizer.loss(self.net(self.x, self.regularizer.mix)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def hidden(self):
        """An input of every stage, with the gradient that arrives there."""
        shapes = self.net.shapes(32)
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


def methods(args, device):
    """Rows of name, step in ms, step over none's, own operations in ms, and those over none's step in percent."""
    found = {name: Case(method, options, args, device) for name, method, options in cases(args.model)}
    steps = {name: [] for name in found}
    for _ in range(args.rounds + 1):
        for name, case in found.items():
            steps[name].append(timed(case.step, device))
    none = statistics.median(steps["none"][1:])  # the first round warms up
    rows = []
    for name, case in found.items():
        hidden = case.hidden()
        gradients = [torch.randn_like(h) for h in hidden]
        own = statistics.median(timed(case.own, device, hidden, gradients) for _ in range(args.rounds * 2 + 1))
        step = statistics.median(steps[name][1:])
        rows.append((name, 1e3 * step, step / none, 1e3 * own, 100 * own / none))
    return rows


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
    rows, images = methods(args, device), pipeline(args, device)
    print(f"| {args.model}, batch {args.batch_size} | step (ms) | over none | own operations (ms) | of none's step |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, step, ratio, own, share in rows:
        print(f"| {name} | {step:.0f} | {ratio:.2f} | {own:.1f} | {share:.1f} % |")
    print(f"\ninput pipeline: {images:,.0f} images a second at 32x32")
    keys = ("case", "step_ms", "over_none", "own_ms", "own_percent")
    save(args, device, {"methods": [dict(zip(keys, row)) for row in rows], "input_images_per_second": images})
    return 0


if __name__ == "__main__":
    parser = train.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="preactresnet18", choices=models.MODELS)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5, help="counted steps of every method (default 5)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--corruptions", type=int, metavar="SIDE", help="time these, on images of SIDE pixels")
    parser.add_argument("--workers", type=int, default=2, help="processes that corrupt (default 2)")
    parser.add_argument("--out", type=Path, help="a .json file for the figures")
    arguments = parser.parse_args()
    sys.exit(train.explain(lambda: measure(arguments)))
