"""PatchUp: equations 2 to 8 against loops, the altered fraction, the draws, the loss."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from regularizers import build
from regularizers.base import CRITERIA, bce_on_softmax, cross_entropy, one_hot
from regularizers.patchup import HardPatchUp, SoftPatchUp, adjusted_gamma, block_mask

CLASSES = 5


def batch(size=6, channels=3, height=12, width=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(size, channels, height, width, generator=generator)
    y = torch.randint(CLASSES, (size,), generator=generator)
    return h, y


def mixed(regularizer, k, h, y):
    """Draw until stage k is chosen, and mix h there."""
    for step in range(1000):
        regularizer.seed(0, 0, 0, step)
        regularizer.draw(h, y, None)
        if regularizer.k == k:
            return regularizer.mix(k, h)
    raise AssertionError(f"stage {k} was never drawn")


def dilate_by_loops(seeds, block_size):
    """False wherever a seed's block reaches: rows i - (b // 2) ... i - (b // 2) + b - 1 around every seed."""
    mask = torch.ones_like(seeds)
    channels, height, width = seeds.shape
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                if seeds[c, i, j]:
                    for u in range(i - block_size // 2, i - block_size // 2 + block_size):
                        for v in range(j - block_size // 2, j - block_size // 2 + block_size):
                            if 0 <= u < height and 0 <= v < width:
                                mask[c, u, v] = False
    return mask


@pytest.mark.parametrize("block_size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("height, width", [(12, 12), (9, 14), (7, 7)])
def test_block_mask_equals_loops(block_size, height, width):
    seeds = torch.rand(4, height, width, generator=torch.Generator().manual_seed(1)) < 0.03
    seeds[0, 0, 0] = seeds[1, -1, -1] = True  # corners are truncated
    assert torch.equal(block_mask(seeds, block_size), dilate_by_loops(seeds, block_size))


def test_adjusted_gamma_is_equation_2():
    assert adjusted_gamma(0.5, 7, 32, 32) == pytest.approx(0.5 * 32**2 / (7**2 * 26**2))
    assert adjusted_gamma(0.5, 3, 8, 16) == pytest.approx(0.5 * 128 / (9 * 6 * 14))


@pytest.mark.parametrize("method, lam", [("patchup_hard", 0.0), ("patchup_soft", 0.3)])
def test_operations_equal_loops(method, lam, monkeypatch):
    h, y = batch()
    regularizer = build(method, CLASSES, prob=1.0, layers=(1,))
    regularizer.draw(h, y, None)
    partner = regularizer.partner = torch.tensor([3, 0, 2, 5, 1, 4])
    mask = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(2)) < 0.6
    monkeypatch.setattr(regularizer, "draw_mask", lambda k, h: mask)
    if method == "patchup_soft":
        regularizer.lam = torch.tensor(lam, dtype=torch.float64)
    mixed = regularizer.mix(1, h)
    for index in np.ndindex(*h.shape):
        x_i, x_j = h[index].item(), h[(partner[index[0]], *index[1:])].item()
        expected = x_i if mask[(0, *index[1:])] else lam * x_i + (1 - lam) * x_j
        assert mixed[index].item() == pytest.approx(expected, abs=1e-6 * (lam > 0))


@pytest.mark.parametrize("method", ["patchup_soft", "patchup_hard"])
@pytest.mark.parametrize("mask_per", ["batch", "sample"])
def test_mix_and_targets_follow_the_mask(method, mask_per):
    h, y = batch()
    regularizer = build(method, CLASSES, prob=1.0, layers=(2,), block_size=3, mask_per=mask_per)
    out = mixed(regularizer, 2, h, y)
    lam = regularizer.lam.item()
    swapped = lam * h + (1 - lam) * h[regularizer.partner]
    kept = (out == h).float()
    assert torch.allclose(out, torch.where(out == h, h, swapped), atol=1e-6)
    altered = (h != swapped).float()  # fixed points of the permutation look unchanged everywhere
    for i in range(len(h)):
        if altered[i].all():
            p_u = kept[i].mean()
            Y = lam * F.one_hot(y[i], CLASSES) + (1 - lam) * F.one_hot(y[regularizer.partner[i]], CLASSES)
            W = p_u * F.one_hot(y[i], CLASSES) + (1 - p_u) * Y
            assert torch.allclose(regularizer.target[i], W, atol=1e-6)
    assert torch.allclose(regularizer.target.sum(dim=1), torch.ones(len(h)))
    masks = {tuple(kept[i].flatten().tolist()) for i in range(len(h)) if altered[i].all()}
    assert len(masks) == (1 if mask_per == "batch" else int(altered.flatten(1).all(dim=1).sum()))
    assert not torch.equal(kept[:, 0], kept[:, 1]), "every channel has its own seeds"


def test_soft_at_the_input_swaps_one_box():
    h, y = batch(height=16, width=10)
    regularizer = SoftPatchUp(CLASSES, layers=(0,))
    regularizer.seed(8)  # a key whose box is neither empty nor the whole image
    regularizer.draw(h, y, None)
    out = regularizer.mix(0, h)
    changed = (out != h).any(dim=0)
    assert 0 < changed.float().mean() < 1
    rows, columns = changed.any(dim=0).any(dim=1).nonzero(), changed.any(dim=0).any(dim=0).nonzero()
    box = torch.zeros(16, 10, dtype=torch.bool)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    assert torch.equal(changed, box.expand_as(changed))
    assert torch.equal(out[:, :, box], h[regularizer.partner][:, :, box])
    kept = 1 - box.float().mean()
    wanted = kept * one_hot(y, CLASSES) + (1 - kept) * one_hot(y[regularizer.partner], CLASSES)
    assert torch.allclose(regularizer.target, wanted, atol=1e-6)


def test_patchup_mask_at_the_input_has_more_than_a_box():
    h, y = batch(height=32, width=32)
    regularizer = HardPatchUp(CLASSES, layers=(0,), prob=1.0, input_mask="patchup", block_size=(3, 5))
    out = mixed(regularizer, 0, h, y)
    changed = (out != h)[regularizer.partner != torch.arange(len(h))]
    assert torch.equal(out[out != h], h[regularizer.partner][out != h])
    assert not torch.equal(changed[:, 0], changed[:, 1])


@pytest.mark.parametrize(
    "size, block_size, gamma, altered",
    [(32, 7, 0.25, 0.289), (32, 7, 0.5, 0.491), (32, 7, 0.75, 0.636), (16, 5, 0.5, 0.532), (16, 5, 0.75, 0.680)]
    + [(16, 7, 0.5, 0.632), (56, 7, 0.6, 0.507)],
)
def test_altered_fraction(size, block_size, gamma, altered):
    """The exact fractions of the official module, blocks overlapping and truncated at the borders."""
    h, y = torch.randn(2, 400, size, size), torch.tensor([0, 1])
    regularizer = HardPatchUp(CLASSES, prob=1.0, gamma=gamma, layers=(1,), block_size=block_size)
    mixed(regularizer, 1, h, y)
    assert 1 - regularizer.p_u.item() == pytest.approx(altered, abs=0.02)


def test_block_size_by_layer():
    regularizer = HardPatchUp(CLASSES, layers=(0, 1, 2, 3, 4), block_size=(7, 5, 3))
    assert [regularizer.block_size_at(k) for k in range(5)] == [7, 7, 5, 3, 3]
    assert [HardPatchUp(CLASSES, block_size=6).block_size_at(k) for k in range(3)] == [6, 6, 6]


@pytest.mark.parametrize(
    "k, input_target, evaluations", [(1, "mixed", 1), (1, "own", 1), (0, "mixed", 1), (0, "own", 3)]
)
def test_both_terms_are_evaluated_once_where_they_are_the_same(k, input_target, evaluations):
    h, y = batch()
    regularizer = SoftPatchUp(CLASSES, layers=(k,), block_size=3, input_target=input_target)
    mixed(regularizer, k, h, y)
    logits, targets, criterion = torch.randn(len(y), CLASSES), [], regularizer.criterion
    regularizer.criterion = lambda logits, target: targets.append(target) or criterion(logits, target)
    loss = regularizer.loss(logits)
    assert len(targets) == evaluations
    if evaluations == 1:
        assert loss == 2 * criterion(logits, regularizer.target).mean()


def plain_loss(criterion, logits, target):
    """The criterion of one sample, class by class: logits and target [C], lists of floats."""
    top = max(logits)
    p = [math.exp(value - top) for value in logits]
    p = [value / sum(p) for value in p]
    if criterion == "ce":
        return -sum(t * math.log(q) for t, q in zip(target, p))
    return -sum(t * math.log(q) + (1 - t) * math.log(1 - q) for t, q in zip(target, p)) / len(p)


@pytest.mark.parametrize("method", ["patchup_soft", "patchup_hard"])
@pytest.mark.parametrize("criterion", list(CRITERIA))
@pytest.mark.parametrize("mask_per", ["batch", "sample"])
@pytest.mark.parametrize("k, input_target", [(0, "mixed"), (0, "own"), (1, "mixed"), (1, "own")])
@pytest.mark.parametrize("terms", ["both", "first", "second", "official_second"])
def test_every_choice_of_terms_against_a_loop_over_samples(method, criterion, mask_per, k, input_target, terms):
    """p_u counted in the mixed features, Y and W put together label by label, the official code's sum written out."""
    h, y = batch(size=5)
    options = {"prob": 1.0, "layers": (k,), "block_size": 3, "mask_per": mask_per, "input_mask": "patchup"}
    regularizer = build(method, CLASSES, criterion, **options, input_target=input_target, loss_terms=terms)
    for step in range(1000):
        regularizer.seed(0, step)
        regularizer.draw(h, y, None)
        if (regularizer.partner != torch.arange(5)).all():  # a fixed point would look unmixed
            break
    kept = (regularizer.mix(k, h) == h).double().mean(dim=(1, 2, 3)).tolist()
    lam = regularizer.lam.item()
    logits = torch.randn(5, CLASSES)
    total = 0
    for i, j in enumerate(regularizer.partner.tolist()):
        own, partner = one_hot(y[[i, j]], CLASSES).tolist()
        others = [lam * a + (1 - lam) * b for a, b in zip(own, partner)]
        W = [kept[i] * a + (1 - kept[i]) * b for a, b in zip(own, others)]
        if k == 0 and input_target == "own":
            W = own
        l_own, l_others, l_W = (plain_loss(criterion, logits[i].tolist(), target) for target in (own, others, W))
        loss_alpha, loss_beta = {"both": (1, 1), "first": (1, 0)}.get(terms, (0, 1))
        if terms == "official_second":  # loss_alpha belongs to the first product alone
            total += loss_alpha * l_own * kept[i] + l_others * (1 - kept[i]) + loss_beta * l_W
        else:
            total += loss_alpha * (l_own * kept[i] + l_others * (1 - kept[i])) + loss_beta * l_W
    assert regularizer.loss(logits).item() == pytest.approx(total / 5, rel=1e-4)


@pytest.mark.parametrize("terms", ["both", "first", "second", "official_second"])
def test_unmixed_batches_have_the_plain_loss(terms):
    h, y = batch()
    regularizer = HardPatchUp(CLASSES, prob=0.0, loss_terms=terms, input_target="own")
    regularizer.draw(h, y, None)
    logits = torch.randn(len(y), CLASSES)
    assert all(regularizer.mix(k, h) is h for k in range(5))
    assert torch.equal(regularizer.loss(logits), bce_on_softmax(logits, one_hot(y, CLASSES)).mean())


def test_draws_have_their_distributions():
    h, y = batch(size=4)
    hard, soft = HardPatchUp(CLASSES, prob=0.7, layers=(0, 1, 3)), SoftPatchUp(CLASSES, alpha=2.0, layers=(1, 2))
    ks, lams = [], []
    for step in range(3000):
        for regularizer in (hard, soft):
            regularizer.seed(3, 0, 0, step)
            regularizer.draw(h, y, None)
        ks.append(hard.k)
        lams.append(soft.lam)
    assert np.mean([k is not None for k in ks]) == pytest.approx(0.7, abs=0.03)
    for k in (0, 1, 3):
        assert ks.count(k) / 3000 == pytest.approx(0.7 / 3, abs=0.03)
    assert np.mean(lams) == pytest.approx(0.5, abs=0.02)
    assert np.var(lams) == pytest.approx(1 / 20, abs=0.005)  # of Beta(2, 2)


@pytest.mark.parametrize("method", ["patchup_soft", "patchup_hard"])
def test_gradient_flows_to_both_partners(method):
    h, y = batch(size=2)
    h = h.double().requires_grad_()
    regularizer = build(method, CLASSES, prob=1.0, layers=(1,), block_size=3)
    regularizer.seed(0)
    while True:
        regularizer.draw(h, y, None)
        if regularizer.partner.tolist() == [1, 0]:
            break
    weight = torch.randn(h.shape, dtype=torch.float64)
    out = regularizer.mix(1, h)
    (out * weight).sum().backward()
    kept = (out == h).double()
    own = kept + regularizer.lam * (1 - kept)
    assert torch.allclose(h.grad, own * weight + ((1 - own) * weight).flip(0))


def test_criteria_equal_torchs_own():
    logits, target = torch.randn(50, CLASSES) * 3, torch.rand(50, CLASSES).softmax(dim=1)
    assert torch.allclose(
        bce_on_softmax(logits, target).mean(), F.binary_cross_entropy(logits.softmax(dim=1), target), atol=1e-6
    )
    assert torch.allclose(cross_entropy(logits, target).mean(), F.cross_entropy(logits, target))


def test_bce_on_softmax_is_finite_where_the_softmax_saturates():
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, -200.0]], requires_grad=True)
    loss = bce_on_softmax(logits, torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(logits.grad).all()
    assert loss[0].item() == pytest.approx((100 + 24 * math.log(2)) / 3, rel=1e-4)
