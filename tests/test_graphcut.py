"""The graph cut against brute force and a linear programme."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

from regularizers import graphcut


def random_costs(rng, grids, labels, side, convex=True, pairs=40):
    unary = rng.integers(0, 100, (grids, labels, side, side))
    if convex:
        unary = np.arange(labels)[:, None, None] * rng.integers(-60, 60, (grids, 1, side, side))
        unary = unary - unary.min(axis=1, keepdims=True)
    return unary, rng.integers(0, pairs, (grids, side, side)), rng.integers(0, pairs, (grids, side, side))


def energy(labels, unary, down, right):
    """E(labels) of every grid, [B], for labels [B, h, w] and integer costs."""
    total = np.take_along_axis(unary, labels[:, None], axis=1).sum(axis=(1, 2, 3))
    total = total + (down[:, :-1] * (labels[:, 1:] - labels[:, :-1]) ** 2).sum(axis=(1, 2))
    return total + (right[:, :, :-1] * (labels[:, :, 1:] - labels[:, :, :-1]) ** 2).sum(axis=(1, 2))


def slow_energy(labels, unary, down, right):
    side = labels.shape[-1]
    total = 0
    for i, j in itertools.product(range(side), repeat=2):
        total = total + unary[labels[..., i, j], i, j]
        if i + 1 < side:
            total = total + down[i, j] * (labels[..., i, j] - labels[..., i + 1, j]) ** 2
        if j + 1 < side:
            total = total + right[i, j] * (labels[..., i, j] - labels[..., i, j + 1]) ** 2
    return total


def all_labelings(labels, side):
    return np.array(list(itertools.product(range(labels), repeat=side * side))).reshape(-1, side, side)


def test_energy_equals_loops():
    rng = np.random.default_rng(0)
    costs = random_costs(rng, 4, 3, 5)
    x = rng.integers(0, 3, (4, 5, 5))
    expected = [slow_energy(x[i], *(c[i] for c in costs)) for i in range(4)]
    np.testing.assert_array_equal(energy(x, *costs), expected)


@pytest.mark.parametrize("convex, pairs", [(True, 40), (False, 40), (False, 4)])
@pytest.mark.parametrize(("labels", "side"), [(2, 2), (3, 2), (4, 2), (5, 2), (2, 3), (3, 3)])
def test_cut_equals_brute_force(labels, side, convex, pairs):
    """With weak pairs most places have a costly label between two cheap ones, which bits alone would take."""
    rng = np.random.default_rng(labels * 10 + side)
    costs = random_costs(rng, 25, labels, side, convex, pairs)
    low, high = graphcut.bounds(*costs)
    reached = energy(graphcut.minimum(*costs), *costs)
    labelings = all_labelings(labels, side)
    for i in range(25):
        energies = slow_energy(labelings, *(c[i] for c in costs))
        assert reached[i] == energies.min()
        minima = labelings[energies == energies.min()]
        assert (low[i] <= minima).all() and (minima <= high[i]).all()


def test_bounds_from_above_are_those_from_below_of_labels_counted_backwards():
    unary, down, right = random_costs(np.random.default_rng(3), 8, 4, 6, convex=False)
    low, high = graphcut.bounds(unary, down, right)
    backwards = graphcut.bounds(unary[:, ::-1], down, right)
    np.testing.assert_array_equal(backwards, (3 - high, 3 - low))
    assert (low > 0).any() and (high < 3).any()


@pytest.mark.parametrize("rounds", [0, 1, 50])
def test_cut_does_not_depend_on_the_bounds(monkeypatch, rounds):
    costs = random_costs(np.random.default_rng(1), 6, 3, 8)
    expected = energy(graphcut.minimum(*costs), *costs)
    monkeypatch.setattr(graphcut, "ROUNDS", rounds)
    np.testing.assert_array_equal(energy(graphcut.minimum(*costs), *costs), expected)


def linear_programme(unary, down, right):
    """The local-polytope bound, which is tight for convex pair terms; it knows nothing of bits or cuts."""
    n, side = unary.shape[0], unary.shape[1]
    place = np.arange(side * side).reshape(side, side)
    pairs = [(place[i, j], place[i + 1, j], down[i, j]) for i in range(side - 1) for j in range(side)]
    pairs += [(place[i, j], place[i, j + 1], right[i, j]) for i in range(side) for j in range(side - 1)]
    cost = [unary.reshape(n, -1).T.ravel()]
    rows, cols, values, b = [], [], [], []

    def equation(terms, value):
        for col, factor in terms:
            rows.append(len(b))
            cols.append(col)
            values.append(factor)
        b.append(value)

    for p in range(side * side):
        equation([(p * n + a, 1) for a in range(n)], 1)
    start = side * side * n
    for p, q, c in pairs:
        cost.append([c * (a - d) ** 2 for a in range(n) for d in range(n)])
        for a in range(n):
            equation([(start + a * n + d, 1) for d in range(n)] + [(p * n + a, -1)], 0)
            equation([(start + d * n + a, 1) for d in range(n)] + [(q * n + a, -1)], 0)
        start += n * n
    matrix = coo_matrix((values, (rows, cols)), shape=(len(b), start)).tocsr()
    return linprog(np.concatenate(cost), A_eq=matrix, b_eq=b, bounds=(0, 1), method="highs").fun


def image_like_costs(grids, side, labels=3):
    """Heavy-tailed costs that sum to 1, smoothness of their own size, as Puzzle Mix has them; as integers."""
    rng = np.random.default_rng(side)
    lost1, lost2 = rng.gamma(0.5, size=(2, grids, 1, side, side))
    m = np.linspace(0, 1, labels)[:, None, None]
    unary = m * lost2 / lost2.sum((2, 3), keepdims=True) + (1 - m) * lost1 / lost1.sum((2, 3), keepdims=True)
    down, right = 1.2 / side / 16 * rng.uniform(0.9, 1.2, (2, grids, side, side))
    return graphcut.integer_costs(unary, down, right)


def test_cut_at_16_blocks_is_the_optimum_of_the_linear_programme():
    costs = image_like_costs(2, 16)
    low, high = graphcut.bounds(*costs)
    assert (low < high).any(), "the bounds alone do not solve it"
    reached = energy(graphcut.minimum(*costs), *costs)
    for i in range(2):
        bound = linear_programme(*(c[i] for c in costs))
        assert reached[i] == pytest.approx(bound, rel=1e-9)


def test_grids_of_one_batch_do_not_touch_each_other():
    costs = image_like_costs(6, 8)
    together = graphcut.minimum(*costs)
    for i in range(6):
        np.testing.assert_array_equal(together[i : i + 1], graphcut.minimum(*(c[i : i + 1] for c in costs)))


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_integers_keep_proportions_at_every_scale(scale):
    rng = np.random.default_rng(2)
    unary, down, right = rng.random((3, 3, 4, 4)), rng.random((3, 4, 4)), rng.random((3, 4, 4))
    whole, whole_down, whole_right = graphcut.integer_costs(unary * scale, down * scale, right * scale)
    assert whole.max() == graphcut.LARGEST and whole.min() == 0
    unit = (unary - unary.min(axis=1, keepdims=True)).max(axis=(1, 2, 3), keepdims=True) / graphcut.LARGEST
    np.testing.assert_allclose(whole * unit, unary - unary.min(axis=1, keepdims=True), atol=unit.max())
    np.testing.assert_allclose(whole_down * unit[:, 0], down / 4, atol=unit.max())
    np.testing.assert_allclose(whole_right * unit[:, 0], right / 4, atol=unit.max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("error")
def test_smoothness_alone_and_nothing_at_all_can_be_solved(dtype):
    zero = np.zeros((2, 3, 4, 4), dtype)
    for pair in (np.zeros((2, 4, 4), dtype), np.ones((2, 4, 4), dtype)):
        costs = graphcut.integer_costs(zero, pair, pair)
        assert (costs[0] == 0).all() and (costs[1] >= 0).all()
        x = graphcut.minimum(*costs)
        assert (energy(x, *costs) == 0).all()
