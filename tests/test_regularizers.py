"""How METHODS comes about, what every method refuses, and a new method from one file and one label."""

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
    for cls, method in classes.items():
        body = {"__module__": name} | ({} if method is None else {"name": method})
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
    with pytest.raises(ValueError, match=r"unknown method 'mixp'; did you mean mixup\? Known are none, mixup, "):
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


@pytest.mark.parametrize(
    "method, options, message",
    [
        ("none", {"num_classes": 1}, "num_classes must be at least 2, not 1"),
        ("none", {"criterion": "mse"}, "criterion must be one of bce, ce, not 'mse'"),
        ("mixup", {"alpha": 0}, "alpha must be above 0, not 0"),
        ("manifold_mixup", {"alpha": -1.0}, "alpha must be above 0, not -1.0"),
        ("manifold_mixup", {"alpha": float("nan")}, "alpha must be above 0, not nan"),
        ("manifold_mixup", {"layers": ()}, "layers must be distinct stage indices from 0, not []"),
        ("manifold_mixup", {"layers": (1, 1)}, "layers must be distinct stage indices from 0, not [1, 1]"),
        ("manifold_mixup", {"layers": (-1, 0)}, "layers must be distinct stage indices from 0, not [-1, 0]"),
        ("cutout", {"length": 0}, "length must be an integer from 1, not 0"),
        ("cutout", {"length": 2.5}, "length must be an integer from 1, not 2.5"),
        ("patchup_hard", {"block_size": (7, 2.5)}, "block_size must be an integer from 1, not 2.5"),
        ("patchup_soft", {"block_size": 2.5}, "block_size must be an integer from 1, not 2.5"),
        ("dropblock", {"block_size": 2.5}, "block_size must be an integer from 1, not 2.5"),
        ("cutout", {"mask_per": "pixel"}, "mask_per must be one of batch, sample, not 'pixel'"),
        ("cutmix", {"prob": 1.2}, "prob must lie in [0, 1], not 1.2"),
        ("cutmix", {"prob": -0.1}, "prob must lie in [0, 1], not -0.1"),
        ("cutmix", {"alpha": 0}, "alpha must be above 0, not 0"),
        ("feature_cutmix", {"prob": 1.2}, "prob must lie in [0, 1], not 1.2"),
        ("feature_cutmix", {"alpha": 0}, "alpha must be above 0, not 0"),
        ("feature_cutmix", {"layers": (1, 1)}, "layers must be distinct stage indices from 0, not [1, 1]"),
        ("dropblock", {"keep_prob": 0}, "keep_prob must lie in (0, 1], not 0"),
        ("dropblock", {"keep_prob": 1.1}, "keep_prob must lie in (0, 1], not 1.1"),
        ("dropblock", {"block_size": 0}, "block_size must be an integer from 1, not 0"),
        ("dropblock", {"layers": ()}, "layers must be distinct stage indices from 0, not []"),
        ("patchup_hard", {"gamma": 1.5}, "gamma must lie in [0, 1], not 1.5"),
        ("patchup_hard", {"prob": -0.1}, "prob must lie in [0, 1], not -0.1"),
        ("patchup_soft", {"alpha": 0}, "alpha must be above 0, not 0"),
        ("patchup_soft", {"block_size": (7, 0)}, "block_size must be an integer from 1, not 0"),
        ("patchup_soft", {"layers": (-1,)}, "layers must be distinct stage indices from 0, not [-1]"),
        ("patchup_soft", {"mask_per": "pixel"}, "mask_per must be one of batch, sample, not 'pixel'"),
        ("patchup_soft", {"input_mask": "disc"}, "input_mask must be one of box, patchup, not 'disc'"),
        (
            "patchup_soft",
            {"loss_terms": "third"},
            "loss_terms must be one of both, first, second, official_second, not",
        ),
        ("patchup_soft", {"input_target": "none"}, "input_target must be one of mixed, own, not 'none'"),
        ("puzzlemix", {"alpha": 0}, "alpha must be above 0, not 0"),
        ("puzzlemix", {"n_labels": 1}, "n_labels must be an integer from 2 to 16, not 1"),
        ("puzzlemix", {"n_labels": 17}, "n_labels must be an integer from 2 to 16, not 17"),
        ("puzzlemix", {"n_labels": 3.0}, "n_labels must be an integer from 2 to 16, not 3.0"),
        ("puzzlemix", {"eta": -0.1}, "eta must be at least 0 and finite, not -0.1"),
        ("puzzlemix", {"beta": float("inf")}, "beta must be at least 0 and finite, not inf"),
        ("puzzlemix", {"gamma": 1.1}, "gamma must lie in [0, 1], not 1.1"),
        ("puzzlemix", {"neigh_size": 0}, "neigh_size must be an integer from 1, not 0"),
        ("puzzlemix", {"neigh_size": 2.5}, "neigh_size must be an integer from 1, not 2.5"),
        ("puzzlemix", {"t_size": 0}, "t_size must be an integer from 1, or -1 for the mask's own blocks, not 0"),
        ("puzzlemix", {"t_size": 2.5}, "t_size must be an integer from 1, or -1 for the mask's own blocks, not 2.5"),
        ("puzzlemix", {"t_eps": 0}, "t_eps must be above 0, not 0"),
        ("puzzlemix", {"clean_lam": -1}, "clean_lam must be at least 0 and finite, not -1"),
        ("puzzlemix", {"std": (0.2, 0.0, 0.2)}, "std must be above 0, not (0.2, 0.0, 0.2)"),
    ],
)
def test_impossible_values_are_refused(method, options, message):
    with pytest.raises(ValueError) as error:
        regularizers.build(method, **{"num_classes": 5} | options)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "method, options",
    [
        ("none", {"num_classes": 2}),
        ("patchup_soft", {"gamma": 0, "prob": 0, "block_size": 1}),
        ("patchup_hard", {"gamma": 1, "prob": 1}),
        ("dropblock", {"keep_prob": 1}),
        ("puzzlemix", {"n_labels": 2, "neigh_size": 1, "t_size": 1, "eta": 0, "beta": 0}),
        ("puzzlemix", {"n_labels": 16, "gamma": 1, "t_size": -1}),
    ],
)
def test_the_ends_of_what_is_possible_are_taken(method, options):
    regularizers.build(method, **{"num_classes": 5} | options)


SHAPES = [(3, 32, 32), (8, 32, 32), (16, 16, 6)]


@pytest.mark.parametrize(
    "method, fitting, options, shapes, message",
    [
        ("manifold_mixup", {}, {"layers": (0, 3)}, SHAPES, "layer 3 does not exist: this network has layers 0 to 2"),
        ("feature_cutmix", {}, {"layers": (0, 3)}, SHAPES, "layer 3 does not exist: this network has layers 0 to 2"),
        ("dropblock", {"block_size": 6}, {}, SHAPES, "block_size 7 does not fit a feature map of 16x6 (layer 2)"),
        ("dropblock", {"block_size": 6}, {"layers": (1, 3)}, SHAPES, "layer 3 does not exist: this network has"),
        ("patchup_soft", {"block_size": 6}, {}, SHAPES, "block_size 7 does not fit a feature map of 16x6 (layer 2)"),
        ("patchup_hard", {"layers": (0, 1)}, {"layers": (1, 3)}, SHAPES, "layer 3 does not exist: this network has"),
        (
            "patchup_hard",
            {"block_size": 33, "layers": (0,)},
            {"block_size": 33, "layers": (0,), "input_mask": "patchup"},
            SHAPES,
            "block_size 33 does not fit a feature map of 32x32 (layer 0)",
        ),
        (
            "patchup_hard",
            {"block_size": 32, "layers": (1,)},
            {"block_size": 33, "layers": (1,)},
            SHAPES,
            "block_size 33 does not fit a feature map of 32x32 (layer 1)",
        ),
        (
            "cutout",
            {"length": 63},
            {"length": 64},
            SHAPES,
            "length must be below 64, not 64: the hole always covers the",
        ),
        ("cutout", {"length": 63}, {"length": 64}, [(3, 16, 32)], "length must be below 64, not 64: the hole always"),
        ("puzzlemix", {}, {}, [(3, 32, 16)], "puzzlemix needs square images, not 32 x 16"),
        ("puzzlemix", {}, {}, [(3, 33, 33)], "puzzlemix needs images whose side is divisible by 2, not 33 x 33"),
    ],
)
def test_what_does_not_fit_the_network_is_refused(method, fitting, options, shapes, message):
    regularizers.build(method, 5, **fitting).check(SHAPES if method == "puzzlemix" else shapes)
    with pytest.raises(ValueError) as error:
        regularizers.build(method, 5, **options).check(shapes)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "method, shape, message",
    [
        ("patchup_hard", (2, 3, 4, 4), "block_size 7 does not fit a feature map of 4x4"),
        ("puzzlemix", (2, 3, 8, 16), "puzzlemix needs square images, not 8 x 16"),
    ],
)
def test_what_was_not_checked_is_refused_in_the_pass(method, shape, message):
    regularizer, net = regularizers.build(method, 5), torch.nn.Flatten()
    with pytest.raises(ValueError, match=f"^{message}$"):
        for step in range(20):
            regularizer.seed(step)
            regularizer.draw(torch.zeros(shape), torch.tensor([0, 1]), net)
            regularizer.mix(1, torch.zeros(shape))


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
    first = module("m.first", Late="z", Base=None)
    second = module("m.second", Early="b", Hard="patchup_hard")
    second.Late = first.Late  # imported from there
    second.Same = second.Early
    second.number, second.cls = 3, dict
    methods = methods_in([first, second])
    assert list(methods) == ["patchup_hard", "b", "z"]
    assert methods["z"] is first.Late


@pytest.mark.parametrize("classes", [("m.one.A", "m.two.B"), ("m.one.A", "m.one.B")])
def test_two_methods_of_one_name_are_refused_with_both_classes_named(classes):
    modules = {}
    for path in classes:
        folder, cls = path.rsplit(".", 1)
        modules.setdefault(folder, {})[cls] = "mine"
    with pytest.raises(ImportError, match=f"{classes[0]} and {classes[1]} have the same name, 'mine'"):
        methods_in(module(name, **names) for name, names in modules.items())


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


def test_a_keyword_that_the_method_has_not_is_refused_with_those_it_has():
    with pytest.raises(ValueError, match="cutout takes no 'side'; it takes length, mask_per$"):
        regularizers.build("cutout", 10, side=4)
