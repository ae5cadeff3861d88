"""Common corruptions: each against its reference, tables and random numbers, batches, and what is drawn."""

import io
import math
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data import corruption_weather as weather
from data import corruptions
from data.corruption_tables import TABLES
from data.corruptions import CORRUPTIONS, HELD_OUT, SCORED, corrupt, to_uint8
from tests import corruption_references as references

# CRC-32 of every table, in their order, as it was when all numbers were compared with those of the three scripts
COMPARED = dict(zip(TABLES, (
    2840229917, 1480528409, 3268242148, 3017383772, 1193145017, 3270873429, 2359564993, 2026297456, 4121347828,
    692791227, 1185636873, 4230471292, 7567973, 1136011262, 93051039, 3396497670, 2060960167, 284682899, 4218411125,
)))  # fmt: skip


def generators(count, seed=0):
    return [np.random.default_rng((seed, i)) for i in range(count)]


def overlays(side, scale):
    """What stands for frost overlays, which take seconds to draw."""
    return noise(5, side)


def noise(count, side, seed=0):
    """Images without any structure, float [B, 3, H, H] in 0..1."""
    return np.random.default_rng(seed).random((count, 3, side, side))


def blots(count, side, seed=0):
    """Images uint8 [B, 3, H, H] with smooth parts and edges."""
    x = ndimage.gaussian_filter(noise(count, side, seed), (0, 0, side / 16, side / 16), mode="wrap")
    x = (x - x.min()) / np.ptp(x)
    x[..., side // 4 : side // 2, side // 3 :] *= 0.3
    return to_uint8(x)


# Names, tables, arguments


def test_names_and_groups():
    assert Counter(SCORED.values()) == {"noise": 3, "blur": 4, "weather": 4, "digital": 4}
    assert list(TABLES) == list(CORRUPTIONS) == [*SCORED, *HELD_OUT] and len(HELD_OUT) == 4


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_those_that_were_compared_with_the_scripts(name):
    assert [len(table) for table in TABLES[name].values()] == [5, 5, 5]
    assert zlib.crc32(repr(TABLES[name]).encode()) == COMPARED[name]


@pytest.mark.parametrize(
    "side, table", [(8, 32), (32, 32), (45, 32), (46, 64), (64, 64), (119, 64), (120, 224), (500, 224)]
)
def test_the_table_nearest_in_ratio_serves(side, table):
    assert corruptions.table_for(side) == table


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("gausian_noise", 1, 0), "corruption must be one of gaussian_noise, shot_noise, .*, not 'gausian_noise'"),
        (("fog", 0, 0), "severity must be one of 1, 2, 3, 4, 5, not 0"),
        (("fog", 6, 0), "severity must be one of 1, 2, 3, 4, 5, not 6"),
        (("fog", 1, 0, "jpeg"), "storage must be one of png, jpeg85, not 'jpeg'"),
    ],
)
def test_unknown_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        corrupt(blots(1, 8), np.arange(1), *arguments)


@pytest.mark.parametrize("side, table, severities", [(32, 32, (1, 5)), (48, 64, (3, 4)), (224, 224, (2,))])
def test_images_are_corrupted_by_the_entry_of_their_size_and_severity(side, table, severities, monkeypatch):
    monkeypatch.setattr(weather, "frost_overlays", overlays)
    x = blots(1, side)
    for number, name in enumerate(CORRUPTIONS):
        for severity in severities:
            y = corrupt(x, np.array([3]), name, severity, 7)
            rngs = [np.random.default_rng((7, number, severity, 3))]
            assert np.array_equal(y, to_uint8(CORRUPTIONS[name](x / 255, rngs, TABLES[name][table][severity - 1])))
            assert y.shape == x.shape and y.dtype == np.uint8 and (y != x).any(), (name, severity)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_every_batch(name, monkeypatch):
    monkeypatch.setattr(weather, "frost_overlays", overlays)
    x, rows = blots(5, 32), np.array([7, 0, 3, 12, 5])
    before = x.copy()
    y = corrupt(x, rows, name, 4, 1)
    assert np.array_equal(x, before)
    order = np.array([3, 0, 4])
    assert np.array_equal(corrupt(x[order], rows[order], name, 4, 1), y[order])


@pytest.mark.parametrize(
    "name, severity, seed, values",
    [
        ("gaussian_noise", 3, 5, [111, 154, 110, 124, 116, 154, 92, 149]),
        ("speckle_noise", 4, 0, [131, 173, 142, 92, 161, 153, 123, 164]),
    ],
)
def test_the_random_numbers_are_those_of_all_records(name, severity, seed, values):
    grey = np.full((1, 3, 8, 8), 128, np.uint8)
    assert corrupt(grey, np.array([796]), name, severity, seed)[0, 0, 0].tolist() == values


def test_storage_as_jpeg_is_pillows():
    x = blots(2, 32)
    plain, stored = (corrupt(x, np.arange(2), "gaussian_noise", 2, 0, storage) for storage in ("png", "jpeg85"))
    for a, b in zip(plain, stored):
        file = io.BytesIO()
        Image.fromarray(a.transpose(1, 2, 0)).save(file, "JPEG", quality=85)
        assert np.array_equal(np.asarray(Image.open(file)).transpose(2, 0, 1), b)


def test_values_are_clipped_and_truncated():
    assert to_uint8(np.array([-0.5, 0, 0.9999, 1, 1.5, 1.99 / 255])).tolist() == [0, 0, 254, 255, 255, 1]
    assert to_uint8(np.arange(256) / 255).tolist() == list(range(256))  # nothing is lost on the way


# What each does


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_strength_of_a_corruption_equals_its_reference(name, monkeypatch):
    monkeypatch.setattr(weather, "frost_overlays", overlays)
    side = 20
    x = 0.9 * noise(1, side)
    x[0, :, 0, :3] = np.array([0, 0.5, 1])  # black, grey, white
    x[0, :, 1, 0] = (0.3, 0.3, 0.7)
    for parameters in [entry for table in TABLES[name].values() for entry in table]:
        (y,) = CORRUPTIONS[name](x, generators(1), parameters)
        expected = getattr(references, name)(x[0], generators(1)[0], parameters)
        assert np.allclose(y, expected), parameters


def test_black_stays_black_in_fog_and_an_image_without_drops_as_it_is():
    assert not weather.fog(np.zeros((1, 3, 8, 8)), generators(1), (1.5, 2)).any()
    x = noise(2, 16)
    assert np.array_equal(weather.spatter(x, generators(2), (0.5, 0.1, 1, 2, 0.6, 0)), x)


# What is drawn


def test_overlays_have_the_photographs_colours():
    weather.frost_overlays.cache_clear()
    pictures = weather.frost_overlays(120, 0.2)
    assert pictures.shape == (5, 3, 120, 120) and pictures.min() >= 0 and pictures.max() <= 1
    for picture, (mean, std) in zip(255 * pictures, weather.FROST_COLOURS):
        assert np.allclose(picture.mean(axis=(1, 2)), mean, atol=2)
        assert np.allclose(picture.std(axis=(1, 2)), std, atol=3)
    assert weather.FROST_COLOURS.sum(axis=(0, 2)).tolist() == [2459, 405]
    shades = [87.475, 196.055, 235.466, 82.659, 220.186]  # the same pictures for all records
    assert 255 * pictures[:, 0, 60, 60] == pytest.approx(shades, abs=0.2)


def test_crystals_are_those_of_all_records():
    picture = np.asarray(weather.crystals(np.random.default_rng(0), 200), float)
    assert (picture.mean(), picture.std()) == pytest.approx((102.44, 73.61), abs=0.03)


def drops(side=40):
    """Drops of water with weak and strong edges in all directions, uint8 [H, H]."""
    rng = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(rng.normal(size=(side, side)), 1.5, mode="wrap")
    return to_uint8(np.where(smooth > 0, 0.15 + 3 * smooth * rng.random((side, 1)), 0))


def test_edges_are_thin_crests_joined_to_strong_ones():
    """Canny's algorithm pixel by pixel, with the rules of OpenCV where neighbours are equal."""
    values = drops()
    down = references.convolved(values, np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]), references.clamped)
    right = references.convolved(values, np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]), references.clamped)
    size = np.abs(down) + np.abs(right)
    padded, weak = np.pad(size, 1), set()
    for y, x in np.ndindex(values.shape):
        slope = math.degrees(math.atan2(abs(down[y, x]), abs(right[y, x])))  # of the gradient
        step = (0, 1) if slope < 22.5 else (1, 0) if slope > 67.5 else (1, 1 if down[y, x] * right[y, x] >= 0 else -1)
        before, after = (padded[y + 1 + sign * step[0], x + 1 + sign * step[1]] for sign in (-1, 1))
        crest = size[y, x] > before and (size[y, x] > after or (size[y, x] == after and 0 in step))
        if size[y, x] > 50 and crest:
            weak.add((y, x))
    edges, reached = set(), [place for place in weak if size[place] > 150]
    assert reached
    while reached:
        y, x = reached.pop()
        edges.add((y, x))
        reached += ({(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & weak) - edges
    assert min(size[place] for place in edges) < 150 and weak - edges
    assert set(map(tuple, np.argwhere(weather.edges(values)))) == edges


def test_histograms_are_spread():
    values = np.array([[10, 10], [20, 30]], np.uint8)
    assert weather.equalised(values).tolist() == [[0, 0], [128, 255]]
    assert weather.equalised(np.full((2, 2), 7, np.uint8)).tolist() == [[7, 7], [7, 7]]
