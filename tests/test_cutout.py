"""Cutout against holes cut pixel by pixel."""

import numpy as np
import pytest
import torch
from common import batch, run

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
        method = run(Cutout(4, length=4, mask_per=mask_per), x, y, (0, 0, 0, step))
        cut = method.mix(0, x)
        assert ((cut == 0).any(1) == (cut == 0).all(1)).all()  # the same hole in every colour
        assert method.mix(1, x) is x
        patterns.add(len({image.numpy().tobytes() for image in cut}))
    assert patterns == {1} if mask_per == "batch" or size == 1 else max(patterns) == size


def test_centres_are_uniform_over_a_map_that_is_not_square():
    x = torch.ones(4000, 1, 6, 3)
    run(method := Cutout(2, length=1, mask_per="sample"), x, torch.zeros(4000, dtype=torch.int64))
    share = (method.mix(0, x) == 0).squeeze(1).float().mean(0)  # a hole of length 1 is one pixel up-left of its centre
    expected = torch.zeros(6, 3)
    expected[:5, :2] = 1 / 18
    torch.testing.assert_close(share, expected, rtol=0, atol=0.02)
