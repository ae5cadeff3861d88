"""What a recipe takes from the network itself: the stages, and layers and block sizes where its entry has none.

The layers of a network of a library (models/library.py) are 0, the image, and names of submodules; its stages 1, 2, ...
are the named ones in their order, or where a method has no layers those that models.suggest proposes.
"""

import contextlib
import functools
import warnings

import models
import regularizers


class Note(UserWarning):
    """Something that is told and needs no mending."""


LEAST_INPUTS = 16  # of a strided 1x1 convolution, channels last


def fitted(recipe, given):
    """Those fields of a recipe that follow from its network and are not among the given ones, a dict.

    Raises ValueError for layers that the network has not, or images that it cannot take.
    """
    fields, net = {}, _on_meta(recipe.model, _options(recipe), None)
    if "channels_last" not in given and models.narrowest_strided_1x1(net) < LEAST_INPUTS:
        fields["channels_last"] = False
    if models.find(recipe.model).layers is None and recipe.layers:
        fields["layers"] = layers = _layers(recipe, "layers" in given)
        if recipe.block_size and "block_size" not in given:
            fields["block_size"] = _block_size(recipe, layers)
    return fields


def options(recipe):
    """The arguments of models.build that are fields of the recipe."""
    return dict(_options(recipe))


def shapes(recipe):
    """The shapes [C, H, W] of the stages' inputs. Raises ValueError where the network cannot take such images."""
    return _shapes(recipe.model, _options(recipe), stages(recipe), recipe.image_size)


def stages(recipe):
    """The submodules that are the stages 1, 2, ... of a library's network; None for another network."""
    if not models.is_library_name(recipe.model):
        return None
    if recipe.layers is None:
        return _proposed(recipe.model, recipe.image_size)
    return _submodules(recipe.layers)


def stage_numbers(recipe):
    """The recipe's layers as numbers of stages. Raises ValueError for a name where layers are numbers alone."""
    names = stages(recipe) or ()
    if unknown := [layer for layer in recipe.layers if isinstance(layer, str) and layer not in names]:
        raise ValueError(f"layers of {recipe.model} are numbers from 0, not {unknown[0]}")
    return tuple(layer if isinstance(layer, int) else 1 + names.index(layer) for layer in recipe.layers)


def _submodules(layers):
    return tuple(layer for layer in layers if layer != 0)


def _layers(recipe, given):
    """The recipe's layers; where not given, as far as the network has them. Numbers become a library's names."""
    model, layers, names = recipe.model, recipe.layers, None
    if models.is_library_name(model):
        names = _proposed(model, recipe.image_size)
        count = len(names)
    else:
        count = len(shapes(recipe)) - 2  # neither the image nor the head
    if not given:
        layers = tuple(k for k in layers if k <= count)
        if not any(layers):
            raise ValueError(f"{model} has no layers to propose at {recipe.image_size} pixels: give --layers")
    if names is None:
        stage_numbers(recipe)  # raises for a name
        return layers
    if unnamed := [k for k in layers if isinstance(k, int) and not 0 <= k <= count]:
        raise ValueError(f"{model} has layers by number from 0 to {count}, not {unnamed[0]}; others have names")
    return tuple(names[k - 1] if isinstance(k, int) and k > 0 else k for k in layers)


def _block_size(recipe, layers):
    """The recipe's block_size, lowered where a map of these layers is too small for it, which is told in a note."""
    if models.is_library_name(recipe.model):
        maps = _shapes(recipe.model, _options(recipe), _submodules(layers), recipe.image_size)[1:]
    else:
        maps = shapes(recipe)[1 : max(layers) + 1]
    sides, block_size = [shape[1] for shape in maps], recipe.block_size
    sizes = block_size if isinstance(block_size, tuple) else (block_size,)
    sizes = (*sizes, *sizes[-1:] * len(sides))[: len(sides)]  # the last holds for all stages after it
    fitting = tuple(min(size, models.fitting_block(side)) for size, side in zip(sizes, sides))
    if fitting == sizes:
        return block_size
    if len(set(fitting)) == 1 or not issubclass(regularizers.METHODS[recipe.method], regularizers.PatchUp):
        fitting = min(fitting)
    words = f"{fitting} instead of {block_size}, to suit maps of side {', '.join(map(str, sides))}"
    warnings.warn(f"block_size of {recipe.method} in {recipe.model} is {words}", Note, stacklevel=2)
    return fitting


def _options(recipe):
    """The network's options in a recipe, hashable; but for its stages."""
    names = [name for name in models.find(recipe.model).options if name != "layers"]
    return tuple((name, getattr(recipe, name)) for name in names if getattr(recipe, name) is not None)


@functools.cache
def _on_meta(model, options, layers):
    return models.on_meta(model, 2, **dict(options), layers=layers)


@functools.cache
def _shapes(model, options, layers, image_size):
    with _readable_errors(model, image_size):
        return _on_meta(model, options, layers).shapes(image_size)


@functools.cache
def _proposed(model, image_size):
    with _readable_errors(model, image_size):
        return tuple(models.proposed_layers(_on_meta(model, (), None), image_size))


@contextlib.contextmanager
def _readable_errors(model, image_size):
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{model} cannot take images of {image_size} pixels ({reason})") from error
