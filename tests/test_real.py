"""The main job on real images, at reduced size: every kind of method learns on CIFAR-100 and Tiny-ImageNet."""

import os

import pytest

import data
import recipes
import train

IMAGES = os.environ.get("PATCHUP_DATA")
pytestmark = pytest.mark.slow  # minutes, of training
SHORT = {"width": 16, "criterion": "ce", "lr": 0.01, "batch_size": 25, "val_per_class": 5}


def run(tmp_path, dataset, method, **options):
    """The result of a short run on the real images below PATCHUP_DATA."""
    if not IMAGES:
        pytest.skip("PATCHUP_DATA does not say where the real images are")
    recipe = recipes.resolve(dataset, "preactresnet18", method, **SHORT, **options)
    return train.run(recipe, data_dir=IMAGES, out=tmp_path, device="cpu", quiet=True)


@pytest.mark.parametrize("method", ["none", "patchup_soft", "patchup_hard", "puzzlemix"])
def test_cifar100(tmp_path, method):
    result = run(tmp_path, "cifar100", method, train_per_class=40, epochs=4)
    assert result["classes"] == 100 and result["images"] == {"train": 4000, "val": 500, "test": 10000}
    assert result["test_error"] < 96  # chance is 99


@pytest.mark.parametrize("method", ["none", "patchup_soft", "patchup_hard", "puzzlemix"])
def test_ten_classes_of_tiny_imagenet(tmp_path, method):
    if IMAGES:
        classes = data.load("tiny_imagenet", IMAGES, seed=0, val_per_class=50).classes
        if len(classes) != 10:
            pytest.skip(f"made for ten classes of Tiny-ImageNet, there are {len(classes)}")
    result = run(tmp_path, "tiny_imagenet", method, train_per_class=60, epochs=5)
    assert result["images"] == {"train": 600, "val": 50, "test": 500}
    assert result["test_error"] < 80  # chance is 90
