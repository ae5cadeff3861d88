"""Mixup and Manifold Mixup against sums written pixel by pixel."""

import numpy as np
import pytest
import torch
from common import batch, run

from regularizers.mixup import ManifoldMixup, Mixup


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


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("method", [Mixup(4), ManifoldMixup(4)])
def test_target_is_mixed_as_the_images_are(method, size):
    x, y = batch(size)
    for step in range(10):
        run(method, x, y, (0, 0, 0, step))
        assert method.target.dtype == torch.float32 and sorted(method.partner.tolist()) == list(range(size))
        torch.testing.assert_close(method.target.sum(1), torch.ones(size))
        # an "image" that holds its own one-hot label must be mixed into the target
        labels = torch.nn.functional.one_hot(y, 4).float()[:, :, None, None]
        assert torch.equal(method.mix(method.k, labels)[:, :, 0, 0], method.target)


@pytest.mark.parametrize(
    "method, drawn_at", [(Mixup(4), [300, 0, 0, 0]), (ManifoldMixup(4, layers=(0, 2, 3)), [100, 0, 100, 100])]
)
def test_it_acts_at_the_drawn_stage_alone(method, drawn_at):
    x, y = batch()
    drawn = []
    for step in range(300):
        run(method, x, y, (1, 0, 0, step))
        drawn.append(method.k)
        assert all((method.mix(k, x) is x) == (k != method.k) for k in range(4))
    assert np.bincount(drawn, minlength=4) == pytest.approx(drawn_at, abs=30)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 1.5])
def test_lam_follows_the_beta_distribution(alpha):
    x, y = batch(1)
    lams = [run(Mixup(4, alpha=alpha), x, y, (0, 0, 0, step)).lam for step in range(1000)]
    assert np.mean(lams) == pytest.approx(0.5, abs=0.05)
    assert np.var(lams) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)
