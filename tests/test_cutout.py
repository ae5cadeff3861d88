"""Cutout against holes cut pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from common import batch, run

from regularizers.base import Regularizer
from regularizers.cutout import Cutout, cut_holes


def cut_by_hand(x, centre_y, centre_x, length):
    """As the official code: ends truncated to whole pixels after clipping."""
    out = x.clone()
    height, width = x.shape[2:]
    for i in range(len(x)):
        cy, cx = (int(c[i % len(c)]) for c in (centre_y, centre_x))
        for row in range(height):
            for column in range(width):
                y1, y2 = (int(min(max(cy + s * length / 2, 0), height)) for s in (-1, 1))
                x1, x2 = (int(min(max(cx + s * length / 2, 0), width)) for s in (-1, 1))
                if y1 <= row < y2 and x1 <= column < x2:
                    out[i, :, row, column] = 0
    return out


@pytest.mark.parametrize("length", [1, 2, 3, 6, 7, 17, 40])
def test_holes_against_a_loop(length):
    x, _ = batch(4)
    per_image = (np.array([0, 11, 5, 6]), np.array([8, 0, 4, 3]))
    for centres in (per_image, (np.array([3]), np.array([7]))):
        assert torch.equal(cut_holes(x, *centres, length), cut_by_hand(x, *centres, length))


@pytest.mark.parametrize("length", [1, 4, 5])
def test_a_hole_inside_has_length_times_length_pixels(length):
    x = torch.ones(1, 1, 12, 9)
    assert (cut_holes(x, np.array([6]), np.array([4]), length) == 0).sum() == length**2


@pytest.mark.parametrize("mask_per, size", [("batch", 5), ("sample", 5), ("batch", 1), ("sample", 1)])
def test_one_hole_a_batch_or_a_sample(mask_per, size):
    x = torch.ones(size, 3, 12, 9)
    y = torch.arange(size) % 4
    patterns = set()
    for step in range(20):
        cut = run(Cutout(4, length=4, mask_per=mask_per), x, y, (0, 0, 0, step)).mix(0, x)
        assert ((cut == 0).any(1) == (cut == 0).all(1)).all()  # the same hole in every colour
        patterns.add(len({image.numpy().tobytes() for image in cut}))
    assert patterns == {1} if mask_per == "batch" or size == 1 else max(patterns) == size


def test_target_stays_and_only_the_images_change():
    x, y = batch()
    before = x.clone()
    run(method := Cutout(4, length=4), x, y)
    run(none := Regularizer(4), x, y)
    assert torch.equal(method.target, none.target)
    logits = torch.randn(len(x), 4)
    assert torch.equal(method.loss(logits), none.loss(logits))
    assert not torch.equal(method.mix(0, x), x)
    assert torch.equal(x, before)
    assert all(method.mix(k, x) is x for k in (1, 2, 3))


def test_centres_are_uniform_over_a_map_that_is_not_square():
    x = torch.ones(4000, 1, 6, 3)
    run(method := Cutout(2, length=1, mask_per="sample"), x, torch.zeros(4000, dtype=torch.int64))
    share = (method.mix(0, x) == 0).squeeze(1).float().mean(0)  # a hole of length 1 is one pixel up-left of its centre
    expected = torch.zeros(6, 3)
    expected[:5, :2] = 1 / 18
    torch.testing.assert_close(share, expected, rtol=0, atol=0.02)


def test_share_that_is_cut():
    """Mean share over all centres, reckoned from the clipped ends on one axis."""
    x = torch.ones(4000, 1, 16, 16)
    run(method := Cutout(2, length=8, mask_per="sample"), x, torch.zeros(4000, dtype=torch.int64))
    axis = sum(min(c + 4, 16) - max(c - 4, 0) for c in range(16)) / 16 / 16
    assert (method.mix(0, x) == 0).float().mean().item() == pytest.approx(axis**2, abs=0.005)
    assert math.isclose(axis, 0.4375)


@pytest.mark.parametrize("mask_per", ["batch", "sample"])
def test_same_key_same_batch_whatever_the_global_generators_hold(mask_per):
    x, y = batch(64)
    results = []
    for state in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(state)
            np.random.seed(state)
            results.append(run(Cutout(4, length=4, mask_per=mask_per), x, y, (3, 0, 1, 2)).mix(0, x))
    assert torch.equal(*results)
    others = [run(Cutout(4, length=4, mask_per=mask_per), x, y, (3, 0, 1, step)).mix(0, x) for step in range(3, 6)]
    assert not all(torch.equal(results[0], other) for other in others)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"length": 0}, "length must be above 0, not 0"),
        ({"length": -3}, "length must be above 0, not -3"),
        ({"mask_per": "pixel"}, "mask_per must be one of batch, sample, not 'pixel'"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        Cutout(4, **options)


def test_a_hole_that_always_covers_everything_is_refused():
    Cutout(4, length=63).check([(3, 32, 32)])
    Cutout(4, length=63).check([(3, 16, 32)])
    with pytest.raises(ValueError, match="length must be below 64, not 64: .* whole 32x32 image"):
        Cutout(4, length=64).check([(3, 32, 32)])
