"""What several test files use."""

import os
from pathlib import Path

import pytest
import torch

os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start
torch.set_num_threads(1)  # for networks this small more are slower


@pytest.fixture(autouse=True)
def eager_blending(monkeypatch):
    """Every test begins with the kernel that nothing was compiled to."""
    from regularizers import blend

    monkeypatch.setattr(blend, "kernel", blend.blended)


@pytest.fixture
def train_tiny(tmp_path):
    """train.run for a few steps on digits with a very narrow network: train_tiny(method="none", **recipe fields)."""
    import recipes
    import train

    def run(method="none", seed=0, out=None, checkpoint_minutes=5, **overrides):
        options = {"width": 4, "epochs": 2, "train_per_class": 4, "batch_size": 16} | overrides
        recipe = recipes.resolve("digits", "preactresnet18", method, seed, **options)
        where = {"data_dir": tmp_path, "out": out or tmp_path / "runs", "device": "cpu"}
        return train.run(recipe, **where, checkpoint_minutes=checkpoint_minutes, quiet=True)

    return run


@pytest.fixture(scope="session", params=["cifar100", "tiny_imagenet"])
def real_checkpoint(request, tmp_path_factory):
    """(checkpoint of a short training on real images, folder of the images), where PATCHUP_DATA names one."""
    import recipes
    import train

    images = os.environ.get("PATCHUP_DATA")
    if not images:
        pytest.skip("PATCHUP_DATA does not say where the real images are")
    options = {"width": 4, "epochs": 1, "train_per_class": 5, "val_per_class": 5, "criterion": "ce"}
    recipe = recipes.resolve(request.param, "preactresnet18", "none", **options)
    folder = tmp_path_factory.mktemp("real")
    train.run(recipe, data_dir=images, out=folder / "runs", device="cpu", quiet=True)
    (folder / "images").mkdir()
    for there in Path(images).resolve().iterdir():  # what evaluations keep shall not stay among the images
        if there.name != "affine":
            (folder / "images" / there.name).symlink_to(there)
    return folder / "runs" / request.param / "preactresnet18/none/seed0.best.pt", folder / "images"
