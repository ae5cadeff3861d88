"""What a method makes of one batch at one layer, draw by draw, by the code that trains."""

import torch

import data
import recipes


def regularizer_at(recipe, method, k, classes=None, **options):
    """A method for the recipe's data set and network, made to act on every batch at layer k.

    classes: their number (None: the data set's). options: hyper-parameters other than the paper's.
    Raises recipes.RecipeError where the network has no such layer, or it cannot hold the method's blocks.
    """
    network = {name: getattr(recipe, name) for name in ("width", "stem", "stem_stride")}
    if data.FACTS[recipe.dataset].image_size != recipe.image_size:
        network["image_size"] = recipe.image_size
    acting = recipes.applicable(method, {"prob": 1.0, "layers": (k,)})
    recipe = recipes.resolve(recipe.dataset, recipe.model, method, **network, **acting, **options)
    return recipes.regularizer(recipe, classes or data.FACTS[recipe.dataset].num_classes)


class Draws:
    """A regularizer's draws, one a key, for images x, labels y [B] and the input h [B, C, H, W] of stage k."""

    def __init__(self, regularizer, k, h, x, y, net=None):
        self.regularizer, self.k, self.h, self.x, self.y, self.net = regularizer, k, h, x, y, net

    def draw(self, key):
        """Draw for a key: the regularizer has its partner, lam, target."""
        self.regularizer.seed(key)
        self.regularizer.draw(self.x, self.y, self.net)

    def mixed(self, key, h=None):
        """The stage's input, or another h of its shape, mixed after the draw for a key."""
        self.draw(key)
        with torch.no_grad():
            return self.regularizer.mix(self.k, self.h if h is None else h)

    @property
    def moved(self):
        """Which samples have another one as partner in the last draw, bool [B]."""
        return self.regularizer.partner != torch.arange(len(self.h))

    def share(self, key, i):
        """The share of each feature of sample i that it keeps in the draw for a key, [C, H, W] in [0, 1].

        Mixing is linear in h for a given draw: repeated on a probe that is 1 in one sample and 0 in all others, it
        gives that sample's share.
        """
        probe = torch.zeros_like(self.h)
        probe[i] = 1
        return self.mixed(key, probe)[i].clamp(0, 1)  # DropBlock scales what it keeps

    def mask(self, key):
        """The mask M of the first sample, bool [C, H, W]: where it keeps its features in the draw for a key.

        True everywhere where the draw makes it its own partner.
        """
        return self.share(key, 0) == 1

    def paired(self, keys):
        """Those of the keys whose draws give every sample another one as partner."""
        for key in keys:
            self.draw(key)
            if self.moved.all():
                yield key


def to_pixels(x, datasets):
    """Images [B, 3, H, W] in [0, 1] from normalised ones."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (datasets.mean, datasets.std))
    return (x * std + mean).clamp(0, 1)
