"""Every speed target, measured in one run on this device, in a table. Nothing else may run.

python -m scripts.bench.benchmark                                    # PreActResNet18 at 32x32, batch 100
python -m scripts.bench.benchmark --model wrn28_10 --batch-size 16 --rounds 1
python -m scripts.bench.benchmark --amp bf16 --compile --graphs      # on a GPU; every field of the recipe is a flag
python -m scripts.bench.benchmark --runs-at-once 4 --methods none    # instead: runs that share a GPU
python -m scripts.bench.benchmark --dataset tiny_imagenet --model wrn28_10     # instead: hours of a training (Table 8)
python -m scripts.bench.benchmark --corruptions 64                   # instead: corrupted images a second, of 64 pixels

Whole steps are timed interleaved, method by method, round by round, and compared as medians; on a shared machine they
resolve no better than 10 %. So a method's share is timed too: its draw, its mixing and what they add to the backward
pass, alone and on the real shapes, over the time of a step of `none`. Targets of steps are judged by 1 + this share;
on a GPU, where launching work and doing it overlap, by whole steps.
"""

import dataclasses
import gc
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import data
import models
import recipes
from data import corrupted
from data.corruptions import SCORED, SEVERITIES
from data.loaders import TRAIN, MemoryLoader, Pool
from engine import cli
from engine.device import environment, select_device, set_up_backends
from engine.files import BadInput, RunFailed, make_folder, write_json
from engine.metrics import EVALUATION_BATCH
from scripts.bench import hours, targets, timing
from scripts.bench.timing import (
    ROUNDS,
    Case,
    Operations,
    at_work,
    medians,
    medians_apart,
    official_step,
    our_step,
    solver_seconds,
)

FEATURES = (100, 64, 32, 32)  # of PreActResNet18 at k = 1 and 2, on which PatchUp's operation is timed
PATCHUP = {"soft": "patchup_soft", "hard": "patchup_hard"}
OTHERS = ("none", "dropblock", "puzzlemix", "feature_cutmix")  # methods that the target `mixing` is not about
EPOCHS = 4  # of the input pipeline, of which the first warms up


# ---- what is measured ----


def operation(device, rounds, compiled=False):
    """({figure: PatchUp's operation on FEATURES over a copy of them}, bytes that it keeps over theirs, the larger)."""
    options = {"prob": 1.0, "layers": (1,)}
    patchups = {
        name: recipes.resolve("cifar100", "preactresnet18", method, **options) for name, method in PATCHUP.items()
    }
    layout = torch.channels_last if patchups["soft"].channels_last else torch.contiguous_format
    h, gradient, copy = (torch.randn(FEATURES, device=device).contiguous(memory_format=layout) for _ in range(3))
    y, operations = torch.randint(100, FEATURES[:1], device=device), {}
    for name, recipe in patchups.items():
        method = recipes.regularizer(recipe, 100)
        if compiled:
            method.compile()
        operations[name] = Operations(method, h, y, None, {1: h.requires_grad_()}, {1: gradient})
    calls = {"copy": lambda: copy.copy_(h.detach())} | {name: work.run for name, work in operations.items()}
    seconds = medians(calls, device, rounds, queued=True)
    kept = max(work.kept() / h.untyped_storage().nbytes() for work in operations.values())
    suffix = "_compiled" if compiled else ""
    return {f"{name}{suffix}": seconds[name] / seconds["copy"] for name in operations}, kept


def methods(cases, device, rounds, graphs=False):
    """{name: what was measured} of recipes, {name: recipe}, `none` among them.

    On a CPU they take turns; on a GPU each has its turn alone, and all of the memory.
    """
    groups = [{name: recipe} for name, recipe in cases.items()] if device.type == "cuda" else [cases]
    rows = {}
    for group in groups:
        rows |= at_a_time(group, device, rounds, graphs)
        gc.collect()  # compiled stages are in a circle with their network, whose memory the next group needs
    for name, row in rows.items():
        row["images_per_second"] = cases[name].batch_size / row["step"]
        row["over_none"] = row["step"] / rows["none"]["step"]
    return rows


def at_a_time(group, device, rounds, graphs):
    """{name: its row} of recipes that take turns: seconds of a step and (`own`) of the method's operations alone.

    And `solvers` of these for Puzzle Mix; on a GPU what timing.counts says.
    """
    cases = {name: Case(recipe, device, graphs=graphs) for name, recipe in group.items()}
    steps = medians({name: case.step for name, case in cases.items()}, device, rounds)
    rows = {name: {"step": seconds} for name, seconds in steps.items()}
    if device.type == "cuda":
        for name, case in cases.items():
            rows[name] |= timing.counts(case)
    shared = next(iter(cases.values())).hidden()
    operations = {name: case.operations(*shared) for name, case in cases.items()}
    shares = medians({name: work.run for name, work in operations.items()}, device, 2 * rounds + 1)
    for name, row in rows.items():
        row["own"] = shares[name]
    if "puzzlemix" in rows:
        rows["puzzlemix"]["solvers"] = solver_seconds(operations["puzzlemix"], device, 2 * rounds + 1)
    return rows


def formulations(none, device, rounds):
    """{"official", "eager", "compiled": seconds of `none`'s step}, taking turns; none: its recipe."""
    ours = {name: dataclasses.replace(none, compile=name == "compiled") for name in ("eager", "compiled")}
    makers = {"official": (official_step, (none, device))}
    return medians_apart(makers | {name: (our_step, (recipe, device)) for name, recipe in ours.items()}, device, rounds)


def batches_a_second(device, dataset="cifar100", count=45000, batch_size=100):
    """Images a second of a data set's training batches on the device: cropped, mirrored, normalised; a median."""
    facts, rng = data.FACTS[dataset], np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 3, facts.image_size, facts.image_size), dtype=np.uint8)
    pool = Pool(images, rng.integers(0, facts.num_classes, count))
    options = {"mean": facts.mean, "std": facts.std, "padding": facts.padding, "flip": facts.flip}
    loader = MemoryLoader(pool, np.arange(count), seed=0, augment=TRAIN, **options)
    epochs = [timing.timed(lambda: sum(1 for _ in loader.batches(batch_size, device)), device) for _ in range(EPOCHS)]
    return count / statistics.median(epochs[1:])


def everything(args, device, overrides):
    """Measure every target; print the tables and return what is to be kept."""
    set_up_backends(device, deterministic=False)
    rounds = args.rounds or ROUNDS[device.type]
    cases = at_work(args.model, dict.fromkeys(("none", *args.methods)), **overrides)
    figures, kept = operation(device, 4 * rounds)  # before anything is compiled
    none, rows = cases["none"], methods(cases, device, rounds, args.graphs)
    pace = formulations(none, device, 2 * rounds + 1)
    figures |= operation(device, 4 * rounds, compiled=True)[0] | {"kept": kept}
    figures |= {name: pace[name] / pace["official"] for name in ("eager", "compiled")}
    figures["input"] = batches_a_second(device)
    figures = {key: (value, "") for key, value in figures.items()} | shares(rows, device)
    judged = targets.judged(targets.targets(device), figures)
    print(targets.table(judged))
    print(f"\n{rows_in_words(rows, args.model, none.batch_size)}")
    print(f"\nmedians of {rounds} rounds of whole steps, {2 * rounds + 1} of own operations")
    head = {"rounds": rounds, "graphs": args.graphs, "recipe": recipes.used(none)}
    return head | {"targets": judged, "formulations": pace, "methods": rows}


def shares(rows, device):
    """{target: (a step over that of `none`, which case)}, of several cases the largest; and the share of `solvers`.

    On a CPU 1 + the method's operations over the step of `none`; on a GPU the whole steps, which it repeats well.
    """
    none, figures = rows["none"]["step"], {}
    for name, row in rows.items():
        method = name.split()[0]
        key = method if method in OTHERS else "mixing"
        ratio = row["over_none"] if device.type == "cuda" else 1 + row["own"] / none
        figures[key] = max(figures.get(key, (0, "")), (ratio, name if key == "mixing" else ""))
    if "puzzlemix" in rows:
        figures["solvers"] = 100 * rows["puzzlemix"]["solvers"] / none, ""
    return figures


def rows_in_words(rows, model, batch_size):
    """Markdown of the methods' rows."""
    heads = ["step (ms)", "over none", "own operations (ms)", "of none's step", "images a second"]
    more = {"synchronisations": ("waits a step", "{:.1f}"), "peak_memory_mib": ("peak memory (MiB)", "{:,}")}
    more = {key: value for key, value in more.items() if key in rows["none"]}
    heads += [head for head, _ in more.values()]
    lines = [f"| {model}, batch {batch_size} | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    for name, row in rows.items():
        share = 100 * row["own"] / rows["none"]["step"]
        texts = [f"{1e3 * row['step']:.1f}", f"{row['over_none']:.2f}", f"{1e3 * row['own']:.1f}", f"{share:.1f} %"]
        texts += [f"{row['images_per_second']:,.0f}", *(words.format(row[key]) for key, (_, words) in more.items())]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


# ---- the command's other modes ----


def at_once(args, device, overrides):
    """Images a second of runs that share the device, against those of a run alone, by method."""
    count, speeds = args.runs_at_once, {}
    print(f"| {args.model} on {device} | one run | {count} at once, together | gain |\n| --- | ---: | ---: | ---: |")
    for method in args.methods:
        recipe = recipes.resolve("cifar100", args.model, method, **recipes.applicable(method, overrides))
        alone, together = (timing.images_a_second(recipe, device, runs, graphs=args.graphs) for runs in (1, count))
        print(f"| {method} | {alone:,.0f} | {together:,.0f} | {together / alone:.2f} |", flush=True)
        speeds[method] = {"one": alone, "together": together}
    print("\nimages a second")
    return {"runs_at_once": count, "images_per_second": speeds}


def training(args, device, overrides):
    """Hours of a training on a data set by every method."""
    timed_batch = overrides.pop("batch_size", None)
    if timed_batch is not None and timed_batch < 1:
        raise BadInput(f"--batch-size must be at least 1, not {timed_batch}")
    recipe = recipes.resolve(args.dataset, args.model, "none", **recipes.applicable("none", overrides))
    every, rounds = dict.fromkeys(("none", *args.methods)), args.rounds or ROUNDS[device.type]
    measured = hours.training_hours(args.dataset, args.model, every, device, rounds, timed_batch, **overrides)
    print(hours.table(recipe, measured))
    return {"dataset": args.dataset, "model": args.model, "batch_size": recipe.batch_size, "methods": measured}


def corruptions_a_second(side, workers, count=1000):
    """(name of the images, {corruption: images a second, and `all`}), as eval_corruption.py makes them."""
    coarse = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8))
    images = F.interpolate(coarse, size=side, mode="bilinear").numpy()
    options = {"mean": (0,) * 3, "std": (1,) * 3, "padding": 0, "flip": False}
    test = MemoryLoader(Pool(images, np.zeros(count, np.int64)), np.arange(count), seed=0, augment=None, **options)
    source = corrupted.Generated("folder", test, 0, None, None, workers)
    seconds = {}
    for name in SCORED:
        start = time.perf_counter()
        for severity in SEVERITIES:
            for _ in source.made(name, severity, EVALUATION_BATCH, 0):
                pass
        seconds[name] = time.perf_counter() - start
    speeds = {name: len(SEVERITIES) * count / elapsed for name, elapsed in seconds.items()}
    speeds["all"] = len(SEVERITIES) * count * len(SCORED) / sum(seconds.values())
    return source.label, speeds


def corruptions(args):
    """Images a second of every scored corruption."""
    label, speeds = corruptions_a_second(args.corruptions, args.workers)
    print(f"| {label}, {args.workers} processes | images a second |\n| --- | ---: |")
    for name, speed in speeds.items():
        print(f"| {name} | {speed:,.0f} |")
    return {"images": label, "images_per_second": speeds}


# ---- the command ----


def measure(args):
    """Measure what is asked for, print it, and write it with command, device and versions where --out says."""
    cli.require_counts(args, "rounds", "corruptions", "workers", "runs_at_once")
    if args.out:
        make_folder(args.out.parent)
        if args.out.is_dir():
            raise BadInput(f"--out {args.out} is a folder: give the name of a .json file")
    device = select_device("cpu" if args.corruptions else args.device)
    if args.graphs and device.type != "cuda":
        raise BadInput("--graphs needs a CUDA device")
    if args.corruptions:
        record = corruptions(args)
    else:
        mode = training if args.dataset else at_once if args.runs_at_once else everything
        try:
            record = mode(args, device, cli.overrides_of(args))
        except torch.OutOfMemoryError as error:
            raise RunFailed(f"a step does not fit on {device} ({error}): try a smaller --batch-size") from error
    if args.out:
        head = {"command": " ".join(["python", *sys.argv]), "environment": environment(device)}
        write_json(args.out, head | record)
    return 0


def parser():
    """The command line."""
    commands = cli.Parser(description=__doc__)
    add = commands.add_argument
    known = [name for name, facts in data.FACTS.items() if facts.train_images]
    add("--dataset", choices=known, help="time the hours of a training on it, by its recipe")
    add("--model", default="preactresnet18", choices=models.MODELS)
    add("--methods", nargs="+", default=list(recipes.LABELS), choices=recipes.LABELS, help="beside none (default all)")
    add("--rounds", "--steps", type=int, help="counted rounds of every method (default 3, on a GPU 31)")
    add("--device", default="auto")
    add("--graphs", action="store_true", help="time whole steps as CUDA graphs")
    add("--runs-at-once", type=int, metavar="N", help="time N processes that train on the device at the same time")
    add("--corruptions", type=int, metavar="SIDE", help="time these, on images of SIDE pixels")
    add("--workers", type=int, default=2, help="processes that corrupt (default 2)")
    add("--out", type=Path, help="a .json file for the figures")
    recipes.add_flags(commands)
    return commands


def main(arguments=None):
    """Measure what a command line asks for; the exit status (see cli.explain)."""
    args = parser().parse_args(arguments)
    return cli.explain(lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
