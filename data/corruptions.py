"""Common corruptions of images at five severities (Hendrycks and Dietterich, ICLR 2019), in NumPy, SciPy and Pillow.

They follow the scripts that made CIFAR-C, Tiny-ImageNet-C and ImageNet-C (github.com/hendrycks/robustness,
ImageNet-C/create_c); corruption_tables.py has the strengths. The released sets were made without a seed,
Tiny-ImageNet's from other images, and all but CIFAR's were stored as JPEG: error rates on images made here are not
those on the released sets and are to be labelled as generated.

Faithful to the scripts, though not what one would expect: glass blur copies pixels where it means to swap them (NumPy's
views), the first two zoom blurs of the 32 and 64 pixel tables reach 1.06 and 1.11 (floating-point ranges), and values
are truncated, not rounded, to 8 bits.

Deviations:
1. Every image has random numbers of its own, decided by seed, corruption, severity and the image's row in its set.
2. The frost overlays are drawn here: five fields of fern crystals with the mean and standard deviation, colour by
   colour, of the five photographs that the scripts choose from (two of which are the same picture).
3. Motion blur stands in for ImageMagick's (motion_blur and snow): the same taps and weights, but no rounding to 16 bits
   before the truncation to 8, which changes less than 1 % of the values by 1.
4. Elastic transform's affine map samples exact positions, where the OpenCV of the time rounded them to 1/32 pixel.
5. Spatter's water measures distances to edges exactly, where OpenCV approximates them. An image on which no drop falls
   stays as it is, where the script divides by zero, and the liquid is clipped at 1, where the script wraps around.
6. Sides without a table of their own take the table nearest in ratio. Its lengths stay pixels, except those of elastic
   transform and pixelate, which scale with the side; fog's fractal takes the next power of two as its side.
"""

import cmath
import functools
import io
import math

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage, sparse

from .corruption_tables import TABLES

SCORED = {
    "gaussian_noise": "noise",
    "shot_noise": "noise",
    "impulse_noise": "noise",
    "defocus_blur": "blur",
    "glass_blur": "blur",
    "motion_blur": "blur",
    "zoom_blur": "blur",
    "snow": "weather",
    "frost": "weather",
    "fog": "weather",
    "brightness": "weather",
    "contrast": "digital",
    "elastic_transform": "digital",
    "pixelate": "digital",
    "jpeg_compression": "digital",
}
HELD_OUT = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
SEVERITIES = (1, 2, 3, 4, 5)
STORAGES = ("png", "jpeg85")

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


def table_for(side):
    """The side (32, 64 or 224) of the table that serves images of this side: the nearest in ratio."""
    return min((32, 64, 224), key=lambda table: abs(math.log(side / table)))


def corrupt(images, rows, name, severity, seed, storage="png"):
    """Corrupted copies of a batch.

    images: uint8 [B, 3, H, H]; rows: int [B], each image's index in its set, which with the seed decides its random
    numbers, whatever the batch; name: of SCORED or HELD_OUT; severity: 1 to 5; seed: at least 0.
    storage: "jpeg85" passes the result through a JPEG file of quality 85, as the released Tiny-ImageNet-C was stored.
    Gives uint8 [B, 3, H, H]. Raises ValueError for an unknown name, severity or storage.
    """
    _check("corruption", name, tuple(CORRUPTIONS))
    _check("severity", severity, SEVERITIES)
    _check("storage", storage, STORAGES)
    number = list(CORRUPTIONS).index(name)
    rngs = [np.random.default_rng((seed, number, severity, row)) for row in rows.tolist()]
    parameters = TABLES[name][table_for(images.shape[-1])][severity - 1]
    corrupted = to_uint8(CORRUPTIONS[name](images / 255, rngs, parameters))
    return through_pillow(corrupted, lambda image: as_jpeg(image, 85)) if storage == "jpeg85" else corrupted


def _check(what, value, possible):
    if value not in possible:
        raise ValueError(f"{what} must be one of {', '.join(map(str, possible))}, not {value!r}")


# A corruption takes images x, float [B, 3, H, H] in 0..1, a generator for each and the table's entry. It gives float
# images of the same shape, whose values may leave 0..1.


def to_uint8(x):
    """Values in 0..1 as uint8: clipped, scaled by 255 and truncated."""
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def normal(rngs, *shape):
    """Standard normal numbers [B, *shape], each image's from its own generator."""
    return np.stack([rng.standard_normal(shape) for rng in rngs])


def uniform(rngs, *shape):
    """Uniform numbers in 0..1, [B, *shape], each image's from its own generator."""
    return np.stack([rng.random(shape) for rng in rngs])


# Noise


def gaussian_noise(x, rngs, std):
    """Add normal noise."""
    return x + std * normal(rngs, *x.shape[1:])


def shot_noise(x, rngs, photons):
    """Count photons, of which white sends this many on average."""
    return np.stack([rng.poisson(photons * image) for image, rng in zip(x, rngs)]) / photons


def impulse_noise(x, rngs, fraction):
    """Set a fraction of the values to 0 or 1, half each."""
    u = uniform(rngs, *x.shape[1:])
    return np.where(u < fraction, u < fraction / 2, x)


def speckle_noise(x, rngs, std):
    """Add normal noise in proportion to the value."""
    return x + x * std * normal(rngs, *x.shape[1:])


# Blur


def gaussian_blur(x, rngs, std):
    """Convolve with a Gaussian, cut at four standard deviations."""
    return ndimage.gaussian_filter(x, std, mode="nearest", axes=(2, 3))


def defocus_blur(x, rngs, parameters):
    """Convolve with a disk."""
    return ndimage.correlate(x, disk(*parameters)[None, None], mode="mirror")


def disk(radius, std):
    """The kernel of a disk: the pixels within the radius, slightly blurred.

    The sum is 1, and up to 1.3 % more where the disk touches the border of its grid (radius 8 and above), as the
    scripts' is.
    """
    offsets = np.arange(-max(8, radius), max(8, radius) + 1)
    inside = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(float)
    return ndimage.gaussian_filter(inside / inside.sum(), std, radius=1 if radius <= 8 else 2, mode="mirror")


def glass_blur(x, rngs, parameters):
    """Blur, let every pixel take the value of a random near one, blur again.

    A pass goes through the pixels from the last to the first, so that a value can be taken several times.
    """
    std, reach, passes = parameters
    side = x.shape[-1]
    inner = side - 2 * reach
    x = to_uint8(gaussian_blur(x, rngs, std)) / 255
    steps = np.stack([rng.integers(-reach, reach, (passes, 2, inner, inner)) for rng in rngs])
    for i in range(passes):
        origin = origins(side, reach, steps[:, i])
        x = np.take_along_axis(x.reshape(*x.shape[:2], -1), origin[:, None], 2).reshape(x.shape)
    return gaussian_blur(x, rngs, std)


def origins(side, reach, steps):
    """Whose value each pixel has after one pass of glass blur: pixel numbers [B, side * side].

    steps [B, 2, n, n]: how far down and right of it each pixel looks, for rows and columns reach + 1 to side - reach.
    """
    count = side * side
    pixel = np.arange(count).reshape(side, side)[reach + 1 : side - reach + 1, reach + 1 : side - reach + 1]
    neighbour = pixel + side * steps[:, 0] + steps[:, 1]
    origin = np.tile(np.arange(count), (len(steps), 1))
    # below count: a pixel's old value; count + q: what pixel q has taken. Each round follows twice as many steps.
    origin[:, pixel] = neighbour + count * (neighbour > pixel)  # a later neighbour had its turn before
    while (taken := origin >= count).any():
        origin = np.where(taken, np.take_along_axis(origin, origin % count, 1), origin)
    return origin


def motion_blur(x, rngs, parameters):
    """Smear along a direction within 45 degrees of the horizontal."""
    return smear(x, -45 + 90 * uniform(rngs), *parameters)


def smear(x, angles, radius, std):
    """Average what lies ahead of each pixel, weighted by half a Gaussian, as ImageMagick's MotionBlurImage does.

    angles [B]: in degrees, clockwise from the right. The 2 radius + 1 taps lie at whole pixels, or at the border.
    """
    side, taps = x.shape[-1], np.arange(2 * radius + 1)
    weights = np.exp(-(taps**2) / (2 * std**2))
    weights /= weights.sum()
    margin = len(taps)
    padded = np.pad(x, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="edge")
    out = np.zeros_like(x)
    for image, source, angle in zip(out, padded, np.deg2rad(angles)):
        rows = np.ceil(taps * np.sin(angle) - 0.5).astype(int) + margin
        columns = np.ceil(taps * np.cos(angle) - 0.5).astype(int) + margin
        for weight, row, column in zip(weights, rows, columns):
            image += weight * source[:, row : row + side, column : column + side]
    return out


def zoom_blur(x, rngs, parameters):
    """Average the image and its zooms."""
    operator = zoom_operator(x.shape[-1], *parameters)
    return (operator @ x.reshape(-1, operator.shape[0]).T).T.reshape(x.shape)


@functools.cache
def zoom_operator(side, end, step):
    """Zoom blur as a sparse matrix on the pixels of a channel."""
    zooms = [sparse.csr_array(zoom_matrix(side, factor)) for factor in np.arange(1, end, step)]
    total = sum(sparse.kron(zoom, zoom, "csr") for zoom in zooms) + sparse.eye_array(side * side)
    return total.tocsr() / (len(zooms) + 1)


@functools.cache
def zoom_matrix(side, factor):
    """The matrix that enlarges the centre of an axis to its old length, by linear interpolation."""
    kept = math.ceil(side / factor)
    top = (side - kept) // 2
    zoomed = ndimage.zoom(np.eye(side)[top : top + kept], (factor, 1), order=1)
    trim = (len(zoomed) - side) // 2
    return zoomed[trim : trim + side]


# Weather


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
    """Five pictures of frost [5, 3, side, side] in 0..1, always the same; scale: pixels for one of a photograph's."""
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


def brightness(x, rngs, amount):
    """Raise the value in HSV (the largest channel), keeping hue and saturation."""
    value = x.max(axis=1, keepdims=True)
    relative = np.divide(x, value, out=np.ones_like(x), where=value > 0)
    return relative * np.clip(value + amount, 0, 1)


def saturate(x, rngs, parameters):
    """Change the saturation in HSV, keeping hue and value; grey turns red, whose hue is 0."""
    factor, summand = parameters
    value, spread = x.max(axis=1, keepdims=True), np.ptp(x, axis=1, keepdims=True)
    red = np.array([0, 1, 1]).reshape(1, 3, 1, 1)
    distance = np.divide(value - x, spread, out=np.broadcast_to(red, x.shape).astype(float), where=spread > 0)
    saturation = np.divide(spread, value, out=np.zeros_like(value), where=value > 0)
    return value * (1 - distance * np.clip(saturation * factor + summand, 0, 1))


# Digital


def contrast(x, rngs, factor):
    """Draw every channel towards its mean."""
    mean = x.mean(axis=(2, 3), keepdims=True)
    return (x - mean) * factor + mean


def elastic_transform(x, rngs, parameters):
    """Map the image affinely by three jittered points, then displace every pixel along a smooth random field."""
    reach, std, jitter = (x.shape[-1] * part for part in parameters)
    return np.stack([displaced(jittered(image, rng, jitter), rng, reach, std) for image, rng in zip(x, rngs)])


def jittered(image, rng, jitter):
    """An image [3, H, H] under the affine map that moves three points (x, y) by up to jitter pixels an axis."""
    side = image.shape[-1]
    low, high = side // 2 - side // 3, side // 2 + side // 3
    points = np.array([[high, high], [high, low], [low, low]])
    moved = points + rng.uniform(-jitter, jitter, (3, 2))
    inverse = np.linalg.solve(np.column_stack([moved, np.ones(3)]), points)
    y, x = np.indices((side, side))
    x, y = np.moveaxis(np.stack([x, y, np.ones_like(x)], axis=-1) @ inverse, -1, 0)
    return sampled(image, y, x, "mirror")


def displaced(image, rng, reach, std):
    """An image [3, H, H] whose pixels come from up to reach pixels away, by noise blurred with a Gaussian."""
    shape = image.shape[1:]
    dx, dy = (
        reach * ndimage.gaussian_filter(rng.uniform(-1, 1, shape), std, mode="reflect", truncate=3) for _ in range(2)
    )
    y, x = np.indices(shape)
    return sampled(image, y + dy, x + dx, "reflect")


def sampled(image, y, x, mode):
    """An image [3, H, W] at the positions y, x [H, W], interpolated linearly; mode: what lies beyond the border."""
    return np.stack([ndimage.map_coordinates(channel, (y, x), order=1, mode=mode) for channel in image])


def pixelate(x, rngs, scale):
    """Shrink, and enlarge again, by averages over boxes."""
    side = x.shape[-1]
    small = int(side * scale)

    def change(image):
        return image.resize((small, small), Image.Resampling.BOX).resize((side, side), Image.Resampling.BOX)

    return through_pillow(to_uint8(x), change) / 255


def jpeg_compression(x, rngs, quality):
    """Store as JPEG."""
    return through_pillow(to_uint8(x), lambda image: as_jpeg(image, quality)) / 255


def as_jpeg(image, quality):
    """A Pillow image after storage as JPEG of this quality."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def through_pillow(images, change):
    """Images uint8 [B, 3, H, W], each changed by a function of Pillow images."""
    changed = [np.asarray(change(Image.fromarray(image))) for image in images.transpose(0, 2, 3, 1)]
    return np.stack(changed).transpose(0, 3, 1, 2)


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
    """Canny's edges of uint8 [H, W], bool: crests of the gradient above low, joined to one above high (as OpenCV's)."""
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


CORRUPTIONS = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
    "speckle_noise": speckle_noise,
    "gaussian_blur": gaussian_blur,
    "spatter": spatter,
    "saturate": saturate,
}
