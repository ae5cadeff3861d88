"""Train one network with one method: recipe -> data, network, regularizer -> loop -> one result.

python train.py --dataset cifar100 --model wrn28_10 --method patchup_hard --seed 0

is the paper's run; every field of the recipe is a flag. The same command goes on with a run that was stopped, and
leaves a finished one alone.

torchrun --nproc-per-node 4 train.py ...

is one run on four GPUs, its batch split among them.
"""

if __name__ == "__main__":
    from engine.startup import tell_interrupts

    tell_interrupts()

import contextlib
import os
import shutil
import sys
from pathlib import Path

import torch

import data
import models
import recipes
import regularizers
from engine import distributed, folders, profiling
from engine.board import Board, require_tensorboard
from engine.cli import RUN_FLAGS, Parser, add_run_flags, explain, overrides_of
from engine.device import environment, peak_memory, require_amp, select_device, set_up_backends
from engine.files import ROOT, BadInput, make_folder
from engine.graphs import Recorder
from engine.runs import FORMAT, RunFiles
from engine.trainer import Trainer, compile_stages

PRINTED = ("test_error", "best_epoch", "last_epoch_test_error", "test_nll", "seconds")  # of a result


def parser():
    """The command line of one run."""
    run_parser = Parser(description=__doc__)
    add = run_parser.add_argument
    add("--dataset", required=True, help=", ".join(data.FACTS))
    add("--model", required=True, help=f"{', '.join(models.MODELS)}, torchvision:NAME, timm:NAME")
    add("--method", required=True, help=", ".join(regularizers.METHODS))
    add("--seed", type=int, default=0, help="decides split, initial weights, order and every draw (default 0)")
    add("--profile", type=Path, metavar="DIR", help="do not train: time and trace a few training steps, into DIR")
    out_help = "gets the results (default results/runs, of another recipe than the paper's results/runs-...)"
    add_run_flags(run_parser, out_help)
    folders.add_tag_flag(run_parser)
    recipes.add_flags(run_parser)
    return run_parser


def run(
    recipe,
    *,
    data_dir,
    out,
    device="auto",
    workers=4,
    checkpoint_minutes=5,
    deterministic=False,
    graphs=False,
    tensorboard=None,
    quiet=False,
):
    """Train as the recipe says, or go on with it, and return the result, a dict; a finished run is not trained again.

    Raises BadInput for what the user can mend, RunFailed when it cannot go on, signals.Stopped after a signal.
    """
    files = RunFiles(out, recipe)
    if result := distributed.from_rank_0(lambda: files.finished(PRINTED)):
        if not quiet:
            print(f"{files.result} exists already")
        if distributed.rank() == 0:
            files.tidy_after_a_kill()
        return result
    device = select_device(device)
    set_up_backends(device, deterministic)
    trainer = build(recipe, data_dir, device, workers, files, checkpoint_minutes, quiet, graphs, tensorboard)
    with files.lock() if distributed.rank() == 0 else contextlib.nullcontext():
        if result := distributed.from_rank_0(files.finished):  # by another process, while this one read the images
            return result
        if not quiet and distributed.rank() == 0:
            print(counts(trainer), flush=True)
        result = summary(trainer, trainer.run())
        if distributed.rank() == 0:
            if trainer.board:
                trainer.board.finish(result)
            files.finish(trainer.best["net"], trainer.weights(), result)
    return result


def profile(recipe, folder, *, data_dir, device, workers, deterministic):
    """Time and trace a few of the recipe's training steps, into folder (see profiling.py); the summary, a text.

    No files of a run are read or written. Raises BadInput or data.DataError for what the user can mend.
    """
    make_folder(folder, "--profile")
    device = select_device(device)
    set_up_backends(device, deterministic)
    trainer = build(recipe, data_dir, device, workers, files=None, checkpoint_minutes=0, quiet=True)
    return profiling.profile(trainer, folder)


def require_possible(recipe, device, processes, graphs, checkpoint_minutes, tensorboard=None):
    """Raise BadInput for flags that no run of the recipe can have; device None: not known yet."""
    if not checkpoint_minutes >= 0:
        raise BadInput(f"--checkpoint-minutes must be at least 0, not {checkpoint_minutes}")
    if graphs and (processes > 1 or (device and device.type != "cuda")):
        raise BadInput("--graphs is for one process on a CUDA device")
    if recipe.compile and not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++")))):
        raise BadInput(
            "--compile needs a C++ compiler, as g++, and this machine has none: install one, or leave it out"
        )
    require_tensorboard(tensorboard)
    if device:
        require_amp(recipe.amp, device)


def require_normalisable(recipe, loader):
    """Raise BadInput where a rank's last batch has one image, and the network's BatchNorm gets one value a channel."""
    steps = loader.steps(recipe.batch_size, distributed.size())
    if loader.size(recipe.batch_size, steps - 1) // distributed.size() > 1:
        return
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        net = recipes.network(recipe, 2).train()
    try:
        net(torch.empty(1, 3, recipe.image_size, recipe.image_size, device="meta"))
    except ValueError as error:
        raise BadInput(
            f"--batch-size {recipe.batch_size} leaves one image for the last batch, which BatchNorm cannot normalise "
            "on maps of 1x1: give another, or another number of images"
        ) from error


def build(recipe, data_dir, device, workers, files, checkpoint_minutes, quiet, graphs=False, tensorboard=None):
    """The engine.Trainer of a recipe. Raises BadInput or data.DataError where device or images do not do."""
    require_possible(recipe, device, distributed.size(), graphs, checkpoint_minutes, tensorboard)
    with distributed.first_on_each_node():  # it leaves decoded images for the others
        datasets, net = recipes.objects(recipe, data_dir, workers)
    fewest = min(map(len, (datasets.train, datasets.val, datasets.test)))
    if fewest < distributed.size():
        raise BadInput(f"{distributed.size()} processes cannot share {fewest} images: start fewer processes")
    require_normalisable(recipe, datasets.train)
    regularizer = recipes.regularizer(recipe, len(datasets.classes))
    if recipe.compile:
        compile_stages(net)
    recorder = Recorder(regularizer.generators) if graphs else None
    board = Board(tensorboard, files, len(datasets.train)) if tensorboard and distributed.rank() == 0 else None
    return Trainer(recipe, datasets, net, regularizer, device, files, checkpoint_minutes, quiet, recorder, board)


def counts(trainer):
    """How many images and steps a run has, in words; with a hint where a batch is larger than the training set."""
    images, steps, batch_size = trainer.image_counts(), trainer.steps, trainer.recipe.batch_size
    splits = ", ".join(f"{count} {name}" for name, count in images.items())
    lower = ": a lower --batch-size gives more" if steps == 1 and batch_size > images["train"] else ""
    return f"images: {splits}; {steps} step{'s' if steps > 1 else ''} an epoch{lower}"


def summary(trainer, tested):
    """The result of a finished training: what was measured, on what, with which recipe."""
    recipe, seconds = trainer.recipe, trainer.total_seconds()
    images = recipe.epochs * len(trainer.datasets.train)
    return {
        "format": FORMAT,
        "dataset": recipe.dataset,
        "model": recipe.model,
        "method": recipe.method,
        "seed": recipe.seed,
        **tested,
        "val_error": trainer.best["val_error"],
        "best_epoch": trainer.best["epoch"],
        "seconds": round(seconds, 1),
        "images_per_second": round(images / seconds, 1),
        "peak_memory_mib": peak_memory(trainer.device),
        "parameters": sum(p.numel() for p in trainer.net.parameters()),
        "images": trainer.image_counts(),
        "classes": len(trainer.datasets.classes),
        "digest": trainer.datasets.digest,
        "processes": trainer.world,
        "recipe": recipes.used(recipe),
        "environment": environment(trainer.device),
    }


@distributed.only_rank_0_prints()
def train_from(args):
    """Resolve the recipe of a command line, train it, print recipe and result; or profile it."""
    images = str(args.data_dir.resolve())  # which the recipe of the data set `folder` alone holds
    given, results = overrides_of(args), ROOT / "results"
    if args.recipe_tag:
        given = folders.tagged(results, args.recipe_tag, given)
    recipe = recipes.resolve(args.dataset, args.model, args.method, args.seed, images=images, **given)
    if args.profile:
        if args.graphs:
            raise BadInput("--profile takes steps apart, which a graph has not: leave out --graphs")
        names = ("data_dir", "device", "workers", "deterministic")
        print(profile(recipe, args.profile, **{name: getattr(args, name) for name in names}))
        return 0
    shared = f", {distributed.size()} processes" if distributed.size() > 1 else ""
    print(f"{recipe.method}: {recipe.model} on {recipe.dataset}, seed {recipe.seed}{shared}\n{recipe}", flush=True)
    if args.recipe_tag:
        folders.remember(results, args.recipe_tag, given)
    changed = {} if args.recipe_tag else recipes.changes(recipe, given)
    out = args.out or folders.runs_folder(results, changed, args.recipe_tag)
    result = run(recipe, out=out, **{name: getattr(args, name) for name in RUN_FLAGS})
    print(
        f"test error {result['test_error']:.2f} % (best epoch on validation, {result['best_epoch']}), "
        f"{result['last_epoch_test_error']:.2f} % (last epoch), NLL {result['test_nll']:.3f}, "
        f"{result['seconds']:.0f} s"
    )
    return 0


def main(arguments=None):
    """Train as a command line says; the exit status (see explain)."""
    if status := explain(distributed.join):
        return status
    args = parser().parse_args(arguments)
    status = explain(lambda: train_from(args))
    if status == 0:
        distributed.leave()
    return status


if __name__ == "__main__":
    sys.exit(main())
