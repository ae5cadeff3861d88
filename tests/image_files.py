"""Small image files of noise that several test files write and load."""

import numpy as np
from PIL import Image

import data


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write_image(path, size=(12, 10), seed=0, mode="RGB"):
    """An image of size (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(size[1], size[0], 3, seed=seed)).convert(mode).save(path)


def write_classes(folder, classes, count, size=(12, 10), suffix="png", seed=0):
    """folder/<class>/<number>.<suffix>, so many of every class."""
    for c, name in enumerate(classes):
        for i in range(count):
            write_image(folder / name / f"{i}.{suffix}", size, seed + 100 * c + i)


def load_folder(folder, **changes):
    """The data set of a folder with class folders, 8x8 pixels and 3 validation images a class by default."""
    return data.load("folder", folder, **{"seed": 0, "val_per_class": 3, "image_size": 8, "workers": 0} | changes)
