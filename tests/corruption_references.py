"""Every corruption of one image as a plain loop, a closed form or a call of Pillow: what the batches are held against.

A function of the corruption's name takes an image, float [3, H, H] in 0..1, its generator and an entry of the table.
"""

import colorsys
import io
import math

import numpy as np
from PIL import Image
from scipy import ndimage

from data import corruption_weather as weather
from data.corruption_filters import to_uint8

# What stands for index i beyond a border, of indices 0..n-1


def clamped(i, n):
    return min(max(i, 0), n - 1)


def mirrored(i, n):
    """The border's pixel once: c b | a b c | b a."""
    return n - 1 - abs(n - 1 - abs(i))


def reflected(i, n):
    """The border's pixel twice: b a | a b c | c b."""
    i %= 2 * n
    return i if i < n else 2 * n - 1 - i


def shifted(image, down, right, border):
    """For each pixel of an image [..., H, H] that which lies so far down and right."""
    n = image.shape[-1]
    rows, columns = ([border(i + shift, n) for i in range(n)] for shift in (down, right))
    return image[..., rows, :][..., columns]


def convolved(image, kernel, border):
    reach = len(kernel) // 2
    places = np.ndindex(kernel.shape)
    return sum(kernel[y, x] * shifted(image, y - reach, x - reach, border) for y, x in places)


def gaussian_kernel(std, reach):
    line = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * std**2))
    return np.outer(line, line) / line.sum() ** 2


def gaussian_noise(image, rng, std):
    return image + rng.normal(0, std, image.shape)


def shot_noise(image, rng, photons):
    return rng.poisson(photons * image) / photons


def impulse_noise(image, rng, fraction):
    drawn = rng.random(image.shape)
    return np.where(drawn < fraction / 2, 1, np.where(drawn < fraction, 0, image))


def speckle_noise(image, rng, std):
    return image * (1 + rng.normal(0, std, image.shape))


def gaussian_blur(image, rng, std):
    return convolved(image, gaussian_kernel(std, round(4 * std)), clamped)


def defocus_blur(image, rng, parameters):
    radius, std = parameters
    grid, reach = (8, 1) if radius <= 8 else (radius, 2)
    y, x = np.indices((2 * grid + 1, 2 * grid + 1)) - grid
    inside = x**2 + y**2 <= radius**2
    return convolved(image, convolved(inside / inside.sum(), gaussian_kernel(std, reach), mirrored), mirrored)


def glass_blur(image, rng, parameters):
    std, reach, passes = parameters
    side = image.shape[-1]
    count = side - 2 * reach
    steps = rng.integers(-reach, reach, (passes, 2, count, count))
    pixels = to_uint8(gaussian_blur(image, rng, std)).transpose(1, 2, 0)
    for i in range(passes):
        for h in range(side - reach, reach, -1):
            for w in range(side - reach, reach, -1):
                dy, dx = steps[i, :, h - reach - 1, w - reach - 1]
                # NumPy's views: what reads like a swap copies
                pixels[h, w], pixels[h + dy, w + dx] = pixels[h + dy, w + dx], pixels[h, w]
    return gaussian_blur(pixels.transpose(2, 0, 1) / 255, rng, std)


def smeared(image, angle, radius, std):
    total, weights = 0, [math.exp(-(i**2) / (2 * std**2)) for i in range(2 * radius + 1)]
    for i, weight in enumerate(weights):
        down, right = (math.ceil(i * f(math.radians(angle)) - 0.5) for f in (math.sin, math.cos))
        total += weight * shifted(image, down, right, clamped)
    return total / sum(weights)


def motion_blur(image, rng, parameters):
    return smeared(image, rng.uniform(-45, 45), *parameters)


def zoomed(image, factor):
    """The centre of an image [..., H, H] enlarged to its old side."""
    side = image.shape[-1]
    kept = math.ceil(side / factor)
    top = (side - kept) // 2
    zoom = [*[1] * (image.ndim - 2), factor, factor]
    image = ndimage.zoom(image[..., top : top + kept, top : top + kept], zoom, order=1)
    trim = (image.shape[-1] - side) // 2
    return image[..., trim : trim + side, trim : trim + side]


def zoom_blur(image, rng, parameters):
    end, step = parameters
    return np.mean([image, *(zoomed(image, factor) for factor in np.arange(1, end, step))], axis=0)


def snow(image, rng, parameters):
    mean, std, factor, threshold, radius, blur, weight = parameters
    flakes = zoomed(rng.normal(mean, std, image.shape[1:]), factor)
    flakes = to_uint8(flakes * (flakes >= threshold)) / 255
    flakes = to_uint8(smeared(flakes, rng.uniform(-135, -45), radius, blur)) / 255
    grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    return weight * image + (1 - weight) * np.maximum(image, 1.5 * grey + 0.5) + flakes + np.rot90(flakes, 2)


def frost(image, rng, parameters):
    weight, overlay_weight, scale = parameters
    side = image.shape[-1]
    overlays = weather.frost_overlays(max(round(600 * scale), 2 * side), scale)
    room = overlays.shape[-1] - side
    which, top, left = rng.integers(5), rng.integers(room), rng.integers(room)
    return weight * image + overlay_weight * overlays[which, :, top : top + side, left : left + side]


def plasma(rng, side, decay):
    size = 1
    while size < side:
        size *= 2
    drawn = rng.uniform(-1, 1, (size, size))
    height, step, wibble = np.zeros((size, size)), size, 100
    while step >= 2:
        half = step // 2

        def fill(y, x, corners, wibble=wibble):
            around = [height[(y + dy) % size, (x + dx) % size] for dy, dx in corners]
            height[y, x] = sum(around) / 4 + wibble * wibble * drawn[y, x]

        for y in range(half, size, step):
            for x in range(half, size, step):
                fill(y, x, [(-half, -half), (-half, half), (half, -half), (half, half)])
        for y, x in [(y, x) for y in range(0, size, half) for x in range(0, size, half) if (y + x) // half % 2]:
            fill(y, x, [(-half, 0), (half, 0), (0, -half), (0, half)])
        step //= 2
        wibble /= decay
    return ((height - height.min()) / np.ptp(height))[:side, :side]


def fog(image, rng, parameters):
    amount, decay = parameters
    return (image + amount * plasma(rng, image.shape[-1], decay)) * image.max() / (image.max() + amount)


def in_hsv(image, change):
    """Every pixel by a function of hue, saturation and value."""
    out = np.empty_like(image)
    for y, x in np.ndindex(image.shape[1:]):
        out[:, y, x] = colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*image[:, y, x])))
    return out


def brightness(image, rng, amount):
    return in_hsv(image, lambda h, s, v: (h, s, min(v + amount, 1)))


def saturate(image, rng, parameters):
    factor, summand = parameters
    return in_hsv(image, lambda h, s, v: (h, min(max(factor * s + summand, 0), 1), v))


def contrast(image, rng, factor):
    mean = image.mean((1, 2), keepdims=True)
    return mean + factor * (image - mean)


def sampled(image, y, x, border):
    """An image [3, H, H] at the positions y, x [H, H], interpolated linearly."""
    n, out = image.shape[-1], 0
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    for i, j in np.ndindex(2, 2):
        rows, columns = (np.vectorize(border)(place, n) for place in (top + i, left + j))
        out += (1 - abs(y - top - i)) * (1 - abs(x - left - j)) * image[:, rows, columns]
    return out


def elastic_transform(image, rng, parameters):
    side = image.shape[-1]
    reach, std, jitter = (side * part for part in parameters)
    low, high = side // 2 - side // 3, side // 2 + side // 3
    points = np.array([[high, high], [high, low], [low, low]])
    moved = points + rng.uniform(-jitter, jitter, (3, 2))
    # the moved points show what was at the old ones: x = a + b x' + c y', y likewise
    (ax, ay), (bx, by), (cx, cy) = np.linalg.inv(np.column_stack([np.ones(3), moved])) @ points
    y, x = np.indices((side, side))
    image = sampled(image, ay + by * x + cy * y, ax + bx * x + cx * y, mirrored)
    kernel = gaussian_kernel(std, int(3 * std + 0.5)) if std else np.ones((1, 1))
    dx, dy = (reach * convolved(rng.uniform(-1, 1, (side, side)), kernel, reflected) for _ in range(2))
    return sampled(image, y + dy, x + dx, reflected)


def by_pillow(image, change):
    return np.asarray(change(Image.fromarray(to_uint8(image).transpose(1, 2, 0)))).transpose(2, 0, 1) / 255


def pixelate(image, rng, scale):
    side = image.shape[-1]
    small, box = (int(side * scale),) * 2, Image.Resampling.BOX
    return by_pillow(image, lambda picture: picture.resize(small, box).resize((side, side), box))


def jpeg_compression(image, rng, quality):
    file = io.BytesIO()

    def stored(picture):
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return by_pillow(image, stored)


def lit(drops):
    edges = np.argwhere(weather.edges(drops))
    distance = np.array([min([20, *np.hypot(*(edges - place).T)]) for place in np.ndindex(drops.shape)])
    relief = ndimage.uniform_filter(distance.reshape(drops.shape), 3, mode="mirror").astype(np.uint8)
    kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    light = convolved(weather.equalised(relief), kernel, mirrored).clip(0, 255)
    glow = drops * np.rint(convolved(light, np.full((3, 3), 1 / 9), mirrored))
    return glow / glow.max() if glow.any() else glow


def spatter(image, rng, parameters):
    mean, std, blur, threshold, strength, is_mud = parameters
    liquid = convolved(rng.normal(mean, std, image.shape[1:]), gaussian_kernel(blur, round(4 * blur)), clamped)
    if is_mud:
        cover = (liquid > threshold).astype(float)
        cover = convolved(cover, gaussian_kernel(strength, round(4 * strength)), clamped)
        cover = np.where(cover < 0.8, 0, cover)
        return image * (1 - cover) + np.reshape([63, 42, 20], (3, 1, 1)) / 255 * cover
    drops = to_uint8(np.where(liquid < threshold, 0, liquid))
    return image + strength * np.reshape([175, 238, 238], (3, 1, 1)) / 255 * lit(drops)
