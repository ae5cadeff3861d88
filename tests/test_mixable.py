"""Networks of other libraries with their submodules' inputs open to the methods."""

import copy

import pytest
import timm
import torch
import torch.distributed as dist
import torchvision
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from models.mixable import fitting_block, mixable, suggest

NETWORKS = {  # (library, name): layers, and the sides of their maps at 64 pixels
    ("torchvision", "mobilenet_v3_small"): (["features.1", "features.2", "features.4"], [32, 16, 8]),
    ("torchvision", "densenet121"): (["features.pool0", "features.transition1", "features.transition2"], [32, 16, 8]),
    ("torchvision", "efficientnet_b0"): (["features.2", "features.3", "features.4"], [32, 16, 8]),
    ("torchvision", "convnext_tiny"): (["features.2", "features.4", "features.6"], [16, 8, 4]),
    ("torchvision", "regnet_y_400mf"): (
        ["trunk_output.block1", "trunk_output.block2", "trunk_output.block3"],
        [32, 16, 8],
    ),
    ("timm", "resnet26"): (["maxpool", "layer2", "layer3"], [32, 16, 8]),
    ("timm", "convnext_atto"): (["stages.1", "stages.2", "stages.3"], [16, 8, 4]),
}


def network(library, name):
    torch.manual_seed(0)
    if library == "timm":
        return timm.create_model(name, num_classes=5)
    return torchvision.models.get_model(name, weights=None, num_classes=5)


class Sum(nn.Module):
    def forward(self, a, b):
        return a + b


class Small(nn.Module):
    """Two blocks and what can go wrong: a block that runs twice, a block with two inputs, a block that does not run."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, 2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.again = nn.Identity()
        self.two = Sum()
        self.idle = nn.Identity()
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        h = self.again(self.again(self.block(self.stem(x)))).mean((2, 3))
        return self.head(self.two(h, h))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small().eval()


def flip_at(stage):
    return lambda k, h: h.flip(0) if k == stage else h


def hooks_of(net):
    return [hook for module in net.modules() for hook in (*module._forward_pre_hooks, *module._forward_hooks)]


@pytest.mark.parametrize("library, name", NETWORKS)
def test_a_library_network_stays_what_it_is_and_is_mixed_at_every_layer(library, name, capsys):
    net, (layers, sides) = network(library, name).eval(), NETWORKS[library, name]
    assert suggest(net, 64) == (layers, tuple(fitting_block(side) for side in sides))
    mixed = mixable(net, layers)
    assert [shape[1:] for shape in mixed.shapes(64)] == [(side, side) for side in (64, *sides)]
    assert list(mixed.state_dict()) == list(net.state_dict())
    assert list(map(id, mixed.parameters())) == list(map(id, net.parameters()))

    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        plain = net(x)
        assert torch.equal(mixed(x), plain)
        seen = []
        assert torch.equal(mixed(x, lambda k, h: seen.append(k) or h), plain)
        assert seen == [0, 1, 2, 3]
        for stage in range(4):
            torch.testing.assert_close(mixed(x, flip_at(stage)), plain.flip(0), rtol=1e-4, atol=1e-5)
        assert torch.equal(mixed(x), plain) and not hooks_of(net)


def test_its_weights_are_the_networks_in_both_directions(small):
    mixed, other = mixable(small, ["block"]), mixable(Small(), ["head"])
    bare = Small()
    bare.load_state_dict(mixed.state_dict())
    other.load_state_dict(bare.state_dict())
    both = nn.ModuleDict({"first": mixed, "second": Small()})  # as below DistributedDataParallel's `module.`
    assert "first.stem.weight" in both.state_dict()
    both.load_state_dict(both.state_dict())
    for net in (bare, other.net, copy.deepcopy(mixed).net):
        for name, tensor in small.state_dict().items():
            assert torch.equal(net.state_dict()[name], tensor)
    assert list(copy.deepcopy(mixed).state_dict()) == list(small.state_dict())
    with pytest.raises(RuntimeError, match="stem.weight"):
        mixed.load_state_dict({})


@pytest.mark.parametrize(
    "how",
    {
        "in place": lambda net: net.block.compile(backend="aot_eager"),
        "its forward": lambda net: setattr(net.block, "forward", torch.compile(net.block.forward, backend="aot_eager")),
        "replaced": lambda net: setattr(net, "block", torch.compile(net.block, backend="aot_eager")),
    }.items(),
    ids=lambda how: how[0],
)
def test_compiled_submodules_are_mixed(small, how):
    torch._dynamo.reset()
    mixed, x = mixable(small, ["block"]), torch.randn(4, 3, 8, 8)
    plain = small(x)
    how[1](small)
    for _ in range(2):  # compiled without the hooks first
        torch.testing.assert_close(mixed(x), plain)
        torch.testing.assert_close(mixed(x, flip_at(1)), plain.flip(0))


def test_a_layer_within_a_compiled_submodule_is_refused_not_left_unmixed(small):
    torch._dynamo.reset()
    mixed, x = mixable(small, ["block.1"]), torch.randn(4, 3, 8, 8)
    wanted = mixed(x, flip_at(1))
    small.block.compile(backend="aot_eager")
    small(x)
    try:
        logits = mixed(x, flip_at(1))  # torch up to 2.10 compiles it anew
    except ValueError as error:
        assert "block.1 does not run in a pass, or is compiled within another" in str(error)
    else:
        torch.testing.assert_close(logits, wanted)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_layer_that_checkpointing_runs_again_is_refused_and_one_around_it_is_mixed(small, reentrant):
    class Checkpointed(nn.Sequential):
        def forward(self, h):
            return checkpoint(super().forward, h, use_reentrant=reentrant)

    mixed, x = mixable(small, ["block"]), torch.randn(4, 3, 8, 8)

    def gradients():
        small.zero_grad()
        mixed(x, flip_at(1))[:, 0].sum().backward()
        return [p.grad.clone() for p in small.parameters()]

    wanted = gradients()
    small.block = Checkpointed(*small.block)
    assert all(map(torch.equal, gradients(), wanted))
    with pytest.raises(
        ValueError, match="^activation checkpointing runs block.1 again, unmixed: name a submodule around"
    ):
        mixable(small, ["block.1"])(x, flip_at(1))
    assert not hooks_of(small)
    whole = mixable(Small().eval(), ["block"])
    checkpoint(whole, x, flip_at(1), use_reentrant=False)[:, 0].sum().backward()  # repeats the hooks too


def test_autocast_and_channels_last(small):
    mixed = mixable(small, ["block"]).to(memory_format=torch.channels_last)
    kinds = []

    def mix(k, h):
        kinds.append((h.dtype, h.is_contiguous(memory_format=torch.channels_last)))
        return h

    with torch.autocast("cpu", torch.bfloat16):
        mixed(torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last), mix)
    assert kinds == [(torch.float32, True), (torch.bfloat16, True)]


def test_distributed_data_parallel(small, tmp_path):
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        mixed, x = mixable(small, ["block"]), torch.randn(4, 3, 8, 8)
        parallel = DistributedDataParallel(mixed)
        assert list(parallel.state_dict()) == [f"module.{name}" for name in small.state_dict()]
        parallel.load_state_dict(parallel.state_dict())
        for mix in (None, flip_at(1)):
            small.zero_grad()
            mixed(x, mix)[:, 0].sum().backward()
            expected = small.stem.weight.grad.clone()
            small.zero_grad()
            parallel(x, mix)[:, 0].sum().backward()
            torch.testing.assert_close(small.stem.weight.grad, expected)
    finally:
        dist.destroy_process_group()


def test_modes_of_frozen_submodules_stay(small):
    mixed = mixable(small.train(), ["block"])
    small.block[1].eval()
    mixed.shapes(8)
    suggest(small, 8)
    assert small.training and small.block.training and not small.block[1].training


@pytest.mark.parametrize(
    "layers, message",
    [
        (["blok"], "Small has no submodule 'blok', but block, block.2, block.1, ..."),
        (["xyz"], "Small has no submodule 'xyz', but stem, block, again, two, idle, head, ..."),
        ([""], "Small has no submodule ''"),
        (["block", "block"], "layers has block twice"),
    ],
)
def test_names_that_cannot_be(small, layers, message):
    with pytest.raises(ValueError) as error:
        mixable(small, layers)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "layer, message",
    [
        ("again", "again runs more than once in a pass: name a submodule around it"),
        ("two", "the input of two is [1, 8] and [1, 8], not one tensor [B, C, H, W]"),
        ("head", "the input of head is [1, 8], not one tensor [B, C, H, W]"),
        ("idle", "idle does not run in a pass, or is compiled within another: it cannot be mixed"),
    ],
)
def test_submodules_that_cannot_be_layers(small, layer, message):
    mixed = mixable(small, layer)
    for act in (lambda: mixed(torch.randn(1, 3, 8, 8), flip_at(1)), lambda: mixed.shapes(8)):
        with pytest.raises(ValueError) as error:
            act()
        assert str(error.value) == message
        assert not hooks_of(small)


def test_channels_behind_are_no_maps():
    with torch.device("meta"):
        net = torchvision.models.swin_t(num_classes=5)
    assert suggest(net, 224) == ([], ())
    with pytest.raises(ValueError, match=r"the input of features.2 is \[B, 56, 56, 96\], not a square \[B, C, H, W\]"):
        mixable(net, ["features.2"]).shapes(224)


def test_suggestion_names_sizes_and_marks_what_it_proposes(small, capsys):
    assert suggest(small, 16) == (["block"], (5,))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Small: submodules and their inputs, channels x height x width, at 16 pixels"
    assert [line.split() for line in lines[1:]] == [
        ["*", "block", "8", "x", "16", "x", "16"],
        ["layers=['block'],", "block_size=(5,)"],
    ]
    assert suggest(small, 2) == ([], ())


def test_suggestion_shows_the_outermost_of_those_that_share_an_input(capsys):
    block = nn.Sequential(nn.Sequential(nn.Conv2d(8, 8, 1)), nn.ReLU(), nn.Sequential(nn.ReLU()))
    net = nn.Sequential(nn.Conv2d(3, 8, 1), block, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert suggest(net, 8) == ([], ())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["1", "1.2"]
    assert lines[-1] == "none of them reduces a map: nothing to propose"


def test_blocks_by_side():
    assert [fitting_block(side) for side in (56, 32, 31, 16, 15, 8, 7, 1)] == [7, 7, 5, 5, 3, 3, 1, 1]


def test_a_network_for_other_images_is_refused_in_one_line():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())
    with pytest.raises(ValueError, match=r"^Sequential cannot take images \[B, 3, 8, 8\] \(.*\)$"):
        suggest(net, 8)
    with pytest.raises(ValueError, match=r"^Sequential cannot take images \[B, 3, 8, 8\] \(.*\)$"):
        mixable(net, ["1"]).shapes(8)
