"""From data set, network, method and overrides to the complete recipe of one run, and from that to its objects.

`resolve` merges small dicts, the later ones winning: everyone's settings, the data set's, the schedule of (data set,
network), the method's, the exceptions, the user's overrides (see paper.py).
"""

import dataclasses
import warnings

import torch

import data
import models
import regularizers
from recipes import fitting
from recipes.fields import FIELDS, LARGEST, LARGEST_COUNT, NOT_GIVEN, OPTIONS, Recipe, RecipeError, flag, flags
from recipes.paper import BY_DATASET, EVERYONE, method_settings, network_settings, schedule
from regularizers import unknown_name


def resolve(dataset, model, method, seed=0, images=None, **overrides):
    """The complete Recipe of one run; overrides are fields of Recipe that shall differ from the paper.

    images: where a user's images are; left out of the recipes of other data sets.
    Raises RecipeError for an unknown name, a field that the data set, network or method lacks, or an impossible value.
    """
    networks = (*models.MODELS, *(f"{library}:NAME" for library in models.LIBRARIES))
    for kind, name, known in (
        ("data set", dataset, data.FACTS),
        ("model", model, networks),
        ("method", method, regularizers.METHODS),
    ):
        if name not in known and not (kind == "model" and models.is_library_name(name)):
            raise RecipeError(unknown_name(kind, name, known))
    overrides = {name: value for name, value in overrides.items() if value is not NOT_GIVEN}
    unknown = [name for name in overrides if name not in OPTIONS]
    if unknown:
        raise RecipeError(f"unknown field {unknown[0]!r}; a recipe has {', '.join(OPTIONS)}")

    facts, values = data.FACTS[dataset], _dataset_settings(dataset, overrides)
    try:
        network_options = network_settings(model, values["image_size"], overrides.get("stem"))
    except ValueError as error:
        raise RecipeError(str(error)) from error
    values |= network_options | EVERYONE | BY_DATASET.get(dataset, {})
    values |= _schedule_settings(dataset, model, overrides)
    parameters = regularizers.hyperparameters(method)
    for what, names in ((f"method {method}", parameters), (f"network {model}", network_options)):
        if unnamed := [name for name in names if name not in OPTIONS]:
            kind = type(names[unnamed[0]]).__name__
            raise RecipeError(
                f"the {what} takes {unnamed[0]}, which recipes.Recipe has no field for: add to it, in "
                f'recipes/fields.py, `{unnamed[0]}: {kind} = option({kind}, "...")`'
            )
    values |= parameters | method_settings(dataset, model, method, values["image_size"])
    for name in overrides:
        if name in values:
            continue
        if name in METHOD_OPTIONS:
            raise RecipeError(f"{flag(name)} means nothing to the method {method}, which takes {flags(parameters)}")
        raise RecipeError(f"{flag(name)} means nothing to {model} on {dataset}")
    recipe = Recipe(dataset, model, method, seed, images=images if facts.custom else None, **(values | overrides))
    _check(recipe)
    try:
        recipe = dataclasses.replace(recipe, **fitting.fitted(recipe, overrides))
    except ValueError as error:
        raise RecipeError(str(error)) from error
    _check_fit(recipe)
    return recipe


def changes(recipe, overrides, **base):
    """Those of overrides, fields given for a recipe, that differ from the paper's recipe with the fields base."""
    free = {} if data.FACTS[recipe.dataset].image_size else {"image_size": recipe.image_size}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is told of the paper's recipe does not concern this one
        theirs = resolve(recipe.dataset, recipe.model, recipe.method, images=recipe.images, **(base | free))
    return {name: value for name, value in overrides.items() if name in free or getattr(theirs, name) != value}


COUNTS = ("train_per_class", "val_per_class", "image_size", "width", "stem_stride", "epochs", "batch_size")
METHOD_OPTIONS = {name for method in regularizers.METHODS for name in regularizers.hyperparameters(method)}


def applicable(method, options):
    """Those of options that are no hyper-parameters of other methods alone."""
    parameters = regularizers.hyperparameters(method)
    return {name: value for name, value in options.items() if name in parameters or name not in METHOD_OPTIONS}


def _dataset_settings(dataset, overrides):
    facts = data.FACTS[dataset]
    values = {name: getattr(facts, name) for name in ("image_size", "flip", "val_per_class", "train_per_class")}
    if facts.free_size:
        values["image_size"] = overrides.get("image_size", values["image_size"])
        if values["image_size"] is None:
            raise RecipeError(
                f"the data set {dataset} needs --image-size, the side in pixels that images are scaled to"
            )
    elif "image_size" in overrides:
        free = " and ".join(sorted(name for name, known in data.FACTS.items() if known.free_size))
        raise RecipeError(f"{dataset} has images of {facts.image_size} pixels; --image-size is for {free}")
    if not facts.streamed:  # whose random crop is another one
        values["padding"] = values["image_size"] // 16 if facts.padding is None else facts.padding
    return values


def _schedule_settings(dataset, model, overrides):
    paper = schedule(dataset, model)
    epochs = overrides.get("epochs", paper["epochs"])
    if (EVERYONE | BY_DATASET.get(dataset, {}) | overrides)["schedule"] == "cosine":
        for name in ("milestones", "lr_decay"):
            if name in overrides:
                raise RecipeError(f"{flag(name)} means nothing with --schedule cosine")
        return {"epochs": epochs}
    scaled = {max(1, round(m * epochs / paper["epochs"])) for m in paper["milestones"]}
    return {"epochs": epochs, "milestones": tuple(sorted(m for m in scaled if m < epochs)), "lr_decay": 0.1}  # [C]


def _check(recipe):
    """Raise RecipeError where a value is impossible; of the network and the method see _check_fit."""
    for name, value in vars(recipe).items():
        if value is NOT_GIVEN:
            continue
        most, choices = LARGEST.get(name, LARGEST_COUNT), OPTIONS.get(name, {}).get("choices", (value,))
        if name in COUNTS and not 1 <= value <= most:
            raise RecipeError(f"{flag(name)} must be at {'least 1' if value < 1 else f'most {most}'}, not {value}")
        if name in ("lr", "lr_decay") and not 0 < value < float("inf"):
            raise RecipeError(f"{flag(name)} must be above 0, not {value}")
        if name in ("seed", "weight_decay", "padding") and not 0 <= value < float("inf"):
            raise RecipeError(f"{flag(name)} must be at least 0, not {value}")
        if value not in choices:
            raise RecipeError(f"{flag(name)} must be one of {', '.join(choices)}, not {value!r}")
    if not 0 < recipe.momentum < 1:
        raise RecipeError(f"--momentum must lie in (0, 1), not {recipe.momentum}")
    if recipe.seed >= 2**63:
        raise RecipeError(f"--seed must be below 2^63, not {recipe.seed}")
    if recipe.padding is not NOT_GIVEN and recipe.padding > recipe.image_size:
        raise RecipeError(f"--padding must be at most the images' side, {recipe.image_size}, not {recipe.padding}")
    milestones = recipe.milestones or ()
    if list(milestones) != sorted(set(milestones)) or any(not 0 < m < recipe.epochs for m in milestones):
        raise RecipeError(
            f"--milestones must rise and lie between 1 and {recipe.epochs - 1} "
            f"(--epochs {recipe.epochs}), not {','.join(map(str, milestones))}"
        )


def _check_fit(recipe):
    """Raise RecipeError where method and network cannot be, or do not fit."""
    try:
        regularizer(recipe, 2).check(fitting.shapes(recipe))
    except ValueError as error:
        raise RecipeError(str(error)) from error


def datasets(recipe, data_dir, workers):
    """The recipe's images, from the folder data_dir (see data.load)."""
    names = ("val_per_class", "train_per_class", "image_size", "padding", "flip", "augment_val")
    options = {name: getattr(recipe, name) for name in names}
    return data.load(recipe.dataset, data_dir, seed=recipe.seed, workers=workers, **options)


def network(recipe, num_classes):
    """The recipe's network in its memory format, with initial weights from torch's global generator."""
    net = models.build(recipe.model, num_classes, **fitting.options(recipe), layers=fitting.stages(recipe))
    return net.to(memory_format=torch.channels_last) if recipe.channels_last else net


def regularizer(recipe, num_classes):
    """The recipe's method."""
    options = {name: getattr(recipe, name) for name in regularizers.hyperparameters(recipe.method)}
    if options.get("layers"):
        options["layers"] = fitting.stage_numbers(recipe)
    if recipe.method == "puzzlemix":
        options["std"] = data.FACTS[recipe.dataset].std
    return regularizers.build(recipe.method, num_classes, recipe.criterion, **options)


def restore(values):
    """The Recipe whose `used` gave the dict values. Raises RecipeError if no recipe does."""
    if unknown := [name for name in values if name not in FIELDS]:
        raise RecipeError(f"unknown field {unknown[0]!r}; a recipe has {', '.join(FIELDS)}")
    try:
        recipe = Recipe(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
        _check(recipe)
        _check_fit(recipe)
    except (TypeError, KeyError) as error:
        raise RecipeError(f"not a whole recipe ({error})") from error
    return recipe


def objects(recipe, data_dir, workers=0):
    """The recipe's images and its network with the weights it starts from. Raises data.DataError where images lack."""
    images = datasets(recipe, data_dir, workers)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        return images, network(recipe, len(images.classes))
