"""Statistics of runs that share seeds, and of numbers that are printed as mean and standard deviation.

Runs of the same seed share split, initial weights and order of images. So a table's values are taken as

    value = effect of the cell + effect of the seed + noise,

fitted by least squares, with a common standard deviation of the noise for all cells (`AdditiveModel`). Its t intervals
have the residual's degrees of freedom, and hold for tables with missing runs too. Printed numbers, which have no seeds,
are compared after Welch.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05  # an interval covers 1 - LEVEL
UNEQUAL = 0.01  # p value of Levene's test below which cells count as differing in their deviation
TINY = 1e-9  # of the values' size: residuals below it are rounding


class Interval(NamedTuple):
    """A difference (or mean) with the bounds of its 95 % interval, and the two-sided p value of zero.

    NaN stands for what cannot be known: bounds and p of a single seed, all of a cell without runs.
    """

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan

    @property
    def side(self):
        """-1 or 1 where the interval lies below or above zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)  # comparisons with NaN are false

    def excludes(self, value):
        """Whether a value lies outside the bounds; False without bounds."""
        return value < self.low or value > self.high


def t_interval(mean, error, degrees):
    """The Interval of an estimate with its standard error and degrees of freedom."""
    if not (degrees > 0 and error > 0):
        return Interval(float(mean))
    half = error * stats.t.ppf(1 - LEVEL / 2, degrees)
    p = 2 * stats.t.sf(abs(mean) / error, degrees)
    return Interval(*map(float, (mean, mean - half, mean + half, p)))


class AdditiveModel:
    """Cell and seed effects of a table, by least squares.

    values: {cell: {seed: value}}; cells that are empty or hold a value that is not finite are left out.
    """

    def __init__(self, values):
        self.values = {cell: v for cell, v in values.items() if v and np.isfinite(list(v.values())).all()}
        self.cells = list(self.values)
        self.seeds = sorted({seed for numbers in self.values.values() for seed in numbers})
        observed = [(cell, seed, value) for cell, v in self.values.items() for seed, value in v.items()]
        self.owner = np.array([self.cells.index(cell) for cell, _, _ in observed], int)
        y = np.array([value for *_, value in observed], float)
        design = np.zeros((len(y), len(self.cells) + len(self.seeds)))
        for row, (cell, seed, _) in enumerate(observed):
            design[row, self.cells.index(cell)] = design[row, len(self.cells) + self.seeds.index(seed)] = 1
        inverse = np.linalg.pinv(design)
        self.effects = inverse @ y
        self.covariance = inverse @ inverse.T  # in units of the noise's variance
        self.estimable = inverse @ design  # the projection onto what the runs tell
        self.residuals = y - design @ self.effects
        self.degrees = len(y) - int(round(np.trace(self.estimable)))
        scale = np.abs(y).max(initial=0)
        alike = np.abs(self.residuals).max(initial=0) <= TINY * scale
        self.deviation = 0.0 if alike or not self.degrees else math.sqrt((self.residuals**2).sum() / self.degrees)

    def contrast(self, weights):
        """The Interval of sum(weight * cell), {cell: weight} with weights that add up to 0."""
        if any(cell not in self.values for cell in weights):
            return Interval()
        return self._estimate(np.array([*(weights.get(cell, 0) for cell in self.cells), *[0] * len(self.seeds)], float))

    def mean(self, cell):
        """The Interval of a cell's mean over all seeds of the table, for comparing cells."""
        if cell not in self.values:
            return Interval()
        indicator = [float(other == cell) for other in self.cells]
        return self._estimate(np.array([*indicator, *[1 / len(self.seeds)] * len(self.seeds)]))

    def _estimate(self, combination):
        if not np.allclose(combination @ self.estimable, combination, atol=1e-6):  # cells that share no seeds
            return Interval()
        error = self.deviation * math.sqrt(combination @ self.covariance @ combination)
        return t_interval(combination @ self.effects, error, self.degrees)

    def deviation_of(self, cell):
        """The standard deviation of a cell's residuals, on the scale of `deviation`; NaN where it cannot be known."""
        residuals = self.residuals[self.owner == self.cells.index(cell)] if cell in self.values else ()
        if len(residuals) < 2 or not self.degrees:
            return math.nan
        return math.sqrt(np.mean(residuals**2) * len(self.residuals) / self.degrees)

    @functools.cached_property
    def levene(self):
        """The p value of Levene's test (about medians) that all cells' residuals deviate alike; NaN without a test."""
        groups = [self.residuals[self.owner == number] for number in range(len(self.cells))]
        groups = [group for group in groups if len(group) >= 3]
        return float(stats.levene(*groups).pvalue) if len(groups) > 1 and self.deviation else math.nan

    @property
    def unequal(self):
        """Whether cells differ in their deviation, so that the pooled interval does not decide alone."""
        return self.levene < UNEQUAL


def paired(values, weights):
    """The Interval of sum(weight * cell) from its values at the seeds that all its cells have, and these seeds."""
    cells = [values.get(cell, {}) for cell in weights]
    seeds = sorted(set.intersection(*map(set, cells)))
    differences = np.array([sum(w * cell[seed] for w, cell in zip(weights.values(), cells)) for seed in seeds], float)
    if not len(differences) or not np.isfinite(differences).all():
        return Interval(), seeds
    alike = len(differences) < 2 or np.ptp(differences) <= TINY * max(abs(v) for cell in cells for v in cell.values())
    error = 0.0 if alike else differences.std(ddof=1) / math.sqrt(len(differences))
    return t_interval(differences.mean(), error, len(differences) - 1), seeds


def welch(terms):
    """The Interval of sum(weight * mean) of independent groups, [(weight, mean, standard deviation, runs)].

    Degrees of freedom after Welch and Satterthwaite. Without deviations (NaN, or a single run) it has no bounds.
    """
    mean = sum(weight * m for weight, m, _, _ in terms)
    parts = [(weight**2 * std**2 / n, n - 1) for weight, _, std, n in terms]
    variance = sum(part for part, _ in parts)
    if not (math.isfinite(variance) and variance > 0) or any(part and not degrees for part, degrees in parts):
        return Interval(float(mean))
    return t_interval(mean, math.sqrt(variance), variance**2 / sum(p**2 / degrees for p, degrees in parts if p))


def holm(p_values):
    """p values corrected for their number after Holm (1979), in their order; NaN, no test, stays and is not counted."""
    adjusted = np.full(len(p_values), math.nan)
    tests = [i for i in np.argsort(p_values, kind="stable") if not math.isnan(p_values[i])]
    largest = 0.0
    for done, i in enumerate(tests):
        largest = max(largest, min(1.0, (len(tests) - done) * p_values[i]))
        adjusted[i] = largest
    return adjusted.tolist()
