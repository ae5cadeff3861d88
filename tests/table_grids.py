"""The grids of tables, for the tests of what they show."""

from scripts import tables
from scripts.grid import grids


def grid_of(tmp_path, name, *given):
    """The Grid of a command line of tables.py."""
    arguments = map(str, [name, *given, "--out", tmp_path, "--data-dir", tmp_path])
    return grids.grid_of(tables.parser().parse_known_args(list(arguments))[0], name)
