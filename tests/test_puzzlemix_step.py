"""Puzzle Mix in a training step: saliency, running statistics, clean loss, targets, randomness, refusals."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.staged import StagedNet
from regularizers import puzzlemix
from regularizers.puzzlemix import PuzzleMix


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


@pytest.mark.parametrize(
    "clean_lam, amp, used",
    [
        (0.0, torch.float16, torch.float16),
        (1.0, torch.float16, torch.float32),  # in which the parameters' gradients would overflow
        (1.0, torch.bfloat16, torch.bfloat16),
    ],
)
def test_the_precision_of_the_clean_pass(clean_lam, amp, used):
    net, seen = ready_net(), []
    net.stages[0][0].register_forward_hook(lambda module, inputs, out: seen.append(out.dtype))
    with torch.autocast("cpu", amp):
        PuzzleMix(5, clean_lam=clean_lam).draw(*batch(), net)
    assert seen == [used]


@pytest.mark.parametrize("clean_lam", [0.0, 1.0])
def test_statistics_move_once_and_nothing_else_is_left_behind(clean_lam):
    net, twin = ready_net(), ready_net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for p in net.parameters():
        p.grad = torch.ones_like(p)  # of an earlier step
    x, y = batch()
    kept = x.clone()
    method = PuzzleMix(5, clean_lam=clean_lam)
    method.seed(3)
    with torch.no_grad():  # whatever the caller's mode
        method.draw(x, y, net)
    assert torch.equal(x, kept) and not x.requires_grad
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all((p.grad == 1).all() and p.requires_grad for p in net.parameters())
    assert all(m.training for m in net.modules())
    net(x, method.mix)
    twin(method.mix(0, x))
    for (name, got), expected in zip(net.named_buffers(), twin.buffers()):
        assert torch.equal(got, expected), name
    assert net.stages[0][1].num_batches_tracked == before["stages.0.1.num_batches_tracked"] + 1


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
    assert (puzzlemix.block_saliency(torch.zeros(2, 8, 8), 4) == 1 / 16).all()
    net = ready_net()
    nn.init.zeros_(net.stages[2][1].weight)
    method = PuzzleMix(5)
    x, y = batch()
    for step in range(8):
        method.seed(step)
        method.draw(x, y, net)
        assert method.mix(0, x).isfinite().all() and method.target.isfinite().all()


def test_the_clean_loss_is_scaled_without_rounding(monkeypatch):
    x, y = batch()
    results = []
    for scale in (puzzlemix.SALIENCY_SCALE, 1):
        monkeypatch.setattr(puzzlemix, "SALIENCY_SCALE", scale)
        method = PuzzleMix(5, clean_lam=0.7)
        saliency = method.saliency(x, y, ready_net())
        results.append((saliency, method.clean[0], *method.clean[1]))
    assert all(torch.equal(scaled, plain) for scaled, plain in zip(*results))


@pytest.mark.parametrize("clean_lam", [0.0, 1.0])
def test_half_precision_keeps_the_saliency_of_a_confident_network(clean_lam):
    x, y = batch()
    net = ready_net().eval()
    with torch.no_grad():  # right, but for a probability of about 1e-5
        head = net.stages[2][1]
        head.bias.copy_(torch.tensor([11.0, 0, 0, 0, 0]))
        y = torch.zeros_like(y)
        head.weight.mul_(0.1)
    expected = PuzzleMix(5, clean_lam=clean_lam).saliency(x, y, net)
    with torch.autocast("cpu", torch.float16):
        saliency = PuzzleMix(5, clean_lam=clean_lam).saliency(x, y, net)
    assert saliency.dtype == torch.float32 and 0 < expected.max() < 1e-4
    distance = (saliency - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    assert (distance < 0.03).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("options", [{}, {"transport": False}, {"clean_lam": 1.0}])
def test_a_saliency_that_is_not_finite_makes_the_loss_nan_and_is_no_mask(monkeypatch, value, options):
    net, (x, y) = ready_net(), batch()
    method = PuzzleMix(5, **options)
    finite = PuzzleMix.saliency

    def broken(self, x, y, net):
        saliency = finite(self, x, y, net)
        saliency[2, 3, 3] = value
        return saliency

    monkeypatch.setattr(PuzzleMix, "saliency", broken)
    for step in range(4):
        method.seed(step)
        method.draw(x, y, net)
        assert method.target.isfinite().all(1).tolist() == [True, True, False, True, True, True]
        assert ((method.mask >= 0) & (method.mask <= 1)).all() and method.mix(0, x).isfinite().all()
        assert method.loss(net(x, method.mix)).isnan()


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


def test_images_move_where_they_are_seen_and_partners_where_the_rest_is():
    g = torch.Generator().manual_seed(0)
    saliency = torch.rand(4, 32, 32, generator=g) ** 6
    mask = torch.randint(0, 3, (4, 8, 8), generator=g) / 2
    method = PuzzleMix(5, t_eps=0.2)
    method.partner = torch.tensor([1, 2, 3, 0])
    images, partners = method.plan(saliency, mask).chunk(2)
    salient = puzzlemix.block_saliency(saliency, 8)
    assert torch.equal(images, puzzlemix.transport_plan(salient, mask > 0, 0.2))
    assert torch.equal(partners, puzzlemix.transport_plan(salient[method.partner], 1 - mask > 0, 0.2))
    still = torch.arange(64)
    assert (images != still).any() and (partners != still).any()


def test_pixels_are_compared_in_units_of_black_to_white(monkeypatch):
    seen = []
    cut_costs = puzzlemix.cut_costs
    monkeypatch.setattr(puzzlemix, "cut_costs", lambda *a, **k: seen.append(a[1]) or cut_costs(*a, **k))
    x, y = batch()
    PuzzleMix(5, std=(0.1, 0.2, 0.5)).draw(x, y, ready_net())
    torch.testing.assert_close(seen[0], x * torch.tensor([0.1, 0.2, 0.5]).view(3, 1, 1))


def test_block_counts_are_uniform_over_those_that_divide(monkeypatch):
    drawn = []
    best_mask = puzzlemix.best_mask
    monkeypatch.setattr(puzzlemix, "best_mask", lambda costs, _: drawn.append(costs.shape[-1]) or best_mask(costs))
    net, (x, y) = ready_net(), batch(count=2)
    method = PuzzleMix(5)
    for step in range(200):
        method.seed(step)
        method.draw(x, y, net)
    counts = np.array([drawn.count(b) for b in (2, 4, 8, 16)])
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


def test_memory_format_and_std_of_one_number():
    net, (x, y) = ready_net(32), batch(32)
    results = []
    for std, pixels in (((0.5, 0.5, 0.5), x), (0.5, x.contiguous(memory_format=torch.channels_last))):
        method = PuzzleMix(5, std=std)
        method.seed(2)
        method.draw(pixels, y, net)
        results.append(method.mix(0, pixels))
    torch.testing.assert_close(*results)
