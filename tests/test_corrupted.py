"""Corrupted test sets as images: generated, kept for the next checkpoint, and released ones that are refused."""

import shutil

import numpy as np
import pytest
from PIL import Image
from test_data_sources import NAMES

import data
from data import DataError, corrupted, corruptions
from data.loaders import MemoryLoader, Pool
from tests.corrupted_sets import SCORED, whole, write_cifar_c, write_tiny_c
from tests.image_files import noise, write_classes

pytestmark = pytest.mark.usefixtures("plain_frost")


def split_of(images):
    shared = Pool(images, np.arange(len(images)) % 7)
    options = {"padding": 0, "flip": False, "seed": 0, "augment": None, "mean": (0,) * 3, "std": (1,) * 3}
    return MemoryLoader(shared, np.arange(len(images)), **options)


def generated(images, folder=None, dataset="digits", seed=0, storage=None, limit=None, workers=0):
    return corrupted.Generated(dataset, split_of(images).limited(limit), seed, storage, folder, workers)


# --- generated -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset, side, storage, seed, words", [
    ("cifar100", 32, None, 0, "cifar100-c-like (generated from the test set, 32 px table, png, seed 0)"),
    ("cifar100", 32, "jpeg85", 7, "cifar100-c-like (generated from the test set, 32 px table, jpeg85, seed 7)"),
    ("tiny_imagenet", 64, None, 0, "tiny-imagenet-c-like (generated from val, 64 px table, jpeg85, seed 0)"),
    ("svhn", 48, None, 0, "svhn-c-like (generated from the test set, 64 px table for 48 px images, jpeg85, seed 0)"),
    ("imagenet", 224, "png", 1, "imagenet-c-like (generated from val, 224 px table, png, seed 1)"),
])  # fmt: skip
def test_labels_say_what_the_images_are(dataset, side, storage, seed, words):
    assert generated(np.zeros((2, 3, side, side), np.uint8), None, dataset, seed, storage).label == words


def test_batches_workers_and_start_do_not_matter():
    images = noise(11, 3, 32, 32)
    expected = corruptions.corrupt(images, np.arange(11), "impulse_noise", 3, 0, "png")
    assert np.array_equal(whole(generated(images), size=4), expected)
    assert np.array_equal(whole(generated(images, workers=2), size=3), expected)
    assert np.array_equal(whole(generated(images), start=7), expected[7:])
    assert whole(generated(images, limit=3)).shape == (3, 3, 32, 32)
    chosen = generated(images, limit=3).rows
    assert np.array_equal(whole(generated(images, limit=3)), expected[chosen])
    jpeg = corruptions.corrupt(images, np.arange(11), "impulse_noise", 3, 0, "jpeg85")
    assert np.array_equal(whole(generated(images, storage="jpeg85")), jpeg)


def test_large_images_come_in_smaller_batches():
    source = generated(np.zeros((60, 3, 224, 224), np.uint8))
    assert len(next(source.batches("brightness", 1, 250))) * 3 * 224**2 <= corrupted.CHUNK_VALUES


def never(*given):
    pytest.fail("made again")


def test_a_case_is_kept_once_it_is_whole(tmp_path, monkeypatch):
    images = noise(9, 3, 32, 32)
    first = generated(images, tmp_path)
    next(iter(first.batches("impulse_noise", 3, 4)))  # stopped after a batch
    whole(first, start=4)  # only its rest
    assert not list(tmp_path.iterdir())
    expected = whole(first)
    assert [file.suffix for file in tmp_path.iterdir()] == [".npz"]
    monkeypatch.setattr(corruptions, "corrupt", never)
    assert np.array_equal(whole(generated(images, tmp_path)), expected)
    assert np.array_equal(whole(generated(images, tmp_path), start=5, size=3), expected[5:])
    for other in ({"seed": 1}, {"storage": "jpeg85"}, {"limit": 8}, {"dataset": "folder"}):
        with pytest.raises(pytest.fail.Exception, match="made again"):
            whole(generated(images, tmp_path, **other))
    images[0, 0, 0, 0] ^= 1
    with pytest.raises(pytest.fail.Exception, match="made again"):
        whole(generated(images, tmp_path))


def test_kept_images_of_other_clean_images_are_removed(tmp_path):
    images = noise(5, 3, 32, 32)
    whole(generated(images, tmp_path))
    whole(generated(images, tmp_path, limit=4))
    before = set(tmp_path.iterdir())
    whole(generated(255 - images, tmp_path))
    assert len(set(tmp_path.iterdir()) & before) == 1 and len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_kept_is_said_once(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    source = generated(noise(3, 3, 32, 32), tmp_path / "file" / "corrupted")
    assert len(whole(source)) == len(whole(source, severity=4)) == 3
    assert capsys.readouterr().err.count("cannot be kept") == 1


def test_streamed_images_are_corrupted_and_not_kept(tmp_path, monkeypatch):
    for part in ("train", "test"):
        write_classes(tmp_path / part, ("a", "b"), 3, (40, 36))
    monkeypatch.setattr(data, "MEMORY_LIMIT", 0)
    test = data.load("folder", tmp_path, seed=0, val_per_class=1, image_size=32, workers=0).test
    assert isinstance(test, data.StreamLoader)
    ((clean, labels, rows),) = test.pixel_batches(10)
    source = corrupted.Generated("folder", test, 2, None, tmp_path / "kept", 0)
    assert np.array_equal(whole(source), corruptions.corrupt(clean.numpy(), rows.numpy(), "impulse_noise", 3, 2, "png"))
    assert source.labels.tolist() == labels.tolist() and not (tmp_path / "kept").exists()


# --- released --------------------------------------------------------------------------------------------------------


def test_the_whole_set_needs_no_number_in_its_label(tmp_path):
    labels = np.zeros(10000, np.int64)
    assert corrupted.Released("cifar100", labels, 5).label == "cifar100-c (released, zenodo 3555552)"
    assert corrupted.Released("tiny_imagenet", labels, None).label == "tiny-imagenet-c (released, zenodo 2536630)"


def resave(name, change):
    def apply(folder):
        np.save(folder / name, change(np.load(folder / name)))

    return apply


@pytest.mark.parametrize(
    "change, words",
    [
        (shutil.rmtree, "CIFAR-10-C is missing: get cifar10-c from https://zenodo.org/records/2535967"),
        (lambda f: [(f / f"{n}.npy").unlink() for n in ("fog", "snow")], "CIFAR-10-C lacks snow.npy, fog.npy: get "),
        (lambda f: (f / "labels.npy").unlink(), "lacks labels.npy"),
        (resave("fog.npy", lambda a: a[:95]), "fog.npy is uint8 (95, 32, 32, 3), not uint8 (100, 32, 32, 3)"),
        (resave("fog.npy", lambda a: a[:, :28]), "fog.npy is uint8 (100, 28, 32, 3), not uint8 (100, 32"),
        (resave("fog.npy", lambda a: a / 255), "fog.npy is float64 (100, 32, 32, 3), not uint8"),
        (resave("labels.npy", lambda a: a[:20]), "gaussian_noise.npy is uint8 (100, 32, 32, 3), not uint8 (20, 32"),
        (resave("labels.npy", lambda a: a[:99]), "labels.npy is uint8 (99,), not as many whole numbers for each of 5"),
        (resave("labels.npy", lambda a: a[:, None]), "labels.npy is uint8 (100, 1), not as many whole numbers"),
        (resave("labels.npy", lambda a: a.astype(str)), "labels.npy is <U3 (100,), not as many whole numbers"),
        (resave("labels.npy", lambda a: a[:0]), "labels.npy is uint8 (0,), not as many whole numbers"),
        (resave("labels.npy", np.sort), "labels.npy has other labels from severity to severity"),
        (resave("labels.npy", lambda a: a % 9), "labels.npy has the labels 0 to 8, 9 of them, cifar10 has 0 to 9"),
        (lambda f: (f / "fog.npy").write_bytes((f / "fog.npy").read_bytes()[:9999]), "fog.npy is damaged or no .npy"),
        (lambda f: (f / "fog.npy").write_bytes(b""), "fog.npy is damaged or no .npy file"),
        (lambda f: np.savez((f / "fog.npy").open("wb"), a=[1]), "fog.npy is damaged or no .npy file (it is an archive"),
        (resave("fog.npy", lambda a: a.astype(object)), "fog.npy is damaged or no .npy file"),
    ],
)
def test_a_released_cifar_that_is_wrong(tmp_path, change, words):
    folder = write_cifar_c(tmp_path / "CIFAR-10-C")
    change(folder)
    with pytest.raises(DataError) as error:
        whole(corrupted.released(folder, "cifar10", tuple(NAMES["cifar10"]), 32, SCORED, None, 0), "fog")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_numbered_class_folders_must_be_in_order(tmp_path):
    folder = write_cifar_c(tmp_path / "CIFAR-10-C")
    names = [f"{2 * i}" for i in range(10)]  # sorted as text: 0 10 12 ...
    with pytest.raises(DataError, match="the class folders of cifar10 are numbers in another order"):
        corrupted.released(folder, "cifar10", tuple(sorted(names)), 32, SCORED, None, 0)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda f: shutil.rmtree(f / "fog"), "holds no folder fog: get tiny-imagenet-c from https://zenodo.org"),
        (lambda f: shutil.rmtree(f / "fog/3"), "fog/3 is missing"),
        (lambda f: shutil.rmtree(f / "fog/3/n2"), "class folder .*fog/3/n2 is missing"),
        (lambda f: (f / "fog/3/n2/1.JPEG").unlink(), "fog/3/n2 holds 2 images and .*gaussian_noise/1/n2 3"),
        (lambda f: [p.unlink() for p in (f / "fog/3/n1").iterdir()], "fog/3/n1 holds no images"),
        (lambda f: (f / "fog/3/n2/1.JPEG").write_bytes(b"no"), "fog/3/n2/1.JPEG cannot be read as an image"),
        (lambda f: Image.new("RGB", (64, 60)).save(f / "fog/3/n2/1.JPEG"), "1.JPEG is 64x60 pixels, not 64x64"),
        (lambda f: shutil.copytree(f / "fog", f.parent / "more" / "fog"), "holds fog in .* and .*: give one of them"),
    ],
)
def test_a_released_tiny_imagenet_that_is_wrong(tmp_path, change, words):
    folder = write_tiny_c(tmp_path / "Tiny-ImageNet-C")
    change(folder / "Tiny-ImageNet-C")
    with pytest.raises(DataError, match=words) as caught:
        source = corrupted.released(folder, "tiny_imagenet", ("n1", "n2"), 64, ("gaussian_noise", "fog"), None, 0)
        whole(source, "fog", 3)
    assert "\n" not in str(caught.value)
