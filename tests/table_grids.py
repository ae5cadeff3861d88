"""The grids of tables, for the tests of what they show."""

from scripts import tables
from scripts.grid import grids

TABLE2 = ("table2", "--datasets", "cifar100", "--models", "wrn28_10", "--methods", "none", "patchup_hard", "mixup")


def grid_of(tmp_path, name, *given):
    """The Grid of a command line of tables.py."""
    arguments = map(str, [name, *given, "--out", tmp_path, "--data-dir", tmp_path])
    args, _ = tables.parser().parse_known_args(list(arguments))
    return grids.grid_of(name, grids.Choice.of(args))


def run_of(grid, method, seed=0, variant=""):
    """The grid's run of a method, of its first data set and network."""
    cell = grids.Cell(grid.table.datasets[0], grid.table.models[0], method, variant)
    return next(run for run in grid.runs() if run.cell == cell and run.recipe.seed == seed)
