"""One network's records in a study: values by cell and seed, and their additive models.

A cell is (method, variant), a row of the study's tables. The cells of a part share an additive model; where a contrast
needs cells of several parts that are trained alike, these do, a group.
"""

import functools

import recipes
from scripts.claims.measures import MEASURES
from scripts.claims.records import trained
from scripts.grid.statistics import AdditiveModel

MAIN = ("methods",)
GROUPS = (MAIN, ("parts",), ("size",), ("longer",), ("methods", "parts"))


class Network:
    """The records of a network.

    runs: its RunRecords in order; cells: {group: {cell: {seed: RunRecord}}}, where a run that several rows of a group
    show stands at the first; rows: {part: {cell: recipes.Row}} of the design; additive(measure, group): the
    AdditiveModel of values(measure, group).
    """

    def __init__(self, records, model):
        self.model, self.scale, self.design = model, records.scale, records.design
        self.runs = [record for record in records.in_order() if record.result["model"] == model]
        self.wanted_runs = records.wanted(model)
        self.rows = {
            part: {(row.method, row.variant): row for row in table.rows} for part, table in trained(self.scale).items()
        }
        self.cells = {group: {} for group in GROUPS}
        for record in self.runs:
            for group, cells in self.cells.items():
                places = [cell for part, _, *cell in records.rows(record) if part in group]
                if places:
                    cells.setdefault(tuple(places[0]), {})[record.result["seed"]] = record
        self.additive = functools.cache(lambda measure, group: AdditiveModel(self.values(measure, group)))

    def values(self, measure, group=MAIN):
        """{cell: {seed: value}} of a measure."""
        return {
            cell: {seed: run.numbers[measure] for seed, run in runs.items() if measure in run.numbers}
            for cell, runs in self.cells[group].items()
        }

    def group_of(self, cells):
        """The group whose rows have all these cells, or None."""
        for group in GROUPS:
            if set(cells) <= {cell for part in group for cell in self.rows.get(part, ())}:
                return group
        return None

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
