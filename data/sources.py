"""Where the images of every data set come from, and what is refused: one reader a data set.

A reader takes the data directory and gives a Source: either the image files of every part, to be decoded or streamed,
or ready arrays. It raises DataError where the data set is missing or wrong.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from . import archives
from .errors import DataError, warn
from .images import SUFFIXES, Files, decode

SIZED = 100_000
TINY_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


@dataclass
class Source:
    """Where a data set's images are.

    parts: {"train", "test" and perhaps "val": Files}, or {} where read() gives the arrays {"classes", "train_images",
    "train_labels", "test_images", "test_labels"}; classes: names in label order (archives: known once read);
    stamped: further files on which the images or labels depend.
    """

    classes: list = field(default_factory=list)
    parts: dict = field(default_factory=dict)
    stamped: list = field(default_factory=list)
    read: Callable | None = None

    def files(self):
        """The paths of all files that the decoded images depend on."""
        yield from self.stamped
        for files in self.parts.values():
            yield from map(files.path, range(len(files)))

    def pixels(self, side):
        """Bytes that all images take, decoded as RGB of side x side pixels."""
        return sum(map(len, self.parts.values())) * 3 * side * side

    def digest(self, classes, labels):
        """A short hash of the class names and labels and of the names and sizes of the image files, wherever they lie.

        labels: {part: int64 [n]}. Of more than SIZED files of a part only so many, evenly spread, are asked their size.
        """
        digest = hashlib.sha256("/".join(classes).encode(errors="surrogateescape"))
        for part in sorted(labels):
            digest.update(f"{part} {len(labels[part])}".encode() + np.asarray(labels[part]).tobytes())
            files = self.parts.get(part, ())
            for i in range(len(files)):
                digest.update(files.names[i] + b"/")
            for i in range(0, len(files), 1 + len(files) // SIZED):
                digest.update(b"%d/" % os.stat(files.path(i)).st_size)  # noqa: PTH116 - several times as fast
        return digest.hexdigest()[:16]

    def arrays(self, side, exact, workers, title):
        """All images decoded, side x side pixels, with their labels and the class names."""
        if self.read:
            return self.read()
        out = {"classes": np.array(self.classes)}
        for part, files in self.parts.items():
            out[f"{part}_images"] = decode(files, side, exact, workers, f"{title} {part}")
            out[f"{part}_labels"] = files.labels
        return out


def cifar10(data_dir):
    """CIFAR-10, from class folders or its archive."""
    return _class_folders(data_dir / "cifar10", 10) or _archive(archives.cifar("cifar10", data_dir))


def cifar100(data_dir):
    """CIFAR-100, from class folders or its archive."""
    return _class_folders(data_dir / "cifar100", 100) or _archive(archives.cifar("cifar100", data_dir))


def svhn(data_dir):
    """SVHN, from the class folders 0 to 9 or its files."""
    source = _class_folders(data_dir / "svhn", 10)
    if source and source.classes != [str(digit) for digit in range(10)]:
        names = ", ".join(source.classes)
        raise DataError(f"the class folders of {data_dir}/svhn/train must be the digits 0 to 9, not {names}")
    return source or _archive(archives.svhn(data_dir))


def _archive(opened):
    files, read = opened
    return Source(stamped=[str(path) for path in files], read=read)


def _class_folders(root, count):
    """The Source of root/train and root/test, which must hold `count` class folders; None where both are missing."""
    if not any((root / part).is_dir() for part in ("train", "test")):
        return None
    source = _scan_parts(root, {"train": "train", "test": "test"})
    if len(source.classes) != count:
        raise DataError(f"{root}/train holds {len(source.classes)} class folders: {root.name} has {count} classes")
    return source


def _visible(folder):
    return sorted((entry for entry in os.scandir(folder) if not entry.name.startswith(".")), key=lambda e: e.name)


def scan(folder, classes=None, inner=""):
    """The images in folder/<class>/<inner> and the folders inside, as (Files, class names).

    classes: those to take, default all subfolders, sorted. A warning line counts the files that are passed over, by
    their endings. Raises DataError for a missing or empty folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is missing: its images go to {folder}/<class>/")
    if classes is None:
        classes = [entry.name for entry in _visible(folder) if entry.is_dir()]
    if len(classes) < 2:
        holds = f"only the class folder {classes[0]}" if classes else "no class folders"
        raise DataError(f"{folder} holds {holds}: images of at least two classes go to {folder}/<class>/")
    names, labels, passed_over = [], [], Counter()
    for label, name in enumerate(classes):
        inside = folder / name / inner
        if not inside.is_dir():
            raise DataError(f"class folder {inside} is missing")
        images = list(_images(inside, f"{name}/{inner}/" if inner else f"{name}/", passed_over, ()))
        if not images:
            raise DataError(f"class folder {inside} holds no images ({', '.join(sorted(SUFFIXES))})")
        names += images
        labels += [label] * len(images)
    if passed_over:
        kinds = ", ".join(f"{count} {kind}" for kind, count in passed_over.most_common())
        warn(f"{folder}: passed over what is no image by its ending or no regular file: {kinds}")
    return Files(folder, np.array(names), np.array(labels, np.int64)), classes


def _images(folder, prefix, passed_over, outer):
    """Yield the names of the images in a folder, those of its subfolders after them; outer: the folders it lies in."""
    subfolders = []
    for entry in _visible(folder):
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
        if entry.is_dir():
            subfolders.append(entry)
        elif suffix not in SUFFIXES:
            passed_over[suffix or "without an ending"] += 1
        elif not entry.is_file() and os.path.exists(entry):  # noqa: PTH110 - a dangling link is an image that is lost
            passed_over["not regular (pipes and the like)"] += 1
        else:
            yield os.fsencode(prefix + entry.name)
    outer = (*outer, os.path.realpath(folder))
    for entry in subfolders:
        if os.path.realpath(entry) in outer:
            raise DataError(f"{entry.path} is a link to a folder that it lies in")
        yield from _images(entry, f"{prefix}{entry.name}/", passed_over, outer)


def _scan_parts(root, places):
    """Source of the parts {part: subfolder of root}, whose class folders must have the same names."""
    parts, classes = {}, None
    for part, place in places.items():
        parts[part], names = scan(root / place)
        if classes is not None and names != classes:
            odd = sorted(set(names) ^ set(classes))
            only = ", ".join(f"{name} is only in {place if name in names else places['train']}/" for name in odd[:5])
            raise DataError(f"{len(odd)} class folders of {root}/{places['train']} and {place} differ: {only}")
        classes = names
    return Source(classes=classes, parts=parts)


def folder(root):
    """A user's images: train/ and test/, or train/ and val/ (then val/ is the test set), or all three."""
    if not root.is_dir():
        raise DataError(f"{root} is missing: images go to {root}/train/<class>/ and {root}/test/<class>/")
    if (root / "test").is_dir():
        places = {"train": "train", "test": "test"} | ({"val": "val"} if (root / "val").is_dir() else {})
    elif (root / "val").is_dir():
        places = {"train": "train", "test": "val"}
    else:
        raise DataError(
            f"{root} holds neither test/ nor val/: images go to {root}/train/<class>/ and {root}/test/<class>/"
        )
    return _scan_parts(root, places)


def imagenet(data_dir):
    """ImageNet (ILSVRC2012), from class folders."""
    root = data_dir / "imagenet"
    if not root.is_dir():
        raise DataError(
            f"{root} is missing: get the ILSVRC2012 images from https://image-net.org and put them into "
            f"{root}/train/<wnid>/ and {root}/val/<wnid>/"
        )
    return _scan_parts(root, {"train": "train", "test": "val"})


def tiny_imagenet(data_dir):
    """Tiny-ImageNet, in its archive's layout.

    Classes are sorted by wnid, as the official code's ImageFolder numbers them, not in wnids.txt's order; wnids.txt may
    name any subset of them.
    """
    root = data_dir / "tiny-imagenet-200"
    archive = data_dir / "tiny-imagenet-200.zip"
    if not root.is_dir():
        if archive.is_file():
            raise DataError(f"{archive} is not unpacked yet: python -m zipfile -e {archive} {data_dir}")
        raise DataError(f"{root} is missing: get {TINY_URL} and unpack it into {data_dir}")
    listed, annotated = root / "wnids.txt", root / "val" / "val_annotations.txt"
    classes = sorted(set(_text(listed).split()))
    if len(classes) < 2:
        raise DataError(f"{listed} must name at least 2 classes (wnids, one a line), not {len(classes)}")
    train, _ = scan(root / "train", classes, "images")
    test = _annotated(root / "val" / "images", annotated, classes)
    return Source(classes=classes, parts={"train": train, "test": test}, stamped=[str(listed), str(annotated)])


def _annotated(folder, annotations, classes):
    """The Files of Tiny-ImageNet's val/images, labelled by the lines `name wnid x0 y0 x1 y1` of annotations."""
    index = {wnid: label for label, wnid in enumerate(classes)}
    listed = {}
    for number, line in enumerate(_text(annotations).rstrip().splitlines(), 1):
        name, wnid = (line.split() + ["", ""])[:2]
        if wnid not in index:
            raise DataError(f"{annotations}, line {number}: {name} has the label {wnid!r}, which is not in wnids.txt")
        if name in listed:
            raise DataError(f"{annotations}, line {number}: {name} is listed before, as {classes[listed[name]]}")
        listed[name] = index[wnid]
    if not listed or not folder.is_dir():
        raise DataError(f"{folder} is missing, or {annotations.name} is empty")
    present = {entry.name: entry for entry in _visible(folder)}
    for name in sorted(present.keys() ^ listed.keys()):
        if name in listed:
            raise DataError(f"{folder}/{name} is missing: {annotations.name} lists it")
        raise DataError(f"{folder}/{name} has no line in {annotations.name}")
    if irregular := [name for name in sorted(listed) if not present[name].is_file()]:
        raise DataError(f"{folder}/{irregular[0]} is not a regular file")
    rows = sorted((label, name) for name, label in listed.items())
    names = np.array([os.fsencode(name) for _, name in rows])
    return Files(folder, names, np.array([label for label, _ in rows], np.int64))


def _text(path):
    if not path.is_file():
        raise DataError(f"{path} is missing: it belongs to the archive, {TINY_URL}")
    try:
        return path.read_text()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file") from None


def digits(_):
    """scikit-learn's 1,797 scans of 8x8 pixels, every pixel shown as 4x4 of the same value in RGB.

    Grey values 0..16 become 0..255. The first 1,000 are the training pool and the last 797 the test; the scans come
    writer by writer, so most of the test's are in other hands.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("digits needs scikit-learn: pip install scikit-learn") from None
    scans, labels = load_digits(return_X_y=True)
    grey = np.rint(scans.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.tile(grey.repeat(4, axis=2).repeat(4, axis=3), (1, 3, 1, 1))
    labels = labels.astype(np.int64)
    arrays = {
        "classes": np.array([str(digit) for digit in range(10)]),
        "train_images": images[:1000],
        "train_labels": labels[:1000],
        "test_images": images[1000:],
        "test_labels": labels[1000:],
    }
    return Source(read=lambda: arrays)
