"""What illustrations are drawn from: images, a network, and the draws of the code that trains."""

import dataclasses
import functools
import itertools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import data
import recipes
from engine import cli
from engine.device import select_device
from engine.files import BadInput
from engine.subject import images_folder, load_subject
from regularizers.patchup import adjusted_gamma
from scripts.figures.draws import Draws, regularizer_at, to_pixels

BATCH = 100  # images [C]: the network in training mode normalises them together


@dataclass(frozen=True)
class Scene:
    """What a figure is drawn from, images and a network.

    names: the classes in words; seed: decides images and draws; device: the network's; about: the network in words.
    """

    recipe: recipes.Recipe
    datasets: data.Data
    names: list
    net: nn.Module
    seed: int
    device: torch.device
    about: str

    def batch(self, size, number=0):
        """Training images, normalised [B, 3, H, W], and labels [B]: the number-th batch in the seed's order.

        B is size, or the number of images where that is smaller.
        """
        epoch, start = divmod(number, max(1, len(self.datasets.train) // size))
        return next(self.datasets.train.batches(size, epoch=(self.seed << 20) + epoch, start=start))

    def keys(self, number=0):
        """The keys of as many draws as are wanted, others for every number below 2^20."""
        return itertools.count((self.seed << 40) + (number << 20))

    @torch.no_grad()
    def states(self, x, k):
        """The hidden states g_k(x) [B, C, H, W] of images x, on the CPU, the network in training mode."""
        self.net.train()
        h = x.to(self.device)
        for stage in self.net.stages[:k]:
            h = stage(h)
        return h.cpu()

    def samples(self, count, k, number=0):
        """The first samples of the number-th batch of BATCH: images x, labels y and hidden states h = g_k(x)."""
        x, y = self.batch(BATCH, number)
        return x[:count], y[:count], self.states(x, k)[:count].clone()

    def regularizer(self, method, k, **options):
        """The method, acting on every batch at layer k (see regularizer_at)."""
        return regularizer_at(self.recipe, method, k, len(self.datasets.classes), **options)

    def draws(self, method, k, x, y, h=None, **options):
        """The method's Draws at layer k for images x, labels y and hidden states h (at the input: x)."""
        return Draws(self.regularizer(method, k, **options), k, x if h is None else h, x, y)

    def pixels(self, x):
        """Images as numpy [B, H, W, 3] in [0, 1]."""
        return to_pixels(x, self.datasets).permute(0, 2, 3, 1).numpy()

    @functools.cached_property
    def shapes(self):
        """The shape [C, H, W] of every stage's input."""
        return self.net.shapes(self.recipe.image_size)


def scene_of(seed=0, data_dir=None, device="auto", workers=0, checkpoint=None, network=None):
    """The Scene of a checkpoint, or of an untrained network on a data set.

    network: {dataset, model, width, image_size}, those that are given: without a checkpoint digits and PreActResNet18
    are the default. Raises BadInput, RecipeError or DataError for what cannot be.
    """
    network = network or {}
    if not 0 <= seed < 2**20:
        raise BadInput(f"--seed must lie in 0 to {2**20 - 1}, not {seed}")
    if checkpoint:
        if network:
            raise BadInput(f"{recipes.flag(next(iter(network)))} is what --checkpoint says: leave it out")
        subject = load_subject(checkpoint, data_dir, device, workers)
        recipe, net = subject.recipe, subject.net
    else:
        images = str((data_dir or cli.DATA_DIR).resolve())
        place = {"dataset": "digits", "model": "preactresnet18"} | network
        recipe = recipes.resolve(**place, method="patchup_hard", seed=seed, images=images)
    device, folder = select_device(device), images_folder(recipe, data_dir)
    recipe = dataclasses.replace(recipe, padding=0, flip=False)
    if checkpoint:
        datasets = recipes.datasets(recipe, folder, workers)
        trained = f"{recipes.printed(recipe.method)}, seed {recipe.seed}"
    else:
        datasets, net = recipes.objects(recipe, folder, workers)
        trained = f"untrained, seed {seed}"
    width = "" if recipe.width is None else f" of width {recipe.width}"
    facts = ", ".join(filter(None, [trained, data.part_of(recipe.dataset, len(datasets.classes))]))
    about = f"{recipes.printed(recipe.model)}{width} on {recipes.printed(recipe.dataset)} ({facts})"
    names = class_names(datasets.classes, Path(folder))
    return Scene(recipe, datasets, names, net.to(device), seed, device, about)


def class_names(classes, folder):
    """The classes in words: Tiny-ImageNet's by the list that comes with it."""
    path, words = folder / "tiny-imagenet-200/words.txt", {}
    if path.is_file():
        lines = path.read_text(errors="replace").splitlines()
        words = dict(line.split("\t", 1) for line in lines if "\t" in line)
    return [words.get(name, name).partition(",")[0].replace("_", " ") for name in classes]


def seeds_of(scene, method, draws, key):
    """Where the blocks of draws.mask(key) are centred, bool [C, H, W], for PatchUp as in the paper.

    Blocks of one feature, altered with equation 2's probability by the same draw, are the seeds themselves.
    """
    paper, k, h = draws.regularizer, draws.k, draws.h
    gamma = adjusted_gamma(paper.gamma, paper.block_size_at(k), *h.shape[2:])
    return ~scene.draws(method, k, draws.x, draws.y, h, block_size=1, gamma=gamma).mask(key)


def clearest(h):
    """The channel of h [B, C, H, W] with the largest contrast in the sample that has least."""
    return int(h.std((2, 3)).amin(0).argmax())
