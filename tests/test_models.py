"""The networks: sizes, stages, the official peculiarities, and what is refused."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import models
from models import MODELS, Network, StagedNet, build, on_meta

SMALL = {"preactresnet18": {"width": 4}, "preactresnet34": {"width": 4}, "wrn28_10": {"width": 8}, "resnet50": {}}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def small(name, num_classes=5, **options):
    return build(name, num_classes, **(SMALL[name] | options)).eval()


def multiply_adds(net, size):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.empty(1, 3, size, size, device="meta"))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(
    "name, millions, giga",
    [("preactresnet18", 11.2, 0.555), ("preactresnet34", 21.3, 1.159), ("wrn28_10", 36.5, 5.95)],
)
def test_published_parameters_and_official_cost_of_a_forward_pass(name, millions, giga):
    assert sum(p.numel() for p in on_meta(name, 100).parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert multiply_adds(on_meta(name, 10), 32) / 1e9 == pytest.approx(giga, rel=2e-3)
    assert multiply_adds(on_meta(name, 10, stem_stride=2), 64) == multiply_adds(on_meta(name, 10), 32)


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnet152"])
def test_resnets_equal_torchvision_bit_for_bit(name):
    torch.manual_seed(3)
    theirs = getattr(torchvision.models, name)(num_classes=7)
    torch.manual_seed(3)
    ours = build(name, 7)
    assert all(map(torch.equal, theirs.parameters(), ours.parameters()))  # the same seed gives the same weights
    x = torch.randn(2, 3, 64, 64)
    for training in (True, False):  # first with batch statistics, which also moves the running ones
        assert torch.equal(theirs.train(training)(x), ours.train(training)(x))


def test_cifar_stem():
    net = small("resnet50", stem="cifar", stem_stride=2)
    conv = net.stages[0][0]
    assert (conv.kernel_size, conv.stride, conv.bias) == ((3, 3), (2, 2), None)
    assert not any(isinstance(m, nn.MaxPool2d) for m in net.modules())
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)  # kaiming, fan out
    assert net.shapes(64)[1:3] == [(64, 32, 32), (256, 32, 32)]
    assert small("resnet50", stem="cifar").shapes(32)[-1] == (2048, 4, 4)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size, batch", [(32, 1), (64, 3)])
def test_output_is_f_k_after_g_k_for_every_k(name, size, batch):
    net = small(name)
    x = torch.randn(batch, 3, size, size)
    with torch.no_grad():
        logits = net(x)
        assert logits.shape == (batch, 5)
        for k in range(len(net.stages) + 1):
            assert torch.equal(nn.Sequential(*net.stages[k:])(nn.Sequential(*net.stages[:k])(x)), logits)


@pytest.mark.parametrize("name", SMALL)
def test_any_image_shape_and_training_with_an_odd_batch(name):
    net = small(name).train()
    assert net(torch.randn(3, 3, 48, 33)).shape == (3, 5)
    net(torch.randn(3, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    "name, size, options, expected",
    [
        ("preactresnet18", 32, {}, [(3, 32), (4, 32), (4, 32), (8, 16), (16, 8), (32, 4)]),
        ("preactresnet34", 64, {"stem_stride": 2}, [(3, 64), (4, 32), (4, 32), (8, 16), (16, 8), (32, 4)]),
        ("wrn28_10", 32, {}, [(3, 32), (16, 32), (8, 32), (16, 16), (32, 8)]),
        ("wrn28_10", 64, {"stem_stride": 2}, [(3, 64), (16, 32), (8, 32), (16, 16), (32, 8)]),
        ("resnet50", 64, {}, [(3, 64), (64, 16), (256, 16), (512, 8), (1024, 4), (2048, 2)]),
    ],
)
def test_shapes_of_the_stage_inputs(name, size, options, expected):
    net = small(name, **options)
    assert net.shapes(size) == [(channels, side, side) for channels, side in expected]


def test_mix_sees_every_stage_input_once_and_may_replace_it():
    net = small("preactresnet18")
    x = torch.randn(3, 3, 32, 32)
    seen = []

    def record(k, h):
        seen.append((k, tuple(h.shape[1:])))
        return h

    with torch.no_grad():
        assert torch.equal(net(x, record), net(x))
        assert seen == list(enumerate(net.shapes(32)))
        assert [net.place(k) for k in (1, 2, 3)] == ["conv1", "layer1", "layer2"]
        for replaced in range(len(net.stages)):
            logits = net(x, lambda k, h, at=replaced: h.flip(0) if k == at else h)
            torch.testing.assert_close(logits, net(x).flip(0))


def convolutions(net):
    return {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}


@pytest.mark.parametrize("name", ["preactresnet18", "preactresnet34"])
def test_preactresnet_peculiarities(name):
    net = on_meta(name, 10)
    convs = convolutions(net)
    assert all(conv.bias is None for conv in convs.values())
    striding = [key for key, conv in convs.items() if conv.stride != (1, 1)]
    assert striding == [f"stages.{k}.0.{conv}" for k in (2, 3, 4) for conv in ("conv1", "shortcut")]
    assert {m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    assert isinstance(net.stages[0], nn.Conv2d)  # no BatchNorm before layer1
    assert [type(m) for m in net.stages[-1]] == [nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]  # nor after layer4


def test_wrn_peculiarities():
    net = on_meta("wrn28_10", 10)
    convs = convolutions(net)
    assert all(conv.bias is not None for conv in convs.values())
    striding = [key for key, conv in convs.items() if conv.stride != (1, 1)]
    assert striding == [f"stages.{k}.0.{conv}" for k in (2, 3) for conv in ("conv2", "shortcut")]
    assert [key for key in convs if "shortcut" in key] == [f"stages.{k}.0.shortcut" for k in (1, 2, 3)]
    momenta = {key: m.momentum for key, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {key for key, momentum in momenta.items() if momentum == 0.9} == {"stages.4.0"}
    assert set(momenta.values()) == {0.1, 0.9}


def batch_norm(x, norm):
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (var + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


def convolve(x, conv):
    return nn.functional.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)


@pytest.mark.parametrize("name, from_x", [("preactresnet18", False), ("wrn28_10", True)])
@pytest.mark.parametrize("block", [0, 1])
def test_blocks_against_their_equations(name, from_x, block):
    net = build(name, 5, width=6)
    unit = net.stages[2][block]
    channels = unit.conv1.in_channels
    with torch.no_grad():
        for norm in (unit.bn1, unit.bn2):
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
        x = torch.randn(3, channels, 9, 7)
        before = x.clone()
        a = batch_norm(x, unit.bn1).clamp(min=0)
        shortcut = x
        if block == 0:
            shortcut = convolve(x if from_x else a, unit.shortcut)
        expected = convolve(batch_norm(convolve(a, unit.conv1), unit.bn2).clamp(min=0), unit.conv2) + shortcut
        torch.testing.assert_close(unit(x), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(x, before)


def test_head_pools_over_the_whole_map():
    net = small("wrn28_10")
    norm, _, _, _, linear = net.stages[-1]
    h = torch.randn(2, norm.num_features, 5, 3)
    with torch.no_grad():
        normed = (h - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
        torch.testing.assert_close(net.stages[-1](h), linear(normed.clamp(min=0).mean((2, 3))))


@pytest.mark.parametrize(
    "name, some, count",
    [
        (
            "preactresnet18",
            ["stages.0.weight", "stages.1.1.bn2.running_var", "stages.4.0.shortcut.weight", "stages.5.2.bias"],
            102,
        ),
        (
            "wrn28_10",
            ["stages.0.bias", "stages.1.0.shortcut.bias", "stages.4.0.num_batches_tracked", "stages.4.4.bias"],
            183,
        ),
        (
            "resnet50",
            ["stages.0.0.weight", "stages.0.1.bias", "stages.1.0.downsample.0.weight", "stages.5.2.bias"],
            320,
        ),
    ],
)
def test_state_dict_keys_are_those_of_saved_checkpoints(name, some, count):
    keys = list(on_meta(name, 10).state_dict())
    assert set(some) <= set(keys)
    assert len(keys) == count


def test_default_initialisation():
    conv = build("wrn28_10", 5, width=16).stages[1][1].conv1
    assert conv.weight.abs().max().item() == pytest.approx((1 / (16 * 9)) ** 0.5, rel=0.01)  # uniform, 1 / sqrt(fan in)


@pytest.mark.parametrize(
    "name, options, message",
    [
        (
            "resnet18",
            {},
            "unknown model 'resnet18'; known are preactresnet18, .*resnet152, torchvision:NAME, timm:NAME$",
        ),
        ("resnet50", {"stem": "tiny"}, "stem must be one of cifar, imagenet, not 'tiny'"),
        (
            "resnet50",
            {"stem_stride": 2},
            "stem_stride cannot be chosen for the imagenet stem; for the cifar stem it can",
        ),
        ("resnet101", {"width": 32}, "width cannot be chosen for resnet101; stem and stem_stride can"),
        ("wrn28_10", {"stem": "cifar"}, "stem cannot be chosen for wrn28_10; width and stem_stride can"),
        ("torchvision:resnet18", {"width": 8}, "width cannot be chosen for torchvision:resnet18; layers can"),
        ("torchvision:resnet81", {}, "torchvision has no network 'resnet81'; it has torchvision:resnet18, .*"),
        ("timm:xyz", {}, "timm has no network 'xyz'$"),
        ("keras:resnet50", {}, "unknown model 'keras:resnet50'; known are"),
        ("preactresnet18", {"width": 0}, "width must be at least 1, not 0"),
        ("preactresnet34", {"stem_stride": 0}, "stem_stride must be at least 1, not 0"),
        ("wrn28_10", {"num_classes": 0}, "num_classes must be at least 1, not 0"),
    ],
)
def test_refusals(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **{"num_classes": 10} | options)


def test_a_network_of_ones_own_needs_its_function_and_an_entry(monkeypatch):
    def vgg(num_classes, width=8, depth=2):
        layers = [nn.Conv2d(3, width, 3, padding=1), *[nn.Conv2d(width, width, 3, 2, padding=1)] * depth]
        return StagedNet([*layers, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))])

    monkeypatch.setitem(MODELS, "vgg", Network(vgg))
    assert build("vgg", 7).shapes(32) == [(3, 32, 32), (8, 32, 32), (8, 16, 16), (8, 8, 8)]
    assert len(build("vgg", 7, width=4, depth=1).shapes(32)) == 3
    with pytest.raises(ValueError, match="stem cannot be chosen for vgg; width and depth can"):
        build("vgg", 7, stem="cifar")


def test_what_is_known_of_the_papers_networks():
    known = {name: (network.layers, network.block_size, network.hole) for name, network in MODELS.items()}
    preact, others = ((0, 1, 2), 7, 16), ((0, 1, 2, 3), (7, 7, 5, 3), 16)
    assert known == {
        "preactresnet18": preact,
        "preactresnet34": preact,
        "wrn28_10": (*others[:2], 8),
        "resnet50": others,
        "resnet101": others,
        "resnet152": others,
    }
    widths = [network.options.get("width") for network in MODELS.values()]
    assert widths == [64, 64, 160, None, None, None]


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v3_small", "timm:convnext_atto", "torchvision:regnet_y_400mf"])
def test_networks_of_libraries(name):
    library, bare = name.split(":")
    torch.manual_seed(3)
    if library == "timm":
        theirs = timm.create_model(bare, num_classes=7)
    else:
        theirs = torchvision.models.get_model(bare, num_classes=7)
    torch.manual_seed(3)
    ours = build(name, 7)
    after = torch.rand(1)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), ours.parameters(), strict=True))
    torch.manual_seed(3)
    build(name, 7)
    on_meta(name, 7)  # leaves the generator alone
    assert torch.equal(torch.rand(1), after)
    proposed = models.proposed_layers(on_meta(name, 7), 64)
    assert len(on_meta(name, 7, layers=proposed).shapes(64)) == 4


def test_networks_with_heads_for_training_alone_give_logits():
    net = build("torchvision:googlenet", 3).train()
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 3)


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    models.library.names_of.cache_clear()
    with pytest.raises(ValueError, match="timm:NAME needs timm, which is not installed"):
        build("timm:resnet18", 3)
    models.library.names_of.cache_clear()


def test_torchvision_is_imported_where_a_resnet_is_built_alone():
    code = "import models, sys; models.build('preactresnet18', 3, width=4); print('torchvision' in sys.modules)"
    root = Path(__file__).resolve().parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    "name, options, fewest",
    [
        ("preactresnet18", {}, 64),
        ("preactresnet34", {"width": 16}, 16),
        ("preactresnet18", {"width": 15}, 15),
        ("wrn28_10", {}, 160),
        ("wrn28_10", {"width": 8}, 8),
        ("resnet50", {}, 256),
        ("torchvision:mobilenet_v3_small", {}, math.inf),
        ("torchvision:regnet_y_400mf", {}, 32),
    ],
)
def test_narrowest_strided_1x1_convolution(name, options, fewest):
    assert models.narrowest_strided_1x1(on_meta(name, 3, **options)) == fewest
    grouped = nn.Sequential(nn.Conv2d(32, 32, 1, 2, groups=4), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, (1, 3), 2))
    assert models.narrowest_strided_1x1(grouped) == 8
