"""Networks of torchvision and timm by name: their recipes, trainings, files and tables."""

import json
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import eval_activations
import models
import recipes
import regularizers
import train
from engine.files import BadInput
from engine.runs import RunFiles
from engine.trainer import compile_stages
from models import MODELS, Network, StagedNet
from recipes import RecipeError, resolve
from scripts import tables

MOBILENET = "torchvision:mobilenet_v3_small"


def fields(recipe, *names):
    return tuple(getattr(recipe, name) for name in names)


@pytest.mark.parametrize(
    "method, wanted",
    [
        ("patchup_hard", ((0, "features.1", "features.2", "features.4"), (5, 3, 1))),
        ("manifold_mixup", ((0, "features.1", "features.2", "features.4"), None)),
        ("dropblock", (("features.1", "features.2"), 3)),
        ("none", (None, None)),
    ],
)
def test_layers_and_blocks_follow_from_the_maps(method, wanted):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        recipe = resolve("cifar100", MOBILENET, method)
    assert fields(recipe, "layers", "block_size") == wanted
    assert [str(warning.message) for warning in told] == {
        "patchup_hard": [
            f"block_size of patchup_hard in {MOBILENET} is (5, 3, 1) instead of (7, 7, 5, 3), "
            "to suit maps of side 16, 8, 4"
        ],
        "dropblock": [f"block_size of dropblock in {MOBILENET} is 3 instead of 7, to suit maps of side 16, 8"],
    }.get(method, [])
    assert fields(recipe, "epochs", "milestones", "width", "stem", "stem_stride") == (400, (200, 300), None, None, None)


@pytest.mark.filterwarnings("ignore:block_size of")
def test_named_layers_are_the_stages_in_their_order():
    recipe = resolve("cifar100", MOBILENET, "patchup_soft", layers=("features.4", 0, "features.2"))
    assert fields(recipe, "layers", "block_size") == (("features.4", 0, "features.2"), (1, 3))
    assert recipes.regularizer(recipe, 5).layers == (1, 0, 2)
    net = recipes.network(recipe, 5)
    assert net.layers == ("features.4", "features.2")
    assert [shape[1] for shape in net.shapes(32)] == [32, 4, 8]
    assert resolve("cifar100", MOBILENET, "patchup_soft", layers=(2,)).layers == ("features.2",)
    assert resolve("cifar100", MOBILENET, "patchup_soft", layers=(1, "features.9"), block_size=2).block_size == 2
    assert resolve("imagenet", MOBILENET, "patchup_soft").block_size == (7, 7, 5)
    assert recipes.network(resolve("cifar100", MOBILENET, "none"), 5).layers == (
        "features.1",
        "features.2",
        "features.4",
    )
    assert recipes.restore(json.loads(json.dumps(recipes.used(recipe)))) == recipe


def test_what_differs_from_the_proposal_is_told_of_the_run_alone():
    with pytest.warns(UserWarning) as told:
        recipe = resolve("cifar100", MOBILENET, "patchup_hard", layers=("features.2",))
        assert recipes.changes(recipe, {"layers": ("features.2",)}) == {"layers": ("features.2",)}
    assert ["to suit maps of side 8" in str(warning.message) for warning in told] == [True]


@pytest.mark.parametrize(
    "model, overrides, message",
    [
        ("torchvision:mobilenetv3", {}, "torchvision has no network 'mobilenetv3'; it has torchvision:mobilenet_v"),
        (MOBILENET, {"layers": ("feature.2",)}, "MobileNetV3 has no submodule 'feature.2', but features.2, "),
        (MOBILENET, {"layers": (4,)}, f"{MOBILENET} has layers by number from 0 to 3, not 4; others have names"),
        (MOBILENET, {"layers": (-1,)}, f"{MOBILENET} has layers by number from 0 to 3, not -1"),
        (MOBILENET, {"layers": ("classifier",)}, "the input of classifier is [1, 576], not one tensor [B, C, H, W]"),
        (MOBILENET, {"block_size": 9}, "block_size 9 does not fit a feature map of 8x8 (layer 2)"),
        (MOBILENET, {"width": 8}, f"--width means nothing to {MOBILENET} on cifar100"),
        ("torchvision:alexnet", {}, "torchvision:alexnet cannot take images of 32 pixels (Given input size: (256x1x1)"),
        ("timm:mixer_s32_224", {}, "timm:mixer_s32_224 cannot take images of 32 pixels (Input height (32) doesn't"),
        ("torchvision:swin_t", {}, "torchvision:swin_t has no layers to propose at 32 pixels: give --layers"),
        ("preactresnet18", {"layers": ("layer1",)}, "layers of preactresnet18 are numbers from 0, not layer1"),
    ],
)
@pytest.mark.filterwarnings("ignore:block_size of")
def test_refusals(model, overrides, message):
    with pytest.raises(RecipeError) as error:
        resolve("cifar100", model, "patchup_hard", **overrides)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def vgg(num_classes, width=8):
    """Four convolutions, each at half the map of the one before; the last of 4x4 at 32 pixels."""
    strides = (1, 2, 2, 2)
    convs = [nn.Conv2d(3 if i == 0 else width, width, 3, stride, 1) for i, stride in enumerate(strides)]
    return StagedNet([*convs, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))])


def test_a_network_without_layers_in_its_entry(monkeypatch):
    monkeypatch.setitem(MODELS, "vgg", Network(vgg))
    with pytest.warns(UserWarning, match=r"block_size of patchup_hard in vgg is .*, to suit maps of side 32, 16, 8"):
        recipe = resolve("digits", "vgg", "patchup_hard", width=4)
    assert fields(recipe, "width", "layers", "block_size") == (4, (0, 1, 2, 3), (7, 5, 3))
    assert recipes.network(recipe, 5).stages[1].out_channels == 4
    with pytest.warns(
        UserWarning, match="block_size of dropblock in vgg is 5 instead of 7, to suit maps of side 32, 16"
    ):
        assert fields(resolve("digits", "vgg", "dropblock"), "layers", "block_size", "width") == ((1, 2), 5, 8)
    with pytest.warns(UserWarning, match=r"is \(7, 5, 3\) instead of"):
        assert resolve("digits", "vgg", "patchup_hard", layers=(3,)).block_size == (7, 5, 3)
    assert resolve("digits", "vgg", "patchup_hard", layers=(1,)).block_size == (7, 7, 5, 3)  # nothing to lower
    assert resolve("digits", "vgg", "patchup_hard", layers=(0,)).block_size == (7, 7, 5, 3)
    assert resolve("cifar100", "vgg", "cutout").length == 16
    monkeypatch.setitem(MODELS, "short", Network(lambda num_classes: StagedNet(vgg(num_classes).stages[2:])))
    with pytest.raises(RecipeError, match="short cannot take images of 32 pixels"):
        resolve("cifar100", "short", "none")
    monkeypatch.setitem(MODELS, "deep", Network(lambda num_classes, depth=3: vgg(num_classes)))
    with pytest.raises(RecipeError, match="the network deep takes depth, which recipes.Recipe has no field for"):
        resolve("cifar100", "deep", "none")


@pytest.mark.parametrize(
    "model, width, channels_last",
    [
        ("preactresnet18", 16, True),
        ("preactresnet18", 15, False),
        ("preactresnet34", 8, False),
        ("preactresnet34", None, True),
        ("wrn28_10", None, True),
        ("wrn28_10", 8, False),
        ("resnet50", None, True),
        (MOBILENET, None, True),
    ],
)
def test_memory_format_by_the_narrowest_strided_1x1_convolution(model, width, channels_last):
    assert resolve("cifar100", model, "none", width=width).channels_last is channels_last
    for wanted in (True, False):
        assert resolve("cifar100", model, "none", width=width, channels_last=wanted).channels_last is wanted


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_network_has_its_recipes_memory_format(channels_last):
    recipe = resolve("cifar100", "preactresnet18", "none", width=4, channels_last=channels_last)
    weight = recipes.network(recipe, 5).stages[1][0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) is channels_last


def test_a_run_of_another_memory_format_is_refused_by_its_field(tmp_path):
    before, now = (
        resolve("digits", "preactresnet18", "none", width=8, **given) for given in ({"channels_last": True}, {})
    )
    files = RunFiles(tmp_path, before)
    files.stem.parent.mkdir(parents=True)
    files.result.write_text(json.dumps({"recipe": recipes.used(before)}))
    assert files.finished()
    with pytest.raises(BadInput, match="has another recipe .channels_last True there, False here.: give another --out"):
        RunFiles(tmp_path, now).finished()


@pytest.mark.filterwarnings("ignore:block_size of")
def test_training_files_and_activations(tmp_path, capsys):
    options = {"epochs": 1, "train_per_class": 1, "layers": (0, "features.2", "features.4")}
    recipe = resolve("digits", MOBILENET, "patchup_hard", **options)
    where = {"data_dir": tmp_path, "device": "cpu", "quiet": True}
    result = train.run(recipe, out=tmp_path / "runs", **where)
    files = RunFiles(tmp_path / "runs", recipe)
    assert files.stem == tmp_path / "runs/digits/torchvision-mobilenet_v3_small/patchup_hard/seed0"
    assert result["model"] == MOBILENET
    saved = torch.load(files.last, weights_only=True)
    bare = models.build(MOBILENET, 10).net
    bare.load_state_dict(saved["net"])  # as it was in the library
    assert recipes.restore(saved["recipe"]) == recipe
    assert eval_activations.main([str(files.last), "--data-dir", str(tmp_path), "--limit", "5", "--device", "cpu"]) == 0
    stored = np.load(files.last.with_name("seed0.last.activations-limit5.npz"))
    assert {name for name in stored.files if name.endswith("/magnitude")} == {
        "features.2/magnitude",
        "features.4/magnitude",
    }


def test_compiled_parts_are_the_largest_without_layers():
    net = models.on_meta(MOBILENET, 5, layers=["features.2.block.1"])
    inside = [name for name, module in net.net.named_modules() if module in net.parts()]
    assert inside[:4] == ["features.0", "features.1", "features.2.block.0", "features.2.block.1"]
    assert inside[-2:] == ["avgpool", "classifier"]
    assert sum(p.numel() for part in net.parts() for p in part.parameters()) == sum(p.numel() for p in net.parameters())
    nested = models.mixable(nn.ModuleDict({"a": nn.ModuleList([nn.ReLU(), nn.Sequential(nn.ReLU())])}), ["a.1.0"])
    assert nested.parts() == [nested.net["a"][0], nested.net["a"][1][0]]
    compile_stages(nested)
    assert all("forward" in vars(part) for part in nested.parts())


def test_comparison_of_any_network(tmp_path, capsys):
    flags = ["compare", "--dataset", "digits", "--model", "preactresnet18", MOBILENET, "--seeds", "1"]
    flags += ["--out", str(tmp_path), "--no-run", "--methods"]
    assert tables.main([*flags, "none", "cutmix"]) == 0
    assert "| torchvision:mobilenet_v3_small, digits |" in capsys.readouterr().out
    assert tables.main([*flags[:3], "--model", "torchvision:vgg", *flags[6:], "none"]) == 2
    assert "torchvision has no network 'vgg'" in capsys.readouterr().err
    assert tables.main(["table2", "--model", MOBILENET, "--dry-run", "--out", str(tmp_path)]) == 2
    assert f"table2: unknown model '{MOBILENET}'; known are" in capsys.readouterr().err


def test_every_method_has_a_recipe_of_it():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in regularizers.METHODS:
            assert resolve("cifar10", MOBILENET, method).model == MOBILENET
