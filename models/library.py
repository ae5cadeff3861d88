"""The networks of torchvision and timm, by names as torchvision:mobilenet_v3_small, with weights to be trained.

Everything that follows from such a name stands in this file. Stages are chosen by the names of submodules (see
mixable.py).
"""

import difflib
import functools
from functools import partial

from .mixable import calls_of, mixable, proposal
from .network import Network

LIBRARIES = ("torchvision", "timm")


def is_library_name(name):
    """Whether name has the form of a library's network; the library may lack it."""
    return name.partition(":")[0] in LIBRARIES and ":" in name


def library_network(name):
    """The Network called name. Raises ValueError where its library is not installed or has none of that name."""
    library, _, bare = name.partition(":")
    names = names_of(library)
    if bare not in names:
        near = [f"{library}:{other}" for other in difflib.get_close_matches(bare, names)]
        raise ValueError(f"{library} has no network {bare!r}" + (f"; it has {', '.join(near)}, ..." if near else ""))
    return Network(partial(make, library, bare))


@functools.cache
def names_of(library):
    """The names of a library's networks for classification. Raises ValueError where it is not installed."""
    try:
        if library == "torchvision":
            import torchvision

            return frozenset(torchvision.models.list_models(module=torchvision.models))
        import timm

        return frozenset(timm.list_models())
    except ImportError as error:
        raise ValueError(f"{library}:NAME needs {library}, which is not installed") from error


def make(library, name, num_classes, layers=()):
    """A library's network, with initial weights from torch's generator, mixable at the submodules named in layers."""
    if library == "timm":
        import timm

        return mixable(timm.create_model(name, num_classes=num_classes), layers)
    import torchvision

    create = partial(torchvision.models.get_model, name, weights=None, num_classes=num_classes)
    net = create()
    if getattr(net, "aux_logits", False):  # in training it gives more than logits
        net = create(aux_logits=False)
    return mixable(net, layers)


def proposed_layers(net, image_size):
    """The submodules of a library's network that are its stages 1, 2, ... where no others are named."""
    return proposal(calls_of(net.net, image_size))[0]


def as_file_name(name):
    """A network's name as a part of file names, which may not have a colon everywhere."""
    return name.replace(":", "-")
