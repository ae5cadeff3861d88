"""A command that launches small runs on digits, for the tests of launchers: python -m tests.digits_grid --out DIR."""

import contextlib
import subprocess
import sys

import recipes
from engine import cli
from engine.runs import RunFiles
from scripts.grid import launcher
from scripts.grid.job import Job

SMALL = {"width": 4, "train_per_class": 4, "batch_size": 16, "epochs": 30}
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
input()
"""


def job(args, method, seed=0, **overrides):
    """The Job that trains one run."""
    overrides = SMALL | {"epochs": args.epochs} | overrides
    recipe = recipes.resolve("digits", "preactresnet18", method, seed, **overrides)
    files = RunFiles(args.out / "runs", recipe)
    values = {"dataset": "digits", "model": "preactresnet18", "method": method, "seed": seed, **overrides}
    values |= {"out": files.out, "device": args.device, "data_dir": args.data_dir}
    values |= {"checkpoint_minutes": args.checkpoint_minutes}
    arguments = [word for name, value in values.items() for word in (recipes.flag(name), str(value))]
    return Job(recipe, files, (("train", tuple(arguments)),), (files.result,))


def make_parser():
    """The command line."""
    parser = cli.Parser()
    parser.add_argument("--methods", nargs="+", default=["none", "cutout"])
    parser.add_argument("--lr", type=float, help="of cutout alone")
    parser.add_argument("--epochs", type=int, default=SMALL["epochs"])
    launcher.add_flags(parser)
    cli.add_run_flags(parser, "gets the results")
    return parser


def flags(out, *more):
    """The command line of runs on the CPU in a folder."""
    return ["--out", str(out), "--data-dir", str(out), "--device", "cpu", *map(str, more)]


def arguments(out, *more):
    """The parsed command line of runs on the CPU in a folder."""
    return make_parser().parse_args(flags(out, *more))


@contextlib.contextmanager
def holder(path):
    """Another process holds the lock file at path until release() is called."""
    command = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield lambda: process.communicate("\n")
        process.kill()


def main(arguments=None):
    """Launch; the exit status."""
    args = make_parser().parse_args(arguments)
    lr = {"lr": args.lr} if args.lr else {}
    jobs = [job(args, method, **(lr if method == "cutout" else {})) for method in args.methods]
    return cli.explain(lambda: 1 if launcher.launch(jobs, args) else 0)


if __name__ == "__main__":
    sys.exit(main())
