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
    return list(sums), partial(_read_cifar, name, kind, data_dir, sums)


def _read_cifar(name, kind, data_dir, sums):
    for path, md5 in sums.items():
        _check(name, path, md5)
    out, folder = {}, data_dir / kind.base_folder
    for part in ("train", "test"):
        try:
            data = kind(data_dir, train=part == "train")
            images = np.ascontiguousarray(data.data.transpose(0, 3, 1, 2))
            labels = np.array(data.targets, np.int64)
            out["classes"] = np.array(data.classes)
        except Exception as error:  # unpickling raises many kinds
            raise DataError(f"{folder} does not hold {name} ({type(error).__name__}: {error})") from error
        check(f"{folder}: {part}", images, labels, len(out["classes"]), 32)
        out |= {f"{part}_images": images, f"{part}_labels": labels}
    return out


def svhn(data_dir):
    """(files, read) of SVHN in data_dir/svhn/{train,test}_32x32.mat, downloaded if missing."""
    from torchvision.datasets import SVHN

    folder = data_dir / "svhn"
    sums = {}
    for part in ("train", "test"):
        url, file, md5 = SVHN.split_list[part]
        sums[folder / file] = md5
        _fetch("svhn", data_dir, url, folder / file, md5)
    return list(sums), partial(_read_svhn, SVHN, folder, sums)


def _read_svhn(kind, folder, sums):
    out = {"classes": np.array([str(digit) for digit in range(10)])}
    for part, (path, md5) in zip(("train", "test"), sums.items()):
        _check("svhn", path, md5)
        try:
            data = kind(folder, split=part)
        except ImportError:
            raise DataError("svhn needs SciPy: pip install scipy") from None
        except Exception as error:  # so does reading MATLAB's format
            raise DataError(f"{path} is not SVHN's file ({type(error).__name__}: {error})") from error
        images, labels = np.ascontiguousarray(data.data), data.labels
        check(f"{path}: {part}", images, labels, 10, 32)
        out |= {f"{part}_images": images, f"{part}_labels": labels}
    return out


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
