"""The corruptions by weather, spatter among them: see corruptions.py."""

import cmath
import functools
import math

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from .corruption_filters import normal, smear, to_uint8, uniform, zoom_matrix

GREY = np.array([0.299, 0.587, 0.114])
WATER = np.array([175, 238, 238]) / 255
MUD = np.array([63, 42, 20]) / 255

# mean and standard deviation (red, green, blue) of frost1.png to frost5.jpg in hendrycks/robustness, in 0..255
FROST_COLOURS = np.array(
    [
        [[78, 149, 166], [27, 16, 15]],
        [[201, 205, 214], [21, 22, 23]],
        [[201, 205, 214], [21, 22, 23]],
        [[138, 153, 165], [28, 28, 30]],
        [[112, 123, 135], [44, 43, 42]],
    ]
)


def snow(x, rngs, parameters):
    """Whiten, and add smeared flakes twice, the second time turned by 180 degrees."""
    mean, std, factor, threshold, radius, blur, weight = parameters
    side = x.shape[-1]
    zoom = zoom_matrix(side, factor)
    flakes = zoom @ (mean + std * normal(rngs, side, side)) @ zoom.T
    flakes = to_uint8(np.where(flakes < threshold, 0, flakes))[:, None] / 255
    flakes = to_uint8(smear(flakes, -135 + 90 * uniform(rngs), radius, blur)) / 255
    whitened = np.maximum(x, 1.5 * grey(x) + 0.5)
    return weight * x + (1 - weight) * whitened + flakes + flakes[:, :, ::-1, ::-1]


def grey(x):
    """The luma of images [B, 3, H, W] as [B, 1, H, W]."""
    return np.einsum("c,bchw->bhw", GREY, x)[:, None]


def frost(x, rngs, parameters):
    """Add a random part of one of five overlays."""
    weight, overlay_weight, scale = parameters
    side = x.shape[-1]
    overlays = frost_overlays(max(round(600 * scale), 2 * side), scale)
    room = overlays.shape[-1] - side
    parts = []
    for rng in rngs:
        which, top, left = rng.integers(len(overlays)), rng.integers(room), rng.integers(room)
        parts.append(overlays[which, :, top : top + side, left : left + side])
    return weight * x + overlay_weight * np.stack(parts)


@functools.cache
def frost_overlays(side, scale):
    """Five pictures of frost [5, 3, side, side] in 0..1, always the same; scale: pixels per pixel of a photograph."""
    rng = np.random.default_rng(0)
    overlays = []
    for mean, std in FROST_COLOURS:
        picture = np.asarray(crystals(rng, round(side / scale)), float)
        picture = ndimage.zoom(picture, side / len(picture), order=1, mode="nearest", grid_mode=True)
        field = standardised(standardised(picture) + standardised(plasma([rng], side, 2)[0]))
        overlays.append(mean[:, None, None] + std[:, None, None] * field)
    return np.clip(overlays, 0, 255) / 255


def standardised(field):
    """A field with mean 0 and standard deviation 1."""
    return (field - field.mean()) / field.std()


def crystals(rng, side):
    """A grey picture of frost: fern-like crystals at random places in random directions."""
    picture = Image.new("L", (side, side))
    draw = ImageDraw.Draw(picture)
    for _ in range(side * side // 900):
        start = complex(*rng.uniform(0, side, 2))
        needle = cmath.rect(rng.uniform(10, 120), rng.uniform(0, 2 * math.pi))
        grow(draw, start, needle, brightness=rng.uniform(60, 255), order=2)
    return picture


def grow(draw, start, needle, brightness, order):
    """Draw a needle and, order times, smaller ones at 60 degrees on both sides of it; points are complex numbers."""
    tip = start + needle
    draw.line((start.real, start.imag, tip.real, tip.imag), fill=int(brightness), width=order + 1)
    if order == 0:
        return
    count = min(16, int(abs(needle) / 4))
    for i in range(1, count):
        for turn in (-math.pi / 3, math.pi / 3):
            branch = 0.4 * (1 - i / count) * needle * cmath.rect(1, turn)
            grow(draw, start + i / count * needle, branch, 0.9 * brightness, order - 1)


def fog(x, rngs, parameters):
    """Add a plasma fractal, then darken to the old maximum."""
    amount, decay = parameters
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    return (x + amount * plasma(rngs, x.shape[-1], decay)[:, None]) * brightest / (brightest + amount)


def plasma(rngs, side, decay):
    """Plasma fractals [B, side, side] by the diamond-square algorithm, scaled to 0..1 before they are cropped.

    On a torus whose side is a power of two, a point is the mean of four neighbours plus uniform noise, whose amplitude
    starts at 100^2 and falls by decay^2 from each scale to the next finer one.
    """
    size = 1 << (side - 1).bit_length()
    noise = 2 * uniform(rngs, size, size) - 1
    height = np.zeros_like(noise)
    amplitude = 100.0**2
    step = size
    while step > 1:
        corners, middles = slice(0, size, step), slice(step // 2, size, step)

        def fill(rows, columns, neighbours, amplitude=amplitude):
            height[:, rows, columns] = neighbours / 4 + amplitude * noise[:, rows, columns]

        corner = height[:, corners, corners]
        pair = corner + np.roll(corner, -1, 1)
        fill(middles, middles, pair + np.roll(pair, -1, 2))
        middle = height[:, middles, middles]
        fill(corners, middles, middle + np.roll(middle, 1, 1) + corner + np.roll(corner, -1, 2))
        fill(middles, corners, middle + np.roll(middle, 1, 2) + corner + np.roll(corner, -1, 1))
        step //= 2
        amplitude /= decay**2
    height -= height.min(axis=(1, 2), keepdims=True)
    height /= height.max(axis=(1, 2), keepdims=True)
    return height[:, :side, :side]


# Spatter


def spatter(x, rngs, parameters):
    """Splash with water, which brightens where the light falls, or with mud, which covers."""
    mean, std, blur, threshold, strength, is_mud = parameters
    liquid = mean + std * normal(rngs, *x.shape[2:])
    liquid = ndimage.gaussian_filter(liquid, blur, mode="nearest", axes=(1, 2))
    if is_mud:
        cover = (liquid > threshold).astype(float)
        cover = ndimage.gaussian_filter(cover, strength, mode="nearest", axes=(1, 2))[:, None]
        cover[cover < 0.8] = 0
        return x * (1 - cover) + MUD[:, None, None] * cover
    drops = to_uint8(np.where(liquid < threshold, 0, liquid))
    return x + strength * WATER[:, None, None] * np.stack([lit(image) for image in drops])[:, None]


def lit(drops):
    """How brightly drops of water, uint8 [H, W], reflect light from the upper left: 0..1 [H, W], with maximum 1."""
    edge = edges(drops)
    distance = ndimage.distance_transform_edt(~edge) if edge.any() else np.full(drops.shape, 20.0)
    relief = equalised(ndimage.uniform_filter(np.minimum(distance, 20), 3, mode="mirror").astype(np.uint8))
    light = ndimage.correlate(relief, [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], mode="mirror").clip(0, 255)
    glow = drops * np.rint(ndimage.uniform_filter(light, 3, mode="mirror"))
    return glow / max(glow.max(), 1)


def equalised(values):
    """Values uint8 [H, W] spread over 0..255 by the histogram, as whole float numbers; a constant picture stays."""
    below = np.cumsum(np.bincount(values.ravel(), minlength=256))
    least = below[values.min()]
    if least == values.size:
        return values.astype(float)
    return np.rint((below - least) * 255 / (values.size - least))[values]


def edges(values, low=50, high=150):
    """Canny's edges of uint8 [H, W], bool: crests of the gradient above low that touch others above high (OpenCV)."""
    dy, dx = (ndimage.sobel(values.astype(int), axis, mode="nearest") for axis in (0, 1))
    size = np.abs(dx) + np.abs(dy)
    height, width = size.shape
    padded = np.pad(size, 1)

    def at(down, right):
        return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    tangent = math.tan(math.pi / 8)
    horizontal, vertical = np.abs(dy) < tangent * np.abs(dx), np.abs(dx) < tangent * np.abs(dy)
    crest = np.select(
        [horizontal, vertical, dx * dy < 0],
        [
            (size > at(0, -1)) & (size >= at(0, 1)),
            (size > at(-1, 0)) & (size >= at(1, 0)),
            (size > at(-1, 1)) & (size > at(1, -1)),
        ],
        (size > at(-1, -1)) & (size > at(1, 1)),
    )
    candidates = crest & (size > low)
    groups, _ = ndimage.label(candidates, np.ones((3, 3)))
    return candidates & np.isin(groups, groups[candidates & (size > high)])
