"""Common corruptions against per-pixel loops, closed forms, Pillow and their definitions' statistics."""

import colorsys
import io
import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data import corruption_filters as filters
from data import corruption_weather as weather
from data import corruptions
from data.corruption_tables import TABLES
from data.corruptions import CORRUPTIONS, HELD_OUT, SCORED, corrupt, to_uint8

RANDOM = {"gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost", "fog"}
RANDOM |= {"elastic_transform", "speckle_noise", "spatter"}


def generators(count, seed=0):
    return [np.random.default_rng((seed, i)) for i in range(count)]


def noise(count, side, seed=0):
    """Images without any structure, float [B, 3, H, H] in 0..1."""
    return np.random.default_rng(seed).random((count, 3, side, side))


def scenes(count, side, seed=0):
    """Images uint8 [B, 3, H, H] with structure at all scales, smooth parts and edges, somewhat like photographs."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        noises = (rng.normal(size=(3, side, side)) for _ in range(6))
        blurs = (0.6, 1, 2, 4, 8, 16)
        image = sum(s**1.5 * ndimage.gaussian_filter(n, (0, s, s), mode="wrap") for n, s in zip(noises, blurs))
        image = 0.45 + 0.2 * (image - image.mean()) / image.std()
        for _ in range(3):
            (y, x), (h, w) = rng.integers(0, 3 * side // 4, 2), rng.integers(side // 8, side // 2, 2)
            image[:, y : y + h, x : x + w] += rng.normal(0, 0.2, (3, 1, 1))
        images.append(image)
    return to_uint8(np.stack(images))


# Names, tables, arguments


def test_names_and_groups():
    assert Counter(SCORED.values()) == {"noise": 3, "blur": 4, "weather": 4, "digital": 4}
    assert list(CORRUPTIONS) == [*SCORED, *HELD_OUT] and len(CORRUPTIONS) == 19
    assert list(TABLES) == list(CORRUPTIONS)


def test_every_table_has_five_severities_of_one_form():
    for name, tables in TABLES.items():
        assert list(tables) == [32, 64, 224], name
        entries = [entry for table in tables.values() for entry in table]
        assert [len(table) for table in tables.values()] == [5, 5, 5], name
        assert len({np.shape(entry) for entry in entries}) == 1, name
        assert all(len(set(table)) == 5 for table in tables.values()), name


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
        corrupt(scenes(1, 8), np.arange(1), *arguments)


@pytest.mark.parametrize("side", [32, 48, 224])
def test_sides_of_every_table_and_between(side):
    x = scenes(1, side)
    for name in CORRUPTIONS:
        for severity in (1, 5):
            y = corrupt(x, np.array([3]), name, severity, 0)
            assert y.shape == x.shape and y.dtype == np.uint8
            assert (y != x).any(), (name, severity)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_every_batch(name):
    x, rows = scenes(5, 32), np.array([7, 0, 3, 12, 5])
    before = x.copy()
    y = corrupt(x, rows, name, 4, 1)
    assert np.array_equal(x, before)
    order = np.array([3, 0, 4])
    assert np.array_equal(corrupt(x[order], rows[order], name, 4, 1), y[order])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_seed_row_and_severity_decide_the_draws(name):
    x = np.repeat(scenes(1, 32), 2, axis=0)
    y = corrupt(x, np.array([0, 1]), name, 3, 0)
    other = corrupt(x, np.array([0, 1]), name, 3, 1)
    assert np.array_equal(y[0], y[1]) == (name not in RANDOM)
    assert np.array_equal(y, other) == (name not in RANDOM)


def test_draws_differ_between_severities():
    x = np.full((1, 3, 32, 32), 128, np.uint8)
    draws = [corrupt(x, np.array([0]), "gaussian_noise", s, 0).ravel() - 128.0 for s in (1, 2)]
    assert abs(np.corrcoef(draws)[0, 1]) < 0.1


def test_storage_as_jpeg_is_pillows():
    x = scenes(2, 32)
    plain, stored = (corrupt(x, np.arange(2), "gaussian_noise", 2, 0, storage) for storage in ("png", "jpeg85"))
    for a, b in zip(plain, stored):
        file = io.BytesIO()
        Image.fromarray(a.transpose(1, 2, 0)).save(file, "JPEG", quality=85, optimize=True)
        assert np.array_equal(np.asarray(Image.open(file)).transpose(2, 0, 1), b)


def test_values_are_clipped_and_truncated():
    assert to_uint8(np.array([-0.5, 0, 0.9999, 1, 1.5, 1.99 / 255])).tolist() == [0, 0, 254, 255, 255, 1]
    assert to_uint8(np.arange(256) / 255).tolist() == list(range(256))  # nothing is lost on the way


# Noise


@pytest.mark.parametrize("severity", range(5))
def test_noise_has_its_mean_and_variance(severity):
    x = np.repeat(np.array([0.2, 0.5, 0.9]), 4).reshape(12, 1, 1, 1) * np.ones((12, 3, 64, 64))
    values = x[:, 0, 0, 0]
    for name, variance in (
        ("gaussian_noise", lambda c: c**2 + 0 * values),
        ("shot_noise", lambda c: values / c),
        ("speckle_noise", lambda c: (c * values) ** 2),
    ):
        c = TABLES[name][64][severity]
        y = CORRUPTIONS[name](x, generators(12), c)
        spread = y.var(axis=(1, 2, 3))
        assert np.allclose(spread, variance(c), rtol=0.06), name
        assert (np.abs(y.mean(axis=(1, 2, 3)) - values) < 5 * np.sqrt(spread / y[0].size)).all(), name


def test_shot_noise_counts():
    y = filters.shot_noise(noise(2, 16), generators(2), 30)
    assert np.allclose(30 * y, np.rint(30 * y)) and y.min() >= 0


@pytest.mark.parametrize("fraction", TABLES["impulse_noise"][64])
def test_impulses_are_half_salt_half_pepper_channel_by_channel(fraction):
    x = np.full((8, 3, 64, 64), 0.4)
    y = filters.impulse_noise(x, generators(8), fraction)
    assert set(np.unique(y)) == {0, 0.4, 1}
    tolerance = 5 * math.sqrt(fraction / 2 / y.size)
    assert abs((y == 1).mean() - fraction / 2) < tolerance and abs((y == 0).mean() - fraction / 2) < tolerance
    hit = y != 0.4
    assert (hit[:, 0] & hit[:, 1]).mean() == pytest.approx(fraction**2, abs=5 * fraction / math.sqrt(8 * 64 * 64))


# Blur


def convolved(image, kernel, border):
    """A channel convolved pixel by pixel; border(i, n): the index that stands for i outside 0..n-1."""
    side, reach = len(image), len(kernel) // 2
    out = np.zeros_like(image)
    for y in range(side):
        for x in range(side):
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    weight = kernel[reach + dy, reach + dx]
                    out[y, x] += weight * image[border(y + dy, side), border(x + dx, side)]
    return out


def test_gaussian_blur_is_a_loop():
    x, sigma = noise(1, 9), 0.75
    line = np.exp(-(np.arange(-3, 4) ** 2) / (2 * sigma**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    y = filters.gaussian_blur(x, None, sigma)
    for channel, blurred in zip(x[0], y[0]):
        assert np.allclose(blurred, convolved(channel, kernel, lambda i, n: min(max(i, 0), n - 1)))


@pytest.mark.parametrize("table", [32, 64, 224])
def test_disks(table):
    for radius, std in TABLES["defocus_blur"][table]:
        kernel = filters.disk(radius, std)
        middle = len(kernel) // 2
        assert np.allclose(kernel, kernel.T) and np.allclose(kernel, kernel[::-1])
        assert kernel.sum() == pytest.approx(1) if radius < 8 else 1 < kernel.sum() < 1.02
        y, x = np.indices(kernel.shape) - middle
        far = np.hypot(x, y) > radius + (1 if radius <= 8 else 2) * math.sqrt(2)
        assert not kernel[far].any() and kernel[middle, middle] > 0
    assert np.allclose(filters.disk(1, 0.1)[7:10, 7:10], np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 5)


def test_defocus_is_a_loop():
    x = noise(1, 12)
    for parameters in ((0.5, 0.6), (2.5, 0.01)):
        y = filters.defocus_blur(x, None, parameters)
        kernel = filters.disk(*parameters)
        mirrored = convolved(x[0, 1], kernel, lambda i, n: n - 1 - abs(n - 1 - abs(i)))
        assert np.allclose(y[0, 1], mirrored)


@pytest.mark.parametrize("std, reach, passes", [(0.1, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2), (1.1, 3, 2)])
def test_glass_blur_is_the_sequential_loop(std, reach, passes):
    side = 16
    x = noise(2, side)
    y = filters.glass_blur(x, generators(2), (std, reach, passes))
    for image, rng, result in zip(x, generators(2), y):
        count = side - 2 * reach
        steps = rng.integers(-reach, reach, (passes, 2, count, count))
        pixels = np.stack([ndimage.gaussian_filter(channel, std, mode="nearest") for channel in image], axis=-1)
        pixels = to_uint8(pixels)
        for i in range(passes):
            for h in range(side - reach, reach, -1):
                for w in range(side - reach, reach, -1):
                    dy, dx = steps[i, :, h - reach - 1, w - reach - 1]
                    one, other = (h, w), (h + dy, w + dx)
                    # NumPy's views: what reads like a swap copies
                    pixels[one], pixels[other] = pixels[other], pixels[one]
        for c in range(3):
            assert np.allclose(result[c], ndimage.gaussian_filter(pixels[..., c] / 255, std, mode="nearest"))


def test_smear_is_a_loop():
    x, angles, radius, std = noise(4, 10), np.array([0, 37.5, -44, -120]), 6, 2.5
    y = filters.smear(x, angles, radius, std)
    weights = [math.exp(-(i**2) / (2 * std**2)) for i in range(2 * radius + 1)]
    for image, angle, smeared in zip(x, np.deg2rad(angles), y):
        for row in range(10):
            for column in range(10):
                total = 0
                for i, weight in enumerate(weights):
                    down, right = math.ceil(i * math.sin(angle) - 0.5), math.ceil(i * math.cos(angle) - 0.5)
                    total += weight * image[:, min(max(row + down, 0), 9), min(max(column + right, 0), 9)]
                assert np.allclose(smeared[:, row, column], total / sum(weights))


def test_motion_blur_is_near_horizontal_and_one_sided():
    x = np.zeros((40, 3, 31, 31))
    x[:, :, 15, 15] = 1
    y = filters.motion_blur(x, generators(40), (10, 3))
    assert np.allclose(y.sum(axis=(2, 3)), 1)
    rows, columns = np.nonzero(y.max(axis=(0, 1)))
    assert columns.max() == 15 and (np.abs(rows - 15) <= 15 - columns + 1e-9).all()
    heights = (y[:, 0] * (np.arange(31)[:, None] - 15)).sum(axis=(1, 2))
    assert heights.min() < -1 and heights.max() > 1  # some rise, some fall


@pytest.mark.parametrize("side, end, step", [(32, 1.06, 0.01), (50, 1.26, 0.02)])
def test_zoom_blur_is_a_mean_of_zooms(side, end, step):
    x = noise(1, side)
    total, count = x[0].copy(), 1
    for factor in np.arange(1, end, step):
        kept = math.ceil(side / factor)
        top = (side - kept) // 2
        zoomed = ndimage.zoom(x[0, :, top : top + kept, top : top + kept], (1, factor, factor), order=1)
        trim = (zoomed.shape[-1] - side) // 2
        total += zoomed[:, trim : trim + side, trim : trim + side]
        count += 1
    assert np.allclose(filters.zoom_blur(x, None, (end, step))[0], total / count)


# Weather


def test_snow_without_flakes_whitens():
    x = noise(2, 16)
    y = weather.snow(x, generators(2), (0.1, 0.1, 1, 5, 8, 3, 0.7))
    for i, row, column in np.ndindex(2, 16, 16):
        r, g, b = colour = x[i, :, row, column]
        white = np.maximum(colour, 1.5 * (0.299 * r + 0.587 * g + 0.114 * b) + 0.5)
        assert np.allclose(y[i, :, row, column], 0.7 * colour + 0.3 * white)


def test_flakes_fall_steeply_and_twice():
    parameters = TABLES["snow"][64][1]
    flakes = weather.snow(np.zeros((20, 3, 64, 64)), generators(20), parameters) - 0.5 * (1 - parameters[-1])
    assert np.allclose(flakes, flakes[:, :, ::-1, ::-1]) and np.allclose(flakes[:, 0], flakes[:, 2])
    assert flakes.min() > -1e-9 and 0.001 < flakes.mean() < 0.2
    assert np.square(np.diff(flakes, axis=2)).mean() < 0.7 * np.square(np.diff(flakes, axis=3)).mean()


def test_snow_is_heavier_with_severity():
    x = np.zeros((8, 3, 64, 64))
    means = [to_uint8(weather.snow(x, generators(8), c)).mean() for c in TABLES["snow"][64]]
    assert means == sorted(means) and len(set(means)) == 5


@pytest.mark.parametrize("side, scale", [(120, 0.2), (180, 0.3)])
def test_overlays_have_the_photographs_colours(side, scale):
    overlays = 255 * weather.frost_overlays(side, scale)
    assert overlays.shape == (5, 3, side, side) and overlays.min() >= 0 and overlays.max() <= 255
    for overlay, (mean, std) in zip(overlays, weather.FROST_COLOURS):
        assert np.allclose(overlay.mean(axis=(1, 2)), mean, atol=2)
        assert np.allclose(overlay.std(axis=(1, 2)), std, atol=3)
    drawn = np.array(overlays)
    weather.frost_overlays.cache_clear()
    assert np.array_equal(255 * weather.frost_overlays(side, scale), drawn)


def test_frost_adds_a_part_of_an_overlay():
    rngs, side = generators(60), 32
    x = noise(60, side)
    y = weather.frost(x, rngs, (0.9, 0.4, 0.2))
    overlays = weather.frost_overlays(120, 0.2)
    parts = np.lib.stride_tricks.sliding_window_view(overlays, (side, side), axis=(2, 3))
    chosen = Counter()
    for image, frosted in zip(x, y):
        part = (frosted - 0.9 * image) / 0.4
        corner = np.abs(parts[..., 0, 0] - part[:, 0, 0][:, None, None]).max(axis=1) < 1e-9
        assert any(np.allclose(parts[which, :, top, left], part) for which, top, left in np.argwhere(corner))
        chosen[np.argwhere(corner)[0, 0]] += 1
    assert len(chosen) == 5


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
    y = weather.fog(x, generators(3), (1.5, 2))
    fog = weather.plasma(generators(3), 32, 2)
    most = x.max(axis=(1, 2, 3))
    for i in range(2):
        assert np.allclose(y[i], (x[i] + 1.5 * fog[i]) * most[i] / (most[i] + 1.5))
        assert y[i].max() <= most[i] + 1e-9
    assert not y[2].any()


@pytest.mark.parametrize("name, table", [("brightness", 64), ("saturate", 64), ("saturate", 32)])
def test_colours_against_colorsys(name, table):
    x = noise(1, 8)
    x[0, :, 0, :3] = np.array([0, 0.5, 1])  # black, grey, white
    x[0, :, 1, 0] = (0.3, 0.3, 0.7)
    for c in TABLES[name][table]:
        y = CORRUPTIONS[name](x, None, c)
        for row, column in np.ndindex(8, 8):
            h, s, v = colorsys.rgb_to_hsv(*x[0, :, row, column])
            if name == "brightness":
                v = min(v + c, 1)
            else:
                s = min(max(c[0] * s + c[1], 0), 1)
            assert np.allclose(y[0, :, row, column], colorsys.hsv_to_rgb(h, s, v))


# Digital


def test_contrast_shrinks_around_every_channels_mean():
    x = noise(2, 16) * np.array([1, 0.5, 0.2]).reshape(1, 3, 1, 1)
    for factor in TABLES["contrast"][64]:
        y = filters.contrast(x, None, factor)
        assert np.allclose(y.mean(axis=(2, 3)), x.mean(axis=(2, 3)))
        assert np.allclose(y.std(axis=(2, 3)), factor * x.std(axis=(2, 3)))


def test_affine_map_moves_its_three_points():
    side = 48
    y, x = np.indices((side, side)) / side
    ramp = np.stack([x, y, 0.5 + 0 * x])
    moved = filters.jittered(ramp, np.random.default_rng(5), 3)
    steps = np.random.default_rng(5).uniform(-3, 3, (3, 2))
    for (px, py), (dx, dy) in zip([(40, 40), (40, 8), (8, 8)], steps):
        at = [[py + dy], [px + dx]]
        assert ndimage.map_coordinates(moved[0], at, order=1) * side == pytest.approx(px)
        assert ndimage.map_coordinates(moved[1], at, order=1) * side == pytest.approx(py)
    assert np.allclose(moved[2], 0.5)
    assert np.allclose(filters.jittered(ramp, np.random.default_rng(5), 0), ramp)


def test_displacement_is_a_loop():
    side, reach, std = 12, 4.0, 1.5
    image = noise(1, side)[0]
    y = filters.displaced(image, np.random.default_rng(2), reach, std)
    rng = np.random.default_rng(2)
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * std**2))  # cut at three standard deviations: 4.5, rounded
    kernel = np.outer(line, line) / line.sum() ** 2

    def inside(i, n=side):
        i %= 2 * n
        return i if i < n else 2 * n - 1 - i

    dx, dy = (reach * convolved(rng.uniform(-1, 1, (side, side)), kernel, inside) for _ in range(2))
    assert np.abs(dx).max() > 0.5
    for row, column in np.ndindex(side, side):
        v, u = row + dy[row, column], column + dx[row, column]
        top, left = math.floor(v), math.floor(u)
        expected = 0
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = (1 - abs(v - top - i)) * (1 - abs(u - left - j))
            expected += weight * image[:, inside(top + i), inside(left + j)]
        assert np.allclose(y[:, row, column], expected)


def test_elastic_transform_scales_with_the_side():
    x = np.zeros((1, 3, 64, 64))
    x[:, :, 32, 32] = 1
    still = filters.elastic_transform(x, generators(1), (0, 0, 0))
    assert np.allclose(still, x)
    image = noise(1, 64)
    y = filters.elastic_transform(image, generators(1), (0.1, 0.08, 0.06))
    rng = generators(1)[0]
    assert np.allclose(y[0], filters.displaced(filters.jittered(image[0], rng, 3.84), rng, 6.4, 5.12))


@pytest.mark.parametrize("side", [32, 64])
def test_pixelate_and_jpeg_are_pillows(side):
    x = scenes(2, side)
    pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in x]
    for severity in range(1, 6):
        small = int(side * TABLES["pixelate"][side][severity - 1])
        pixelated = corrupt(x, np.arange(2), "pixelate", severity, 0)
        compressed = corrupt(x, np.arange(2), "jpeg_compression", severity, 0)
        for i, picture in enumerate(pictures):
            boxes = picture.resize((small, small), Image.Resampling.BOX).resize((side, side), Image.Resampling.BOX)
            assert np.array_equal(pixelated[i].transpose(1, 2, 0), np.asarray(boxes))
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=TABLES["jpeg_compression"][side][severity - 1])
            assert np.array_equal(compressed[i].transpose(1, 2, 0), np.asarray(Image.open(file)))


# Spatter


@pytest.mark.parametrize("parameters", TABLES["spatter"][64])
def test_water_adds_turquoise_and_mud_covers_with_brown(parameters):
    x = 0.3 * noise(8, 64)
    y = weather.spatter(x, generators(8), parameters)
    *_, strength, is_mud = parameters
    colour = np.array([63, 42, 20] if is_mud else [175, 238, 238]).reshape(1, 3, 1, 1) / 255
    amount = (y - x) / (colour - x) if is_mud else (y - x) / colour
    assert np.allclose(amount[:, :1], amount, atol=1e-6)
    assert amount.min() > -1e-9 and amount.max() <= 1 + 1e-9 and 0.005 < (amount > 0).mean() < 0.6
    if is_mud:
        assert not ((amount > 1e-6) & (amount < 0.8 - 1e-6)).any()
    else:
        assert np.allclose(amount.max(axis=(1, 2, 3)), strength)


def test_no_drop_changes_nothing():
    x = noise(2, 16)
    assert np.array_equal(weather.spatter(x, generators(2), (0.5, 0.1, 1, 2, 0.6, 0)), x)


def test_edges_are_thin_and_joined_to_strong_ones():
    values = np.zeros((16, 16), np.uint8)
    values[:, 8:] = 30  # gradient 120 on both sides of the step: one of the two columns stays, and only if joined
    assert not weather.edges(values).any()
    values[8:12, 8:] = 60  # there 240
    found = weather.edges(values)
    assert found[3].sum() == 1 and found[9].sum() == 1 and found[3, 7] and found[9, 7]
    values = np.zeros((16, 16), np.uint8)
    values[:, 8:] = 12  # 48: never
    values[8:12, 8:] = 60
    assert not weather.edges(values)[:6].any()
    diagonal = np.where(np.add.outer(np.arange(16), np.arange(16)) > 15, 200, 0).astype(np.uint8)
    assert weather.edges(diagonal)[4:12, 4:12].sum(axis=1).max() <= 2 and weather.edges(diagonal)[8].any()


def test_histograms_are_spread():
    values = np.array([[10, 10], [20, 30]], np.uint8)
    assert weather.equalised(values).tolist() == [[0, 0], [128, 255]]
    assert weather.equalised(np.full((2, 2), 7, np.uint8)).tolist() == [[7, 7], [7, 7]]


# Damage

INCREASING = [
    name for name in CORRUPTIONS if name not in {"glass_blur", "frost", "elastic_transform", "spatter", "saturate"}
]


@pytest.fixture(scope="module")
def damage():
    """Root mean squared difference to the clean images by (table's side, corruption), severities 1 to 5."""
    result = {}
    for side in (32, 64):
        x = scenes(24, side)
        for name in CORRUPTIONS:
            changed = (corrupt(x, np.arange(24), name, severity, 0) for severity in corruptions.SEVERITIES)
            result[side, name] = [np.sqrt(np.square(y - x.astype(float)).mean()) for y in changed]
    return result


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("name", INCREASING)
def test_damage_grows_with_severity(damage, name, side):
    assert (np.diff(damage[side, name]) > 0).all(), damage[side, name]


def test_damage_where_the_tables_do_not_let_it_grow(damage):
    for side in (32, 64):
        elastic, saturate, spatter, frost = (
            damage[side, name] for name in ("elastic_transform", "saturate", "spatter", "frost")
        )
        assert elastic[0] == max(elastic) and elastic[4] == min(elastic)  # the affine map moves less and less
        assert saturate[0] < saturate[1] > saturate[2] < saturate[3] < saturate[4]  # less colour, then more
        assert spatter[0] < spatter[1] < spatter[2] and spatter[3] < spatter[4]  # water, then mud
        assert frost[0] == min(frost)  # which overlays were drawn matters more than their weight
    one, two, three, four, five = damage[64, "glass_blur"]  # less blur shows more of the shuffling
    assert two < one and two < three < five and four < five
    one, two, three, four, five = damage[32, "glass_blur"]
    assert max(one, two, three) < min(four, five)  # one pass, then two
