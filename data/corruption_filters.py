"""The corruptions by noise, blur, colour and digital processing: see corruptions.py."""

import functools
import io
import math

import numpy as np
from PIL import Image
from scipy import ndimage, sparse

# A corruption takes images x, float [B, 3, H, H] in 0..1, a generator for each and the table's entry. It gives float
# images of the same shape, whose values may leave 0..1.


def to_uint8(x):
    """Values in 0..1 as uint8: clipped, scaled by 255 and truncated."""
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def normal(rngs, *shape):
    """Standard normal numbers [B, *shape], from a generator for each image."""
    return np.stack([rng.standard_normal(shape) for rng in rngs])


def uniform(rngs, *shape):
    """Uniform numbers in 0..1, [B, *shape], from a generator for each image."""
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
    """Blur, let every pixel take the value of a random neighbour, blur again.

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


# Colour


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


def contrast(x, rngs, factor):
    """Draw every channel towards its mean."""
    mean = x.mean(axis=(2, 3), keepdims=True)
    return (x - mean) * factor + mean


# Digital


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
