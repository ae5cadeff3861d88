"""Every official format in miniature, and everything that is refused."""

import dataclasses
import hashlib
import os
import pickle
import re
import shutil
import sys
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import CIFAR10, CIFAR100, SVHN

import data
from data import DataError
from tests.image_files import noise, write_classes, write_image

NAMES = {
    "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "cifar100": [f"class{i:02}" for i in range(100)],
}


def load(name, root, **changes):
    return data.load(name, root, **{"seed": 0, "val_per_class": 1, "workers": 0} | changes)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Every download fails, and half-way, as on a machine that loses its network."""

    def fail(url, root, filename, md5):
        Path(root, filename).write_bytes(b"the first half")
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)


def accept(monkeypatch, name, root):
    """Make torchvision take the miniature archives' checksums for the official ones."""
    if name == "svhn":
        parts = {p: [*SVHN.split_list[p][:2], md5(root / "svhn" / SVHN.split_list[p][1])] for p in ("train", "test")}
        monkeypatch.setattr(SVHN, "split_list", parts)
        return
    kind = CIFAR10 if name == "cifar10" else CIFAR100
    folder = root / kind.base_folder
    for files in ("train_list", "test_list"):
        monkeypatch.setattr(kind, files, [[file, md5(folder / file)] for file, _ in getattr(kind, files)])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5(folder / kind.meta["filename"])})


def write_cifar(root, name, labels=None):
    """The archive's pickles, 3 training images a class (spread over the batches) and 1 test image."""
    kind, key = (CIFAR10, "labels") if name == "cifar10" else (CIFAR100, "fine_labels")
    folder = root / kind.base_folder
    folder.mkdir()
    classes = len(NAMES[name])
    labels = np.arange(3 * classes) % classes if labels is None else labels
    pixels = noise(len(labels), 3072)
    shares = np.array_split(np.arange(len(labels)), len(kind.train_list))
    for (file, _), share in zip(kind.train_list, shares):
        content = {"data": pixels[share], key: labels[share].tolist()}
        (folder / file).write_bytes(pickle.dumps(content))
    test = {"data": noise(classes, 3072, seed=1), key: list(range(classes))}
    (folder / kind.test_list[0][0]).write_bytes(pickle.dumps(test))
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: NAMES[name]}))
    return pixels.reshape(-1, 3, 32, 32)


def write_svhn(root, wrong=None):
    """X [32, 32, 3, N] and y [N, 1] with labels 1..10, 10 for the digit 0."""
    (root / "svhn").mkdir()
    labels = np.arange(30) % 10 + 1
    if wrong is not None:
        labels[7] = wrong
    images = noise(32, 32, 3, 30)
    for part in ("train", "test"):
        savemat(root / "svhn" / f"{part}_32x32.mat", {"X": images, "y": labels[:, None].astype(np.uint8)})
    return images


def write_tiny(root, wnids=("n2", "n1"), count=3):
    base = root / "tiny-imagenet-200"
    lines = []
    for c, wnid in enumerate(wnids):
        for i in range(count):
            write_image(base / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", (64, 64), 10 * c + i)
        write_image(base / "val" / "images" / f"val_{c}.JPEG", (64, 64), 50 + c, mode="L")
        lines.append(f"val_{c}.JPEG\t{wnid}\t0\t0\t62\t62\n")
    (base / "val" / "val_annotations.txt").write_text("".join(lines))
    (base / "wnids.txt").write_text("\n".join(wnids))
    return base


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_archive(tmp_path, monkeypatch, name):
    pixels = write_cifar(tmp_path, name)
    accept(monkeypatch, name, tmp_path)
    loaded = load(name, tmp_path)
    assert loaded.classes == NAMES[name] and loaded.train.padding == 2 and loaded.train.flip
    assert np.array_equal(loaded.train.images.numpy(), pixels)
    classes = len(NAMES[name])
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [2 * classes, classes, classes]
    again = load(name, tmp_path)  # from the cache
    assert torch.equal(again.test.images, loaded.test.images) and again.classes == NAMES[name]


def test_cifar_archive_is_unpacked_when_it_lies_there(tmp_path, monkeypatch):
    pixels = write_cifar(tmp_path, "cifar10")
    accept(monkeypatch, "cifar10", tmp_path)
    with tarfile.open(tmp_path / CIFAR10.filename, "w:gz") as archive:
        archive.add(tmp_path / CIFAR10.base_folder, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(tmp_path / CIFAR10.filename))
    for lost in (Path.unlink, lambda file: shutil.rmtree(file.parent)):
        lost(tmp_path / CIFAR10.base_folder / "data_batch_2")
        assert np.array_equal(load("cifar10", tmp_path).train.images.numpy(), pixels)
    assert not list(tmp_path.glob(".unpacking*"))


def test_svhn_archive_counts_ten_as_zero(tmp_path, monkeypatch):
    images = write_svhn(tmp_path)
    accept(monkeypatch, "svhn", tmp_path)
    loaded = load("svhn", tmp_path)
    assert loaded.train.labels.tolist() == [(i + 1) % 10 for i in range(30)]
    assert np.array_equal(loaded.train.images[7].numpy(), images[..., 7].transpose(2, 0, 1))
    assert not loaded.train.flip and loaded.classes == [str(i) for i in range(10)]


@pytest.mark.parametrize("name, classes", [("cifar10", NAMES["cifar10"]), ("svhn", [str(i) for i in range(10)])])
def test_class_folders_come_before_archives(tmp_path, name, classes):
    for part, count in (("train", 3), ("test", 1)):
        write_classes(tmp_path / name / part, classes, count, (32, 32), seed=len(part))
    loaded = load(name, tmp_path)
    assert loaded.classes == classes and loaded.train.labels.tolist() == sorted([*range(10)] * 3)
    path = tmp_path / name / "train" / classes[4] / "1.png"
    assert np.array_equal(loaded.train.images[13].numpy(), np.asarray(Image.open(path)).transpose(2, 0, 1))


def test_tiny_imagenet_in_its_own_layout(tmp_path):
    base = write_tiny(tmp_path)
    (base / "train" / "n9" / "images").mkdir(parents=True)  # not in wnids.txt: not looked at
    loaded = load("tiny_imagenet", tmp_path)
    assert loaded.classes == ["n1", "n2"] and loaded.image_size == 64 and loaded.train.padding == 4
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [4, 2, 2]
    grey = np.asarray(Image.open(base / "val" / "images" / "val_1.JPEG"))
    assert loaded.test.labels.tolist() == [0, 1] and grey.ndim == 2
    assert np.array_equal(loaded.test.images[0].numpy(), np.stack([grey] * 3))


def test_workers_decode_the_same_images(tmp_path):
    for part in ("train", "test"):
        write_classes(tmp_path / part, ("a", "b"), 150, (9, 9))
    expected = load("folder", tmp_path, image_size=9).train.images.clone()
    shutil.rmtree(tmp_path / ".cache")
    assert torch.equal(load("folder", tmp_path, image_size=9, workers=2).train.images, expected)


# --- what is refused ------------------------------------------------------------------------------------------------


def nothing(root):
    """No change: alone not even a folder."""


def tiny(change):
    """Tiny-ImageNet with a change to it."""
    return lambda root: change(write_tiny(root))


def annotated(line):
    """Tiny-ImageNet with a third line of annotations."""
    return tiny(lambda base: append(base / "val/val_annotations.txt", line + "\n"))


def photos(change):
    """A user's folder with a change to it."""
    return ten("", change, ("ant", "bee"), size=(12, 10), count=3)


def ten(name, change, classes=NAMES["cifar10"], size=(32, 32), count=2):
    """Class folders in the place of an archive, with a change to them."""

    def prepare(root):
        for part in ("train", "test"):
            write_classes(root / name / part, classes, count, size)
        change(root / name)

    return prepare


def append(path, text):
    path.write_text(path.read_text() + text)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


REFUSED = [
    ("cifar10", lambda root: None, "cifar-10-python.tar.gz is missing and could not be .*no network.*cifar.html"),
    ("cifar100", nothing, "cifar-100-python.tar.gz .*no network.* put it into .*cifar100/{train,test}/<class>/"),
    ("svhn", nothing, "train_32x32.mat .*no net.* http://ufldl.stanford.edu/housenumbers/ and put it into .*/svhn, "),
    ("tiny_imagenet", nothing, "tiny-imagenet-200 is missing: get http.*tiny-imagenet-200.zip and unpack it into "),
    ("imagenet", nothing, "imagenet is missing: get the ILSVRC2012 images from https://image-net.org"),
    ("folder", nothing, "images is missing: images go to .*/train/<class>/"),
    ("folder", lambda root: (root / "train").mkdir(), "holds neither test/ nor val/: images go to .*/train/<class>/"),
    ("mnist", nothing, "dataset must be one of cifar10, .*folder, not 'mnist'"),
    ("cifar10", lambda root: write_cifar(root, "cifar10"), "data_batch_1 is damaged or not the official file .*MD5"),
    ("cifar10", lambda root: (root / CIFAR10.filename).write_bytes(b"half"), "cifar-10-python.tar.gz is damaged"),
    ("svhn", write_svhn, "train_32x32.mat is damaged or not the official file"),
    ("tiny_imagenet", lambda root: (root / "tiny-imagenet-200.zip").touch(), "is not unpacked yet: python -m zipfile"),
    ("tiny_imagenet", annotated("val_9.JPEG\tn7\t0"), "line 3: val_9.JPEG has the label 'n7', which is not in w"),
    ("tiny_imagenet", annotated("val_9.JPEG\tn1\t0"), "val_9.JPEG is missing: val_annotations.txt lists it"),
    ("tiny_imagenet", annotated("val_0.JPEG\tn1\t0"), "line 3: val_0.JPEG is listed before, as n2"),
    ("tiny_imagenet", tiny(lambda base: pipe(base / "val/images/val_0.JPEG")), "val_0.JPEG is not a regular file"),
    ("tiny_imagenet", tiny(lambda base: write_image(base / "val/images/x.JPEG")), "x.JPEG has no line in val_ann"),
    ("tiny_imagenet", tiny(lambda base: append(base / "wnids.txt", "\nn5")), "folder .*train/n5/images is missing"),
    ("tiny_imagenet", tiny(lambda base: (base / "wnids.txt").unlink()), "wnids.txt is missing"),
    ("tiny_imagenet", tiny(lambda base: (base / "wnids.txt").write_bytes(b"\xff\xfe")), "wnids.txt is not a text file"),
    ("tiny_imagenet", tiny(lambda base: (base / "wnids.txt").write_text("n1")), "at least 2 classes"),
    ("tiny_imagenet", tiny(lambda base: write_image(base / "train/n1/images/n1_0.JPEG", (64, 63))), "is 64x63 pixel"),
    ("folder", photos(lambda root: (root / "train/bee/1.png").write_bytes(noise(90))), "bee/1.png cannot be read as a"),
    ("folder", photos(lambda root: (root / "test/bee/0.png").write_text("no")), "bee/0.png cannot be read as an image"),
    ("folder", photos(lambda root: (root / "test/bee/x.png").symlink_to("gone")), "x.png: No such file"),
    ("folder", photos(lambda root: (root / "train/cow").mkdir()), "class folder .*train/cow holds no images"),
    ("folder", photos(lambda root: write_image(root / "test/cow/0.png")), "cow is only in test/"),
    ("folder", photos(lambda root: shutil.rmtree(root / "train")), "train is missing: its images go to"),
    ("folder", ten("", nothing, ["ant"]), "train holds only the class folder ant: images of at least two cl"),
    ("cifar10", ten("cifar10", lambda root: shutil.rmtree(root / "test")), "cifar10/test is missing"),
    ("cifar10", ten("cifar10", nothing, NAMES["cifar10"][1:]), "holds 9 class folders: cifar10 has 10 classes"),
    ("svhn", ten("svhn", nothing), "must be the digits 0 to 9, not airplane"),
    ("cifar10", ten("cifar10", nothing, size=(30, 32)), "cifar10/train/airplane/0.png is 30x32 pixels, not 32x32"),
]  # fmt: skip


@pytest.mark.parametrize("name, prepare, words", REFUSED)
def test_refused_in_one_line(tmp_path, name, prepare, words):
    root = tmp_path / "new/images"
    if prepare is not nothing:
        root.mkdir(parents=True)
        prepare(root)
    with pytest.raises(DataError, match=words) as refused:
        load(name, root, image_size=8 if name == "folder" else None)
    assert "\n" not in str(refused.value)
    assert not [path for path in tmp_path.rglob("*") if re.match(r"\.(download|unpacking)|.*\.(tmp|npz)$", path.name)]


@pytest.mark.parametrize(
    "name, write, words",
    [
        (
            "cifar10",
            lambda root: write_cifar(root, "cifar10", np.arange(30) % 11),
            "label 10 is outside the 10 classes",
        ),
        ("cifar100", lambda root: write_cifar(root, "cifar100", np.full(300, -1)), "train label -1 is outside the 100"),
        ("svhn", lambda root: write_svhn(root, wrong=11), "svhn: train label 11 is outside the 10 classes"),
    ],
)
def test_label_outside_the_classes(tmp_path, monkeypatch, name, write, words):
    write(tmp_path)
    accept(monkeypatch, name, tmp_path)
    with pytest.raises(DataError, match=words):
        load(name, tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2]), pickle.dumps({"data": np.zeros(5)})])
def test_an_archive_that_is_no_archive(tmp_path, monkeypatch, content):
    write_cifar(tmp_path, "cifar100")
    (tmp_path / CIFAR100.base_folder / "train").write_bytes(content)
    accept(monkeypatch, "cifar100", tmp_path)
    with pytest.raises(DataError, match="cifar-100-python does not hold cifar100"):
        load("cifar100", tmp_path)


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("digits", {"image_size": 28}, "image_size of digits is 32 and cannot be 28"),
        ("folder", {}, "folder needs image_size"),
        ("digits", {"val_per_class": 0}, "val_per_class must be at least 1, not 0"),
        ("digits", {"train_per_class": 0}, "train_per_class must be at least 1, not 0"),
        ("digits", {"padding": -1}, "padding must be at least 0"),
        ("digits", {"seed": -1}, "seed must be at least 0"),
        ("digits", {"val_per_class": 99}, "class 0 has 99 training images: val_per_class 99 leaves none to train on"),
    ],
)
def test_impossible_arguments(tmp_path, name, change, words):
    with pytest.raises(DataError, match=words):
        load(name, tmp_path, **change)


def test_scikit_learn_is_only_needed_for_digits(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match="digits needs scikit-learn"):
        load("digits", "")


def test_a_data_set_without_a_reader_is_an_error_and_never_another_one(tmp_path, monkeypatch):
    known = dataclasses.asdict(data.FACTS["cifar10"]) | {"title": "Fashion", "corrupted": None}
    with pytest.raises(TypeError, match="reader"):
        data.Facts(**{name: value for name, value in known.items() if name != "reader"})
    for part, count in (("train", 3), ("test", 1)):
        write_classes(tmp_path / "fashion" / part, ("shirt", "shoe"), count, (32, 32))
    fashion = data.Facts(**known | {"reader": lambda root: data.sources.folder(root / "fashion")})
    monkeypatch.setitem(data.FACTS, "fashion", fashion)
    assert load("fashion", tmp_path).classes == ["shirt", "shoe"]
