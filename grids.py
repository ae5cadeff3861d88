"""A table's or figure's grid as asked for on a command line, and the paper's numbers for it."""

import dataclasses
import hashlib
import math
from pathlib import Path

import pandas as pd

import recipes
from records import BadInput

ROOT = Path(__file__).resolve().parent
AXES = ("datasets", "models", "methods")
LONGEST = 160  # characters of a file name that say what was chosen; names may have 255
PAPER_NAMES = {  # in results/paper
    "cifar100-affine": "cifar100",
    "tiny-imagenet": "tiny_imagenet",
    "PreActResNet18": "preactresnet18",
    "PreActResNet34": "preactresnet34",
    "WRN-28-10": "wrn28_10",
    "ResNet101": "resnet101",
    "ResNet152": "resnet152",
}


def shortened(text):
    """A part of a file name, cut to what file systems take; what is cut off is told by a hash."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table's runs as asked for on this command line, and where they go."""

    name: str
    table: recipes.Table
    overrides: dict  # of the recipe, on top of the table's own
    out: Path
    part: str = ""  # what was chosen of the table, for file names: `-cifar100-none`, or nothing

    @property
    def tag(self):
        """What tells runs with overrides from the paper's in file names: `-epochs2`, or nothing."""
        return "".join(f"-{name}{value}" for name, value in self.overrides.items()).replace(" ", "")

    @property
    def file_name(self):
        """How files that show this grid begin."""
        return self.name + shortened(self.part + self.tag)

    @property
    def runs(self):
        """The folder of the runs."""
        return self.out / f"runs{shortened(self.tag)}"

    @property
    def title(self):
        """The table's title, which says what differs from the paper's recipe."""
        return self.table.title + (f" ({self.note})" if self.note else "")

    @property
    def note(self):
        """What differs from the paper's recipe, or nothing."""
        changes = ", ".join(f"{name} {value}" for name, value in self.overrides.items())
        return f"not the paper's recipe: {changes}" if changes else ""

    def recipe(self, dataset, model, method, seed):
        """The recipe of one run."""
        options = self.table.overrides | self.overrides
        return recipes.resolve(dataset, model, method, seed, **recipes.applicable(method, options))

    def recipes(self):
        """The recipes of all runs, seed by seed, so that every cell has a first number early."""
        return [self.recipe(*cell, seed) for seed in self.table.seeds for cell in self.table.cells()]


def add_flags(found):
    """The flags that choose a part of a table's grid."""
    for axis in AXES:
        found.add_argument(f"--{axis}", nargs="+", help="of the table's, by default all")
    found.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N - 1, by default the table's")


def grid_of(args):
    """The Grid that a command line asks for. Raises BadInput where the table has no such part."""
    table, chosen, part = recipes.TABLES[args.table], {}, ""
    for axis in AXES:
        wanted, there = getattr(args, axis) or getattr(table, axis), getattr(table, axis)
        if unknown := [name for name in wanted if name not in there]:
            raise BadInput(f"{args.table} has no {unknown[0]} among its {axis}: {', '.join(there)}")
        chosen[axis] = tuple(name for name in there if name in wanted)
        if chosen[axis] != there:
            part += "".join(f"-{name}" for name in chosen[axis])
    if args.seeds is not None and args.seeds < 1:
        raise BadInput(f"--seeds must be at least 1, not {args.seeds}")
    seeds = table.seeds if args.seeds is None else tuple(range(args.seeds))
    if seeds != table.seeds:
        part += f"-seeds{args.seeds}"
    out = args.out or ROOT / "results" / ("demo" if args.table == "demo" else "")
    given = recipes.overrides_of(args)
    overrides = {name: value for name, value in given.items() if table.overrides.get(name) != value}
    for name in overrides:
        if not any(name in recipes.applicable(method, overrides) for method in chosen["methods"]):
            raise BadInput(f"{recipes.flag(name)} means nothing to any of the methods {', '.join(chosen['methods'])}")
    return Grid(args.table, dataclasses.replace(table, seeds=seeds, **chosen), overrides, out, part)


def paper_numbers(name):
    """(dataset, model, method, metric) -> (mean, std) as the paper prints them, in our names, or nothing.

    metric: as `test_error`, or for evaluations `test_error@rotate_20`.
    """
    path = ROOT / "results" / "paper" / f"{name}.csv"
    if not path.exists():
        return {}
    found = {}
    for row in pd.read_csv(path).itertuples():
        dataset, model = (PAPER_NAMES.get(value, value) for value in (row.dataset, row.model))
        found[dataset, model, row.method, row.metric.replace("_pct", "")] = (row.mean, row.std)
    return found


def plus_minus(mean, std):
    """Mean and standard deviation with enough digits to tell them apart; one run has no deviation."""
    digits = 0 if abs(mean) >= 1000 else 2 if abs(mean) >= 1 else 3
    return f"{mean:.{digits}f}" + ("" if math.isnan(std) else f" ± {std:.{digits}f}")


def cell_text(mean, std, count):
    """`12.34 ± 0.56 (3)` for ours, `missing` where no run is finished."""
    return f"{plus_minus(mean, std)} ({count:.0f})" if count else "missing"
