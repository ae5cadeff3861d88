"""What several test files use."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from data import corruption_weather
from tests import image_files, trainings

os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start
torch.set_num_threads(1)  # for networks this small more are slower


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory):
    """finished_runs(method, seed, **recipe fields): a folder with a run that is trained once for all tests."""
    kept = {}

    def finished(method, seed, **fields):
        key = method, seed, tuple(sorted(fields.items()))
        if key not in kept:
            kept[key] = tmp_path_factory.mktemp("finished")
            trainings.train_tiny(method, seed, kept[key], **fields)
        return kept[key]

    return finished


@pytest.fixture
def train_anew(tmp_path):
    """trainings.train_tiny into tmp_path/runs, trained anew at every call, for tests of the training itself."""

    def train(method="none", seed=0, out=None, **more):
        return trainings.train_tiny(method, seed, out or tmp_path / "runs", **more)

    return train


@pytest.fixture
def train_tiny(tmp_path, finished_runs):
    """trainings.train_tiny into tmp_path/runs; what was trained before for another test is copied."""

    def train(method="none", seed=0, out=None, **fields):
        kept, out = finished_runs(method, seed, **fields), out or tmp_path / "runs"
        shutil.copytree(kept, out, dirs_exist_ok=True)
        return json.loads((out / trainings.STEM.format(method, seed)).with_suffix(".json").read_text())

    return train


@pytest.fixture
def photos(tmp_path):
    """A user's folder of images: 3 classes, 12 training and 2 test images each."""
    for part, count, seed in (("train", 12, 0), ("test", 2, 5000)):
        image_files.write_classes(tmp_path / part, ("ant", "bee", "cat"), count, seed=seed)
    return tmp_path


@pytest.fixture
def trained(train_tiny, tmp_path):
    """(checkpoint, result) of a tiny run."""
    result = train_tiny(val_per_class=2, epochs=1)
    return tmp_path / "runs/digits/preactresnet18/none/seed0.best.pt", result


@pytest.fixture
def plain_frost(monkeypatch):
    """Frost's overlays take seconds to draw: for tests that do not look at them."""
    monkeypatch.setattr(corruption_weather, "frost_overlays", lambda side, scale: np.full((5, 3, side, side), 0.5))


@pytest.fixture
def launched_here(monkeypatch):
    """Launchers do their jobs in this process, one after the other; the names of the jobs so far."""
    from scripts.grid import launcher
    from scripts.grid.job import perform

    names = []

    def launch(jobs, args):
        for job in jobs:
            names.append(job.name)
            assert perform(job.commands) == 0

    monkeypatch.setattr(launcher, "launch", launch)
    return names


@pytest.fixture
def evaluated_demo(tmp_path, monkeypatch, launched_here):
    """evaluated_demo(evaluation, *flags): make the demo as a table that shows an evaluation; its Grid."""
    import recipes
    from scripts import tables
    from tests.table_grids import grid_of

    def make(evaluation, *flags):
        table = dataclasses.replace(recipes.TABLES["demo"], evaluation=evaluation)
        monkeypatch.setitem(recipes.TABLES, "demo", table)
        where = ["--out", tmp_path, "--data-dir", tmp_path / "images", "--device", "cpu", "--workers", "0"]
        arguments = list(map(str, ["demo", *flags, *where]))
        assert tables.main(arguments) == 0
        return grid_of(tmp_path, *arguments)

    return make


@pytest.fixture
def drawn(monkeypatch):
    """The figures that scripts/figures draws in the test, in order, kept open until its end."""
    from scripts.figures import charts

    kept = []
    monkeypatch.setattr(charts.plt, "close", kept.append)
    yield kept
    monkeypatch.undo()
    charts.plt.close("all")


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
