"""The affine test sets of Table 4 and what they do to pixels, equal to Pillow's nearest neighbour on whole batches.

A matrix [2, 3] maps a pixel of the deformed image to its place in the original, (x, y) counted from the upper left
corner, as in PIL.Image.transform. What falls outside is black, before normalisation.
"""

import math

import numpy as np
import torch

# Table 4: what is drawn for every image, uniform from a range. Degrees; a scale below 1 shrinks the content.
SETS = {
    "rotate_20": ("angle", -20.0, 20.0),
    "rotate_40": ("angle", -40.0, 40.0),
    "shear_28.6": ("shear", -28.6, 28.6),
    "shear_57.3": ("shear", -57.3, 57.3),
    "scale_0.6": ("scale", 0.6, 0.6),
    "scale_0.8": ("scale", 0.8, 0.8),
    "scale_1.2": ("scale", 1.2, 1.2),
    "scale_1.4": ("scale", 1.4, 1.4),
}
DRAW = 0xDA7A0AFF  # keeps these draws apart from other uses of the same seed
FIXED = 1 << 16  # Pillow's fixed-point unit
FIXED_LIMIT = 32768.0  # and the coordinates that it can hold


def draw(images, seed):
    """One value for each of so many images in every set: {name: float64 [images]}, degrees or scale.

    An image's values depend on its index alone, not on the number of images.
    """
    sets = enumerate(SETS.items())
    return {name: np.random.default_rng((seed, DRAW, i)).uniform(*limits, images) for i, (name, (_, *limits)) in sets}


def torchvision04(angle, shear, scale, width, height):
    """The matrix of the authors' torchvision 0.4.2, six numbers; angle and x-shear in degrees.

    Its shear by s also squeezes vertically, by cos s, and its centre lies half a pixel off, at (W / 2 + 1/2, H / 2 +
    1/2). Source: torchvision 0.4.2, transforms/functional.py, in its order of operations, which decides the last bit.
    """
    angle, shear = math.radians(angle), math.radians(shear)
    determinant = math.cos(angle + shear) * math.cos(angle) + math.sin(angle + shear) * math.sin(angle)
    factor = 1.0 / scale / determinant
    linear = math.cos(angle + shear), math.sin(angle + shear), -math.sin(angle), math.cos(angle)
    return around((factor * v for v in linear), width * 0.5 + 0.5, height * 0.5 + 0.5)


def modern(angle, shear, scale, width, height):
    """The matrix of torchvision since 0.8, six numbers: a shear by tan s alone, about the centre (W / 2, H / 2)."""
    angle, shear = math.radians(angle), math.radians(shear)
    sin, cos, tan = math.sin(angle), math.cos(angle), math.tan(shear)
    linear = -sin * tan + cos, cos * tan + sin, -sin, cos
    return around((v / scale for v in linear), width * 0.5, height * 0.5)


def around(linear, x, y):
    """The six numbers of the map with these four linear ones that leaves the point (x, y) where it is."""
    a, b, c, d = linear
    return a, b, a * -x + b * -y + x, c, d, c * -x + d * -y + y


AUTHORS = "torchvision0.4"
GEOMETRIES = {AUTHORS: torchvision04, "modern": modern}
UNDEFORMED = {"angle": 0.0, "shear": 0.0, "scale": 1.0}


def matrices(name, values, width, height, geometry=AUTHORS):
    """The matrices float64 [B, 2, 3] of a set, by the values that were drawn for its images, [B]."""
    drawn = SETS[name][0]
    rows = [GEOMETRIES[geometry](width=width, height=height, **UNDEFORMED | {drawn: float(v)}) for v in values]
    return torch.tensor(rows, dtype=torch.float64).view(-1, 2, 3)


def warp(images, matrices):
    """Images uint8 [B, C, H, W] deformed by a matrix each, float64 [B, 2, 3]; nearest neighbour, black outside.

    Bit for bit what PIL.Image.transform(size, AFFINE, matrix, NEAREST) gives (Pillow 5 and later), on any device.
    """
    height, width = images.shape[2:]
    matrices = matrices.to(images.device)
    floating = in_floating_point(matrices, height, width)
    x, y = (places(row, floating, height, width) for row in matrices.unbind(1))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    source = torch.where(inside, y * width + x, 0).flatten(1)
    warped = images.flatten(2).gather(2, source[:, None].expand(-1, images.shape[1], -1)).view_as(images)
    return warped * inside[:, None]


def in_floating_point(matrices, height, width):
    """Which of the matrices [B, 2, 3] Pillow applies in floating point, bool [B]; the others in 16.16 fixed point.

    Those without rotation and shear, and those that leave the range of fixed point (libImaging/Geometry.c).
    """
    corners = matrices.new_tensor([[x, y, 1.0] for x in (0, width) for y in (0, height)])
    too_far = ((matrices @ corners.T).abs() >= FIXED_LIMIT).any(2).any(1)
    return too_far | (matrices[:, 0, 1] == 0) & (matrices[:, 1, 0] == 0)


def places(row, floating, height, width):
    """Where every pixel comes from in one coordinate, int64 [B, H, W], by a row of the matrices, [B, 3].

    Both ways start in the middle of the first pixel and add step by step, where integers may as well be multiplied.
    floating: bool [B], as in_floating_point gives it.
    """
    dx, dy, offset = row.unbind(1)
    step_x, step_y, first = (to_fixed(v)[:, None, None] for v in (dx, dy, offset + dx * 0.5 + dy * 0.5))
    x, y = torch.arange(width, device=row.device), torch.arange(height, device=row.device)[:, None]
    position = (first + y * step_y + x * step_x) >> 16
    if floating.any():
        dx, dy, offset = row[floating].unbind(1)
        left = accumulate(offset + dy * 0.5 + dx * 0.5, dy, height)
        position[floating] = accumulate(left, dx[:, None], width).floor().long()
    return position


def to_fixed(v):
    """Numbers as 16.16 fixed point, int64."""
    return (v * FIXED + 0.5).floor().long()


def accumulate(first, step, count):
    """first, first + step, ... along a new last dimension, rounded at every addition as a loop does."""
    values = [first]
    for _ in range(count - 1):
        values.append(values[-1] + step)
    return torch.stack(values, -1)
