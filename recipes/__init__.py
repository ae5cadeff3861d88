"""Recipes of runs: their fields, the paper's values, and the grids of its tables and figures."""

from recipes import tables
from recipes.fields import (
    OPTIONS,
    Recipe,
    RecipeError,
    add_flags,
    arguments,
    as_text,
    differences,
    flag,
    overrides_of,
    takes,
    used,
)
from recipes.fitting import Note
from recipes.names import LABELS, printed
from recipes.paper import sites
from recipes.recipe import applicable, changes, datasets, network, objects, regularizer, resolve, restore, unknown_name
from recipes.study import DESIGNS, EVALUATED_SEEDS, STUDIES, table_name
from recipes.tables import PAPER_AFFINE, PAPER_ROBUST, Metric, Row, Table

TABLES = tables.TABLES | {
    table_name(scale, part): table for scale, parts in STUDIES.items() for part, table in parts.items()
}
