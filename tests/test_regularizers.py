"""How the methods are found: one file and one entry in recipes.py make a new one."""

import math
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import recipes
import regularizers
from models.staged import StagedNet
from regularizers import PAPER, Regularizer, methods_in

ROOT = Path(__file__).resolve().parent.parent

NOISE = '''
import torch

from .base import Regularizer


class Noise(Regularizer):
    """Noise on the images."""

    name = "a_noise"

    def __init__(self, num_classes, criterion="bce", *, alpha=0.1):
        super().__init__(num_classes, criterion)
        self.alpha = alpha

    def mix(self, k, h):
        if k != 0:
            return h
        return h + self.alpha * self.once(k, lambda: torch.randn(h.shape, generator=self.generator(h.device)))
'''


def module(name, **classes):
    """A module that defines these classes: {class name: the name it has as a method, or None}."""
    made = ModuleType(name)
    for cls, own in classes.items():
        body = {"__module__": name} | ({} if own is None else {"name": own})
        setattr(made, cls, type(cls, (Regularizer,), body))
    return made


def test_every_method_is_found_under_its_own_name_and_the_papers_come_first():
    assert tuple(regularizers.METHODS)[:9] == PAPER
    assert "feature_cutmix" in regularizers.METHODS
    assert all(cls.name == name for name, cls in regularizers.METHODS.items())
    assert regularizers.PatchUp not in regularizers.METHODS.values()


def test_every_method_is_built_by_its_name():
    for name, cls in regularizers.METHODS.items():
        assert type(regularizers.build(name, 10)) is cls
    with pytest.raises(ValueError, match="unknown method 'mixp'; there are none, mixup, "):
        regularizers.build("mixp", 10)


@pytest.mark.parametrize(
    "method, paper",
    [
        ("none", {}),
        ("mixup", {"alpha": 1.0}),
        ("manifold_mixup", {"alpha": 1.5, "layers": (0, 1, 2)}),
        ("cutout", {"length": 16, "mask_per": "batch"}),
        ("dropblock", {"keep_prob": 0.9, "block_size": 7, "layers": (1, 2)}),
        ("cutmix", {"prob": 0.4, "alpha": 1.0}),
        ("feature_cutmix", {"prob": 1.0, "alpha": 1.0, "layers": (0, 1, 2)}),
        ("patchup_soft", {"prob": 1.0, "gamma": 0.75, "alpha": 2.0, "block_size": 7, "layers": (0, 1, 2)}),
        ("patchup_hard", {"prob": 0.7, "gamma": 0.5, "block_size": 7, "layers": (0, 1, 2)}),
        ("puzzlemix", {"alpha": 1.0, "n_labels": 3, "eta": 0.2, "beta": 1.2, "gamma": 0.5, "neigh_size": 4}),
        ("puzzlemix", {"transport": True, "t_size": 4, "t_eps": 0.8, "clean_lam": 0.0}),
    ],
)
def test_defaults_are_the_papers(method, paper):
    defaults = regularizers.hyperparameters(method)
    assert {name: defaults[name] for name in paper} == paper
    assert defaults.keys().isdisjoint(("self", "num_classes", "criterion", "std"))
    if method in ("mixup", "cutout", "dropblock", "cutmix"):
        assert defaults == paper


def test_two_classes_are_the_fewest():
    assert regularizers.build("none", 2).num_classes == 2
    with pytest.raises(ValueError, match="num_classes must be at least 2, not 1"):
        regularizers.build("none", 1)


@pytest.mark.parametrize(
    "method, options, wanted",
    [
        *((method, {}, {1}) for method in regularizers.METHODS if "patchup" not in method),
        ("puzzlemix", {"clean_lam": 1.5}, {2.5}),
        ("patchup_soft", {"layers": (0, 1)}, {2}),
        ("patchup_hard", {"layers": (0, 1), "prob": 0.5}, {1, 2}),
        ("patchup_hard", {"layers": (0, 1), "prob": 1, "loss_terms": "first"}, {1}),
        ("patchup_hard", {"layers": (0, 1), "prob": 1, "loss_terms": "second"}, {1}),
        ("patchup_soft", {"layers": (0, 1), "loss_terms": "official_second"}, None),
        ("patchup_soft", {"layers": (0,), "input_target": "own"}, {2}),
    ],
)
def test_terms_are_how_often_the_criterion_counts_in_the_loss(method, options, wanted):
    """Seen where the criterion is the same for every target: log C for logits of 0."""
    net = StagedNet([nn.Identity(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))])
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    regularizer = regularizers.build(method, 4, "ce", **options)
    x, y = torch.randn(4, 3, 16, 16), torch.arange(4)
    seen = []
    for step in range(12):
        regularizer.seed(0, step)
        regularizer.draw(x, y, net)
        terms = regularizer.loss(net(x, regularizer.mix)).item() / math.log(4)
        assert terms == pytest.approx(float(regularizer.terms()))
        seen.append(round(terms, 4))
    assert set(seen) == wanted if wanted else 1 < min(seen) < max(seen) < 2


def test_a_key_gives_the_numbers_that_it_always_gave():
    """Runs that were begun before go on with them."""
    torch_seed = 6463705122041852897
    method = regularizers.build("patchup_soft", 10)
    method.seed(0, 1, 2, 3)
    assert (method.rng.random(), method.torch_seed) == (0.6014845214281602, torch_seed)
    method.seed(0, 1, 2, 3)
    x = torch.zeros(1)
    assert method.generator(x.device).initial_seed() == torch_seed
    method.seed(0, 1, 2, 4)
    assert method.generator(x.device).initial_seed() == method.torch_seed != torch_seed


def test_every_method_has_a_label_and_the_papers_have_theirs_in_the_same_order():
    assert tuple(recipes.LABELS)[:9] == PAPER
    assert recipes.LABELS.keys() == regularizers.METHODS.keys()


def test_methods_are_the_classes_with_a_name_of_their_own_where_they_are_defined():
    one, two = module("m.one", Late="z", Base=None), module("m.two", Early="b", Hard="patchup_hard")
    two.Late = one.Late  # imported from there
    two.Same = two.Early
    two.number, two.cls = 3, dict
    found = methods_in([one, two])
    assert list(found) == ["patchup_hard", "b", "z"]
    assert found["z"] is one.Late


@pytest.mark.parametrize("classes", [("m.one.A", "m.two.B"), ("m.one.A", "m.one.B")])
def test_two_methods_of_one_name_are_refused_with_both_classes_named(classes):
    modules = {}
    for path in classes:
        folder, cls = path.rsplit(".", 1)
        modules.setdefault(folder, {})[cls] = "mine"
    with pytest.raises(ImportError, match=f"{classes[0]} and {classes[1]} have the same name, 'mine'"):
        methods_in(module(name, **own) for name, own in modules.items())


def test_one_file_and_one_label_are_a_method_that_trains(tmp_path):
    """In a copy of the repository, as a user would."""
    for folder in ("data", "engine", "models", "recipes", "regularizers", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.glob("*.py"):
        shutil.copy(file, tmp_path)
    (tmp_path / "regularizers/noise.py").write_text(NOISE)
    text = (tmp_path / "recipes/names.py").read_text()
    (tmp_path / "recipes/names.py").write_text(text.replace("LABELS = {", 'LABELS = {\n    "a_noise": "Noise",', 1))
    command = [sys.executable, "train.py", "--dataset", "digits", "--model", "preactresnet18", "--method", "a_noise"]
    command += ["--alpha", "0.2", "--width", "4", "--epochs", "1", "--device", "cpu", "--out", str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/digits/preactresnet18/a_noise/seed0.json").exists()
