"""Train one network with one method: recipe -> data, network, regularizer -> loop -> one result.

python train.py --dataset cifar100 --model wrn28_10 --method patchup_hard --seed 0

is the paper's run; every field of the recipe is a flag. The same command goes on with a run that was stopped, and
leaves a finished one alone.

torchrun --nproc-per-node 4 train.py ...

is one run on four GPUs, its batch split among them.
"""

import argparse
import atexit
import contextlib
import ctypes
import gc
import os
import platform
import signal
import sys
import traceback
import warnings
from pathlib import Path

gc.disable()  # looking through the many objects that imports make, and that stay, takes a sixth of a run's start

from scripts import check_install

check_install.main()  # before anything else imports torchvision

import torch

import data
import distributed
import engine
import models
import recipes
import regularizers
from graphs import Recorder
from records import BadInput, Locked, RunFailed, RunFiles, make_folder

gc.freeze()
gc.enable()
atexit.register(gc.unfreeze)  # or extension modules report that these objects are left


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line."""

    def error(self, message):
        distributed.tell(f"{self.prog}: {message}")
        self.exit(2)


def parser():
    """The command line of one run."""
    found = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = found.add_argument
    add("--dataset", required=True, help=", ".join(data.FACTS))
    add("--model", required=True, help=", ".join(models.MODELS))
    add("--method", required=True, help=", ".join(regularizers.METHODS))
    add("--seed", type=int, default=0, help="decides split, initial weights, order and every draw (default 0)")
    add("--profile", type=Path, metavar="DIR", help="do not train: time and trace a few training steps, into DIR")
    add_run_flags(found)
    recipes.add_flags(found)
    return found


DATA_DIR = Path(os.environ.get("PATCHUP_DATA", "datasets"))
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)
RUN_FLAGS = ("data_dir", "out", "device", "workers", "checkpoint_minutes", "deterministic", "graphs")


def add_run_flags(found, out_help="gets the results (default results/runs)", out=Path("results/runs")):
    """The flags that do not change a result."""
    add = found.add_argument
    add("--data-dir", type=Path, default=DATA_DIR, help="holds the images (default $PATCHUP_DATA, else datasets)")
    add("--out", type=Path, default=out, help=out_help)
    add("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (default auto)")
    add("--workers", type=int, default=4, help="processes that decode streamed images (default 4)")
    add("--checkpoint-minutes", type=float, default=5, help="between checkpoints (default 5); 0 saves at every step")
    add("--deterministic", action="store_true", help="bit-equal repetition on a GPU too, slower")
    add("--graphs", action="store_true", help="launch steps as CUDA graphs, for small images on a fast GPU")


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
    quiet=False,
):
    """Train as the recipe says, or go on with it, and return the result, a dict; a finished run is only read.

    Raises BadInput for what the user can mend, RunFailed when it cannot go on, engine.Stopped after a signal.
    """
    files = RunFiles(out, recipe)
    if result := distributed.from_rank_0(files.finished):
        if not quiet:
            print(f"{files.result} is there already ({result['images']['train']} training images)")
        return result
    if not checkpoint_minutes >= 0:
        raise BadInput(f"--checkpoint-minutes must be at least 0, not {checkpoint_minutes}")
    device = engine.select_device(device)
    set_up_backends(device, deterministic)
    trainer = build(recipe, data_dir, device, workers, files, checkpoint_minutes, quiet, graphs)
    with files.lock() if distributed.rank() == 0 else contextlib.nullcontext():
        if result := distributed.from_rank_0(files.finished):  # by another process, while this one read the images
            return result
        result = summary(trainer, trainer.run())
        if distributed.rank() == 0:
            files.finish(trainer.best["net"], trainer.weights(), result)
    return result


def profile(recipe, folder, *, data_dir, device, workers, deterministic):
    """Time and trace a few of the recipe's training steps, into folder (see profiling.py); the summary, a text.

    No files of a run are read or written. Raises BadInput or data.DataError for what the user can mend.
    """
    import profiling  # seldom needed

    make_folder(folder, "--profile")
    device = engine.select_device(device)
    set_up_backends(device, deterministic)
    trainer = build(recipe, data_dir, device, workers, files=None, checkpoint_minutes=0, quiet=True)
    return profiling.profile(trainer, folder)


def set_up_backends(device, deterministic):
    """Freed memory is kept on a CPU. On a GPU TF32, and cuDNN's autotuner, or for bit-equal repetition deterministic
    algorithms alone.
    """
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda":
        torch.cuda.set_device(device)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = not deterministic
        torch.use_deterministic_algorithms(deterministic)


def keep_freed_memory():
    """Let glibc keep the memory of freed tensors for the next step; returned to the system, it costs a fault a page."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def build(recipe, data_dir, device, workers, files, checkpoint_minutes, quiet, graphs=False):
    """The engine.Trainer of a recipe. Raises BadInput or data.DataError where device or images do not do."""
    if graphs and (device.type != "cuda" or distributed.size() > 1 or recipe.amp == "fp16"):
        raise BadInput("--graphs is for one process on a CUDA device, without --amp fp16")
    if recipe.amp == "fp16" and device.type != "cuda":
        raise BadInput("--amp fp16 needs a CUDA device; on a CPU there is bf16")
    with distributed.first_on_each_node():  # it leaves decoded images for the others
        datasets, net = objects(recipe, data_dir, workers)
    fewest = min(map(len, (datasets.train, datasets.val, datasets.test)))
    if fewest < distributed.size():
        raise BadInput(f"{distributed.size()} processes cannot share {fewest} images: start fewer processes")
    if recipe.compile:
        engine.compile_stages(net)
    regularizer = recipes.regularizer(recipe, len(datasets.classes))
    recorder = Recorder(regularizer.generators) if graphs else None
    return engine.Trainer(recipe, datasets, net, regularizer, device, files, checkpoint_minutes, quiet, recorder)


def objects(recipe, data_dir, workers=0):
    """The recipe's images and its network with the weights it starts from. Raises data.DataError where images lack."""
    datasets = recipes.datasets(recipe, data_dir, workers)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        return datasets, recipes.network(recipe, len(datasets.classes))


def summary(trainer, tested):
    """The result of a finished training: what was measured, on what, with which recipe. Epochs count from 0."""
    recipe, seconds = trainer.recipe, trainer.total_seconds()
    images = recipe.epochs * len(trainer.datasets.train)
    return {
        "dataset": recipe.dataset,
        "model": recipe.model,
        "method": recipe.method,
        "seed": recipe.seed,
        **tested,
        "val_error": trainer.best["val_error"],
        "best_epoch": trainer.best["epoch"],
        "seconds": round(seconds, 1),
        "images_per_second": round(images / seconds, 1),
        "peak_memory_mib": engine.peak_memory(trainer.device),
        "parameters": sum(p.numel() for p in trainer.net.parameters()),
        "images": trainer.image_counts(),
        "classes": len(trainer.datasets.classes),
        "processes": trainer.world,
        "recipe": recipes.used(recipe),
        "environment": engine.environment(trainer.device),
    }


def one_line(error):
    """What went wrong, on stderr."""
    distributed.tell(f"{Path(sys.argv[0]).name}: {' '.join(str(error).split())}")


def explain(function):
    """The exit status of a script's work: what function returns, or after one line on stderr another.

    2 for bad input, 75 where another process is at it, 1 for a run that failed, 128 + the signal where it was stopped.
    """
    script = Path(sys.argv[0]).name
    warnings.formatwarning = lambda message, *_, **__: f"{script}: warning: {message}\n"
    try:
        status = function()
        sys.stdout.flush()
        return status
    except Locked as error:
        one_line(error)
        return os.EX_TEMPFAIL
    except (BadInput, recipes.RecipeError, data.DataError) as error:
        one_line(error)
        return 2
    except RunFailed as error:
        one_line(error)
        return 1
    except engine.Stopped as stopped:
        number = stopped.args[0]
        one_line(f"stopped by {signal.Signals(number).name} and saved; the same command goes on from here")
        return 128 + number
    except BrokenPipeError:  # the reader of what is printed, as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        one_line("interrupted; the same command starts again")
        return 130
    except Exception:
        if distributed.size() == 1:
            raise
        distributed.tell(traceback.format_exc())
        return 1


@distributed.only_rank_0_prints()
def train_from(args):
    """Resolve the recipe of a command line, train it, print recipe and result; or profile it."""
    images = str(args.data_dir.resolve()) if args.dataset == "folder" else None
    options = recipes.overrides_of(args)
    recipe = recipes.resolve(args.dataset, args.model, args.method, args.seed, images=images, **options)
    if args.profile:
        if args.graphs:
            raise BadInput("--profile takes steps apart, which a graph has not: leave out --graphs")
        names = ("data_dir", "device", "workers", "deterministic")
        print(profile(recipe, args.profile, **{name: getattr(args, name) for name in names}))
        return 0
    shared = f", {distributed.size()} processes" if distributed.size() > 1 else ""
    print(f"{recipe.method}: {recipe.model} on {recipe.dataset}, seed {recipe.seed}{shared}\n{recipe}", flush=True)
    result = run(recipe, **{name: getattr(args, name) for name in RUN_FLAGS})
    print(
        f"test error {result['test_error']:.2f} % (best epoch on validation, {result['best_epoch'] + 1}), "
        f"{result['last_epoch_test_error']:.2f} % (last epoch), NLL {result['test_nll']:.3f}, "
        f"{result['seconds']:.0f} s"
    )
    return 0


def main(arguments=None):
    """Train as a command line says; the exit status (see explain)."""
    distributed.join()
    args = parser().parse_args(arguments)
    status = explain(lambda: train_from(args))
    if status == 0:
        distributed.leave()
    return status


if __name__ == "__main__":
    sys.exit(main())
