"""Common corruptions against per-pixel loops, closed forms and Pillow."""

import colorsys
import io
import math
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data import corruption_filters as filters
from data import corruption_weather, corruptions
from data.corruption_tables import TABLES
from data.corruptions import CORRUPTIONS, HELD_OUT, SCORED, corrupt, to_uint8

# CRC-32 of every table, in their order, as it was when all numbers were compared with those of the three scripts
COMPARED = dict(zip(TABLES, (
    2840229917, 1480528409, 3268242148, 3017383772, 1193145017, 3270873429, 2359564993, 2026297456, 4121347828,
    692791227, 1185636873, 4230471292, 7567973, 1136011262, 93051039, 3396497670, 2060960167, 284682899, 4218411125,
)))  # fmt: skip


def generators(count, seed=0):
    return [np.random.default_rng((seed, i)) for i in range(count)]


def noise(count, side, seed=0):
    """Images without any structure, float [B, 3, H, H] in 0..1."""
    return np.random.default_rng(seed).random((count, 3, side, side))


def blots(count, side, seed=0):
    """Images uint8 [B, 3, H, H] with smooth parts and edges."""
    x = ndimage.gaussian_filter(noise(count, side, seed), (0, 0, side / 16, side / 16), mode="wrap")
    x = (x - x.min()) / np.ptp(x)
    x[..., side // 4 : side // 2, side // 3 :] *= 0.3
    return to_uint8(x)


def clamped(i, n):
    return min(max(i, 0), n - 1)


def mirrored(i, n):
    """The border's pixel once: c b | a b c | b a."""
    return n - 1 - abs(n - 1 - abs(i))


def reflected(i, n):
    """The border's pixel twice: b a | a b c | c b."""
    i %= 2 * n
    return i if i < n else 2 * n - 1 - i


def convolved(image, kernel, border):
    """A channel correlated pixel by pixel; border(i, n): the index that stands for i outside 0..n-1."""
    side, reach = len(image), len(kernel) // 2
    out = np.zeros(image.shape)
    for y, x in np.ndindex(image.shape):
        for dy, dx in np.ndindex(kernel.shape):
            source = border(y + dy - reach, side), border(x + dx - reach, side)
            out[y, x] += kernel[dy, dx] * image[source]
    return out


def gaussian_kernel(std, reach):
    line = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * std**2))
    return np.outer(line, line) / line.sum() ** 2


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
    overlays = noise(5, 2 * side)
    monkeypatch.setattr(corruption_weather, "frost_overlays", lambda *size: overlays)  # those take seconds to draw
    x = blots(1, side)
    for number, name in enumerate(CORRUPTIONS):
        for severity in severities:
            y = corrupt(x, np.array([3]), name, severity, 7)
            rngs = [np.random.default_rng((7, number, severity, 3))]
            assert np.array_equal(y, to_uint8(CORRUPTIONS[name](x / 255, rngs, TABLES[name][table][severity - 1])))
            assert y.shape == x.shape and y.dtype == np.uint8 and (y != x).any(), (name, severity)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_every_batch(name):
    x, rows = blots(5, 32), np.array([7, 0, 3, 12, 5])
    before = x.copy()
    y = corrupt(x, rows, name, 4, 1)
    assert np.array_equal(x, before)
    order = np.array([3, 0, 4])
    assert np.array_equal(corrupt(x[order], rows[order], name, 4, 1), y[order])


def test_the_random_numbers_are_those_of_all_records():
    grey = np.full((1, 3, 8, 8), 128, np.uint8)
    assert corrupt(grey, np.array([796]), "gaussian_noise", 3, 5)[0, 0, 0].tolist() == [
        111,
        154,
        110,
        124,
        116,
        154,
        92,
        149,
    ]
    assert corrupt(grey, np.array([796]), "speckle_noise", 4, 0)[0, 0, 0].tolist() == [
        131,
        173,
        142,
        92,
        161,
        153,
        123,
        164,
    ]


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


# Noise


@pytest.mark.parametrize(
    "name, strength, variance",
    [
        ("gaussian_noise", 0.12, lambda x: 0.12**2 + 0 * x),
        ("shot_noise", 30, lambda x: x / 30),
        ("speckle_noise", 0.25, lambda x: (0.25 * x) ** 2),
    ],
)
def test_noise_has_its_mean_and_variance(name, strength, variance):
    values = np.array([0.2, 0.5, 0.9])
    y = CORRUPTIONS[name](np.broadcast_to(values.reshape(3, 1, 1, 1), (3, 3, 256, 256)), generators(3), strength)
    spread = y.var(axis=(1, 2, 3))
    assert np.allclose(spread, variance(values), rtol=0.02)
    assert (np.abs(y.mean(axis=(1, 2, 3)) - values) < 5 * np.sqrt(spread / y[0].size)).all()
    if name == "shot_noise":  # counts
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


def test_gaussian_blur_is_a_loop():
    x = noise(1, 9)
    for channel, blurred in zip(x[0], filters.gaussian_blur(x, None, 0.75)[0]):
        assert np.allclose(blurred, convolved(channel, gaussian_kernel(0.75, 3), clamped))


@pytest.mark.parametrize(
    "radius, std, grid, reach", [(1.5, 0.1, 8, 1), (2.5, 0.6, 8, 1), (8, 0.5, 8, 1), (10, 0.5, 10, 2)]
)
def test_disks_are_blurred_at_their_edge(radius, std, grid, reach):
    y, x = np.indices((2 * grid + 1, 2 * grid + 1)) - grid
    inside = x**2 + y**2 <= radius**2
    expected = convolved(inside / inside.sum(), gaussian_kernel(std, reach), mirrored)
    assert np.allclose(filters.disk(radius, std), expected)


def test_defocus_is_a_loop():
    x = noise(1, 12)
    for parameters in ((0.5, 0.6), (2.5, 0.01)):
        expected = convolved(x[0, 1], filters.disk(*parameters), mirrored)
        assert np.allclose(filters.defocus_blur(x, None, parameters)[0, 1], expected)


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
                    # NumPy's views: what reads like a swap copies
                    pixels[h, w], pixels[h + dy, w + dx] = pixels[h + dy, w + dx], pixels[h, w]
        for c in range(3):
            assert np.allclose(result[c], ndimage.gaussian_filter(pixels[..., c] / 255, std, mode="nearest"))


def test_smear_is_a_loop():
    x, angles, radius, std = noise(4, 10), np.array([0, 37.5, -44, -120]), 6, 2.5
    y = filters.smear(x, angles, radius, std)
    weights = [math.exp(-(i**2) / (2 * std**2)) for i in range(2 * radius + 1)]
    for image, angle, smeared in zip(x, np.deg2rad(angles), y):
        for row, column in np.ndindex(10, 10):
            total = 0
            for i, weight in enumerate(weights):
                down, right = math.ceil(i * math.sin(angle) - 0.5), math.ceil(i * math.cos(angle) - 0.5)
                total += weight * image[:, clamped(row + down, 10), clamped(column + right, 10)]
            assert np.allclose(smeared[:, row, column], total / sum(weights))


def test_motion_is_within_45_degrees_of_the_horizontal():
    x = noise(3, 16)
    angles = np.array([rng.uniform(-45, 45) for rng in generators(3)])
    assert np.allclose(filters.motion_blur(x, generators(3), (4, 1.5)), filters.smear(x, angles, 4, 1.5))


def zoomed(image, factor):
    """The centre of an image [H, H, ...] enlarged to its old side."""
    side = len(image)
    kept = math.ceil(side / factor)
    top = (side - kept) // 2
    image = ndimage.zoom(image[top : top + kept, top : top + kept], factor, order=1)
    trim = (len(image) - side) // 2
    return image[trim : trim + side, trim : trim + side]


@pytest.mark.parametrize("side, end, step", [(32, 1.06, 0.01), (50, 1.26, 0.02)])
def test_zoom_blur_is_a_mean_of_zooms(side, end, step):
    x = noise(1, side)
    images = [x[0, 1], *(zoomed(x[0, 1], factor) for factor in np.arange(1, end, step))]
    assert np.allclose(filters.zoom_blur(x, None, (end, step))[0, 1], np.mean(images, axis=0))


# Colour


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


def test_contrast_shrinks_around_every_channels_mean():
    x = noise(2, 16) * np.array([1, 0.5, 0.2]).reshape(1, 3, 1, 1)
    y = filters.contrast(x, None, 0.3)
    assert np.allclose(y.mean(axis=(2, 3)), x.mean(axis=(2, 3)))
    assert np.allclose(y.std(axis=(2, 3)), 0.3 * x.std(axis=(2, 3)))


# Digital


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
    side, reach = 12, 4.0
    image = noise(1, side)[0]
    y = filters.displaced(image, np.random.default_rng(2), reach, 1.5)
    rng, kernel = np.random.default_rng(2), gaussian_kernel(1.5, 5)  # cut at three standard deviations: 4.5, rounded
    dx, dy = (reach * convolved(rng.uniform(-1, 1, (side, side)), kernel, reflected) for _ in range(2))
    assert np.abs(dx).max() > 0.5
    for row, column in np.ndindex(side, side):
        v, u = row + dy[row, column], column + dx[row, column]
        top, left = math.floor(v), math.floor(u)
        expected = 0
        for i, j in np.ndindex(2, 2):
            weight = (1 - abs(v - top - i)) * (1 - abs(u - left - j))
            expected += weight * image[:, reflected(top + i, side), reflected(left + j, side)]
        assert np.allclose(y[:, row, column], expected)


def test_elastic_transform_scales_with_the_side():
    image, (rng,) = noise(1, 64), generators(1)
    y = filters.elastic_transform(image, generators(1), (0.1, 0.08, 0.06))
    assert np.allclose(y[0], filters.displaced(filters.jittered(image[0], rng, 3.84), rng, 6.4, 5.12))


@pytest.mark.parametrize("side", [32, 64])
def test_pixelate_and_jpeg_are_pillows(side):
    x = blots(2, side)
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
