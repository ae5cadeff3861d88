"""What an evaluation costs beside its forward passes, and an epoch beside its training steps. Nothing else may run.

python scripts/overheads.py                                        # PreActResNet18 on images like CIFAR-100's
python scripts/overheads.py --epoch-seconds 1.2 --amp bf16 --channels-last

Images are random; flags of the recipe are train.py's.
"""

import argparse
import contextlib
import dataclasses
import itertools
import os
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import check_install

check_install.main()  # before anything else imports torchvision

import torch

import data
import engine
import estimates
import models
import recipes
import train
from records import BadInput, RunFiles, make_folder

IMAGES = 45_000  # an epoch's, as CIFAR's
EPOCHS = 12  # without steps
STEPS = 3  # timed, to know how long an epoch takes
MINUTES = 5  # between two checkpoints, train.py's default


def trainer_of(recipe, device, count, files=None):
    """An engine.Trainer of the recipe on so many random images."""
    classes = data.FACTS[recipe.dataset].num_classes
    net, method = recipes.network(recipe, classes), recipes.regularizer(recipe, classes)
    if recipe.compile:
        engine.compile_stages(net)
    return engine.Trainer(recipe, estimates.random_images(recipe, classes, count), net, method, device, files)


def seconds(function, device, *given, **options):
    """Seconds of one call."""
    start = estimates.now(device)
    function(*given, **options)
    return estimates.now(device) - start


# ---- evaluation ----


def evaluation_ratio(recipe, device, images=1000, rounds=5):
    """{"evaluation", "forward": images a second, "ratio"}: Trainer.evaluate beside its forward passes alone.

    Both go over the same batches of random images, in turns, after one round to warm up; medians.
    """
    trainer = trainer_of(recipe, device, images)
    loader = trainer.datasets.test
    loader.augment = None
    layout = torch.channels_last if recipe.channels_last else torch.preserve_format
    ready = [x.to(memory_format=layout) for x, _ in loader.batches(engine.EVALUATION_BATCH, device)]
    turns = []
    for _ in range(rounds + 1):
        evaluation = seconds(trainer.evaluate, device, loader, check=lambda: None)
        turns.append((evaluation, seconds(forward, device, trainer, ready)))
    evaluation, alone = (images / statistics.median(found) for found in zip(*turns[1:]))
    return {"evaluation": evaluation, "forward": alone, "ratio": evaluation / alone}


@torch.no_grad()
def forward(trainer, batches):
    """The network's forward passes in evaluation mode, and nothing else."""
    trainer.net.eval()
    for x in batches:
        with engine.autocast(trainer.recipe.amp, trainer.device):
            trainer.net(x)


# ---- an epoch ----


def epoch_overhead(recipe, device, folder, images=IMAGES, epoch_seconds=None):
    """{"epoch_seconds", "outside_ms", "checkpoint_ms", "percent"}: what an epoch takes beside steps and validation.

    outside_ms: to draw order and augmentation, to loop, to copy the best weights and to log: the median over epochs
    whose steps, batches but the first, and validation are replaced by nothing. checkpoint_ms: an epoch's share of a
    checkpoint every MINUTES minutes. epoch_seconds: of its steps (None: by a few that are timed). folder: on the disk
    to be measured.
    """
    with tempfile.TemporaryDirectory(dir=folder) as out, Path(os.devnull).open("w") as nowhere:
        files = RunFiles(out, recipe)
        make_folder(files.stem.parent)
        trainer = trainer_of(dataclasses.replace(recipe, epochs=EPOCHS), device, images, files)
        epoch_seconds = epoch_seconds or trainer.steps * step_seconds(trainer)
        with contextlib.redirect_stderr(nowhere):  # the progress bar
            outside = statistics.median(epochs_without_steps(trainer))
        checkpoint = statistics.median(seconds(trainer.save, device) for _ in range(STEPS))
    checkpoint *= epoch_seconds / (60 * MINUTES)
    return {
        "epoch_seconds": epoch_seconds,
        "outside_ms": 1e3 * outside,
        "checkpoint_ms": 1e3 * checkpoint,
        "percent": 100 * (outside + checkpoint) / epoch_seconds,
    }


def step_seconds(trainer):
    """Seconds of a training step, the median of a few after one to warm up."""
    trainer.net.train()
    batch = next(trainer.datasets.train.batches(trainer.recipe.batch_size, trainer.device))
    return statistics.median([seconds(trainer.train_step, trainer.device, *batch) for _ in range(STEPS + 1)][1:])


def epochs_without_steps(trainer):
    """Seconds of every epoch but the last of a run whose steps, further batches and validations are nothing.

    Every epoch is the best so far, so that its weights are copied.
    """
    begun, errors, batches = [], itertools.count(0, -1), trainer.datasets.train.batches

    def first_batch_only(*given, **options):
        begun.append(estimates.now(trainer.device))
        return itertools.repeat(next(batches(*given, **options)), trainer.steps)

    trainer.datasets.train.batches = first_batch_only
    trainer.train_step = lambda x, y: None
    trainer.evaluate = lambda *given, **options: {"error": next(errors)}
    trainer.run()
    return [end - start for start, end in itertools.pairwise(begun)]


def show(args):
    """Measure and print."""
    if args.epoch_seconds is not None and not args.epoch_seconds > 0:
        raise BadInput(f"--epoch-seconds must be above 0, not {args.epoch_seconds}")
    make_folder(args.out)
    recipe = recipes.resolve("cifar100", args.model, "none", **recipes.overrides_of(args))
    device = engine.select_device(args.device)
    train.set_up_backends(device, deterministic=False)
    found = evaluation_ratio(recipe, device)
    print(
        f"evaluation: {found['evaluation']:,.0f} images a second, its forward passes alone {found['forward']:,.0f}: "
        f"ratio {found['ratio']:.3f}"
    )
    found = epoch_overhead(recipe, device, args.out, epoch_seconds=args.epoch_seconds)
    print(
        f"an epoch of {found['epoch_seconds']:,.1f} s: {found['outside_ms']:.1f} ms outside steps and validation, "
        f"{found['checkpoint_ms']:.1f} ms for its share of checkpoints: {found['percent']:.2f} %"
    )
    return 0


def parser():
    """The command line."""
    found = train.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = found.add_argument
    add("--model", default="preactresnet18", choices=models.MODELS)
    add("--device", default="auto")
    add("--epoch-seconds", type=float, help="of an epoch's steps (default: by a few that are timed)")
    add("--out", type=Path, default=Path("results"), help="on the disk to be measured (default results)")
    recipes.add_flags(found)
    return found


def main(arguments=None):
    """Measure what a command line asks for; the exit status (see train.explain)."""
    args = parser().parse_args(arguments)
    return train.explain(lambda: show(args))


if __name__ == "__main__":
    sys.exit(main())
