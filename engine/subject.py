"""A trained network from its checkpoint, with the test images of its data set: what an evaluation looks at."""

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import data
import recipes
from engine import cli
from engine.device import select_device
from engine.files import BadInput, load_checkpoint


class PixelClassifier(nn.Module):
    """A network on pixels: float32 [B, 3, H, W] in [0, 1] to logits, the normalisation inside."""

    def __init__(self, net, mean, std):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, x):
        return self.net((x - self.mean) / self.std)


@dataclass(frozen=True)
class Subject:
    """A trained network, in evaluation mode and float32, with the test images of its data set.

    folder: where these images are; mean, std: what they are normalised by.
    """

    path: Path
    recipe: recipes.Recipe
    net: nn.Module
    test: data.Loader
    folder: Path
    classes: list
    mean: tuple
    std: tuple
    device: torch.device
    digest: str  # of all images of the data set

    @functools.cached_property
    def classifier(self):
        """The network on pixels in [0, 1]."""
        return PixelClassifier(self.net, self.mean, self.std).to(self.device).eval()

    @torch.no_grad()
    def logits(self, x):
        """Logits float32 [B, C] of images uint8 [B, 3, H, W]."""
        return self.net(data.normalise(x, self.mean, self.std))


@functools.lru_cache(maxsize=1)
def test_images(dataset, image_size, folder, workers):
    """The data set's data.Data; the latest is kept, as many checkpoints share it."""
    return data.load(dataset, folder, seed=0, val_per_class=None, image_size=image_size, workers=workers)


def load_subject(path, data_dir=None, device="auto", workers=0, limit=None):
    """The Subject of a checkpoint of train.py, with at most `limit` test images, the same for all checkpoints.

    Raises BadInput, naming the file, where it is no checkpoint, or not of these images.
    """
    state = load_checkpoint(path)
    try:
        recipe = recipes.restore(dict(state["recipe"]))
    except (recipes.RecipeError, TypeError, ValueError) as error:
        raise BadInput(f"{path} has no usable recipe: {error}") from error
    if recipe.dataset not in data.FACTS:
        raise BadInput(f"{path} is of {recipe.dataset}, which is no known data set")
    folder = images_folder(recipe, data_dir)
    images = test_images(recipe.dataset, recipe.image_size, folder, workers)
    if state.get("digest", images.digest) != images.digest:
        words = "was trained on other images than those in"
        raise BadInput(f"{path} {words} {folder} (names, sizes or labels differ): give their --data-dir")
    with torch.random.fork_rng(devices=[]):
        net = recipes.network(recipe, len(images.classes))
    try:
        net.load_state_dict(state["net"])
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise BadInput(misfit(path, recipe, state["net"], net, images.classes, folder)) from error
    if not all(torch.isfinite(tensor).all() for tensor in net.state_dict().values()):
        raise BadInput(f"{path} holds weights that are not finite")
    return Subject(
        path=path,
        recipe=recipe,
        net=net.to(device := select_device(device)).eval(),
        test=images.test.limited(limit),
        folder=Path(folder),
        classes=images.classes,
        mean=images.mean,
        std=images.std,
        device=device,
        digest=images.digest,
    )


def misfit(path, recipe, weights, net, classes, folder):
    """Why weights do not fit the network, in words: another number of classes, or another network."""
    name = list(net.state_dict())[-1]  # the bias of the last layer
    bias = weights.get(name) if isinstance(weights, dict) else None
    if torch.is_tensor(bias) and bias.ndim == 1 and len(bias) != len(classes):
        return f"{path} tells {len(bias)} classes apart, {recipe.dataset} in {folder} has {len(classes)}"
    return f"{path} does not hold the weights of the network that its recipe names, {recipe.model}"


def images_folder(recipe, data_dir):
    """Where a recipe's images are: --data-dir, by default for `folder` where it was trained, else as train.py.

    Raises BadInput where that is a file.
    """
    if data_dir is None and data.FACTS[recipe.dataset].custom:
        return recipe.images
    folder = Path(data_dir or cli.DATA_DIR).expanduser()
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--data-dir {folder} is a file, not the folder that holds the images")
    return str(folder)


@contextlib.contextmanager
def unchanged(net):
    """Make sure that evaluating leaves a network in evaluation mode and its BatchNorm statistics as they were."""
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    yield
    if net.training or not all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers()):
        raise AssertionError("the evaluation changed the network")
