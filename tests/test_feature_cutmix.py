"""Feature CutMix against boxes swapped pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from common import batch, run

from models import StagedNet
from regularizers.base import CRITERIA, Regularizer
from regularizers.feature_cutmix import FeatureCutMix

MAPS = {0: (12, 9), 1: (7, 16), 2: (5, 5)}  # height and width by stage, not square, none like another


def hidden(y, classes=4):
    """The input of every stage, filled with its sample's own label: {k: [B, classes, H, W]}."""
    own = torch.nn.functional.one_hot(y, classes).float()[:, :, None, None]
    return {k: own.expand(-1, -1, *size).contiguous() for k, size in MAPS.items()}


def forward(method, stages):
    """The inputs of all stages after mixing, as in a pass through the network."""
    return {k: method.mix(k, h) for k, h in stages.items()}


def box_by_loops(rng, height, width):
    """The pixels in the box that follows from three draws: of lambda, of its centre's row, of its column."""
    half = math.sqrt(1 - rng.beta(1.0, 1.0))
    cy, cx = int(rng.integers(height)), int(rng.integers(width))
    inside = torch.zeros(height, width, dtype=torch.bool)
    for row in range(height):
        for column in range(width):
            reach = int(height * half) // 2, int(width * half) // 2
            inside[row, column] = -reach[0] <= row - cy < reach[0] and -reach[1] <= column - cx < reach[1]
    return inside


@pytest.mark.parametrize("k", MAPS)
def test_the_box_of_the_drawn_stages_own_size_is_swapped_pixel_by_pixel(k):
    x, y = batch(5)
    h = torch.randn(5, 3, *MAPS[k], generator=torch.Generator().manual_seed(k))
    altered = 0
    for step in range(20):
        method = run(FeatureCutMix(4, layers=(k,)), x, y, (0, 0, 0, step))
        state = method.rng.bit_generator.state
        mixed, before = method.mix(k, h), h.clone()
        rng = np.random.default_rng()
        rng.bit_generator.state = state
        inside = box_by_loops(rng, *MAPS[k])
        for i, j in enumerate(method.partner.tolist()):
            for row, column in np.ndindex(*MAPS[k]):
                source = h[j] if inside[row, column] else h[i]
                assert torch.equal(mixed[i, :, row, column], source[:, row, column])
        assert torch.equal(h, before), "not in place"
        altered += int(inside.sum())
    assert altered > 0


@pytest.mark.parametrize("size", [1, 2, 7])
def test_label_mass_is_pixel_mass_on_the_map_of_the_drawn_stage(size):
    y = torch.arange(size) % 4
    x = torch.zeros(size, 3, *MAPS[0])
    method, drawn = FeatureCutMix(4), set()
    for step in range(60):
        run(method, x, y, (0, 0, 0, step))
        mixed = forward(method, hidden(y))
        torch.testing.assert_close(mixed[method.k].mean((2, 3)), method.target)
        torch.testing.assert_close(method.target.sum(1), torch.ones(size))
        drawn.add(method.k)
    assert drawn == {0, 1, 2}


def test_only_the_drawn_stage_is_touched():
    x, y = batch(6)
    method = FeatureCutMix(4, layers=(1, 2))
    for step in range(20):
        run(method, x, y, (0, 0, 0, step))
        stages = hidden(y)
        assert [k for k, h in forward(method, stages).items() if h is not stages[k]] == [method.k]


def test_layers_are_drawn_alike_and_batches_mixed_with_their_probability():
    x, y = batch(4)
    method, drawn = FeatureCutMix(4, prob=0.6, layers=(0, 2)), []
    for step in range(2000):
        run(method, x, y, (0, 0, 0, step))
        drawn.append(method.k)
        if method.k is None:
            assert set(method.target.unique().tolist()) == {0.0, 1.0}
    for k, share in ((0, 0.3), (2, 0.3), (None, 0.4)):
        assert drawn.count(k) / 2000 == pytest.approx(share, abs=0.04)


def test_prob_zero_is_none():
    x, y = batch()
    logits = torch.randn(5, 4)
    none = run(Regularizer(4), x, y)
    for step in range(20):
        method = run(FeatureCutMix(4, prob=0.0), x, y, (0, 0, 0, step))
        stages = hidden(y)
        assert all(h is stages[k] for k, h in forward(method, stages).items())
        assert torch.equal(method.loss(logits), none.loss(logits))


@pytest.mark.parametrize("criterion", list(CRITERIA))
def test_loss_weighs_both_labels_by_the_area(criterion):
    x, y = batch(6)
    method = run(FeatureCutMix(4, criterion, layers=(1,)), x, y, (0, 0, 0, 3))
    h = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, *MAPS[1])
    kept = (method.mix(1, h) == h).float().mean((1, 2, 3))
    kept = kept[method.partner != torch.arange(6)][0]  # a sample that is its own partner looks whole
    assert 0 < kept < 1
    logits = torch.randn(6, 4)
    own, others = (torch.nn.functional.one_hot(t, 4).float() for t in (y, y[method.partner]))
    expected = kept * method.criterion(logits, own) + (1 - kept) * method.criterion(logits, others)
    torch.testing.assert_close(method.loss(logits), expected.mean())


def test_alpha_shapes_the_boxes():
    x, y = batch(2)
    h, spread = torch.eye(2)[:, :, None, None].expand(2, 2, 100, 100), {}
    for alpha in (0.1, 100.0):
        areas = []
        for step in range(200):
            method = run(FeatureCutMix(4, alpha=alpha, layers=(1,)), x, y, (0, 0, 0, step))
            method.partner = torch.tensor([1, 0])
            areas.append((method.mix(1, h) != h).float().mean().item())
        spread[alpha] = np.std(areas)
    assert spread[0.1] > 2 * spread[100.0]


def test_a_key_decides_everything_whatever_the_global_generators_hold():
    x, y = batch()
    h = torch.randn(5, 3, 8, 6)
    found = []
    for state in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(state)
            np.random.seed(state)
            method = run(FeatureCutMix(4, layers=(1,)), x, y, (3, 0, 1, 2))
            found.append((method.mix(1, h), method.target))
    assert all(torch.equal(one, other) for one, other in zip(*found))
    others = [run(FeatureCutMix(4, layers=(1,)), x, y, (3, 0, 1, step)).mix(1, h) for step in range(3, 6)]
    assert not all(torch.equal(found[0][0], other) for other in others)


def test_it_trains_a_network_at_every_stage():
    x, y = batch(8)
    head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(6, 4))
    net = StagedNet([torch.nn.Conv2d(3, 6, 3), torch.nn.Conv2d(6, 6, 3), head])
    method, drawn = FeatureCutMix(4, "ce"), set()
    method.check([(3, 12, 9), (6, 10, 7), (6, 8, 5)])
    for step in range(12):
        net.zero_grad(set_to_none=True)
        run(method, x, y, (0, 0, 0, step)).loss(net(x, method.mix)).backward()
        assert all(torch.isfinite(p.grad).all() for p in net.parameters())
        drawn.add(method.k)
    assert drawn == {0, 1, 2}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"prob": 1.2}, r"prob must lie in \[0, 1\], not 1.2"),
        ({"alpha": 0}, "alpha must be above 0, not 0"),
        ({"layers": ()}, "layers must be distinct stage indices"),
        ({"layers": (1, 1)}, "layers must be distinct stage indices"),
    ],
)
def test_impossible_values_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FeatureCutMix(4, **options)


def test_a_layer_that_the_network_lacks_is_refused():
    FeatureCutMix(4).check([(3, 32, 32), (16, 32, 32), (16, 32, 32)])
    with pytest.raises(ValueError, match="layer 3 does not exist: this network has layers 0 to 2"):
        FeatureCutMix(4, layers=(0, 3)).check([(3, 32, 32), (16, 32, 32), (16, 32, 32)])
