"""Mixup and Manifold Mixup against sums written pixel by pixel."""

import numpy as np
import pytest
import torch
from common import batch, run

from regularizers.mixup import ManifoldMixup, Mixup

SHAPES = [(3, 32, 32), (8, 32, 32), (8, 32, 32), (16, 16, 16)]


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.8, 1.0])
def test_mixing_against_a_loop(lam):
    x, y = batch(5)
    run(method := Mixup(4), x, y)
    partner = method.partner = torch.tensor([3, 1, 0, 4, 2])
    method.lam = torch.tensor(lam)
    mixed = method.mix(0, x)
    for i in range(5):
        for place in np.ndindex(*x.shape[1:]):
            expected = lam * x[i][place].item() + (1 - lam) * x[partner[i]][place].item()
            assert mixed[i][place].item() == pytest.approx(expected, abs=1e-6)


def test_gradient_reaches_both_partners():
    h = torch.randn(5, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    run(method := Mixup(4), h, torch.arange(5) % 4)
    assert torch.autograd.gradcheck(lambda h: method.mix(0, h), h)


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("method", [Mixup(4), ManifoldMixup(4)])
def test_target_is_mixed_as_the_images_are(method, size):
    x, y = batch(size)
    for step in range(10):
        run(method, x, y, (0, 0, 0, step))
        assert method.target.dtype == torch.float32
        torch.testing.assert_close(method.target.sum(1), torch.ones(size))
        # an "image" that holds its own one-hot label must be mixed into the target
        labels = torch.nn.functional.one_hot(y, 4).float()[:, :, None, None]
        assert torch.equal(method.mix(method.k, labels)[:, :, 0, 0], method.target)


def test_one_permutation_for_all_images():
    x, y = batch(7)
    run(method := Mixup(4), x, y)
    assert sorted(method.partner.tolist()) == list(range(7))


def test_mixup_acts_on_the_images_alone_and_not_in_place():
    x, y = batch()
    run(method := Mixup(4, alpha=2.0), x, y)
    before = x.clone()
    assert not torch.equal(method.mix(0, x), x)
    assert torch.equal(x, before)
    assert all(method.mix(k, x) is x for k in (1, 2, 3))


def test_manifold_mixup_acts_at_the_drawn_stage_alone():
    x, y = batch()
    method = ManifoldMixup(4, layers=(0, 2, 3))
    drawn = []
    for step in range(300):
        run(method, x, y, (1, 0, 0, step))
        drawn.append(method.k)
        assert all((method.mix(k, x) is x) == (k != method.k) for k in range(4))
    assert np.bincount(drawn, minlength=4) == pytest.approx([100, 0, 100, 100], abs=30)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 1.5])
def test_lam_follows_the_beta_distribution(alpha):
    x, y = batch(1)
    lams = [run(Mixup(4, alpha=alpha), x, y, (0, 0, 0, step)).lam for step in range(1000)]
    assert np.mean(lams) == pytest.approx(0.5, abs=0.05)
    assert np.var(lams) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)


@pytest.mark.parametrize("method", [Mixup, ManifoldMixup])
def test_same_key_same_batch_whatever_the_global_generators_hold(method):
    x, y = batch()
    results = []
    for state in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(state)
            np.random.seed(state)
            once = run(method(4), x, y, (3, 0, 1, 2))
            results.append((once.k, once.mix(once.k, x), once.target))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1]) and torch.equal(results[0][2], results[1][2])
    assert run(method(4), x, y, (3, 0, 1, 3)).lam != once.lam


def test_loss_is_the_mixture_of_both_losses():
    x, y = batch(6)
    for criterion in ("bce", "ce"):
        run(method := Mixup(4, criterion), x, y)
        logits = torch.randn(6, 4)
        own, others = (torch.nn.functional.one_hot(t, 4).float() for t in (y, y[method.partner]))
        expected = method.lam * method.criterion(logits, own) + (1 - method.lam) * method.criterion(logits, others)
        torch.testing.assert_close(method.loss(logits), expected.mean())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"alpha": 0}, "alpha must be above 0, not 0"),
        ({"alpha": -1.0}, "alpha must be above 0, not -1.0"),
        ({"alpha": float("nan")}, "alpha must be above 0, not nan"),
        ({"layers": ()}, "layers must be distinct stage indices"),
        ({"layers": (1, 1)}, "layers must be distinct stage indices"),
        ({"layers": (-1, 0)}, "layers must be distinct stage indices"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        ManifoldMixup(4, **options)


def test_mixup_refuses_alpha_and_knows_no_layers():
    with pytest.raises(ValueError, match="alpha must be above 0"):
        Mixup(4, alpha=0)
    with pytest.raises(TypeError):
        Mixup(4, layers=(1,))


def test_layer_that_the_network_lacks():
    Mixup(4).check(SHAPES)
    ManifoldMixup(4, layers=(3,)).check(SHAPES)
    with pytest.raises(ValueError, match="layer 4 does not exist: this network has layers 0 to 3"):
        ManifoldMixup(4, layers=(0, 4)).check(SHAPES)
