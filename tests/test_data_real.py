"""The real images below $PATCHUP_DATA: CIFAR-100 in class folders, and any classes of Tiny-ImageNet."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data


def real(folder):
    root = os.environ.get("PATCHUP_DATA")
    if not root or not (Path(root) / folder).is_dir():
        pytest.skip(f"PATCHUP_DATA names no directory with {folder}")
    return Path(root)


def test_cifar100_is_whole():
    root = real("cifar100")
    loaded = data.load("cifar100", root, seed=0, val_per_class=50)
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [45000, 5000, 10000]
    assert len(loaded.classes) == 100 and loaded.classes[:2] == ["apple", "aquarium_fish"]
    labels = loaded.train.labels.numpy()
    assert set(np.bincount(labels[loaded.train.positions])) == {450}
    assert set(np.bincount(labels[loaded.val.positions])) == {50}
    assert not set(loaded.train.positions) & set(loaded.val.positions)
    mean = loaded.train.images.float().mean((0, 2, 3)) / 255
    assert mean.tolist() == pytest.approx(loaded.mean, abs=1e-3)  # the official constants are those of these images
    x, y = next(loaded.train.batches(100))
    assert x.shape == (100, 3, 32, 32) and len(set(y.tolist())) > 40


def test_tiny_imagenet_with_greyscale_images():
    root = real("tiny-imagenet-200")
    loaded = data.load("tiny_imagenet", root, seed=0, val_per_class=50)
    classes = len(loaded.classes)
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [
        450 * classes,
        50 * classes,
        50 * classes,
    ]
    source = data.FACTS["tiny_imagenet"].reader(root).parts["train"]
    grey = [i for i in range(len(source)) if Image.open(source.path(i)).mode == "L"]
    assert grey
    channels = loaded.train.images[grey[0]]
    assert (channels[0] == channels[1]).all() and (channels[1] == channels[2]).all()
    assert np.array_equal(channels[0].numpy(), np.asarray(Image.open(source.path(grey[0]))))
