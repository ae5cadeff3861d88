"""The corruptions by weather against per-pixel loops and their definitions."""

import math

import numpy as np
import pytest
from scipy import ndimage
from test_corruptions import clamped, convolved, generators, mirrored, noise, zoomed

from data import corruption_filters as filters
from data import corruption_weather as weather
from data.corruption_filters import to_uint8
from data.corruption_tables import TABLES


@pytest.mark.parametrize("severity", [1, 3, 4])
def test_snow_whitens_and_falls_twice(severity):
    mean, std, factor, threshold, radius, blur, weight = TABLES["snow"][64][severity - 1]
    x, side = noise(1, 24), 24
    (rng,) = generators(1)
    flakes = zoomed(rng.normal(mean, std, (side, side)), factor)
    flakes = to_uint8(flakes * (flakes >= threshold)) / 255
    fallen = filters.smear(flakes[None, None], np.array([rng.uniform(-135, -45)]), radius, blur)[0, 0]
    fallen = to_uint8(fallen) / 255
    assert fallen.any()
    y = weather.snow(x, generators(1), TABLES["snow"][64][severity - 1])
    for row, column in np.ndindex(side, side):
        r, g, b = colour = x[0, :, row, column]
        white = np.maximum(colour, 1.5 * (0.299 * r + 0.587 * g + 0.114 * b) + 0.5)
        expected = weight * colour + (1 - weight) * white + fallen[row, column] + fallen[-1 - row, -1 - column]
        assert np.allclose(y[0, :, row, column], expected)


def test_frost_adds_a_part_of_a_picture_with_the_photographs_colours():
    weather.frost_overlays.cache_clear()
    overlays = weather.frost_overlays(120, 0.2)
    assert overlays.shape == (5, 3, 120, 120) and overlays.min() >= 0 and overlays.max() <= 1
    for overlay, (mean, std) in zip(255 * overlays, weather.FROST_COLOURS):
        assert np.allclose(overlay.mean(axis=(1, 2)), mean, atol=2)
        assert np.allclose(overlay.std(axis=(1, 2)), std, atol=3)
    assert weather.FROST_COLOURS.sum(axis=(0, 2)).tolist() == [2459, 405]
    shades = [87.475, 196.055, 235.466, 82.659, 220.186]  # the same pictures for all records
    assert 255 * overlays[:, 0, 60, 60] == pytest.approx(shades, abs=0.2)
    x = noise(20, 32)
    y = weather.frost(x, generators(20), (0.9, 0.4, 0.2))
    for image, frosted, rng in zip(x, y, generators(20)):
        which, top, left = rng.integers(5), rng.integers(120 - 32), rng.integers(120 - 32)
        assert np.allclose(frosted, 0.9 * image + 0.4 * overlays[which, :, top : top + 32, left : left + 32])


def test_crystals_are_those_of_all_records():
    picture = np.asarray(weather.crystals(np.random.default_rng(0), 200), float)
    assert (picture.mean(), picture.std()) == pytest.approx((102.44, 73.61), abs=0.03)


def test_plasma_is_diamonds_and_squares():
    size, decay = 8, 2.5
    drawn = 2 * generators(1)[0].random((size, size)) - 1
    height, step, wibble = np.zeros((size, size)), size, 100
    while step >= 2:
        half = step // 2

        def mean_of(y, x, corners):
            around = [height[(y + dy) % size, (x + dx) % size] for dy, dx in corners]
            return sum(around) / 4 + wibble * wibble * drawn[y, x]  # noqa: B023

        for y in range(half, size, step):
            for x in range(half, size, step):
                height[y, x] = mean_of(y, x, [(-half, -half), (-half, half), (half, -half), (half, half)])
        for y, x in [(y, x) for y in range(0, size, half) for x in range(0, size, half) if (y + x) // half % 2]:
            height[y, x] = mean_of(y, x, [(-half, 0), (half, 0), (0, -half), (0, half)])
        step //= 2
        wibble /= decay
    height = (height - height.min()) / np.ptp(height)
    assert np.allclose(weather.plasma(generators(1), size, decay)[0], height)
    assert np.allclose(weather.plasma(generators(1), 5, decay)[0], height[:5, :5])


def test_fog_keeps_the_brightest_value_above_everything():
    x = noise(3, 32) * np.array([1, 0.5, 0]).reshape(3, 1, 1, 1)
    most, fog = x.max(axis=(1, 2, 3), keepdims=True), weather.plasma(generators(3), 32, 2)[:, None]
    y = weather.fog(x, generators(3), (1.5, 2))
    assert np.allclose(y, (x + 1.5 * fog) * most / (most + 1.5)) and (y <= most + 1e-9).all()


# Spatter


@pytest.mark.parametrize("parameters", TABLES["spatter"][64])
def test_water_adds_turquoise_and_mud_covers_with_brown(parameters):
    mean, std, blur, threshold, strength, is_mud = parameters
    x, (rng,) = 0.3 * noise(1, 20), generators(1)
    (y,) = weather.spatter(x, generators(1), parameters)
    liquid = ndimage.gaussian_filter(rng.normal(mean, std, (20, 20)), blur, mode="nearest")
    if is_mud:
        cover = ndimage.gaussian_filter((liquid > threshold).astype(float), strength, mode="nearest")
        cover = np.where(cover < 0.8, 0, cover)
        expected = x[0] * (1 - cover) + np.reshape([63, 42, 20], (3, 1, 1)) / 255 * cover
        assert cover.any()
    else:
        drops = to_uint8(np.where(liquid < threshold, 0, liquid))
        expected = x[0] + strength * np.reshape([175, 238, 238], (3, 1, 1)) / 255 * weather.lit(drops)
        assert drops.any()
    assert np.allclose(y, expected)


def test_no_drop_changes_nothing():
    x = noise(2, 16)
    assert np.array_equal(weather.spatter(x, generators(2), (0.5, 0.1, 1, 2, 0.6, 0)), x)


def drops(side=40):
    """Drops of water with weak and strong edges in all directions, uint8 [H, H]."""
    rng = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(rng.normal(size=(side, side)), 1.5, mode="wrap")
    return to_uint8(np.where(smooth > 0, 0.15 + 3 * smooth * rng.random((side, 1)), 0))


def test_edges_are_thin_crests_joined_to_strong_ones():
    """Canny's algorithm pixel by pixel, with the rules of OpenCV where neighbours are equal."""
    values = drops()
    down = convolved(values, np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]), clamped)
    right = convolved(values, np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]), clamped)
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


def test_drops_are_lit_from_the_upper_left():
    values = drops()
    edges = np.argwhere(weather.edges(values))
    distance = np.array([min(20, np.hypot(*(edges - place).T).min()) for place in np.ndindex(values.shape)])
    relief = ndimage.uniform_filter(distance.reshape(values.shape), 3, mode="mirror").astype(np.uint8)
    kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    light = convolved(weather.equalised(relief), kernel, mirrored).clip(0, 255)
    glow = values * np.rint(convolved(light, np.full((3, 3), 1 / 9), mirrored))
    assert np.allclose(weather.lit(values), glow / glow.max())
    assert not weather.lit(np.zeros((24, 24), np.uint8)).any()


def test_histograms_are_spread():
    values = np.array([[10, 10], [20, 30]], np.uint8)
    assert weather.equalised(values).tolist() == [[0, 0], [128, 255]]
    assert weather.equalised(np.full((2, 2), 7, np.uint8)).tolist() == [[7, 7], [7, 7]]
