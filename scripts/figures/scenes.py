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
from scripts.figures.demo_figures import own_share, regularizer_at, to_pixels
from scripts.figures.panels import in_print

OF_CHECKPOINT = ("dataset", "model", "width", "image_size")  # flags that a checkpoint makes superfluous
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

        B is size, or less where there are fewer images.
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

    def pixels(self, x):
        """Images as numpy [B, H, W, 3] in [0, 1]."""
        return to_pixels(x, self.datasets).permute(0, 2, 3, 1).numpy()

    @functools.cached_property
    def shapes(self):
        """The shape [C, H, W] of every stage's input."""
        return self.net.shapes(self.recipe.image_size)


def scene_of(args):
    """The Scene of a command line. Raises BadInput, RecipeError or DataError for what cannot be."""
    if not 0 <= args.seed < 2**20:
        raise BadInput(f"--seed must lie in 0 to {2**20 - 1}, not {args.seed}")
    device = select_device(args.device)
    given = {name: getattr(args, name) for name in OF_CHECKPOINT if getattr(args, name) is not None}
    if args.checkpoint:
        if given:
            raise BadInput(f"{recipes.flag(next(iter(given)))} is what --checkpoint says: leave it out")
        subject = load_subject(args.checkpoint, args.data_dir, args.device, args.workers)
        recipe, net = subject.recipe, subject.net
    else:
        dataset, model = given.pop("dataset", "digits"), given.pop("model", "preactresnet18")
        images = str((args.data_dir or cli.DATA_DIR).resolve())
        recipe = recipes.resolve(dataset, model, "patchup_hard", args.seed, images, **given)
    folder = images_folder(recipe, args.data_dir)
    recipe = dataclasses.replace(recipe, padding=0, flip=False)
    if args.checkpoint:
        datasets = recipes.datasets(recipe, folder, args.workers)
        trained = f"{recipes.printed(recipe.method)}, seed {recipe.seed}"
    else:
        datasets, net = recipes.objects(recipe, folder, args.workers)
        trained = f"untrained, seed {args.seed}"
    width = "" if recipe.width is None else f" of width {recipe.width}"
    facts = ", ".join(filter(None, [trained, data.part_of(recipe.dataset, len(datasets.classes))]))
    about = f"{in_print(recipe.model)}{width} on {in_print(recipe.dataset)} ({facts})"
    return Scene(
        recipe, datasets, class_names(datasets.classes, Path(folder)), net.to(device), args.seed, device, about
    )


def class_names(classes, folder):
    """The classes in words: Tiny-ImageNet's by the list that comes with it."""
    words = folder / "tiny-imagenet-200/words.txt"
    known = {}
    if words.exists():
        known = dict(line.split("\t", 1) for line in words.read_text().splitlines() if "\t" in line)
    return [known.get(name, name).partition(",")[0].replace("_", " ") for name in classes]


def mask_of(regularizer, key, k, h, x, y):
    """The mask M of the first sample, bool [C, H, W]: where it keeps its features in the draw for a key.

    True everywhere where the draw makes it its own partner.
    """
    return own_share(regularizer, key, 0, k, h, x, y) == 1


def seeds_of(scene, method, key, k, h, x, y):
    """Where the blocks of mask_of are centred, bool [C, H, W], for PatchUp as in the paper.

    Blocks of one feature, altered with equation 2's probability by the same draw, are the seeds themselves.
    """
    paper = scene.regularizer(method, k)
    gamma = adjusted_gamma(paper.gamma, paper.block_size_at(k), *h.shape[2:])
    return ~mask_of(scene.regularizer(method, k, block_size=1, gamma=gamma), key, k, h, x, y)


def paired(regularizer, key, x, y):
    """Whether the draw for a key gives every sample another one as partner."""
    regularizer.seed(key)
    regularizer.draw(x, y, None)
    return bool((regularizer.partner != torch.arange(len(x))).all())


def paired_keys(regularizer, keys, x, y):
    """Those of the keys whose draws give every sample another one as partner."""
    return (key for key in keys if paired(regularizer, key, x, y))


def clearest(h):
    """The channel of h [B, C, H, W] with the largest contrast in the sample that has least."""
    return int(h.std((2, 3)).amin(0).argmax())
