"""What the command lines share: parser, folders, flags of a run, exit statuses."""

import argparse
import difflib
import os
import re
import signal
import sys
import traceback
import warnings
from pathlib import Path

import data
import recipes
from engine import distributed
from engine.device import best_amp, select_device
from engine.files import ROOT, BadInput, Locked, RunFailed
from engine.signals import Stopped
from engine.streams import make_tolerant


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, with the flag that was probably meant.

    Its description keeps its lines, and flags are not abbreviated.
    """

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message):
        distributed.tell(f"{self.prog}: {message}{self.meant(message)}")
        self.exit(2)

    def meant(self, message):
        """`; did you mean --gamma?` for a message about an unknown flag that is near a known one, or nothing."""
        flag = re.search(r"unrecognized arguments.*?: (--[\w-]+)", message)
        near = difflib.get_close_matches(flag[1], self._option_string_actions, 1) if flag else []
        return f"; did you mean {near[0]}?" if near else ""


class Names(argparse.Action):
    """The action of a flag that takes names, separated by spaces or commas."""

    def __init__(self, *args, **options):
        super().__init__(*args, nargs="+", **options)

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, [name for value in values for name in value.split(",") if name])


DATA_DIR = Path(os.environ.get("PATCHUP_DATA") or ROOT / "datasets")
RUN_FLAGS = ("data_dir", "device", "workers", "checkpoint_minutes", "deterministic", "graphs", "tensorboard")


def add_run_flags(parser, out_help):
    """The flags that do not change a result."""
    add = parser.add_argument
    add("--data-dir", type=Path, default=DATA_DIR, help="holds the images (default $PATCHUP_DATA, else datasets)")
    add("--out", type=Path, help=out_help)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:<n> or mps (default auto)")
    add("--workers", type=int, default=4, help="processes that decode streamed images (default 4)")
    add("--checkpoint-minutes", type=float, default=5, help="between checkpoints (default 5); 0 saves at every step")
    add("--deterministic", action="store_true", help="bit-equal repetition on a GPU too, slower")
    add(
        "--tensorboard",
        type=Path,
        metavar="DIR",
        help="gets each run's numbers for TensorBoard (pip install tensorboard)",
    )
    add("--graphs", action="store_true", help="launch steps as CUDA graphs, for small images on a fast GPU")


def overrides_of(args):
    """The recipe's fields that were given on a command line; --amp auto as what its device is fastest at.

    Raises BadInput where the device cannot be asked.
    """
    given = recipes.overrides_of(args)
    if given.get("amp") == "auto":
        if getattr(args, "launcher", None) == "slurm":
            raise BadInput("--amp auto asks the device of this machine: with --launcher slurm give bf16, fp16 or off")
        given["amp"] = best_amp(select_device(args.device, use=False))
        if given["amp"] == "off":  # as the paper's
            del given["amp"]
    return given


def require_counts(args, *names, least=1, most=10_000):
    """Raise BadInput for flags of these names, ints or None, that are below `least` or above `most`."""
    for name in names:
        value = getattr(args, name)
        if value is not None and value < least:
            raise BadInput(f"{recipes.flag(name)} must be at least {least}, not {value}")
        if value is not None and value > most:
            raise BadInput(f"{recipes.flag(name)} must be at most {most}, not {value}")


def one_line(error, script=None):
    """What went wrong, on stderr; script: who says so, by default the running file."""
    distributed.tell(f"{script or Path(sys.argv[0]).name}: {' '.join(str(error).split())}")


def explain(function, script=None):
    """The exit status of a script's work: what function returns, or after one line on stderr another.

    2 for bad input, 75 where another process is at it, 1 for a run that failed or a file that cannot be opened, 128 +
    the signal where it was stopped. script: the name that the line begins with, by default the running file's.
    """
    script = script or Path(sys.argv[0]).name

    def in_one_line(message, category, *_, **__):
        return f"{script}: {'note' if issubclass(category, recipes.Note) else 'warning'}: {message}\n"

    warnings.formatwarning = in_one_line
    make_tolerant()
    try:
        status = function()
        sys.stdout.flush()
        return status
    except Locked as error:
        one_line(error, script)
        return os.EX_TEMPFAIL
    except (BadInput, recipes.RecipeError, data.DataError) as error:
        one_line(error, script)
        return 2
    except RunFailed as error:
        one_line(error, script)
        return 1
    except Stopped as stopped:
        number = stopped.args[0]
        one_line(f"stopped by {signal.Signals(number).name} and saved; the same command goes on from here", script)
        return 128 + number
    except BrokenPipeError:  # the reader of what is printed, as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # which names the file
        one_line(error, script)
        return 1
    except KeyboardInterrupt:
        one_line("interrupted; the same command starts again", script)
        return 130
    except Exception:
        if distributed.size() == 1:
            raise
        distributed.tell(traceback.format_exc())
        return 1
