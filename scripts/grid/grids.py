"""A table's or figure's grid as asked for on a command line: which runs it has, with which recipe, in which folder."""

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd

import recipes
from engine.files import ROOT, BadInput, RunFiles, make_folder, read_json, write_json
from scripts.grid.comparison import NAMES

AXES = ("datasets", "models", "methods")
LONGEST = 160  # characters of a file name that say what was chosen; names may have 255
PAPER_NAMES = {printed: name for name, printed in NAMES.items()} | {  # in results/paper
    "cifar100-affine": "cifar100",
    "tiny-imagenet": "tiny_imagenet",
    "ResNet-50 (not named in table; CutMix setting)": "resnet50",
}


def shortened(text):
    """A part of a file name, cut to what file systems take; what is cut off is told by a hash."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def in_words(overrides):
    """`epochs 2, width 16` for fields of a recipe."""
    return ", ".join(f"{name} {recipes.as_text(value)}" for name, value in overrides.items())


class Cell(NamedTuple):
    """A cell of a table: what all its runs share but the seed."""

    dataset: str
    model: str
    method: str
    variant: str = ""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a grid: its recipe, its files, and the fields given for it that are not the paper's."""

    cell: Cell
    recipe: recipes.Recipe
    files: RunFiles
    overrides: dict

    def arguments(self):
        """The command line of train.py for this run, without the flags that do not change a result."""
        names = ("dataset", "model", "method", "seed")
        named = [part for name in names for part in (f"--{name}", str(getattr(self.recipe, name)))]
        return [*named, "--out", str(self.files.out), *recipes.arguments(self.overrides)]


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table's runs as asked for on this command line, and where they go."""

    name: str
    table: recipes.Table
    overrides: dict  # of the recipe, on top of the table's own
    out: Path
    part: str = ""  # what was chosen of the table, for file names: `-cifar100-none`, or nothing
    recipe_tag: str = ""  # the user's name for the overrides
    images: str = None  # where the images of the data set `folder` are

    def tag(self, overrides):
        """What tells runs with overrides from the paper's in file names: `-epochs2`, or nothing."""
        if self.recipe_tag:
            overrides = {name: value for name, value in overrides.items() if name not in self.overrides}
        named = [f"-{name}{recipes.as_text(overrides[name])}" for name in recipes.OPTIONS if name in overrides]
        return "".join([f"-{self.recipe_tag}" * bool(self.recipe_tag), *named])

    @property
    def file_name(self):
        """How files that show this grid begin."""
        return self.name + shortened(self.part + self.tag(self.overrides))

    def folder(self, overrides):
        """The folder of the runs with these overrides."""
        return self.out / f"runs{shortened(self.tag(overrides))}"

    @property
    def title(self):
        """The table's title, which says what differs from the paper's recipe."""
        return self.table.title + (f" ({self.note})" if self.note else "")

    @property
    def note(self):
        """What differs from the paper's recipe, or nothing."""
        return f"not the paper's recipe: {in_words(self.overrides)}" if self.overrides else ""

    @property
    def rows(self):
        """The rows (recipes.Row) of the chosen methods, and of those that are cited."""
        return [row for row in self.table.rows if row.method in self.table.methods + self.table.cited]

    def cells(self):
        """{Cell: its recipes.Row} of the whole table; cells of cited methods have no runs."""
        places = [(dataset, model) for dataset in self.table.datasets for model in self.table.models]
        return {Cell(*place, row.method, row.variant): row for place in places for row in self.rows}

    def wanted(self):
        """{Cell: the number of its runs}."""
        return {cell: len(self.seeds(cell, row)) for cell, row in self.cells().items()}

    def seeds(self, cell, row):
        """The seeds of a cell, which may have fewer than the table; none of a cited method."""
        return () if cell.method in self.table.cited else self.table.seeds[: row.seeds]

    def paper(self):
        """The paper's numbers (see paper_numbers)."""
        return paper_numbers(self.table.paper or (self.name,))

    def run(self, cell, seed):
        """One run of a cell."""
        (row,) = (row for row in self.rows if (row.method, row.variant) == cell[2:])
        images = self.images if cell.dataset == "folder" else None

        def resolved(overrides):
            options = recipes.applicable(cell.method, self.table.overrides | overrides)
            return options, recipes.resolve(*cell[:3], seed, images=images, **options)

        overrides = self.overrides
        options, recipe = resolved(overrides)
        if any(getattr(recipe, name) != value for name, value in row.overrides.items()):  # else it shows the plain run
            overrides = overrides | row.overrides
            options, recipe = resolved(overrides)
        return Run(cell, recipe, RunFiles(self.folder(overrides), recipe), options)

    def runs(self):
        """All runs, seed by seed, so that every cell has a first number early."""
        cells = self.cells().items()
        return [
            self.run(cell, seed) for seed in self.table.seeds for cell, row in cells if seed in self.seeds(cell, row)
        ]

    def remember(self):
        """Keep what the recipe tag means beside its runs, for later command lines."""
        if self.recipe_tag:
            path = _tag_file(self.out, self.recipe_tag)
            make_folder(path.parent)
            write_json(path, {"overrides": self.overrides})


def add_flags(found):
    """The flags that choose a part of a table's grid."""
    for axis in AXES:
        found.add_argument(f"--{axis}", f"--{axis[:-1]}", nargs="+", help="of the table's, by default all")
    found.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N - 1, by default the table's")
    tag_help = "a name for the fields of the recipe given with it; later calls need the name alone"
    found.add_argument("--recipe-tag", metavar="NAME", help=tag_help)


def grid_of(args, name=None):
    """The Grid of table `name` (default args.table) that a command line asks for.

    Raises BadInput where the table has no such part.
    """
    name = name or args.table
    table, chosen, part = recipes.TABLES[name], {}, ""
    for axis in AXES:
        wanted, there = getattr(args, axis) or getattr(table, axis), getattr(table, axis)
        if name == "compare" and not getattr(args, axis):
            raise BadInput(f"say which --{axis} to compare: {', '.join(there)}")
        if unknown := [one for one in wanted if one not in there]:
            raise BadInput(f"{name} has no {unknown[0]} among its {axis}: {', '.join(there)}")
        chosen[axis] = tuple(one for one in there if one in wanted)
        if chosen[axis] != there:
            part += "".join(f"-{one}" for one in chosen[axis])
    if args.seeds is not None and args.seeds < 1:
        raise BadInput(f"--seeds must be at least 1, not {args.seeds}")
    seeds = table.seeds if args.seeds is None else tuple(range(args.seeds))
    if seeds != table.seeds:
        part += f"-seeds{args.seeds}"
    out = args.out or ROOT / "results" / table.folder
    overrides = _overrides(args, table, out, name)
    for one in overrides:
        if not any(one in recipes.applicable(method, overrides) for method in chosen["methods"]):
            raise BadInput(f"{recipes.flag(one)} means nothing to any of the methods {', '.join(chosen['methods'])}")
    images = str(Path(args.data_dir).expanduser().resolve()) if args.data_dir else None
    table = dataclasses.replace(table, seeds=seeds, **chosen)
    return Grid(name, table, overrides, out, part, args.recipe_tag or "", images)


def _overrides(args, table, out, name):
    """The fields of the recipe that a command line gives, or that its --recipe-tag stands for."""
    given = {one: value for one, value in recipes.overrides_of(args).items() if table.overrides.get(one) != value}
    for one in given:
        if any(one in row.overrides for row in table.rows):
            raise BadInput(f"{recipes.flag(one)} is what the rows of {name} differ in: it cannot be given")
    if args.recipe_tag is None:
        return given
    if not re.fullmatch(r"[A-Za-z0-9_.]{1,60}", args.recipe_tag):
        raise BadInput(f"--recipe-tag must be at most 60 letters, digits, _ and ., not {args.recipe_tag!r}")
    path = _tag_file(out, args.recipe_tag)
    if not path.exists():
        if not given:
            raise BadInput(f"{path} does not exist: give the fields of the recipe with --recipe-tag at its first use")
        return given
    kept = read_json(path, maker="scripts/tables.py", remedy=": take another --recipe-tag").get("overrides", {})
    kept = {one: tuple(value) if isinstance(value, list) else value for one, value in kept.items()}
    if given and given != kept:
        raise BadInput(
            f"--recipe-tag {args.recipe_tag} stands for {in_words(kept)}: leave them out, or take another tag"
        )
    return kept


def _tag_file(out, tag):
    return out / f"runs-{tag}" / "recipe.json"


def paper_numbers(names):
    """(dataset, model, method, metric) -> (mean, std) as the paper prints them, in our names.

    names: files in results/paper; those that are not there have no numbers. metric: as `test_error`, for evaluations
    `test_error@rotate_20`, for a row that is a variant `val_error@loss=L1`.
    """
    found = {}
    for path in (ROOT / "results" / "paper" / f"{name}.csv" for name in names):
        for row in pd.read_csv(path).itertuples() if path.exists() else ():
            dataset, model = (PAPER_NAMES.get(value, value) for value in (row.dataset, row.model))
            found[dataset, model, row.method, row.metric.replace("_pct", "")] = (row.mean, row.std)
    return found
