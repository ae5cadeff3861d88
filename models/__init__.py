"""The networks of the paper as lists of stages (see staged.py), and any other as it is (see mixable.py).

net = build("wrn28_10", num_classes=100)  # or mixable(net, layers=["layer1", "layer2"])
logits = net(x)  # or net(x, mix), to replace the input of any stage

A new network is a function that returns a StagedNet and an entry of MODELS (see network.py): its name and options are
flags then, and what the entry does not say follows from its maps.
"""

from functools import partial

import torch

from .library import LIBRARIES, as_file_name, is_library_name, library_network, proposed_layers
from .mixable import fitting_block, mixable, suggest
from .network import Network, narrowest_strided_1x1
from .preactresnet import preactresnet
from .resnet import STEMS, resnet
from .staged import StagedNet
from .wide_resnet import wrn28

# layers, block_size: PatchUp's official code for PreActResNets and WRN, whose layers are the paper's too; ours for
# ResNets. epochs, milestones, hole: the official code, for ResNets ours. stems: ours.
PREACT = {"layers": (0, 1, 2), "block_size": 7, "epochs": 2000, "milestones": (500, 1000, 1500)}
WIDE = {"layers": (0, 1, 2, 3), "block_size": (7, 7, 5, 3), "epochs": 400, "milestones": (200, 300)}
RESNET = WIDE | {"stems": STEMS}

MODELS = {
    "preactresnet18": Network(partial(preactresnet, 18), "PreActResNet18", **PREACT),
    "preactresnet34": Network(partial(preactresnet, 34), "PreActResNet34", **PREACT),
    "wrn28_10": Network(wrn28, "WRN-28-10", hole=8, **WIDE),
    "resnet50": Network(partial(resnet, 50), "ResNet50", **RESNET),
    "resnet101": Network(partial(resnet, 101), "ResNet101", **RESNET),
    "resnet152": Network(partial(resnet, 152), "ResNet152", **RESNET),
}

__all__ = [
    "LIBRARIES",
    "MODELS",
    "Network",
    "StagedNet",
    "as_file_name",
    "build",
    "find",
    "fitting_block",
    "is_library_name",
    "mixable",
    "narrowest_strided_1x1",
    "on_meta",
    "proposed_layers",
    "suggest",
]


def find(name):
    """The Network called name, of MODELS or of a library (see library.py). Raises ValueError for an unknown name."""
    if name in MODELS:
        return MODELS[name]
    if is_library_name(name):
        return library_network(name)
    raise ValueError(f"unknown model {name!r}; known are {', '.join(MODELS)}, torchvision:NAME, timm:NAME")


def build(name, num_classes, **options):
    """The network called name for images [B, 3, H, W], initialised by torch's generator.

    Args:
        name: one of MODELS, or of a library, as torchvision:mobilenet_v3_small.
        num_classes: number of logits, at least 1.
        options: of the network, by default (also where None) its own: `width`, channels of layer1; `stem`, `imagenet`
            or `cifar`; `stem_stride` of a 3x3 stem, 1 at 32x32 pixels and 2 at 64x64 (official code); `layers`, of a
            library's network, names of submodules.

    Raises ValueError for an unknown name and for what the named network does not offer.
    """
    network = find(name)
    options = {option: value for option, value in options.items() if value is not None}
    for option in options:
        if option not in network.options:
            raise ValueError(f"{option} cannot be chosen for {name}; {' and '.join(network.options) or 'nothing'} can")
    for argument, value in (("num_classes", num_classes), *options.items()):
        if argument in ("num_classes", "width", "stem_stride") and value < 1:
            raise ValueError(f"{argument} must be at least 1, not {value}")
    return network.make(num_classes, **options)


def on_meta(name, num_classes, **options):
    """The network without memory for its weights, to ask for shapes; torch's generator stays as it is."""
    try:
        with torch.device("meta"):
            return build(name, num_classes, **options)
    except RuntimeError:
        if not is_library_name(name):
            raise
        with torch.random.fork_rng(devices=[]):  # it reads tensors while it is built
            return build(name, num_classes, **options).to("meta")
