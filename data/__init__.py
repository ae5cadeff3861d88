"""Images of every data set as training, validation and test batches.

    data = load("cifar100", "datasets", seed=0, **defaults)
    for x, y in data.train.batches(100, "cuda", epoch=3): ...

Images live below the data directory, never in the repository. FACTS holds what is known of each data set.
"""

import contextlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from . import cache, images
from .errors import DataError
from .facts import FACTS, Facts, part_of
from .loaders import TRAIN, VAL, Loader, MemoryLoader, Pool, StreamLoader, normalise
from .splits import split

__all__ = [
    "FACTS",
    "Data",
    "DataError",
    "Facts",
    "Loader",
    "MemoryLoader",
    "StreamLoader",
    "folder_digest",
    "load",
    "normalise",
    "part_of",
]

MEMORY_LIMIT = 4 * 2**30  # bytes of decoded pixels above which a folder's images are streamed


@dataclass(frozen=True)
class Data:
    """Three loaders, the class names in label order, the images' side in pixels, mean and std of values in 0..1.

    digest: tells these images from others (see Source.digest); empty for images that were made up.
    """

    train: Loader
    val: Loader
    test: Loader
    classes: list
    image_size: int
    mean: tuple
    std: tuple
    digest: str = ""


def load(
    name,
    data_dir,
    *,
    seed,
    val_per_class,
    train_per_class=None,
    image_size=None,
    padding=None,
    flip=None,
    augment_val=False,
    workers=None,
):
    """The data set `name` from data_dir, split by the seed.

    val_per_class: training images per class held out for validation, at least 1 (None: a tenth of each class);
    train_per_class: at most this many of the others are trained on (None: all). A folder's val/ validates instead.
    image_size: pixels, for data sets whose size the user chooses; required where FACTS has no default.
    padding: pixels around an image before the random crop; flip: mirror at random (None: FACTS). Streamed sets are
    cropped as ImageNet is and take no padding. augment_val: validation images are augmented as in the official code.
    workers: processes that decode (None: one per core, at most 8; 0: this process decodes).
    Raises DataError, one line, for what is missing, damaged or impossible.
    """
    if name not in FACTS:
        raise DataError(f"dataset must be one of {', '.join(FACTS)}, not {name!r}")
    facts = FACTS[name]
    _check_numbers(seed=(seed, 0), val_per_class=(val_per_class, 1), train_per_class=(train_per_class, 1))
    _check_numbers(image_size=(image_size, 1), padding=(padding, 0), workers=(workers, 0))
    size = _image_size(name, facts, image_size)
    padding = facts.padding if padding is None else padding
    padding = size // 16 if padding is None else padding
    workers = min(8, os.cpu_count() or 1) if workers is None else workers
    root = Path(data_dir).expanduser()
    with _system_errors(root):
        source = facts.reader(root)
        pools, classes, loader = _pools(name, root, source, size, padding, workers)
        digest = source.digest(classes, {part: pool.labels for part, pool in pools.items()})
    loader = partial(loader, seed=seed, mean=facts.mean, std=facts.std, flip=facts.flip if flip is None else flip)

    everything = {part: np.arange(len(pool.labels)) for part, pool in pools.items()}
    held_out, taken = ("val", 0) if "val" in pools else ("train", val_per_class)
    train, val = split(np.asarray(pools["train"].labels), classes, seed, taken, train_per_class)
    return Data(
        train=loader(pools["train"], train, augment=TRAIN),
        val=loader(pools[held_out], everything.get("val", val), augment=VAL if augment_val else None),
        test=loader(pools["test"], everything["test"], augment=None),
        classes=classes,
        image_size=size,
        mean=facts.mean,
        std=facts.std,
        digest=digest,
    )


def folder_digest(name, data_dir):
    """The digest of a data set of image files, none of which is decoded. Raises DataError as load does."""
    root = Path(data_dir).expanduser()
    with _system_errors(root):
        source = FACTS[name].reader(root)
        return source.digest(source.classes, {part: files.labels for part, files in source.parts.items()})


@contextlib.contextmanager
def _system_errors(root):
    """Turn an OSError below root into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror or error}") from error


def _pools(name, root, source, size, padding, workers):
    """({part: pool}, classes, loader class) for parts train, test and, where the folder has it, val."""
    facts = FACTS[name]
    too_large = source.pixels(size) > MEMORY_LIMIT
    if too_large if facts.streamed is None else facts.streamed:
        return source.parts, source.classes, partial(StreamLoader, image_size=size, workers=workers)
    parts = source.parts or ("train", "test")
    arrays = _decoded(name, root, source, parts, size, workers)
    pools = {part: Pool(arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in parts}
    return pools, arrays["classes"].tolist(), partial(MemoryLoader, padding=padding)


def _decoded(name, root, source, parts, size, workers):
    """The arrays of a source whose images live in memory, from the cache where it holds."""

    def read():
        return source.arrays(size, not FACTS[name].free_size, workers, name)

    def check(arrays):
        classes = arrays["classes"].tolist()
        if classes != (source.classes or list(map(str, classes))):
            raise DataError(f"the classes are {classes}")
        for part in parts:
            labels = arrays[f"{part}_labels"]
            images.check(part, arrays[f"{part}_images"], labels, len(classes), size)
            if source.parts and not np.array_equal(labels, source.parts[part].labels):
                raise DataError(f"{part} has other labels")

    files = list(source.files())
    if not files:
        return read()
    return cache.load(root / ".cache", f"{name}-{size}", cache.fingerprint(str(root), files), read, check)


def _image_size(name, facts, image_size):
    if not (image_size or facts.image_size):
        raise DataError(f"{name} needs image_size: the side in pixels to which its images are scaled and cropped")
    if not facts.free_size and image_size not in (None, facts.image_size):
        raise DataError(f"image_size of {name} is {facts.image_size} and cannot be {image_size}")
    return image_size or facts.image_size


def _check_numbers(**limits):
    """Raise DataError for a number below its least value; None stands for a default."""
    for name, (value, least) in limits.items():
        if value is not None and value < least:
            raise DataError(f"{name} must be at least {least}, not {value}")
