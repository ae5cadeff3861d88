"""The nine methods of the paper's comparison, and others, under one contract (see base.py).

    regularizer = build("patchup_hard", num_classes=100, gamma=0.5)

A new method is a file in this folder with a class derived from Regularizer that sets `name`; METHODS finds it there.
Its keyword arguments are its flags, those that no method had before once recipes.Recipe has fields for them.
"""

import inspect
from importlib import import_module
from pkgutil import iter_modules

from .base import CRITERIA, Regularizer, unknown_name
from .patchup import PatchUp

__all__ = ["CRITERIA", "METHODS", "PAPER", "PatchUp", "Regularizer", "build", "hyperparameters", "unknown_name"]

PAPER = (
    "none",
    "mixup",
    "manifold_mixup",
    "cutout",
    "dropblock",
    "cutmix",
    "puzzlemix",
    "patchup_soft",
    "patchup_hard",
)
GIVEN = ("self", "num_classes", "criterion")  # arguments that every method has


def methods_in(modules):
    """{name: class} of the methods that these modules define, the paper's first, the others in order of their names.

    Raises ImportError where two classes have the same name.
    """
    methods = {}
    for module in modules:
        for cls in vars(module).values():
            if not (inspect.isclass(cls) and issubclass(cls, Regularizer) and cls.__module__ == module.__name__):
                continue
            if "name" in vars(cls) and (other := methods.setdefault(cls.name, cls)) is not cls:
                both = " and ".join(f"{c.__module__}.{c.__name__}" for c in (other, cls))
                raise ImportError(f"{both} have the same name, {cls.name!r}: give one of them another")
    return {name: methods[name] for name in (*PAPER, *sorted(methods.keys() - set(PAPER))) if name in methods}


METHODS = methods_in(import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))


def build(method, num_classes, criterion="bce", **options):
    """The regularizer named method for num_classes classes; options are its hyper-parameters.

    Raises ValueError for an unknown name or an impossible value.
    """
    if method not in METHODS:
        raise ValueError(unknown_name("method", method, METHODS))
    known = _arguments(method)
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"{method} takes no {unknown[0]!r}; it takes {', '.join(known) or 'no hyper-parameters'}")
    return METHODS[method](num_classes, criterion, **options)


def hyperparameters(method):
    """The names of a method's hyper-parameters and their defaults."""
    return {name: default for name, default in _arguments(method).items() if name != "std"}  # of the data set


def _arguments(method):
    """The names and defaults of what build passes on to a method."""
    defaults = {}
    for cls in METHODS[method].__mro__[:-1]:
        parameters = inspect.signature(cls.__init__).parameters.values()
        named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
        defaults = {p.name: p.default for p in named} | defaults
        if len(named) == len(parameters):  # no **options handed on to the class above
            break
    return {name: default for name, default in defaults.items() if name not in GIVEN}
