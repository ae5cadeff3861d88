"""Puzzle Mix against loops, brute force, a linear programme and finite differences."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linprog
from scipy.sparse import coo_matrix
from torch import nn

from models.staged import StagedNet
from regularizers import graphcut, puzzlemix
from regularizers.puzzlemix import PuzzleMix

torch.set_num_threads(1)


def ready_net(size=16, classes=5):
    """A small network with BatchNorm, in training mode, always with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh())
        body = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.Tanh())
        head = nn.Sequential(nn.Flatten(), nn.Linear(8 * (size // 2) ** 2, classes))
        return StagedNet([stem, body, head])


def batch(size=16, count=6, classes=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, size, size, generator=g) * 4 - 2
    return x, torch.randint(0, classes, (count,), generator=g)


def random_costs(rng, grids, labels, side, convex=True):
    unary = rng.integers(0, 100, (grids, labels, side, side))
    if convex:
        unary = np.arange(labels)[:, None, None] * rng.integers(-60, 60, (grids, 1, side, side))
        unary = unary - unary.min(axis=1, keepdims=True)
    return unary, rng.integers(0, 40, (grids, side, side)), rng.integers(0, 40, (grids, side, side))


# ---------------------------------------------------------------------------------------------------- the graph cut
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
    np.testing.assert_array_equal(graphcut.energy(x, *costs), expected)


@pytest.mark.parametrize("convex", [True, False])
@pytest.mark.parametrize(("labels", "side"), [(2, 2), (3, 2), (4, 2), (5, 2), (2, 3), (3, 3)])
def test_cut_equals_brute_force(labels, side, convex):
    rng = np.random.default_rng(labels * 10 + side)
    costs = random_costs(rng, 25, labels, side, convex)
    low, high = graphcut.bounds(*costs)
    found = graphcut.energy(graphcut.minimum(*costs), *costs)
    labelings = all_labelings(labels, side)
    for i in range(25):
        energies = slow_energy(labelings, *(c[i] for c in costs))
        assert found[i] == energies.min()
        minima = labelings[energies == energies.min()]
        assert (low[i] <= minima).all() and (minima <= high[i]).all()


@pytest.mark.parametrize("rounds", [0, 1, 50])
def test_cut_does_not_depend_on_the_bounds(monkeypatch, rounds):
    costs = random_costs(np.random.default_rng(1), 6, 3, 8)
    expected = graphcut.energy(graphcut.minimum(*costs), *costs)
    monkeypatch.setattr(graphcut, "ROUNDS", rounds)
    np.testing.assert_array_equal(graphcut.energy(graphcut.minimum(*costs), *costs), expected)


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


def icm(unary, down, right):
    x = unary.argmin(axis=0)
    for _ in range(20):
        for i, j in itertools.product(range(x.shape[0]), repeat=2):
            trials = np.repeat(x[None], unary.shape[0], axis=0)
            trials[:, i, j] = np.arange(unary.shape[0])
            x = trials[slow_energy(trials, unary, down, right).argmin()]
    return slow_energy(x, unary, down, right)


def image_costs(blocks, count=6, lam=0.4, size=32, labels=3, **options):
    x, _ = batch(size, count)
    g = torch.Generator().manual_seed(blocks)
    saliency = torch.rand(count, size, size, generator=g) ** 4
    partner = torch.randperm(count, generator=g)
    options = {"eta": 0.2, "beta": 1.2, "gamma": 0.5, "neigh_size": 4} | options
    return puzzlemix.cut_costs(saliency, x / 4 + 0.5, partner, blocks, lam, n_labels=labels, **options)


def split(costs):
    costs = costs.numpy()
    return graphcut.integer_costs(costs[:, :-2], costs[:, -2], costs[:, -1])


def test_cut_at_16_blocks_is_the_optimum_of_the_linear_programme():
    costs = [c[:2] for c in split(image_costs(16, count=2))]
    found = graphcut.energy(graphcut.minimum(*costs), *costs)
    for i in range(2):
        bound = linear_programme(*(c[i] for c in costs))
        assert found[i] == pytest.approx(bound, rel=1e-9)


def test_cut_beats_coordinate_descent_and_needs_more_than_the_bounds():
    costs = split(image_costs(8))
    low, high = graphcut.bounds(*costs)
    assert (low < high).any()
    found = graphcut.energy(graphcut.minimum(*costs), *costs)
    descents = np.array([icm(*(c[i] for c in costs)) for i in range(6)])
    assert (found <= descents).all() and (found < descents).any()


def test_grids_of_one_batch_do_not_touch_each_other():
    costs = split(image_costs(8))
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


def test_smoothness_alone_and_nothing_at_all_can_be_solved():
    zero = np.zeros((2, 3, 4, 4))
    for pair in (np.zeros((2, 4, 4)), np.ones((2, 4, 4))):
        costs = graphcut.integer_costs(zero, pair, pair)
        x = graphcut.minimum(*costs)
        assert (graphcut.energy(x, *costs) == 0).all()


# ------------------------------------------------------------------------------------------------------- the energy
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
    return graphcut.energy(mask, costs[:, :labels], costs[:, -2], costs[:, -1])


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
    found = costs_of(np.rint(mask * (labels - 1)).astype(int), per_step, labels)
    for i in range(len(mask)):
        energies = slow_energy(labelings, per_step[i, :labels], per_step[i, -2], per_step[i, -1])
        assert found[i] <= energies.min() + 1e-5 * np.ptp(energies)


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


# ------------------------------------------------------------------------------------------------------ the saliency
def test_saliency_equals_finite_differences():
    net = ready_net().double().eval()
    x, y = batch(count=3)
    x = x.double()
    saliency = PuzzleMix(5).saliency(x, y, net)
    for i, row, col in [(0, 0, 0), (1, 7, 3), (2, 15, 15)]:
        gradient = []
        for c in range(3):
            step = torch.zeros_like(x)
            step[i, c, row, col] = 1e-5
            high, low = (F.cross_entropy(net(x + s), y, reduction="sum").item() for s in (step, -step))
            gradient.append((high - low) / 2e-5)
        assert saliency[i, row, col].item() == pytest.approx(np.linalg.norm(gradient), rel=1e-4)


def test_saliency_is_taken_in_evaluation_mode_or_with_clean_lam_in_training_mode():
    x, y = batch()
    for clean_lam, mode in ((0.0, False), (1.0, True)):
        net, twin = ready_net(), ready_net().train(mode)
        leaf = x.clone().requires_grad_()
        F.cross_entropy(twin(leaf), y).backward()
        expected = leaf.grad.norm(dim=1)
        got = PuzzleMix(5, clean_lam=clean_lam).saliency(x, y, net)
        torch.testing.assert_close(got / got.sum(), expected / expected.sum())


@pytest.mark.parametrize("clean_lam", [0.0, 1.0])
def test_statistics_move_once_and_nothing_else_is_left_behind(clean_lam):
    net, twin = ready_net(), ready_net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x, y = batch()
    kept = x.clone()
    method = PuzzleMix(5, clean_lam=clean_lam)
    method.seed(3)
    with torch.no_grad():  # whatever the caller's mode
        method.draw(x, y, net)
    assert torch.equal(x, kept) and not x.requires_grad
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(m.training for m in net.modules())
    net(x, method.mix)
    twin(method.mix(0, x))
    for (name, got), expected in zip(net.named_buffers(), twin.buffers()):
        assert torch.equal(got, expected), name
    assert net.stages[0][1].num_batches_tracked == before["stages.0.1.num_batches_tracked"] + 1


def test_gradients_of_earlier_steps_survive():
    net = ready_net()
    x, y = batch()
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    for clean_lam in (0.0, 1.0):
        PuzzleMix(5, clean_lam=clean_lam).draw(x, y, net)
        assert all((p.grad == 1).all() for p in net.parameters())


class Watcher(nn.Module):
    def __init__(self, fail=False):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.fail = fail
        self.seen = []

    def forward(self, x):
        self.seen.append((self.weight.requires_grad, self.training))
        if self.fail:
            raise RuntimeError("on purpose")
        return x * self.weight


@pytest.mark.parametrize("clean_lam", [0.0, 1.0])
def test_parameters_need_gradients_only_with_clean_lam(clean_lam):
    net = ready_net()
    net.stages.insert(0, Watcher())
    PuzzleMix(5, clean_lam=clean_lam).draw(*batch(), net)
    assert net.stages[0].seen == [(clean_lam > 0, clean_lam > 0)]
    assert net.stages[0].weight.requires_grad


@pytest.mark.parametrize("clean_lam", [0.0, 1.0])
def test_modes_are_restored_one_by_one_also_after_an_exception(clean_lam):
    net = ready_net()
    net.stages[1][1].eval()  # a module that the user froze
    net.stages.append(Watcher(fail=True))
    modes = [m.training for m in net.modules()]
    names = [name for name, _ in net.named_parameters()]
    with pytest.raises(RuntimeError, match="on purpose"):
        PuzzleMix(5, clean_lam=clean_lam).draw(*batch(), net)
    assert [m.training for m in net.modules()] == modes
    assert [name for name, p in net.named_parameters() if p.requires_grad] == names


@pytest.mark.parametrize(("criterion", "factor"), [("bce", 2 / 5), ("ce", 1.0)])
def test_clean_loss_and_its_gradients_are_added(criterion, factor):
    net, twin = ready_net(), ready_net()
    x, y = batch()
    method = PuzzleMix(5, criterion, clean_lam=0.7)
    method.seed(1)
    method.draw(x, y, net)
    loss = method.loss(net(x, method.mix))
    loss.backward()
    mixed = method.criterion(twin(method.mix(0, x)), method.target).mean()
    expected = 0.7 * factor * F.cross_entropy(twin(x), y) + mixed
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for p, q in zip(net.parameters(), twin.parameters()):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-6, rtol=1e-4)


def test_frozen_parameters_stay_without_gradient():
    net = ready_net()
    net.stages[0].requires_grad_(False)
    method = PuzzleMix(5, clean_lam=1.0)
    x, y = batch()
    method.draw(x, y, net)
    method.loss(net(x, method.mix)).backward()
    assert all(p.grad is None for p in net.stages[0].parameters())
    assert all(p.grad is not None for p in net.stages[1:].parameters())


def test_images_without_any_gradient_are_mixed_without_nan():
    net = ready_net()
    nn.init.zeros_(net.stages[2][1].weight)
    method = PuzzleMix(5)
    x, y = batch()
    for step in range(8):
        method.seed(step)
        method.draw(x, y, net)
        assert method.mix(0, x).isfinite().all() and method.target.isfinite().all()


# -------------------------------------------------------------------------------------------------------- the method
@pytest.mark.parametrize(("size", "count"), [(16, 6), (32, 5), (64, 3), (48, 2), (6, 3), (32, 1)])
@pytest.mark.parametrize("options", [{}, {"transport": False}, {"t_size": -1}, {"n_labels": 2}, {"clean_lam": 1.0}])
def test_target_is_the_mean_of_the_mask(size, count, options):
    net, (x, y) = ready_net(size), batch(size, count)
    method = PuzzleMix(5, **options)
    for step in range(3):
        method.seed(0, 0, 0, step)
        method.draw(x, y, net)
        mixed = method.mix(0, x)
        assert mixed.shape == x.shape and method.mask.shape == (count, 1, size, size)
        assert method.target.dtype == torch.float32
        torch.testing.assert_close(method.target.sum(1), torch.ones(count))
        for i in range(count):
            ratio = method.mask[i].mean().item()
            expected = torch.zeros(5)
            expected[y[i]] += ratio
            expected[y[method.partner[i]]] += 1 - ratio
            torch.testing.assert_close(method.target[i], expected)


def test_pixels_are_those_of_image_and_partner():
    net, (x, y) = ready_net(32), batch(32, 6)
    still, moving = PuzzleMix(5, transport=False), PuzzleMix(5, t_eps=0.05)
    for step in range(8):
        for method in (still, moving):
            method.seed(step)
            method.draw(x, y, net)
        assert torch.equal(still.mask, moving.mask)
        expected = still.mask * x + (1 - still.mask) * x[still.partner]
        torch.testing.assert_close(still.mix(0, x), expected)
        images, partners = moving.moves.chunk(2)
        expected = moving.mask * puzzlemix.move_blocks(x, images)
        expected += (1 - moving.mask) * puzzlemix.move_blocks(x[moving.partner], partners)
        torch.testing.assert_close(moving.mix(0, x), expected)
    h = torch.rand(6, 8, 4, 4)
    assert moving.mix(1, h) is h


@pytest.mark.parametrize(
    ("size", "blocks", "t_size", "width"),
    [(32, 2, 4, 8), (32, 8, 4, 8), (32, 16, 4, 16), (32, 2, -1, 2), (64, 4, 4, 16), (64, 16, 8, 16), (48, 8, 4, 16)],
)
def test_moving_blocks_have_t_size_pixels_but_never_more_than_the_masks(size, blocks, t_size, width):
    method = PuzzleMix(5, t_size=t_size)
    method.partner = torch.tensor([1, 0])
    moves = method.plan(torch.rand(2, size, size), torch.ones(2, blocks, blocks))
    assert moves.shape == (4, width**2)


def test_block_counts_are_uniform_over_those_that_divide(monkeypatch):
    found = []
    best_mask = puzzlemix.best_mask
    monkeypatch.setattr(puzzlemix, "best_mask", lambda costs: found.append(costs.shape[-1]) or best_mask(costs))
    net, (x, y) = ready_net(), batch(count=2)
    method = PuzzleMix(5)
    for step in range(200):
        method.seed(step)
        method.draw(x, y, net)
    counts = np.array([found.count(b) for b in (2, 4, 8, 16)])
    assert counts.sum() == 200 and (abs(counts - 50) < 4 * np.sqrt(200 * 3 / 16)).all()
    assert puzzlemix.block_counts(12, 12) == [2, 4] and puzzlemix.block_counts(6, 6) == [2]


def test_lambda_follows_the_beta_distribution_through_the_masks():
    net, (x, y) = ready_net(), batch(count=4)
    method = PuzzleMix(5, eta=100.0, alpha=8.0)  # the prior alone: m = 1/2 unless lambda < 1/3 or > 2/3
    means = []
    for step in range(300):
        method.seed(step)
        method.draw(x, y, net)
        means.append(method.mask.mean().item())
    inside = np.mean(np.isclose(means, 0.5))
    samples = np.random.default_rng(0).beta(8, 8, 100_000)
    expected = np.mean((samples > 1 / 3) & (samples < 2 / 3))
    assert abs(inside - expected) < 4 * np.sqrt(expected * (1 - expected) / 300) + 0.01


def test_the_key_alone_decides():
    net, (x, y) = ready_net(32), batch(32)
    method = PuzzleMix(5)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    method.seed(1, 2, 3, 4)
    method.draw(x, y, net)
    first = method.mix(0, x)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state[1]).all()  # noqa: NPY002
    torch.rand(1)
    again = PuzzleMix(5)
    again.seed(1, 2, 3, 4)
    again.draw(x, y, net)
    assert torch.equal(first, again.mix(0, x)) and torch.equal(method.target, again.target)
    other = []
    for step in range(5, 9):
        again.seed(1, 2, 3, step)
        again.draw(x, y, net)
        other.append(torch.equal(first, again.mix(0, x)))
    assert not all(other)


def test_memory_format_and_std_of_one_number():
    net, (x, y) = ready_net(32), batch(32)
    results = []
    for std, pixels in (((0.5, 0.5, 0.5), x), (0.5, x.contiguous(memory_format=torch.channels_last))):
        method = PuzzleMix(5, std=std)
        method.seed(2)
        method.draw(pixels, y, net)
        results.append(method.mix(0, pixels))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "alpha must be above 0"),
        ({"n_labels": 1}, "n_labels must be an integer from 2 to 16"),
        ({"n_labels": 2.5}, "n_labels must be an integer from 2 to 16"),
        ({"eta": -0.1}, "eta must be at least 0"),
        ({"beta": -1}, "beta must be at least 0"),
        ({"beta": float("nan")}, "beta must be at least 0"),
        ({"gamma": 1.1}, r"gamma must lie in \[0, 1\]"),
        ({"neigh_size": 0}, "neigh_size must be an integer from 1"),
        ({"t_size": 0}, "t_size must be an integer from 1, or -1"),
        ({"t_size": 2.5}, "t_size must be an integer from 1, or -1"),
        ({"t_eps": -1}, "t_eps must be at least 0"),
        ({"clean_lam": -1}, "clean_lam must be at least 0"),
        ({"std": (0.2, 0.0, 0.2)}, "std must be above 0"),
        ({"criterion": "mse"}, "criterion must be one of"),
    ],
)
def test_impossible_values_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as error:
        PuzzleMix(5, **options)
    assert "\n" not in str(error.value)


def test_images_that_do_not_fit_are_refused():
    method = PuzzleMix(5)
    method.check([(3, 32, 32), (64, 16, 16)])
    with pytest.raises(ValueError, match="square images, not 32 x 16"):
        method.check([(3, 32, 16)])
    with pytest.raises(ValueError, match="divisible by 2, not 33 x 33"):
        method.check([(3, 33, 33)])
    with pytest.raises(ValueError, match="square images"):
        method.draw(torch.rand(2, 3, 8, 16), torch.zeros(2, dtype=torch.int64), ready_net())
