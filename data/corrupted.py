"""Corrupted test sets: made of clean images by corruptions.py, or read as their authors released them.

Either kind has a label, which says what it is, the rows [n] and labels [n] of its images, int64, the same in all cases,
and batches(name, severity, size, start): the images of a case from the start-th on, uint8 [<= size, 3, H, H].
"""

import functools
import hashlib
from pathlib import Path

import numpy as np
import torch

from . import cache, corruption_filters, corruption_tables, corruption_weather, corruptions
from .corruptions import SEVERITIES
from .errors import DataError
from .facts import FACTS
from .images import read_images
from .loaders import Loader, MemoryLoader
from .sources import scan
from .workers import in_chunks

KEPT_BYTES = 12 * 2**30  # of all cases together, above which they are not kept
CHUNK_VALUES = 2**22  # colour values that a process corrupts at a time: tens of them are held as float64 on the way


# ---- generated ----


class Generated:
    """The corrupted images of a test split.

    test: a loader of data.load; storage: "png", "jpeg85" or None, that of the released set of this size; folder: keeps
    the images of every case for the next time, None for not at all. Streamed splits are never kept, nor are large ones.
    """

    def __init__(self, dataset, test, seed, storage, folder, workers):
        self.test, self.seed, self.workers = test, seed, workers
        self.in_memory = isinstance(test, MemoryLoader)
        self.side = test.images.shape[-1] if self.in_memory else test.image_size
        size = len(test) * 3 * self.side**2 * len(corruptions.CORRUPTIONS) * len(SEVERITIES)
        self.folder = folder if self.in_memory and size <= KEPT_BYTES else None
        self.table = corruptions.table_for(self.side)
        self.storage = storage or ("png" if self.table == 32 else "jpeg85")
        self.rows = test.positions
        self.labels = test.labels.cpu().numpy()[self.rows]
        self.name = f"{dataset.replace('_', '-')}-c-like"
        source = FACTS[dataset].test_part
        size = "" if self.side == self.table else f" for {self.side} px images"
        table = f"{self.table} px table{size}"
        self.label = f"{self.name} (generated from {source}, {table}, {self.storage}, seed {seed})"

    def batches(self, name, severity, size, start=0):
        """As the module says. A case is kept once it was made whole, from the first image to the last."""
        if not self.folder:
            yield from self.made(name, severity, size, start)
            return
        what = f"{self.name}-{self.side}-table{self.table}-{self.storage}-seed{self.seed}-{len(self.rows)}images"
        where = self.folder, f"{what}-{name}-{severity}", self.fingerprint
        shape = (len(self.rows), 3, self.side, self.side)
        if kept := cache.stored(*where, functools.partial(check, shape)):
            yield from torch.from_numpy(kept["images"][start:]).split(size)
            return
        images, done = np.empty(shape, np.uint8), start
        for x in self.made(name, severity, size, start):
            images[done : done + len(x)] = x
            done += len(x)
            yield x
        if start == 0 and not cache.keep(*where, {"images": images}):
            self.folder = None

    def made(self, name, severity, size, start):
        """The same, corrupted now, in worker processes."""
        size = max(1, min(size, CHUNK_VALUES // (3 * self.side**2)))
        task = functools.partial(corrupted, self.clean, name, severity, self.seed, self.storage)
        if start < len(self.rows):
            task(self.rows[:1])  # what the corruption prepares for all images is prepared once, before processes fork
        yield from map(torch.from_numpy, in_chunks(task, self.rows[start:], size, self.workers))

    @functools.cached_property
    def clean(self):
        """A function from rows [B] to the clean images, uint8 [B, 3, H, H]."""
        if self.in_memory:
            return self.test.images.cpu().numpy().__getitem__
        return functools.partial(streamed, self.test)

    @functools.cached_property
    def fingerprint(self):
        """A short hash of the clean images and of the code that corrupts them."""
        digest = hashlib.sha256(self.rows.tobytes() + self.clean(self.rows).tobytes())
        for module in (corruptions, corruption_filters, corruption_weather, corruption_tables):
            digest.update(Path(module.__file__).read_bytes())
        return digest.hexdigest()[:16]


def corrupted(clean, name, severity, seed, storage, rows):
    """The images of some rows, corrupted."""
    return corruptions.corrupt(clean(rows), rows, name, severity, seed, storage)


def check(shape, arrays):
    """Raise DataError where arrays are not {"images": uint8 of this shape}."""
    images = arrays["images"]
    if images.dtype != np.uint8 or images.shape != shape:
        raise DataError(f"its images are {images.dtype} {images.shape}, not uint8 {shape}")


def streamed(test, rows):
    """The images of some rows of a split that is decoded as it is read."""
    x, _, _ = test.prepare((0, rows))
    return x


# ---- as released ----


@functools.lru_cache(maxsize=1)
def released(folder, dataset, classes, side, names, limit, workers):
    """The released set of a data set in a folder, which is scanned first; the latest set stays in memory.

    classes: the names of the network's classes, in its order; names: the corruptions; side: of the images, in pixels;
    limit: how many of the images, the same for all networks (None: all); workers: processes that decode image files.
    Raises DataError, naming the file, for what is missing, damaged or of other images or classes.
    """
    official = FACTS[dataset].corrupted
    if not official:
        known = ", ".join(name for name, facts in FACTS.items() if facts.corrupted)
        raise DataError(f"{dataset} has no released corrupted set, {known} have: leave the folder out to generate it")
    if not folder.is_dir():
        raise DataError(f"{folder} is missing: {where(dataset)}")
    if official.arrays:
        return ReleasedArrays(folder, dataset, classes, side, names, limit)
    return ReleasedFolders(folder, dataset, classes, side, names, limit, workers)


def where(dataset):
    """Where a released set comes from, in words."""
    record = FACTS[dataset].corrupted.record
    return f"get {dataset.replace('_', '-')}-c from https://zenodo.org/records/{record} and unpack it there"


class Released:
    """What both layouts share: the label, and which images are taken."""

    def __init__(self, dataset, labels, limit):
        n, official = len(labels), FACTS[dataset].corrupted
        part = "" if n == official.images else f", {n} images"
        self.label = f"{dataset.replace('_', '-')}-c (released, zenodo {official.record}{part})"
        everything = Loader(np.arange(n), seed=0, augment=None, mean=None, std=None)
        self.rows = everything.limited(limit).positions
        self.labels = labels[self.rows]


class ReleasedArrays(Released):
    """CIFAR-10-C and CIFAR-100-C: <corruption>.npy, uint8 [5 n, 32, 32, 3], severity by severity; labels.npy [5 n].

    Classes are numbered as in CIFAR's archives, in the order of their names.
    """

    def __init__(self, folder, dataset, classes, side, names, limit):
        files = {name: folder / f"{name}.npy" for name in ("labels", *names)}
        if missing := [path.name for path in files.values() if not path.is_file()]:
            raise DataError(f"{folder} lacks {', '.join(missing)}: {where(dataset)}")
        labels = mapped(files["labels"])
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels) or len(labels) % len(SEVERITIES):
            kind = f"{labels.dtype} {labels.shape}"
            raise DataError(f"{files['labels']} is {kind}, not as many whole numbers for each of 5 severities")
        labels, shape = labels.reshape(len(SEVERITIES), -1), (len(labels), side, side, 3)
        self.arrays = {}
        for name in names:
            array = mapped(files[name])
            if array.dtype != np.uint8 or array.shape != shape:
                raise DataError(f"{files[name]} is {array.dtype} {array.shape}, not uint8 {shape}")
            self.arrays[name] = array.reshape(len(SEVERITIES), -1, *shape[1:])
        if (labels != labels[0]).any():
            raise DataError(f"{files['labels']} has other labels from severity to severity")
        if np.unique(labels).tolist() != list(range(len(classes))):
            values = f"{labels.min()} to {labels.max()}, {len(np.unique(labels))} of them"
            raise DataError(f"{files['labels']} has the labels {values}, {dataset} has 0 to {len(classes) - 1}")
        if all(name.isdigit() for name in classes) and list(map(int, classes)) != list(range(len(classes))):
            raise DataError(f"the class folders of {dataset} are numbers in another order than those of {folder}")
        super().__init__(dataset, labels[0].astype(np.int64), limit)

    def batches(self, name, severity, size, start=0):
        """As the module says."""
        for first in range(start, len(self.rows), size):
            x = self.arrays[name][severity - 1][self.rows[first : first + size]]
            yield torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def mapped(path):
    """The array in a .npy file, left on disk. Raises DataError for a damaged or foreign file."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive of several")
    except Exception as error:  # whatever a damaged file makes the reader do
        raise DataError(f"{path} is damaged or no .npy file ({error})") from error
    return array


class ReleasedFolders(Released):
    """Tiny-ImageNet-C and ImageNet-C: <corruption>/<severity>/<class>/*.JPEG, up to two folders deeper than given.

    Of the class folders those of the network's classes are read, so that a network for some of the classes is tested on
    these alone; every case must have as many images of a class as the others.
    """

    def __init__(self, folder, dataset, classes, side, names, limit, workers):
        self.side, self.workers, self.files = side, workers, {}
        for name in names:
            inside = find_folder(folder, name, dataset)
            for severity in SEVERITIES:
                files, _ = scan(inside / str(severity), list(classes))
                first = self.files.setdefault((names[0], SEVERITIES[0]), files)
                if not np.array_equal(files.labels, first.labels):
                    counts, expected = (np.bincount(part.labels, minlength=len(classes)) for part in (files, first))
                    odd = int(np.flatnonzero(counts != expected)[0])
                    path, other = (f"{part.folder}/{classes[odd]}" for part in (files, first))
                    raise DataError(f"{path} holds {counts[odd]} images and {other} {expected[odd]}")
                self.files[name, severity] = files
        super().__init__(dataset, first.labels, limit)

    def batches(self, name, severity, size, start=0):
        """As the module says. Raises DataError naming an image that cannot be read or has another size."""
        task = functools.partial(read_images, self.files[name, severity], self.side, True)
        yield from map(torch.from_numpy, in_chunks(task, self.rows[start:], size, self.workers))


def find_folder(folder, name, dataset):
    """The folder of a corruption in, or up to two folders below, the folder of a released set."""
    for pattern in (name, f"*/{name}", f"*/*/{name}"):
        paths = sorted(path for path in folder.glob(pattern) if path.is_dir())
        if len(paths) > 1:
            raise DataError(f"{folder} holds {name} in {paths[0].parent} and {paths[1].parent}: give one of them")
        if paths:
            return paths[0]
    raise DataError(f"{folder} holds no folder {name}: {where(dataset)}")
