"""A command that launches small runs on digits, for the tests of launchers: python tests/digits_grid.py --out DIR."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import recipes
from engine import cli
from engine.files import RunFiles
from scripts.grid import launcher

SMALL = {"width": 4, "train_per_class": 4, "batch_size": 16, "epochs": 30}


def job(args, method, seed=0, **overrides):
    """The Job that trains one run."""
    overrides = SMALL | {"epochs": args.epochs} | overrides
    recipe = recipes.resolve("digits", "preactresnet18", method, seed, **overrides)
    files = RunFiles(args.out / "runs", recipe)
    values = {"dataset": "digits", "model": "preactresnet18", "method": method, "seed": seed, **overrides}
    values |= {"out": files.out, "device": args.device, "data_dir": args.data_dir}
    values |= {"checkpoint_minutes": args.checkpoint_minutes}
    arguments = [word for name, value in values.items() for word in (recipes.flag(name), str(value))]
    return launcher.Job(recipe, files, (("train", tuple(arguments)),), (files.result,))


def parser():
    """The command line."""
    found = cli.Parser()
    found.add_argument("--methods", nargs="+", default=["none", "cutout"])
    found.add_argument("--lr", type=float, help="of cutout alone")
    found.add_argument("--epochs", type=int, default=SMALL["epochs"])
    launcher.add_flags(found)
    cli.add_run_flags(found)
    return found


def main(arguments=None):
    """Launch; the exit status."""
    args = parser().parse_args(arguments)
    lr = {"lr": args.lr} if args.lr else {}
    jobs = [job(args, method, **(lr if method == "cutout" else {})) for method in args.methods]
    return cli.explain(lambda: 1 if launcher.launch(jobs, args) else 0)


if __name__ == "__main__":
    sys.exit(main())
