"""CIFAR-10/100 and SVHN in their official archives, through torchvision, whose checksums decide what is official."""

import http.client
import os
import socket
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from .errors import DataError
from .images import check

PAGES = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "svhn": "http://ufldl.stanford.edu/housenumbers/",
}
TIMEOUT = 20  # seconds without an answer after which a download is given up


def cifar(name, data_dir):
    """(files, read) of CIFAR in data_dir/cifar-10-batches-py or cifar-100-python; unpacked or downloaded if missing."""
    from torchvision import datasets
    from torchvision.datasets.utils import extract_archive

    kind = getattr(datasets, name.upper())
    folder = data_dir / kind.base_folder
    sums = {folder / file: md5 for file, md5 in kind.train_list + kind.test_list}
    sums[folder / kind.meta["filename"]] = kind.meta["md5"]
    if not all(path.is_file() for path in sums):
        archive = data_dir / kind.filename
        _fetch(name, data_dir, kind.url, archive, kind.tgz_md5)
        _check(name, archive, kind.tgz_md5)
        with tempfile.TemporaryDirectory(dir=data_dir, prefix=".unpacking-") as unpacked:
            extract_archive(str(archive), unpacked)
            folder.mkdir(exist_ok=True)
            for path in sums:
                os.replace(Path(unpacked, kind.base_folder, path.name), path)  # noqa: PTH105

    def read_part(part):
        data = kind(data_dir, train=part == "train")
        return data.data.transpose(0, 3, 1, 2), np.array(data.targets, np.int64), data.classes

    return list(sums), partial(_read, name, sums, read_part)


def svhn(data_dir):
    """(files, read) of SVHN in data_dir/svhn/{train,test}_32x32.mat, downloaded if missing."""
    from torchvision.datasets import SVHN

    folder = data_dir / "svhn"
    sums = {}
    for part in ("train", "test"):
        url, file, md5 = SVHN.split_list[part]
        sums[folder / file] = md5
        _fetch("svhn", data_dir, url, folder / file, md5)

    def read_part(part):
        data = SVHN(folder, split=part)
        return data.data, data.labels, [str(digit) for digit in range(10)]

    return list(sums), partial(_read, "svhn", sums, read_part)


def _read(name, sums, read_part):
    """The arrays of an archive (see Source.read); read_part: from "train" or "test" to (images, labels, classes)."""
    for path, md5 in sums.items():
        _check(name, path, md5)
    out, folder = {}, next(iter(sums)).parent
    for part in ("train", "test"):
        try:
            images, labels, classes = read_part(part)
        except Exception as error:  # unpickling and reading MATLAB's format raise many kinds
            raise DataError(f"{folder} does not hold {name} ({type(error).__name__}: {error})") from error
        check(f"{folder}: {part}", images, labels, len(classes), 32)
        out |= {f"{part}_images": np.ascontiguousarray(images), f"{part}_labels": labels}
    return out | {"classes": np.array(classes)}


def _check(name, path, md5):
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(path, md5):
        raise DataError(
            f"{path} is damaged or not the official file (its MD5 sum is not {md5}): remove it and get it again from "
            f"{PAGES[name]}"
        )


def _fetch(name, data_dir, url, path, md5):
    """Download path if it is missing: whole and with the right checksum, or not at all."""
    from torchvision.datasets.utils import download_url

    if path.is_file():
        return
    waited = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
            download_url(url, folder, path.name, md5)
            Path(folder, path.name).replace(path)
    except (OSError, RuntimeError, http.client.HTTPException) as error:  # no network or right to write, wrong checksum
        raise DataError(
            f"{path} is missing and could not be downloaded ({error}): get {path.name} from {PAGES[name]} and put it "
            f"into {path.parent}, or images into {data_dir / name}/{{train,test}}/<class>/"
        ) from error
    finally:
        socket.setdefaulttimeout(waited)
