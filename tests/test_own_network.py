"""README's code for a training of your own, and the commands of docs/own-training.md."""

import re
import shlex
from pathlib import Path

import pytest
import torch

import recipes
import regularizers
import train
from regularizers.patchup import PatchUp

DOCS = Path(__file__).resolve().parent.parent / "docs" / "own-training.md"
README = Path(__file__).resolve().parent.parent / "README.md"
HEADING = "PatchUp in your own training"


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


def test_every_method_trains_by_the_same_lines(code):
    """As README says of build("cutmix", ...)."""
    net = code["net"].train()
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


def test_the_example_trains_and_is_mixed_at_every_layer(code, monkeypatch):
    mixed, mix = set(), PatchUp.mix

    def watched(self, k, h):
        out = mix(self, k, h)
        if not torch.equal(out, h):
            mixed.add(k)
        return out

    assert code["layers"] == ["features.1", "features.2", "features.4"] and code["block_size"] == (7, 5, 3)
    monkeypatch.setattr(PatchUp, "mix", watched)
    net = code["net"].train()
    before = [p.clone() for p in net.parameters()]
    code["train"](net, [images(4, seed=step) for step in range(12)], epochs=2)  # enough to draw every layer
    assert mixed == {0, 1, 2, 3}
    assert not any(torch.equal(old, new) for old, new in zip(before, net.parameters()))
    mixed.clear()
    x, _ = images()
    assert torch.equal(net.eval()(x), net(x)) and not mixed


@pytest.mark.filterwarnings("ignore:block_size of")
def test_commands_of_the_docs_can_be_run():
    (commands,) = blocks_of(DOCS.read_text(), "bash")
    training, comparison = (shlex.split(line) for line in commands.replace("\\\n", " ").splitlines())
    args = train.parser().parse_args(training[2:])
    recipe = recipes.resolve(args.dataset, args.model, args.method, **recipes.overrides_of(args))
    assert recipe.layers == (0, "features.2", "features.4")
    methods = comparison[comparison.index("--methods") + 1 :]
    assert [recipes.resolve("cifar100", "timm:convnext_atto", method).layers for method in methods] == [
        None,
        (0, "stages.1", "stages.2"),
        None,
    ]
