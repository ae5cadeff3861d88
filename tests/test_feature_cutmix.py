"""Feature CutMix against boxes swapped pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from common import batch, run

from regularizers.feature_cutmix import FeatureCutMix

MAPS = {0: (12, 9), 1: (7, 16), 2: (5, 5)}  # height and width by stage, not square, none like another


def hidden(y, classes=4):
    """The input of every stage, filled with its sample's own label: {k: [B, classes, H, W]}."""
    labels = torch.nn.functional.one_hot(y, classes).float()[:, :, None, None]
    return {k: labels.expand(-1, -1, *size).contiguous() for k, size in MAPS.items()}


def forward(method, stages):
    """The inputs of all stages after mixing, as in a pass through the network."""
    return {k: method.mix(k, h) for k, h in stages.items()}


def box_by_loops(rng, height, width, alpha):
    """The pixels in the box that follows from three draws: of lambda, of its centre's row, of its column."""
    half = math.sqrt(1 - rng.beta(alpha, alpha))
    cy, cx = int(rng.integers(height)), int(rng.integers(width))
    inside = torch.zeros(height, width, dtype=torch.bool)
    for row in range(height):
        for column in range(width):
            reach = int(height * half) // 2, int(width * half) // 2
            inside[row, column] = -reach[0] <= row - cy < reach[0] and -reach[1] <= column - cx < reach[1]
    return inside


@pytest.mark.parametrize("k, alpha", [(0, 1.0), (1, 0.3), (2, 1.0)])
def test_the_box_of_the_drawn_stages_own_size_is_swapped_pixel_by_pixel(k, alpha):
    x, y = batch(5)
    h = torch.randn(5, 3, *MAPS[k], generator=torch.Generator().manual_seed(k))
    altered = 0
    for step in range(20):
        method = run(FeatureCutMix(4, alpha=alpha, layers=(k,)), x, y, (0, 0, 0, step))
        state = method.rng.bit_generator.state
        mixed = method.mix(k, h)
        rng = np.random.default_rng()
        rng.bit_generator.state = state
        inside = box_by_loops(rng, *MAPS[k], alpha)
        for i, j in enumerate(method.partner.tolist()):
            for row, column in np.ndindex(*MAPS[k]):
                source = h[j] if inside[row, column] else h[i]
                assert torch.equal(mixed[i, :, row, column], source[:, row, column])
        altered += int(inside.sum())
    assert altered > 0


@pytest.mark.parametrize("size", [1, 2, 7])
def test_label_mass_is_pixel_mass_on_the_map_of_the_drawn_stage(size):
    y = torch.arange(size) % 4
    x = torch.zeros(size, 3, *MAPS[0])
    method, drawn = FeatureCutMix(4), set()
    for step in range(60):
        run(method, x, y, (0, 0, 0, step))
        stages = hidden(y)
        mixed = forward(method, stages)
        assert [k for k, h in mixed.items() if h is not stages[k]] == [method.k]
        torch.testing.assert_close(mixed[method.k].mean((2, 3)), method.target)
        torch.testing.assert_close(method.target.sum(1), torch.ones(size))
        drawn.add(method.k)
    assert drawn == {0, 1, 2}


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
