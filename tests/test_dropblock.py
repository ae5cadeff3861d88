"""DropBlock against blocks written pixel by pixel, and the law of its rare seeds."""

import math

import numpy as np
import pytest
import torch
from common import run
from scipy import stats

from regularizers.dropblock import DropBlock, block_mask_from_seeds, draws_needed, drop, seed_positions


def features(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def mask_by_hand(positions, shape, block_size):
    dropped = np.zeros(shape, dtype=bool)
    for position in positions:
        if position >= dropped.size:
            continue
        sample, channel, row, column = np.unravel_index(position, shape)
        for y in range(row - block_size // 2, row - block_size // 2 + block_size):
            for x in range(column - block_size // 2, column - block_size // 2 + block_size):
                if 0 <= y < shape[2] and 0 <= x < shape[3]:
                    dropped[sample, channel, y, x] = True
    return torch.from_numpy(dropped)


@pytest.mark.parametrize("block_size", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("shape", [(2, 3, 9, 9), (3, 2, 7, 12), (1, 1, 11, 7)])
def test_blocks_against_a_loop(shape, block_size):
    rng = np.random.default_rng(block_size)
    size = math.prod(shape)
    corners = [0, shape[3] - 1, size - shape[3], size - 1]  # of the first and the last map
    for seeds in ([], corners, rng.integers(size, size=6).tolist(), [3, size, size + 1, 50 * size]):
        mask = block_mask_from_seeds(torch.tensor(seeds, dtype=torch.int64), shape, block_size)
        assert mask.dtype == torch.bool and mask.shape == shape
        assert torch.equal(mask, mask_by_hand(seeds, shape, block_size))


def test_seed_positions_against_a_loop():
    """A gap drawn from u has g positions where u lies in [1 - (1 - p)^(g - 1), 1 - (1 - p)^g)."""
    prob, count = 0.2, 1000
    uniform = np.random.default_rng(0).random(200)
    expected, position = [], -1
    for u in uniform:
        gap = 1
        while u >= 1 - (1 - prob) ** gap:
            gap += 1
        position += gap
        expected.append(position)
    assert seed_positions(torch.from_numpy(uniform), prob, count).tolist() == expected


def test_seed_positions_at_the_ends_of_the_range():
    largest = torch.full((3,), 1 - 2**-53, dtype=torch.float64)
    assert seed_positions(torch.zeros(3, dtype=torch.float64), 0.001, 10).tolist() == [0, 1, 2]
    assert seed_positions(largest, 1.0, 10).tolist() == [0, 1, 2]
    tiny = seed_positions(largest, 1e-30, 10)  # no overflow: past the end, and no position twice
    assert (tiny >= 10).all() and (tiny.diff() > 0).all()


@pytest.mark.parametrize(
    "count, prob, wanted",
    [(1, 0.5, 1), (100, 1e-9, 19), (1000, 0.003, 29), (50_000, 0.1, 5535), (6_553_600, 0.00309, 21318)],
)
def test_draws_suffice_with_all_but_certainty(count, prob, wanted):
    draws = draws_needed(count, prob)
    assert draws == count or stats.binom.sf(draws - 1, count, prob) < 1e-12
    assert draws == wanted  # runs that were begun before go on with as many


def dropped_share(shape, keep_prob, block_size):
    """Chance of every position, from the number of seeds which reach it."""
    height, width = shape[2:]
    b = block_size
    gamma = (1 - keep_prob) * height * width / (b**2 * (height - b + 1) * (width - b + 1))
    share = np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        reach = [0, 0]
        for axis, (place, side) in enumerate(((y, height), (x, width))):
            reach[axis] = sum(0 <= place - seed + b // 2 < b for seed in range(side))
        share[y, x] = 1 - (1 - gamma) ** (reach[0] * reach[1])
    return share


@pytest.mark.parametrize(
    "shape, keep_prob, block_size, mean, interior",
    [
        ((20, 100, 32, 32), 0.9, 7, 0.127, 0.141),
        ((20, 100, 8, 14), 0.8, 4, None, None),
        ((20, 100, 7, 7), 0.7, 7, None, None),
        ((20, 100, 6, 5), 0.5, 1, 0.5, 0.5),
    ],
)
def test_law_of_the_mask(shape, keep_prob, block_size, mean, interior):
    method = DropBlock(4, keep_prob=keep_prob, block_size=block_size)
    method.seed(0, 0, 0, 0)
    maps = method.draw_mask(torch.empty(shape)).flatten(0, 1).double()
    expected = dropped_share(shape, keep_prob, block_size)
    if mean is not None:
        height, width = shape[2:]
        assert expected.mean() == pytest.approx(mean, abs=1e-3)
        assert expected[height // 2, width // 2] == pytest.approx(interior, abs=1e-3)
    assert maps.mean().item() == pytest.approx(expected.mean(), abs=0.01)
    spread = np.sqrt(expected * (1 - expected) / len(maps))
    assert (np.abs(maps.mean(0).numpy() - expected) < 5 * spread).all()


def test_samples_and_channels_are_independent():
    method = DropBlock(4, keep_prob=0.6, block_size=3)
    method.seed(0, 0, 0, 0)
    mask = method.draw_mask(torch.empty(100, 40, 8, 8)).double()
    share = mask.mean((2, 3)).numpy()
    for other in (share[:, 1:], share[1:]):
        first = share[: len(other), : other.shape[1]].ravel()
        assert abs(np.corrcoef(first, other.ravel())[0, 1]) < 0.07
    across = np.corrcoef(mask[..., -1, -1].numpy().ravel()[:-1], mask[..., 0, 0].numpy().ravel()[1:])[0, 1]
    assert abs(across) < 0.07  # no block runs on into the next map


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_drop_against_a_loop(layout):
    h = features(3, 2, 4, 5).to(memory_format=layout)
    dropped = (features(3, 2, 4, 5) > 0.5).contiguous(memory_format=layout)
    out = drop(h, dropped)
    kept = sum(not d for d in dropped.flatten().tolist())
    for place in np.ndindex(*h.shape):
        expected = 0.0 if dropped[place] else h[place].item() * h.numel() / kept
        assert out[place].item() == pytest.approx(expected, rel=1e-5)
    assert out.is_contiguous(memory_format=layout) and drop(h.bfloat16(), dropped).dtype == torch.bfloat16


def test_one_feature_or_none_kept():
    h = features(1, 2, 3, 3).requires_grad_()
    out = drop(h, torch.ones(1, 2, 3, 3, dtype=torch.bool))
    out.sum().backward()
    assert (out == 0).all() and (h.grad == 0).all()
    assert drop(torch.ones(1, 1, 1, 2), torch.tensor([[[[True, False]]]])).tolist() == [[[[0, 2]]]]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_layout_stays(layout):
    h = features(3, 16, 16, 16).contiguous(memory_format=layout)
    run(method := DropBlock(4), h, torch.arange(3))
    assert method.mix(1, h).is_contiguous(memory_format=layout)


def test_acts_at_all_its_layers_in_one_pass_with_fresh_seeds():
    h = features(3, 16, 16, 16)
    method = DropBlock(4, layers=(1, 3))
    method.seed(0, 0, 0, 0)
    method.draw(h, torch.tensor([0, 1, 2]), None)
    passed = [method.mix(k, h) for k in range(5)]
    assert [out is h for out in passed] == [True, False, True, False, True]
    assert not torch.equal(passed[1], passed[3])


def test_keep_prob_one_touches_nothing():
    h = features(2, 3, 8, 8)
    run(method := DropBlock(4, keep_prob=1), h, torch.arange(2))
    assert method.mix(1, h) is h
