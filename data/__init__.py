"""Images of every data set as training, validation and test batches.

    data = load("cifar100", "datasets", seed=0, **defaults)
    for x, y in data.train.batches(100, "cuda", epoch=3): ...

Images live below the data directory, never in the repository. FACTS holds each data set's defaults.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import cache, sources
from .facts import FACTS, DataError, Facts
from .loaders import TRAIN, VAL, Loader, MemoryLoader, Pool, StreamLoader, normalise
from .splits import split

__all__ = ["FACTS", "Data", "DataError", "Facts", "Loader", "MemoryLoader", "StreamLoader", "load", "normalise"]

MEMORY_LIMIT = 4 * 2**30  # bytes of decoded pixels above which a folder's images are streamed


@dataclass(frozen=True)
class Data:
    """Three loaders, the class names in label order, the images' side in pixels, mean and std of values in 0..1."""

    train: Loader
    val: Loader
    test: Loader
    classes: list
    image_size: int
    mean: tuple
    std: tuple


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
    train_per_class: at most so many of the others are trained on (None: all). A folder's own val/ takes their place.
    image_size: pixels; to be given for `folder`, free for `imagenet`, fixed for the others.
    padding: pixels around an image before the random crop; flip: mirror at random (None: FACTS). Streamed sets are
    cropped as ImageNet is and take no padding. augment_val: validation images are augmented as in the official code.
    workers: processes that decode (None: one a core, at most 8; 0: this one).
    Raises DataError, one line, for what is missing, damaged or impossible.
    """
    facts = _known(name)
    _check_numbers(seed=(seed, 0), val_per_class=(val_per_class, 1), train_per_class=(train_per_class, 1))
    _check_numbers(image_size=(image_size, 1), padding=(padding, 0), workers=(workers, 0))
    size = _image_size(name, facts, image_size)
    root = Path(data_dir).expanduser()
    workers = min(8, os.cpu_count() or 1) if workers is None else workers
    flip = facts.flip if flip is None else flip
    common = {"seed": seed, "mean": facts.mean, "std": facts.std}
    try:
        source = sources.find(name, root)
        if _streamed(name, source, size):
            classes = source.classes
            labels = {part: files.labels for part, files in source.parts.items()}
            common |= {"image_size": size, "flip": flip, "workers": workers}
            pools, loader = source.parts, StreamLoader
        else:
            arrays = _decoded(name, root, source, size, workers)
            classes = arrays.pop("classes").tolist()
            labels = {part: arrays[f"{part}_labels"] for part in ("train", "val", "test") if f"{part}_labels" in arrays}
            common |= {"padding": _padding(facts, padding, size), "flip": flip}
            pools, loader = {part: Pool(arrays[f"{part}_images"], labels[part]) for part in labels}, MemoryLoader
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror or error}") from error

    if "val" in pools:
        train, _ = split(labels["train"], classes, seed, 0, train_per_class)
        val, pools["val"], held = np.arange(len(labels["val"])), pools["val"], "val"
    else:
        (train, val), held = split(labels["train"], classes, seed, val_per_class, train_per_class), "train"
    return Data(
        train=loader(pools["train"], train, augment=TRAIN, **common),
        val=loader(pools[held], val, augment=VAL if augment_val else None, **common),
        test=loader(pools["test"], np.arange(len(labels["test"])), augment=None, **common),
        classes=classes,
        image_size=size,
        mean=facts.mean,
        std=facts.std,
    )
