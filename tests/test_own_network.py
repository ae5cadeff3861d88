"""README's code for one's own training: torchvision's and timm's networks stay what they are, and are mixed."""

import re
import shlex
from pathlib import Path

import pytest
import timm
import torch
import torchvision

import recipes
import regularizers
import train
from regularizers.patchup import PatchUp

DOCS = Path(__file__).resolve().parent.parent / "docs" / "own-training.md"
README = Path(__file__).resolve().parent.parent / "README.md"
HEADING = "PatchUp in your own training"
FAMILIES = {
    "torchvision": lambda: torchvision.models.resnet18(num_classes=100),
    "timm": lambda: timm.create_model("resnet26", num_classes=100),
}


@pytest.fixture(scope="module")
def code():
    """The names that the code blocks below README's heading define."""
    section = re.search(rf"^## {HEADING}\n(.*?)(?=^## |\Z)", README.read_text(), re.MULTILINE | re.DOTALL)
    assert section, f"README.md has no heading {HEADING!r}"
    blocks = re.findall(r"^```python\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    names = {}
    exec("\n".join(blocks), names)
    return names


def images(count=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 64, 64, generator=generator), torch.randint(100, (count,), generator=generator)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("training", [False, True])
def test_regrouped_networks_give_the_same_logits_bit_for_bit(code, family, training):
    net = FAMILIES[family]().train(training)
    staged = code[f"staged_{family}"](net).train(training)
    x, _ = images()
    assert torch.equal(net(x), staged(x))
    assert sorted(map(id, net.parameters())) == sorted(map(id, staged.parameters()))
    assert sorted(map(id, net.buffers())) == sorted(map(id, staged.buffers()))


def test_both_networks_train_in_the_loop_and_are_mixed_at_every_layer(code, monkeypatch):
    mixed, mix = set(), PatchUp.mix

    def watched(self, k, h):
        out = mix(self, k, h)
        altered = (out != h).flatten(1).any(dim=1)
        assert not altered[self.partner == torch.arange(len(h))].any() if k == self.k else not altered.any()
        if altered.any():
            mixed.add(k)
            assert self.target.count_nonzero(dim=1).max() == 2  # labels of two classes
        return out

    monkeypatch.setattr(PatchUp, "mix", watched)
    for net in code["networks"]:
        mixed.clear()
        before = [p.clone() for p in net.parameters()]
        code["train"](net, [images(seed=step) for step in range(8)])  # enough to draw every layer
        assert mixed == {0, 1, 2, 3}
        assert all(torch.isfinite(p).all() for p in net.parameters())
        assert not any(torch.equal(old, new) for old, new in zip(before, net.parameters()))
        x, _ = images()
        mixed.clear()
        assert torch.equal(net.eval()(x), net(x)) and not mixed


def test_every_method_trains_by_the_same_lines(code):
    """As README says of build("cutmix", ...)."""
    net = code["networks"][0].train()
    for method in regularizers.METHODS:
        regularizer = regularizers.build(method, num_classes=100)
        regularizer.check(net.shapes(64))
        x, y = images(2)
        regularizer.seed(0, 0)
        regularizer.draw(x, y, net)
        loss = regularizer.loss(net(x, regularizer.mix))
        loss.backward()
        assert torch.isfinite(loss)


def blocks_of(text, language):
    """The code blocks of a Markdown text."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_example_of_the_docs_trains_and_is_mixed_at_every_layer(capsys, monkeypatch):
    text, names, mixed, mix = DOCS.read_text(), {}, set(), PatchUp.mix

    def watched(self, k, h):
        out = mix(self, k, h)
        if not torch.equal(out, h):
            mixed.add(k)
        return out

    exec("\n".join(blocks_of(text, "python")), names)
    assert names["layers"] == ["features.1", "features.2", "features.4"] and names["block_size"] == (7, 5, 3)
    assert "* features.4" in capsys.readouterr().out
    monkeypatch.setattr(PatchUp, "mix", watched)
    net = names["net"]
    before = [p.clone() for p in net.parameters()]
    names["train"](net, [images(4, seed=step) for step in range(16)])  # enough to draw every layer
    assert mixed == {0, 1, 2, 3}
    assert not any(torch.equal(old, new) for old, new in zip(before, net.parameters()))


@pytest.mark.filterwarnings("ignore:block_size of")
def test_commands_of_the_docs_can_be_run():
    (commands,) = blocks_of(DOCS.read_text(), "bash")
    one, many = (shlex.split(line) for line in commands.replace("\\\n", " ").splitlines())
    args = train.parser().parse_args(one[2:])
    recipe = recipes.resolve(args.dataset, args.model, args.method, **recipes.overrides_of(args))
    assert recipe.layers == (0, "features.2", "features.4")
    methods = many[many.index("--methods") + 1 :]
    assert [recipes.resolve("cifar100", "timm:convnext_atto", method).layers for method in methods] == [
        None,
        (0, "stages.1", "stages.2"),
        None,
    ]
