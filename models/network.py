"""What is known of a network, and how it is built."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Network:
    """All that is known of a network; what follows from None is found by looking at its maps.

    make: (num_classes, **options) -> OpenNet; its keyword arguments are what a recipe may choose, with their defaults.
    title: its name in print.
    layers: the stages that PatchUp and Manifold Mixup draw from, 0 the image.
    block_size: side of PatchUp's blocks in features, one for all layers or one for each from layer 1 on.
    stems: choices of the option `stem`: the default below 64 pixels, then that from 64 pixels on.
    epochs, milestones: of a training on CIFAR or SVHN.
    hole: side in pixels of Cutout's hole on CIFAR.
    """

    make: Callable
    title: str = ""
    layers: tuple | None = None
    block_size: int | tuple | None = None
    stems: tuple = ()
    epochs: int = 400
    milestones: tuple = (200, 300)
    hole: int = 16

    @property
    def options(self):
        """{name: default} of what may be chosen."""
        return {p.name: p.default for p in list(inspect.signature(self.make).parameters.values())[1:]}


def narrowest_strided_1x1(net):
    """The fewest inputs of net's 1x1 convolutions that stride, infinite if it has none.

    Below 16, and channels last, oneDNN's backward pass of such a convolution crashes at some sizes of the map.
    """
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    strided = [conv for conv in convolutions if max(conv.kernel_size) == 1 < max(conv.stride)]
    return min((conv.in_channels // conv.groups for conv in strided), default=math.inf)
