"""The nine methods of the paper's comparison, under one contract (see base.py).

    regularizer = build("patchup_hard", num_classes=100, gamma=0.5)

A new method is a class derived from Regularizer and a line in METHODS; its keyword arguments become its flags once
recipes.Recipe has fields of these names.
"""

import inspect

from .base import CRITERIA, Regularizer
from .cutmix import CutMix
from .cutout import Cutout
from .dropblock import DropBlock
from .mixup import ManifoldMixup, Mixup
from .patchup import HardPatchUp, PatchUp, SoftPatchUp
from .puzzlemix import PuzzleMix

METHODS = {
    "none": Regularizer,
    "mixup": Mixup,
    "manifold_mixup": ManifoldMixup,
    "cutout": Cutout,
    "cutmix": CutMix,
    "dropblock": DropBlock,
    "puzzlemix": PuzzleMix,
    "patchup_soft": SoftPatchUp,
    "patchup_hard": HardPatchUp,
}

__all__ = ["CRITERIA", "METHODS", "PatchUp", "Regularizer", "build", "hyperparameters"]


def build(method, num_classes, criterion="bce", **options):
    """The regularizer named method for num_classes classes; options are its hyper-parameters.

    Raises ValueError for an unknown name or an impossible value.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; there are {', '.join(METHODS)}")
    return METHODS[method](num_classes, criterion, **options)


GIVEN = ("self", "num_classes", "criterion", "std")  # by the data set and the loss


def hyperparameters(method):
    """The names of a method's own hyper-parameters and their defaults."""
    found = {}
    for cls in METHODS[method].__mro__[:-1]:
        parameters = inspect.signature(cls.__init__).parameters.values()
        named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
        found = {p.name: p.default for p in named} | found
        if len(named) == len(parameters):  # no **options handed on to the class above
            break
    return {name: default for name, default in found.items() if name not in GIVEN}
