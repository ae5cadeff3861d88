"""The networks of the paper as lists of stages (see staged.py), and any other as it is (see mixable.py).

net = build("wrn28_10", num_classes=100)  # or mixable(net, layers=["layer1", "layer2"])
logits = net(x)  # or net(x, mix), to replace the input of any stage

A new network is a function that returns a StagedNet and a line in MODELS.
"""

from functools import partial

from .mixable import mixable, suggest
from .preactresnet import preactresnet
from .resnet import resnet
from .staged import StagedNet
from .wide_resnet import wrn28

MODELS = {
    "preactresnet18": partial(preactresnet, 18),
    "preactresnet34": partial(preactresnet, 34),
    "wrn28_10": wrn28,
    "resnet50": partial(resnet, 50),
    "resnet101": partial(resnet, 101),
    "resnet152": partial(resnet, 152),
}
SCALABLE = ("preactresnet18", "preactresnet34", "wrn28_10")  # width may be chosen; the others have a choice of stem

__all__ = ["MODELS", "StagedNet", "build", "mixable", "suggest"]


def build(name, num_classes, *, width=None, stem=None, stem_stride=1):
    """The network called name, a StagedNet for images [B, 3, H, W] of any size, initialised by torch's generator.

    Args:
        name: one of MODELS.
        num_classes: number of logits, at least 1.
        width: channels of layer1 (default: the paper's, 64 for PreActResNet and 160 for WRN); not for ResNets.
        stem: `imagenet` (default) or `cifar`, for ResNets alone.
        stem_stride: stride of the first 3x3 convolution, 1 at 32x32 pixels and 2 at 64x64 (official code); not for the
            `imagenet` stem.

    Raises ValueError for an unknown name and for what the named network does not offer.
    """
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}, not {name!r}")
    for argument, value in (("num_classes", num_classes), ("width", width), ("stem_stride", stem_stride)):
        if value is not None and value < 1:
            raise ValueError(f"{argument} must be at least 1, not {value}")
    unavailable, hint = ("stem", "width") if name in SCALABLE else ("width", "stem")
    options = {"width": width, "stem": stem}
    if options[unavailable] is not None:
        raise ValueError(f"{unavailable} cannot be chosen for {name}; {hint} can")
    options = {option: value for option, value in options.items() if value is not None}
    return MODELS[name](num_classes, stem_stride=stem_stride, **options)
