"""scripts/grid/statistics.py: against formulas, scipy and simulated tables."""

import math

import numpy as np
import pytest
from scipy import stats

from scripts.grid import statistics
from scripts.grid.statistics import AdditiveModel, Interval


def table(cells=4, seeds=5, missing=(), noise=1.0, rng=0):
    """{cell: {seed: value}} with cell effects 0, 1, 2, ... and seed effects of deviation 3."""
    rng = np.random.default_rng(rng)
    shared = rng.normal(0, 3, seeds)
    return {
        cell: {s: cell + shared[s] + noise * rng.normal() for s in range(seeds) if (cell, s) not in missing}
        for cell in range(cells)
    }


def test_a_balanced_table_gives_the_two_way_analysis_of_variance():
    values = table()
    y = np.array([[values[cell][seed] for seed in range(5)] for cell in range(4)])
    residuals = y - y.mean(0) - y.mean(1, keepdims=True) + y.mean()
    deviation = math.sqrt((residuals**2).sum() / 12)
    half = stats.t.ppf(0.975, 12) * deviation * math.sqrt(2 / 5)
    model = AdditiveModel(values)
    difference = y[3].mean() - y[0].mean()
    assert model.degrees == 12 and model.deviation == pytest.approx(deviation)
    interval = model.contrast({3: 1, 0: -1})
    assert interval[:3] == pytest.approx((difference, difference - half, difference + half))
    assert interval.p == pytest.approx(2 * stats.t.sf(abs(difference) / (deviation * math.sqrt(2 / 5)), 12))
    mean = model.mean(2)
    assert mean.mean == pytest.approx(y[2].mean())
    assert mean.high - mean.mean == pytest.approx(stats.t.ppf(0.975, 12) * deviation / math.sqrt(5))
    spread = math.sqrt((residuals[1] ** 2).mean() * 20 / 12)
    assert model.deviation_of(1) == pytest.approx(spread)
    assert model.levene == pytest.approx(stats.levene(*residuals).pvalue)


def test_an_unbalanced_table_is_solved_by_least_squares():
    """Against the normal equations with one seed as reference."""
    values = table(missing={(0, 3), (0, 4), (2, 0), (3, 4)})
    rows = [(cell, seed, value) for cell, numbers in values.items() for seed, value in numbers.items()]
    x = np.array([[cell == c for c in range(4)] + [seed == s for s in range(1, 5)] for cell, seed, _ in rows], float)
    y = np.array([value for *_, value in rows])
    gram = np.linalg.inv(x.T @ x)
    beta = gram @ x.T @ y
    degrees = len(y) - 8
    deviation = math.sqrt(((y - x @ beta) ** 2).sum() / degrees)
    weights = np.array([1, -1, -1, 1, 0, 0, 0, 0])
    middle, error = weights @ beta, deviation * math.sqrt(weights @ gram @ weights)
    interval = AdditiveModel(values).contrast({0: 1, 1: -1, 2: -1, 3: 1})
    half = stats.t.ppf(0.975, degrees) * error
    assert interval[:3] == pytest.approx((middle, middle - half, middle + half))
    unfair = np.mean(list(values[0].values())) - np.mean(list(values[1].values()))
    assert AdditiveModel(values).contrast({0: 1, 1: -1}).mean != pytest.approx(unfair)  # seeds are not balanced


@pytest.mark.parametrize("missing", [(), {(1, 2), (1, 3), (1, 4), (3, 0)}])
def test_intervals_cover_what_they_promise(missing):
    inside = 0
    for draw in range(1000):
        low, high = AdditiveModel(table(4, 5, missing, 1.0, draw)).contrast({1: 1, 0: -1})[1:3]
        inside += low <= 1 <= high
    assert 930 <= inside <= 970


def test_what_cannot_be_known_is_nan():
    one_seed = AdditiveModel({"a": {0: 1.0}, "b": {0: 3.0}})
    difference = one_seed.contrast({"b": 1, "a": -1})
    assert difference.mean == pytest.approx(2) and math.isnan(difference.low)
    assert math.isnan(one_seed.contrast({"b": 1, "c": -1}).mean) and math.isnan(one_seed.deviation_of("a"))
    apart = AdditiveModel({"a": {0: 1.0, 1: 1.5}, "b": {2: 3.0, 3: 3.1}})  # share no seed
    assert math.isnan(apart.contrast({"b": 1, "a": -1}).mean)
    nearly = AdditiveModel({"a": {seed: float(seed) for seed in range(19)}, "b": {19: 1.0}})
    assert math.isnan(nearly.mean("a").mean)  # of seed 19 it tells nothing
    assert math.isnan(AdditiveModel({"a": {0: 1.0, 1: 2.5, 2: 3.0}, "b": {0: 1.1, 1: 2.0}}).levene)  # one group of 3
    assert not math.isnan(AdditiveModel(table(2, 5)).levene)  # two are enough
    alike = AdditiveModel({"a": {0: 80.1, 1: 90.1}, "b": {0: 80.3, 1: 90.3}})
    assert alike.contrast({"b": 1, "a": -1}).mean == pytest.approx(0.2) and alike.contrast({"b": 1, "a": -1}).side == 0
    infinite = AdditiveModel({"a": {0: 1.0, 1: 2.0}, "b": {0: math.inf, 1: 3.0}, "c": {0: 1.5, 1: 2.0}})
    assert infinite.cells == ["a", "c"] and AdditiveModel({}).cells == []
    assert math.isnan(AdditiveModel({}).levene) and not AdditiveModel({}).unequal


def test_levene_notices_one_restless_cell():
    values = table(6, 8, rng=3)
    assert not AdditiveModel(values).unequal
    rng = np.random.default_rng(4)
    values[5] = {seed: value + rng.normal(0, 12) for seed, value in values[5].items()}
    assert AdditiveModel(values).unequal


def test_the_paired_interval_is_students():
    values = {"a": {0: 3.0, 1: 4.5, 2: 3.5, 7: 9.0}, "b": {0: 1.0, 1: 1.5, 2: 2.5, 3: 4.0}}
    interval, seeds = statistics.paired(values, {"a": 1, "b": -1})
    expected = stats.ttest_1samp([2.0, 3.0, 1.0], 0)
    assert seeds == [0, 1, 2] and interval.p == pytest.approx(expected.pvalue)
    assert interval[1:3] == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert statistics.paired(values, {"a": 1, "c": -1})[1] == []
    two, _ = statistics.paired({"a": {0: 3.0, 1: 4.5}, "b": {0: 1.0, 1: 1.5}}, {"a": 1, "b": -1})
    assert two[1:3] == pytest.approx(tuple(stats.ttest_1samp([2.0, 3.0], 0).confidence_interval(0.95)))
    alike, _ = statistics.paired({"a": {0: 0.3, 1: 9e6 + 0.3}, "b": {0: 0.1, 1: 9e6 + 0.1}}, {"a": 1, "b": -1})
    assert alike.mean == pytest.approx(0.2) and math.isnan(alike.low)


def test_welch_equals_scipys():
    first, second = (22.1, 0.36, 5), (20.0, 0.18, 7)
    interval = statistics.welch([(1, *first), (-1, *second)])
    expected = stats.ttest_ind_from_stats(*first, *second, equal_var=False)
    assert interval.p == pytest.approx(expected.pvalue) and interval.mean == pytest.approx(2.1)
    u, v = 0.36**2 / 5, 0.18**2 / 7
    degrees = (u + v) ** 2 / (u**2 / 4 + v**2 / 6)
    assert interval.high - interval.mean == pytest.approx(stats.t.ppf(0.975, degrees) * math.sqrt(u + v))
    table6 = statistics.welch([(1, 16.02, 0.358, 5), (-1, 16.79, 0.457, 5)])
    assert [round(value, 2) for value in table6[:3]] == [-0.77, -1.37, -0.17]
    assert math.isnan(statistics.welch([(1, 23.7, math.nan, 1), (-1, 20.0, 0.1, 5)]).low)
    assert math.isnan(statistics.welch([(1, 23.7, 0.1, 1), (-1, 20.0, 0.1, 5)]).low)


def test_the_side_of_an_interval_and_what_it_excludes():
    sides = {(0.1, 2): 1, (-2, -0.1): -1, (-1, 1): 0, (0, 2): 0, (-2, 0): 0, (math.nan, math.nan): 0}
    assert {bounds: Interval(0, *bounds).side for bounds in sides} == sides
    assert Interval(0, -1, 1).excludes(1.5) and not Interval(0, -1, 1).excludes(-0.5)
    assert not Interval(0.0).excludes(5)


def test_holm_by_hand():
    assert statistics.holm([0.04, 0.01, math.nan, 0.03]) == pytest.approx([0.06, 0.03, math.nan, 0.06], nan_ok=True)
    assert statistics.holm([0.6, 0.9]) == [1.0, 1.0] and statistics.holm([]) == []
