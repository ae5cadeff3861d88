"""What several test files use."""

import os

import pytest
import torch

os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start
torch.set_num_threads(1)  # for networks this small more are slower


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
