"""Puzzle Mix: the mask's energy and the transport against loops over pixels, blocks and all masks."""

import itertools
import math

import numpy as np
import pytest
import torch
from test_graphcut import all_labelings, energy, slow_energy

from regularizers import puzzlemix


def image_costs(blocks, count=6, lam=0.4, size=32, labels=3, **options):
    g = torch.Generator().manual_seed(blocks)
    pixels = torch.rand(count, 3, size, size, generator=g)
    saliency = torch.rand(count, size, size, generator=g) ** 4
    partner = torch.randperm(count, generator=g)
    options = {"eta": 0.2, "beta": 1.2, "gamma": 0.5, "neigh_size": 4} | options
    return puzzlemix.cut_costs(saliency, pixels, partner, blocks, lam, n_labels=labels, **options)


def slow_mask_energy(mask, s1, s2, pixels1, pixels2, lam, n_labels, eta, beta, gamma, neigh):
    """The energy of one image's mask with values 0 and 1, from its definition, pixel by pixel."""
    blocks, size = len(mask), pixels1.shape[-1]
    block = size // blocks
    last = n_labels - 1
    total = 0.0
    share = [
        [
            s[i * block : i * block + block, j * block : j * block + block].sum() / s.sum()
            for i, j in np.ndindex(mask.shape)
        ]
        for s in (s1, s2)
    ]
    share = [np.reshape(s, mask.shape) for s in share]

    def cell(image, y, x):
        return image[:, y * neigh : y * neigh + neigh, x * neigh : x * neigh + neigh].mean(axis=(1, 2))

    for i, j in np.ndindex(mask.shape):
        m = mask[i, j]
        chance = math.comb(last, round(m * last)) * lam ** round(m * last) * (1 - lam) ** (last - round(m * last))
        total += m * share[1][i, j] + (1 - m) * share[0][i, j] - eta / blocks**2 * math.log(chance + 1e-8)
        cells = block // neigh
        for di, dj in ((1, 0), (0, 1)):
            if i + di == blocks or j + dj == blocks:
                continue
            p, q = (pixels1 if m == 1 else pixels2), (pixels1 if mask[i + di, j + dj] == 1 else pixels2)
            differences = []
            for t in range(cells):
                if di:
                    y, x = (i + 1) * cells - 1, j * cells + t
                    differences.append(abs(cell(p, y, x) - cell(q, y + 1, x)).mean())
                else:
                    y, x = i * cells + t, (j + 1) * cells - 1
                    differences.append(abs(cell(p, y, x) - cell(q, y, x + 1)).mean())
            label = beta / (16 * blocks)
            total += label * (m != mask[i + di, j + dj]) + label * gamma * np.mean(differences)
    return total


def costs_of(mask, costs, labels):
    return energy(mask, costs[:, :labels], costs[:, -2], costs[:, -1])


@pytest.mark.parametrize(("labels", "neigh", "gamma"), [(2, 2, 0.5), (3, 4, 1.0), (4, 1, 0.0)])
def test_costs_equal_the_definition_for_masks_of_zeros_and_ones(labels, neigh, gamma):
    rng = np.random.default_rng(0)
    pixels = rng.random((2, 3, 16, 16))
    saliency = rng.random((2, 16, 16))
    hyper = {"n_labels": labels, "eta": 0.3, "beta": 2.0, "gamma": gamma, "neigh_size": neigh}
    tensors = torch.from_numpy(saliency), torch.from_numpy(pixels), torch.tensor([1, 0])
    costs = puzzlemix.cut_costs(*tensors, 4, 0.3, **hyper).numpy()
    offsets = []
    for _ in range(12):
        mask = rng.integers(0, 2, (4, 4))
        slow = slow_mask_energy(mask, *saliency, *pixels, 0.3, labels, 0.3, 2.0, gamma, neigh)
        offsets.append(costs_of(mask[None] * (labels - 1), _per_step(costs[:1], labels), labels)[0] - slow)
    np.testing.assert_allclose(offsets, offsets[0], atol=1e-12)


def _per_step(costs, labels):
    costs = costs.copy()
    costs[:, -2:] /= (labels - 1) ** 2
    return costs


def test_costs_between_zero_and_one_are_linear_but_for_the_prior():
    two, four = image_costs(4, labels=2, eta=0.0), image_costs(4, labels=4, eta=0.0)
    torch.testing.assert_close(four[:, 0], two[:, 0])
    torch.testing.assert_close(four[:, 1], (2 * two[:, 0] + two[:, 1]) / 3)
    torch.testing.assert_close(four[:, -2:], two[:, -2:])
    prior = image_costs(4, labels=3, eta=16.0, lam=0.3) - image_costs(4, labels=3, eta=0.0, lam=0.3)
    expected = -torch.log(torch.tensor([0.49, 0.42, 0.09]))
    torch.testing.assert_close(prior[0, :3, 1, 2], expected, atol=1e-5, rtol=0)


def test_pair_weights_are_never_negative():
    black_white = torch.zeros(2, 3, 32, 32)
    black_white[0, :, :8] = 1  # x1 has an edge where x2 has none across the border ...
    black_white[1, :, 8:16] = 1  # ... and the other way round
    for gamma in (0.5, 1.0):
        hyper = {"n_labels": 3, "eta": 0.2, "beta": 1.2, "gamma": gamma, "neigh_size": 4}
        costs = puzzlemix.cut_costs(torch.ones(2, 32, 32), black_white, torch.tensor([1, 0]), 4, 0.5, **hyper)
        beta = 1.2 / 64
        assert costs[0, -2, 0, 0] == pytest.approx(beta * (1 - gamma), abs=1e-7)
        assert (costs[:, -2, -1] == 0).all() and (costs[:, -1, :, -1] == 0).all()
        assert (costs[:, -2:] >= 0).all()
    hyper["beta"] = 1.2
    wild = puzzlemix.cut_costs(torch.ones(2, 32, 32), black_white * 9, torch.tensor([1, 0]), 4, 0.5, **hyper)
    assert (wild[:, -2:] >= 0).all()


@pytest.mark.parametrize("labels", [2, 3, 4])
@pytest.mark.parametrize("lam", [0.0, 1e-6, 0.2, 0.5, 0.9, 1.0])
def test_mask_is_the_minimum_over_all_masks(labels, lam):
    costs = image_costs(2, labels=labels, lam=lam)
    mask = puzzlemix.best_mask(costs).numpy()
    labelings = all_labelings(labels, 2)
    per_step = _per_step(costs.double().numpy(), labels)
    reached = costs_of(np.rint(mask * (labels - 1)).astype(int), per_step, labels)
    for i in range(len(mask)):
        energies = slow_energy(labelings, per_step[i, :labels], per_step[i, -2], per_step[i, -1])
        assert reached[i] <= energies.min() + 1e-5 * np.ptp(energies)


def test_salient_places_and_lambda_pull_the_mask():
    saliency = torch.full((2, 32, 32), 1e-3)
    saliency[0, :, :16] = 1  # image 0 is salient on the left, image 1 on the right
    saliency[1, :, 16:] = 1
    hyper = {"n_labels": 3, "eta": 0.2, "beta": 1.2, "gamma": 0.5, "neigh_size": 4}
    arguments = saliency, torch.zeros(2, 3, 32, 32), torch.tensor([1, 0]), 4
    mask = puzzlemix.best_mask(puzzlemix.cut_costs(*arguments, 0.5, **hyper))
    assert (mask[0, :, :2] == 1).all() and (mask[0, :, 2:] == 0).all()
    assert torch.equal(mask[1], 1 - mask[0])
    hyper["eta"] = 5.0
    assert (puzzlemix.best_mask(puzzlemix.cut_costs(*arguments, 0.999, **hyper)) == 1).all()
    assert (puzzlemix.best_mask(puzzlemix.cut_costs(*arguments, 0.001, **hyper)) == 0).all()


# ---------------------------------------------------------------------------------------------------- the transport
def slow_transport(salient, seen, eps):
    """w rounds on the dense table of costs: rows take their best place, a place its best row, losers pay 1 more."""
    width = len(salient)
    places = [(i, j) for i in range(width) for j in range(width)]
    s, z = salient.reshape(-1), seen.reshape(-1)
    table = np.empty((len(places), len(places)), dtype=np.float32)
    for a, (i, j) in enumerate(places):
        for b, (k, m) in enumerate(places):
            distance = np.float32(((i - k) ** 2 + (j - m) ** 2) / np.float32((width - 1) ** 2))
            table[a, b] = np.float32(eps) * distance - s[a] * z[b]
    plan = np.arange(len(places))
    for _ in range(width):
        choice = table.argmin(axis=1)
        for b in np.unique(choice):
            rows = np.flatnonzero(choice == b)
            winner = rows[table[rows, b].argmin()]
            if z[b]:
                plan[b] = winner if table[winner, b] < 0 else b
            for a in rows:
                if a != winner:
                    table[a, b] += 1
    return plan


@pytest.mark.parametrize(("width", "eps"), [(2, 0.8), (3, 0.1), (4, 0.8), (8, 0.8), (8, 0.05), (16, 0.8), (16, 0.1)])
def test_transport_equals_the_dense_iteration(width, eps):
    g = torch.Generator().manual_seed(width)
    salient = torch.rand(4, width, width, generator=g) ** 5
    salient = salient / salient.sum((1, 2), keepdim=True)
    seen = torch.rand(4, width, width, generator=g) < torch.tensor([0.1, 0.5, 0.9, 0.0]).view(-1, 1, 1)
    plan = puzzlemix.transport_plan(salient, seen, eps)
    expected = [slow_transport(s.numpy(), z.numpy(), eps) for s, z in zip(salient, seen)]
    np.testing.assert_array_equal(plan.numpy(), np.stack(expected))
    assert width < 4 or (plan != torch.arange(width**2)).any()
    assert (plan[3] == torch.arange(width**2)).all()  # nothing is seen, nothing moves
    assert all(len(set(p[z.flatten()].tolist())) == z.sum() for p, z in zip(plan, seen))  # no block is seen twice


def test_equal_gains_go_to_the_lower_block_and_zero_saliency_stays():
    salient = torch.zeros(1, 3, 3)
    salient[0, 0, 1] = salient[0, 1, 0] = 0.5  # both want the corner, at the same price
    seen = torch.zeros(1, 3, 3, dtype=torch.bool)
    seen[0, 0, 0] = True
    assert puzzlemix.transport_plan(salient, seen, 0.8)[0].tolist() == [1, 1, 2, 3, 4, 5, 6, 7, 8]
    assert puzzlemix.transport_plan(torch.zeros(1, 3, 3), seen, 0.8)[0].tolist() == list(range(9))


def test_moves_are_made_of_whole_blocks():
    x = torch.rand(3, 2, 12, 12)
    plan = torch.randint(0, 16, (3, 16))
    moved = puzzlemix.move_blocks(x, plan)
    for b, place in itertools.product(range(3), range(16)):
        i, j = divmod(place, 4)
        k, m = divmod(plan[b, place].item(), 4)
        source = x[b, :, k * 3 : k * 3 + 3, m * 3 : m * 3 + 3]
        assert torch.equal(moved[b, :, i * 3 : i * 3 + 3, j * 3 : j * 3 + 3], source)


def test_largest_divisors():
    pairs = {(6, 2): 2, (6, 4): 3, (5, 4): 1, (8, 4): 4, (4, 8): 4, (1, 4): 1}
    assert {pair: puzzlemix.largest_divisor(*pair) for pair in pairs} == pairs
