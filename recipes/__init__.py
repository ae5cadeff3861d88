"""Recipes of runs: their fields, the paper's values, and the grids of its tables and figures."""

from recipes import study, tables
from recipes.paper import sites
from recipes.recipe import (
    OPTIONS,
    Recipe,
    RecipeError,
    add_flags,
    applicable,
    arguments,
    as_text,
    changes,
    datasets,
    differences,
    flag,
    network,
    objects,
    overrides_of,
    regularizer,
    resolve,
    restore,
    takes,
    unknown_name,
    used,
)
from recipes.study import STUDIES, STUDY_MODELS, STUDY_REASONS, STUDY_SIZES
from recipes.tables import LABELS, PAPER_AFFINE, PAPER_ROBUST, Metric, Row, Table

TABLES = tables.TABLES | {name: table for scale in study.STUDIES.values() for name, table in scale.items()}

__all__ = [
    "LABELS",
    "OPTIONS",
    "PAPER_AFFINE",
    "PAPER_ROBUST",
    "STUDIES",
    "STUDY_MODELS",
    "STUDY_REASONS",
    "STUDY_SIZES",
    "TABLES",
    "Metric",
    "Recipe",
    "RecipeError",
    "Row",
    "Table",
    "add_flags",
    "applicable",
    "arguments",
    "as_text",
    "changes",
    "datasets",
    "differences",
    "flag",
    "network",
    "objects",
    "overrides_of",
    "regularizer",
    "resolve",
    "restore",
    "sites",
    "takes",
    "unknown_name",
    "used",
]
