"""Every method in a training loop of your own: keys decide, second passes are alike, mistakes are named in one line."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import regularizers
from models import StagedNet
from regularizers import METHODS

OPTIONS = {  # all stages, and every batch mixed
    "manifold_mixup": {"layers": (0, 1, 2)},
    "dropblock": {"block_size": 3},
    "cutmix": {"prob": 1.0},
    "feature_cutmix": {"layers": (0, 1, 2)},
    "patchup_soft": {"block_size": 3, "layers": (0, 1, 2)},
    "patchup_hard": {"prob": 1.0, "block_size": 3, "mask_per": "sample"},
}
B, C = 6, 5


def method_of(name):
    return regularizers.build(name, C, **OPTIONS.get(name, {}))


@pytest.fixture
def net():
    """Three stages on images of 16x16 pixels."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, C))
    return StagedNet([nn.Conv2d(3, 4, 3, padding=1), nn.Sequential(nn.Tanh(), nn.Conv2d(4, 6, 3)), head])


@pytest.fixture
def x():
    return torch.randn(B, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def y():
    return torch.tensor([0, 1, 2, 3, 4, 0])


@pytest.fixture
def inputs(x):
    """The input of every stage, {k: [B, C, H, W]}."""
    generator = torch.Generator().manual_seed(2)
    return {0: x, 1: torch.randn(B, 4, 16, 16, generator=generator), 2: torch.randn(B, 6, 14, 14, generator=generator)}


def passes(name, net, x, y, steps=8):
    """Some draws of a method, of which every stage is met."""
    method = method_of(name)
    for step in range(steps):
        method.seed(step)
        method.draw(x, y, net)
        yield method


@pytest.mark.parametrize("name", METHODS)
def test_a_second_pass_is_mixed_as_the_first_and_inputs_stay(name, net, x, y, inputs):
    before = {k: h.clone() for k, h in inputs.items()}
    for method in passes(name, net, x, y):
        first = {k: method.mix(k, h) for k, h in inputs.items()}
        target, loss = method.target.clone(), method.loss(torch.zeros(B, C))
        for _ in range(2):
            assert all(torch.equal(method.mix(k, h), first[k]) for k, h in inputs.items())
            assert torch.equal(method.target, target) and torch.equal(method.loss(torch.zeros(B, C)), loss)
        assert all(torch.equal(h, before[k]) for k, h in inputs.items())


@pytest.mark.parametrize("name", METHODS)
def test_gradient_checkpointing_changes_nothing(name, net, x, y):
    for method in passes(name, net, x, y):
        gradients = []
        for recomputed in (False, True):
            logits = checkpoint(net, x, method.mix, use_reentrant=False) if recomputed else net(x, method.mix)
            gradients.append(torch.autograd.grad(method.loss(logits), list(net.parameters())))
        assert all(torch.equal(plain, again) for plain, again in zip(*gradients))


@pytest.mark.parametrize("name", METHODS)
def test_a_key_decides_every_draw_whatever_the_global_generators_hold(name, net, x, y, inputs):
    outcomes = []
    for state in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(state)
            np.random.seed(state)
            mixed = [
                b"".join(method.mix(k, h).numpy().tobytes() for k, h in inputs.items())
                + method.target.numpy().tobytes()
                for method in passes(name, net, x, y)
            ]
            outcomes.append(mixed)
            assert (torch.initial_seed(), np.random.get_state()[1][0]) == (state, state)
            assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(state)))
    assert outcomes[0] == outcomes[1]
    assert len(set(mixed)) == 1 if name == "none" else len(set(mixed)) >= 7


@pytest.mark.parametrize(
    "name, options",
    [("none", {}), ("cutout", {}), ("dropblock", {"block_size": 3})]
    + [(name, {"prob": 0.0}) for name in ("cutmix", "feature_cutmix", "patchup_soft", "patchup_hard")],
)
@pytest.mark.parametrize("criterion", regularizers.CRITERIA)
def test_labels_that_are_not_mixed_stay(name, options, criterion, net, x, y, inputs):
    method, logits = regularizers.build(name, C, criterion, **options), torch.randn(B, C)
    for step in range(8):
        method.seed(step)
        method.draw(x, y, net)
        assert "prob" not in options or all(method.mix(k, h) is h for k, h in inputs.items())
        assert torch.equal(method.target, F.one_hot(y, C).float())
        assert torch.equal(method.loss(logits), method.criterion(logits, method.target).mean())


@pytest.mark.parametrize("name", METHODS)
def test_one_image_and_maps_that_are_not_square(name, net):
    x, y = torch.randn(1, 3, 16, 16 if name == "puzzlemix" else 12), torch.zeros(1, dtype=torch.int64)
    for method in passes(name, net, x, y):
        assert method.loss(net(x, method.mix)).isfinite()
        assert torch.equal(method.target, F.one_hot(y, C).float())


@pytest.mark.parametrize("name", METHODS)
def test_what_comes_before_the_first_draw_is_told_to_draw(name, x):
    method = method_of(name)
    calls = {"loss": lambda: method.loss(torch.zeros(B, C))}
    if name != "none":
        calls["mix"] = lambda: [method.mix(k, torch.zeros(B, 4, 8, 8)) for k in (0, 1)]
    for call in calls.values():
        with pytest.raises(AttributeError, match=r"^\w+ has no '\w+': call draw\(x, y, net\) before mix and loss$"):
            call()


LABELS = {
    "too few": (
        torch.zeros(B - 1, dtype=torch.int64),
        r"y must be 6 class indices, integers \[6\], not .*int64 \[5\]",
    ),
    "a column": (torch.zeros(B, 1, dtype=torch.int64), r"y must be 6 class indices.*, not torch.int64 \[6, 1\]"),
    "soft": (torch.full((B, C), 1 / C), r"y must be 6 class indices, integers \[6\], not torch.float32 \[6, 5\]"),
    "floats": (torch.zeros(B), r"y must be 6 class indices, integers \[6\], not torch.float32 \[6\]"),
    "bools": (torch.zeros(B, dtype=torch.bool), r"y must be 6 class indices, integers \[6\], not torch.bool \[6\]"),
    "a list": ([0] * B, r"y must be 6 class indices, integers \[6\], not list"),
    "elsewhere": (
        torch.zeros(B, dtype=torch.int64, device="meta"),
        "x is on cpu, y on meta: both must be on one device",
    ),
    "too high": (torch.tensor([0, 0, 0, 0, 5, 0]), "y must hold class indices from 0 to 4, not 5"),
    "negative": (torch.tensor([0, 0, -1, 0, 9, 0]), "y must hold class indices from 0 to 4, not -1"),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("labels, message", LABELS.values(), ids=LABELS)
def test_labels_that_are_none_are_named(name, labels, message, net, x):
    with pytest.raises(ValueError, match=f"^{message}$"):
        method_of(name).draw(x, labels, net)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8])
def test_integers_of_every_size_are_labels(name, dtype, net, x, y):
    for method, same in zip(passes(name, net, x, y, 3), passes(name, net, x, y.to(dtype), 3)):
        method.mix(method.k if name == "feature_cutmix" else 0, x)
        same.mix(same.k if name == "feature_cutmix" else 0, x)
        assert torch.equal(method.target, same.target)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "images, message",
    [
        (torch.zeros(3, 16, 16), r"torch.float32 \[3, 16, 16\]"),
        (torch.zeros(B, 3, 16, 16, dtype=torch.uint8), r"torch.uint8 \[6, 3, 16, 16\]"),
        ([0.0] * B, "list"),
    ],
)
def test_images_that_are_none_are_named(name, images, message, net, y):
    with pytest.raises(ValueError, match=rf"^x must be images \[B, C, H, W\] of a float type, not {message}$"):
        method_of(name).draw(images, y, net)


@pytest.mark.parametrize("name", METHODS)
def test_logits_of_other_classes_or_another_batch_are_named(name, net, x, y):
    for method in passes(name, net, x, y, 3):
        net(x, method.mix)
        for shape in ((B, C + 1), (B, 1), (1, C), (B - 1, C)):
            with pytest.raises(
                ValueError, match=rf"^logits must be \[6, 5\] as in draw, not \[{shape[0]}, {shape[1]}\]$"
            ):
                method.loss(torch.zeros(shape))


def test_labels_are_not_waited_for_on_a_gpu(x):
    """Their values are those of another device: nothing looks at them (see test_fake_cuda.py)."""
    y = torch.empty(B, dtype=torch.int64, device="meta")
    assert regularizers.base.class_indices(x.to("meta"), y, C).device.type == "meta"


def test_puzzle_mix_asks_for_the_network(x, y):
    with pytest.raises(ValueError, match=r"^puzzlemix looks at the network: draw\(x, y, net\) needs it, not NoneType$"):
        method_of("puzzlemix").draw(x, y, None)
