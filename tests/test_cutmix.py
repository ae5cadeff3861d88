"""CutMix against boxes swapped pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from common import batch, run

from regularizers.cutmix import CutMix, box_mask, cut_box, draw_box, kept_fraction


@pytest.mark.parametrize(
    "height, width, lam, centre, expected",
    [
        (32, 32, 0.75, (16, 16), (8, 24, 8, 24)),  # sides of 16
        (32, 32, 0.75, (0, 31), (0, 8, 23, 32)),  # clipped twice
        (12, 8, 0.75, (6, 4), (3, 9, 2, 6)),  # not square: half of each side
        (32, 32, 0.9, (10, 10), (5, 15, 5, 15)),  # floor(10.1) = 10
        (32, 32, 0.88, (10, 10), (5, 15, 5, 15)),  # floor(11.09) = 11, half of it 5: an even side
        (32, 32, 1.0, (10, 10), (10, 10, 10, 10)),  # empty
        (32, 24, 0.0, (16, 12), (0, 32, 0, 24)),  # everything
        (32, 32, 0.999, (5, 5), (5, 5, 5, 5)),  # less than two pixels: empty
    ],
)
def test_boxes_by_hand(height, width, lam, centre, expected):
    assert cut_box(height, width, lam, centre) == expected


def test_mask_and_fraction_against_a_loop():
    for height, width in ((6, 9), (8, 5)):
        for lam in (0.0, 0.2, 0.6, 0.95, 1.0):
            for centre in ((0, 0), (3, 4), (height - 1, width - 1)):
                box = cut_box(height, width, lam, centre)
                mask = box_mask(box, height, width)
                assert mask.shape == (1, 1, height, width) and mask.dtype == torch.bool
                kept = 0
                for row in range(height):
                    for column in range(width):
                        half_y, half_x = (int(side * math.sqrt(1 - lam)) // 2 for side in (height, width))
                        inside = -half_y <= row - centre[0] < half_y and -half_x <= column - centre[1] < half_x
                        assert mask[0, 0, row, column].item() == (not inside)
                        kept += not inside
                assert kept_fraction(box, height, width) == pytest.approx(kept / (height * width))


def test_swap_against_a_loop():
    x, y = batch(5)
    run(method := CutMix(4, prob=1.0), x, y)
    partner = method.partner = torch.tensor([3, 1, 0, 4, 2])
    method.mask = box_mask((2, 7, 4, 9), 12, 9)
    swapped = method.mix(0, x)
    for i in range(5):
        for row in range(12):
            for column in range(9):
                source = partner[i] if 2 <= row < 7 and 4 <= column < 9 else i
                assert torch.equal(swapped[i, :, row, column], x[source, :, row, column])


@pytest.mark.parametrize("height, width", [(12, 9), (7, 16), (1, 1)])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_label_mass_is_pixel_mass(size, height, width):
    """An image filled with its own label must show every label in as many pixels as the target says."""
    y = torch.arange(size)
    x = torch.nn.functional.one_hot(y, 7).float()[:, :, None, None].expand(size, 7, height, width).contiguous()
    method = CutMix(7, prob=1.0)
    for step in range(30):
        run(method, x, y, (0, 0, 0, step))
        assert method.target.dtype == torch.float32
        torch.testing.assert_close(method.target.sum(1), torch.ones(size))
        torch.testing.assert_close(method.mix(0, x).mean((2, 3)), method.target)


def test_a_batch_that_is_not_mixed_forgets_the_one_before():
    x, y = batch()
    method = CutMix(4, prob=0.5)
    mixed = []
    for step in range(400):
        run(method, x, y, (0, 0, 0, step))
        mixed.append(method.mix(0, x) is not x)
        assert mixed[-1] or set(method.target.unique().tolist()) == {0.0, 1.0}
        assert method.mix(1, x) is x
    assert np.mean(mixed) == pytest.approx(0.5, abs=0.1)


def test_boxes_are_drawn_uniformly():
    """alpha = 1: the mean kept fraction, and each pixel's chance, against a sum over all centres and many ratios."""
    height, width = 8, 5
    rng = np.random.default_rng(0)
    drawn = np.mean([box_mask(draw_box(rng, height, width), height, width).numpy() for _ in range(4000)], axis=0)[0, 0]
    expected = np.zeros((height, width))
    ratios = (np.arange(50) + 0.5) / 50
    for lam in ratios:
        for cy, cx in np.ndindex(height, width):
            half_y, half_x = (int(side * math.sqrt(1 - lam)) // 2 for side in (height, width))
            outside = np.ones((height, width))
            outside[max(cy - half_y, 0) : cy + half_y, max(cx - half_x, 0) : cx + half_x] = 0
            expected += outside / (len(ratios) * height * width)
    assert np.abs(drawn - expected).max() < 0.035


def test_alpha_shapes_the_ratio():
    sides = {}
    for alpha in (0.1, 100.0):
        rng = np.random.default_rng(0)
        areas = [1 - kept_fraction(draw_box(rng, 200, 200, alpha), 200, 200) for _ in range(500)]
        sides[alpha] = np.std(areas)
    assert sides[0.1] > 2 * sides[100.0]
    method = run(CutMix(4, prob=1.0, alpha=0.1), *batch())
    rng = np.random.default_rng(np.random.SeedSequence((0, 0, 0, 0)))
    rng.random()  # whether to mix
    assert method.box == draw_box(rng, 12, 9, 0.1)
