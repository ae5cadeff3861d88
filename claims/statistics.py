"""Statistics of runs that are compared in pairs: pure functions of numbers."""

import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05
EXACT = 5  # values up to which the bootstrap's resamples are all counted, 5^5
RESAMPLES = 10_000


class Interval(NamedTuple):
    """Bounds of a 95 % interval, and the two-sided p value of zero; NaN where there is none."""

    low: float
    high: float
    p: float = math.nan


NOTHING = Interval(math.nan, math.nan)


def t_interval(values):
    """Student's interval of the mean of values [n]; of differences by seed it is the paired t interval.

    NOTHING for less than two values, for values that are not finite, and for values that are all one but for rounding,
    which leave no deviation to go by.
    """
    values = np.asarray(values, float)
    if len(values) < 2 or not np.isfinite(values).all() or np.allclose(values, values[0], rtol=1e-12, atol=1e-12):
        return NOTHING
    found = stats.ttest_1samp(values, 0.0)
    return Interval(*map(float, found.confidence_interval(1 - LEVEL)), float(found.pvalue))


def bootstrap_interval(values, seed=0):
    """The percentile interval of the mean of values [n], by resampling them; exact for at most EXACT of them.

    Of three values it is their whole range: the 27 resamples are too few to leave out 2.5 % on either side.
    """
    values = np.asarray(values, float)
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        return NOTHING
    if n <= EXACT:
        picks = np.array(list(itertools.product(range(n), repeat=n)))
    else:
        picks = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
    tails = 100 * LEVEL / 2, 100 * (1 - LEVEL / 2)
    low, high = np.percentile(values[picks].mean(1), tails, method="inverted_cdf")
    return Interval(float(low), float(high))


class McNemar(NamedTuple):
    """Images that the first alone classifies rightly, and the second alone; and McNemar's exact two-sided p value."""

    first: int
    second: int
    p: float


def mcnemar(first, second):
    """McNemar's test of two classifiers, whether each image [N] is classified rightly by the first and the second."""
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    alone = int((first & ~second).sum()), int((second & ~first).sum())
    p = stats.binomtest(alone[0], sum(alone)).pvalue if sum(alone) else 1.0
    return McNemar(*alone, float(p))


def holm(p_values):
    """p values corrected for their number after Holm (1979), in their order; NaN, no test, stays and is not counted."""
    adjusted = np.full(len(p_values), math.nan)
    tests = [i for i in np.argsort(p_values, kind="stable") if not math.isnan(p_values[i])]
    largest = 0.0
    for done, i in enumerate(tests):
        largest = max(largest, min(1.0, (len(tests) - done) * p_values[i]))
        adjusted[i] = largest
    return adjusted.tolist()


def rank_correlation(first, second):
    """Spearman's correlation of two sequences [n], in [-1, 1]; NaN where one of them is constant."""
    ranks = [stats.rankdata(values) for values in (first, second)]
    if any(len(set(one)) < 2 for one in ranks):
        return math.nan
    return float(np.corrcoef(*ranks)[0, 1])
