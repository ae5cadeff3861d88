"""A table's or figure's grid as asked for on a command line: which runs it has, with which recipe, in which folder."""

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import pandas as pd

import data
import models
import recipes
import regularizers
from engine import cli, folders
from engine.files import ROOT, BadInput
from engine.runs import RunFiles

AXES = ("datasets", "models", "methods")
PAPER_NAMES = {recipes.printed(name): name for name in (*data.FACTS, *models.MODELS)} | {  # in results/paper
    "cifar100-affine": "cifar100",
    "tiny-imagenet": "tiny_imagenet",
    "ResNet-50 (not named in table; CutMix setting)": "resnet50",
}


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
    overrides: dict  # of the recipe, on top of the table's
    out: Path
    part: str = ""  # what was chosen of the table, for file names: `-cifar100-none`, or nothing
    recipe_tag: str = ""  # the user's name for the overrides
    images: str = None  # where the images of the data set `folder` are
    partial: dict = dataclasses.field(default_factory=dict)  # {data set: the classes it holds}, where some are missing

    def seeing(self, results):
        """This grid, which knows where the results of its runs are of fewer classes than the data set has."""
        classes = {result["recipe"]["dataset"]: result["classes"] for result in results if "classes" in result}
        partial = {name: count for name, count in classes.items() if data.part_of(name, count)}
        return dataclasses.replace(self, partial=partial)

    @property
    def suffix(self):
        """What tells files of this grid from those of the paper's recipe: `-epochs2`, or nothing."""
        return folders.suffix({} if self.recipe_tag else self.overrides, self.recipe_tag)

    @property
    def file_name(self):
        """How files that show this grid begin."""
        partial = "".join(f"-{classes}classes" for classes in self.partial.values())
        return self.name + folders.shortened(self.part + self.suffix + partial)

    def folder(self, overrides):
        """The folder of the runs with these fields other than the paper's."""
        if self.recipe_tag:
            overrides = {name: value for name, value in overrides.items() if name not in self.overrides}
        return folders.runs_folder(self.out, overrides, self.recipe_tag)

    @property
    def title(self):
        """The table's title, which says what differs from the paper's recipe and data sets."""
        return self.table.title + (f" ({self.note})" if self.note else "")

    @property
    def note(self):
        """What differs from the paper's recipe and data sets, or nothing."""
        recipe = [f"not the paper's recipe: {folders.in_words(self.overrides)}"] if self.overrides else []
        return "; ".join(recipe + [data.part_of(name, classes) for name, classes in self.partial.items()])

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
        return {cell: len(self.table.seeds_of(row)) for cell, row in self.cells().items()}

    def paper(self):
        """The paper's numbers (see paper_numbers) of the data sets that are whole here."""
        numbers = paper_numbers(self.table.paper or (self.name,))
        return {key: number for key, number in numbers.items() if key[0] not in self.partial}

    def printed(self):
        """The Cells that the paper's table has in the chosen places, of methods that are not chosen too."""
        places = [(dataset, model) for dataset in self.table.datasets for model in self.table.models]
        return [Cell(*place, row.method, row.variant) for place in places for row in recipes.TABLES[self.name].rows]

    def runs(self):
        """All runs, seed by seed, so that every cell has a first number early."""
        return self._runs

    @functools.cached_property
    def _runs(self):
        rows, runs = self.cells(), []
        resolved = {cell: self._resolved(cell, row) for cell, row in rows.items()}
        for seed in self.table.seeds:
            for cell, (recipe, out, overrides) in resolved.items():
                if seed in self.table.seeds_of(rows[cell]):
                    recipe = dataclasses.replace(recipe, seed=seed)
                    runs.append(Run(cell, recipe, RunFiles(out, recipe), overrides))
        return runs

    def _resolved(self, cell, row):
        """The recipe of a cell's runs but for the seed, their folder, and the fields that are not the paper's."""
        base = recipes.applicable(cell.method, self.table.overrides)
        given = recipes.applicable(cell.method, self.overrides | row.overrides)
        recipe = recipes.resolve(*cell[:3], images=self.images, **(base | given))
        return recipe, self.folder(recipes.changes(recipe, given, **base)), base | given

    def remember(self):
        """Keep what the recipe tag means beside its runs, for later command lines."""
        if self.recipe_tag:
            folders.remember(self.out, self.recipe_tag, self.overrides)


def add_flags(parser):
    """The flags that choose a part of a table's grid."""
    for axis in AXES:
        names_help = "of the table's, by default all; separated by spaces or commas"
        parser.add_argument(f"--{axis}", f"--{axis[:-1]}", action=cli.Names, metavar="NAME", help=names_help)
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N - 1, by default the table's")
    folders.add_tag_flag(parser)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a command line chooses of a table: names on its axes and a number of seeds (None: all), and the recipe."""

    datasets: list = None
    models: list = None
    methods: list = None
    seeds: int = None
    overrides: dict = dataclasses.field(default_factory=dict)  # fields of the recipe
    recipe_tag: str = None
    out: Path = None  # None: the table's folder in results
    data_dir: Path = None

    @classmethod
    def of(cls, args):
        """The choice in the arguments of a parser with these flags."""
        names = (*AXES, "seeds", "recipe_tag", "out", "data_dir")
        return cls(**{name: getattr(args, name) for name in names}, overrides=cli.overrides_of(args))


def grid_of(name, choice):
    """The Grid of a Choice of table `name`. Raises BadInput where the table has no such part."""
    table, part = recipes.TABLES[name], ""
    chosen = {axis: _chosen(getattr(choice, axis), table, name, axis) for axis in AXES}
    for axis, names in chosen.items():
        if names != getattr(table, axis):
            part += "".join(f"-{value}" for value in names)
    cli.require_counts(choice, "seeds")
    seeds = table.seeds if choice.seeds is None else tuple(range(choice.seeds))
    if seeds != table.seeds:
        part += f"-seeds{choice.seeds}"
    out = choice.out or ROOT / "results" / table.folder
    overrides = _overrides(choice, table, out, name)
    for field in overrides:
        if not any(field in recipes.applicable(method, overrides) for method in chosen["methods"]):
            raise BadInput(f"{recipes.flag(field)} means nothing to any of the methods {', '.join(chosen['methods'])}")
    images = str(choice.data_dir.expanduser().resolve()) if choice.data_dir else None
    table = dataclasses.replace(table, seeds=seeds, **chosen)
    return Grid(name, table, overrides, out, part, choice.recipe_tag or "", images)


def _chosen(given, table, name, axis):
    """The names on an axis of a table that a command line gives, in the table's order; by default all.

    A table that shows an evaluation takes any method.
    """
    shown = known = getattr(table, axis)
    if axis == "methods" and table.evaluation and not table.variants:  # the paper's selection is the default
        known = tuple(dict.fromkeys(("none", *shown, *regularizers.METHODS)))
    if axis == "models" and table.kind == "any":
        known += tuple(dict.fromkeys(name for name in given or () if models.is_library_name(name)))
    if not given and table.kind == "any":
        raise BadInput(f"say which --{axis} to compare: {', '.join(known)}")
    for value in given or ():
        if value not in known:
            raise BadInput(f"{name}: {recipes.unknown_name(axis.removesuffix('s'), value, known)}")
    return tuple(value for value in known if value in (given or shown))


def _overrides(choice, table, out, name):
    """The chosen fields of the recipe, or those that the recipe tag stands for."""
    given = {field: value for field, value in choice.overrides.items() if table.overrides.get(field) != value}
    for field in given:
        if any(field in row.overrides for row in table.rows):
            raise BadInput(f"{recipes.flag(field)} is what the rows of {name} differ in: it cannot be given")
    return given if choice.recipe_tag is None else folders.tagged(out, choice.recipe_tag, given)


def paper_numbers(names):
    """(dataset, model, method, metric) -> (mean, std) as the paper prints them, in our names.

    names: files in results/paper; missing files have no numbers. metric: as `test_error`, for evaluations
    `test_error@rotate_20`, for a row that is a variant `val_error@loss=L1`.
    """
    numbers = {}
    for path in (ROOT / "results" / "paper" / f"{name}.csv" for name in names):
        for row in pd.read_csv(path).itertuples() if path.exists() else ():
            dataset, model = (PAPER_NAMES.get(value, value) for value in (row.dataset, row.model))
            numbers[dataset, model, row.method, row.metric.replace("_pct", "")] = (row.mean, row.std)
    return numbers
