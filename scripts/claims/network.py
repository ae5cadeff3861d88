"""One network's records in a study: values by cell and seed, and their additive models.

A cell is (method, variant), a row of the study's tables. The cells of a part share an additive model; where a contrast
needs cells of several parts that are trained alike, these do, a group.
"""

import functools
from collections import defaultdict
from typing import NamedTuple

import recipes
from scripts.claims.measures import MEASURES
from scripts.claims.records import trained
from scripts.grid.statistics import AdditiveModel

MAIN = ("methods",)
GROUPS = (MAIN, ("parts",), ("size",), ("longer",), ("methods", "parts"))


class Effort(NamedTuple):
    """The runs of a network, how many there shall be, and the hours of their training and evaluations."""

    runs: int
    wanted: int
    training: float
    evaluating: float


class Network:
    """The records of a network (see records.StudyRecords)."""

    def __init__(self, records, model):
        self.records, self.model, self.scale, self.design = records, model, records.scale, records.design
        self.rows = {  # {part: {cell: recipes.Row}}
            part: {(row.method, row.variant): row for row in table.rows} for part, table in trained(self.scale).items()
        }
        self.cells, self.additive = functools.cache(self._cells), functools.cache(self._additive)

    @property
    def name(self):
        """As `cpu, PreActResNet18`."""
        return f"{self.scale}, {recipes.printed(self.model)}"

    def _cells(self, group):
        """{cell: {seed: RunRecord}} of a group of parts; a run that several rows show stands at the first."""
        cells = defaultdict(dict)
        for record in self.records.in_order():
            places = [place for place in self.records.rows(record) if place[0] in group and place[1] == self.model]
            if places:
                cells[places[0][2:]][record.seed] = record
        return dict(cells)

    def group_of(self, cells):
        """The group whose rows have all these cells, or None."""
        for group in GROUPS:
            if set(cells) <= {cell for part in group for cell in self.rows.get(part, ())}:
                return group
        return None

    def values(self, measure, group, best=False):
        """{cell: {seed: value}} of a measure; best: of the best epoch's weights, which it must have."""
        number = MEASURES[measure].best if best else MEASURES[measure].of
        values = {}
        for cell, runs in self.cells(group).items():
            numbers = {seed: number(record) for seed, record in runs.items()}
            values[cell] = {seed: value for seed, value in numbers.items() if value is not None}
        return values

    def _additive(self, measure, group, best=False):
        """The AdditiveModel of values(...)."""
        return AdditiveModel(self.values(measure, group, best))

    def row(self, cell):
        """The recipes.Row of a cell."""
        return next(rows[cell] for rows in self.rows.values() if cell in rows)

    def wanted(self, cell, measure):
        """The seeds that a cell is to have of a measure, by the design."""
        limit = recipes.EVALUATED_SEEDS if MEASURES[measure].needs else self.design.seeds
        return min(self.row(cell).seeds, limit)

    def has(self, measure, cells):
        """Whether the design has these cells in one group, and what a measure of them takes."""
        needs = MEASURES[measure].needs
        return bool(self.group_of(cells)) and (not needs or needs in self.design.evaluations)

    def label(self, cell):
        """How a cell's row is headed."""
        return self.row(cell).label

    @property
    def first(self):
        """The result of the first run."""
        return next(r.result for r in self.records.in_order() if r.result["model"] == self.model)

    def effort(self):
        """The Effort so far."""
        records = [record for record in self.records if record.result["model"] == self.model]
        training = sum(record.result["seconds"] for record in records)
        evaluating = sum(kept["seconds"] for record in records for kept in record.evaluations.values())
        return Effort(len(records), self.records.wanted(self.model), training / 3600, evaluating / 3600)
