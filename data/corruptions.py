"""Common corruptions of images at five severities (Hendrycks and Dietterich, ICLR 2019), in NumPy, SciPy and Pillow.

They follow the scripts that made CIFAR-C, Tiny-ImageNet-C and ImageNet-C (github.com/hendrycks/robustness,
ImageNet-C/create_c); corruption_tables.py has the strengths. The released sets were made without a seed,
Tiny-ImageNet's from other images, and all but CIFAR's were stored as JPEG. Error rates on images of this module are
other numbers than those on the released sets, and are labelled as generated.

Surprising, but faithful to the scripts: glass blur copies pixels where it means to swap them (NumPy's
views), the first two zoom blurs of the 32 and 64 pixel tables reach 1.06 and 1.11 (floating-point ranges), and values
are truncated, not rounded, to 8 bits.

Deviations:
1. Every image has its random numbers, decided by seed, corruption, severity and the image's row in its set.
2. The frost overlays are drawings: five fields of fern crystals with the mean and standard deviation, colour by
   colour, of the five photographs that the scripts choose from (two of which are the same picture).
3. Motion blur stands in for ImageMagick's (motion_blur and snow): the same taps and weights, but no rounding to 16 bits
   before the truncation to 8, which changes less than 1 % of the values by 1.
4. Elastic transform's affine map samples exact positions, where the OpenCV of the time rounded them to 1/32 pixel.
5. Spatter's water measures distances to edges exactly, where OpenCV approximates them. An image on which no drop falls
   stays as it is, where the script divides by zero, and the liquid is clipped at 1, where the script wraps around.
6. Sides without a table take the table nearest in ratio. Its lengths stay pixels, except those of elastic
   transform and pixelate, which scale with the side; fog's fractal takes the next power of two as its side.
"""

import math

import numpy as np

from . import corruption_filters as filters
from . import corruption_weather as weather
from .corruption_filters import as_jpeg, through_pillow, to_uint8
from .corruption_tables import TABLES

GROUPS = {
    "noise": (filters.gaussian_noise, filters.shot_noise, filters.impulse_noise),
    "blur": (filters.defocus_blur, filters.glass_blur, filters.motion_blur, filters.zoom_blur),
    "weather": (weather.snow, weather.frost, weather.fog, filters.brightness),
    "digital": (filters.contrast, filters.elastic_transform, filters.pixelate, filters.jpeg_compression),
}
KEPT_OUT = (filters.speckle_noise, filters.gaussian_blur, weather.spatter, filters.saturate)

SCORED = {function.__name__: group for group, functions in GROUPS.items() for function in functions}
HELD_OUT = tuple(function.__name__ for function in KEPT_OUT)
# the functions by name; the place of each decides its random numbers
CORRUPTIONS = {function.__name__: function for functions in (*GROUPS.values(), KEPT_OUT) for function in functions}
SEVERITIES = (1, 2, 3, 4, 5)
STORAGES = ("png", "jpeg85")


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
