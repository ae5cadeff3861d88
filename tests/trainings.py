"""Short trainings on digits, and what of them must not depend on how often they were interrupted."""

import json
from pathlib import Path

import numpy as np
import torch

import recipes
import train
from engine.files import load_checkpoint

TINY = {"width": 4, "epochs": 2, "train_per_class": 4, "batch_size": 16}  # 3 steps an epoch
STEM = "digits/preactresnet18/{}/seed{}"  # of a run's files, by method and seed


def train_tiny(method, seed, out, checkpoint_minutes=5, **fields):
    """train.run for a few steps with a very narrow network; fields of the recipe replace those of TINY."""
    recipe = recipes.resolve("digits", "preactresnet18", method, seed, **TINY | fields)
    return train.run(recipe, data_dir=out, out=out, device="cpu", checkpoint_minutes=checkpoint_minutes, quiet=True)


def outcome(folder, method="none", seed=0):
    """(log, result, best and last weights) of a finished run, without what depends on time and machine."""
    stem = folder / STEM.format(method, seed)
    lines = [json.loads(line) for line in Path(f"{stem}.jsonl").read_text().splitlines()]
    result = json.loads(Path(f"{stem}.json").read_text())
    for entry in (*lines, result):
        for name in ("seconds", "images_per_second", "peak_memory_mib", "environment"):
            entry.pop(name, None)
    return lines, result, *(load_checkpoint(f"{stem}.{name}.pt")["net"] for name in ("best", "last"))


def record(folder, evaluation, method="none", seed=0):
    """The record of an evaluation of a run's best weights, and its arrays."""
    stem = folder / f"runs/{STEM.format(method, seed)}.best.{evaluation}"
    with np.load(f"{stem}.npz") as arrays:
        return json.loads(Path(f"{stem}.json").read_text()), dict(arrays)


def assert_same_outcome(first, second):
    """Assert that two outcomes are equal, bit for bit."""
    assert first[:2] == second[:2]
    for weights, others in zip(first[2:], second[2:]):
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in weights)
