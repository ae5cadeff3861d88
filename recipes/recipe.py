"""Every hyper-parameter of the paper, and the grid of every table, once.

The methods' own values for CIFAR are the defaults of their classes in regularizers/; everything else is here.

`resolve` merges small dicts, the later ones winning: everyone's settings, the data set's, the schedule of (data set,
network), the method's, the exceptions, the user's overrides. Each entry names its source:

    [P]  the paper                    [C]  the official code or its README
    [CM] CutMix's code                [PM] Puzzle Mix's code or README
    [own] our choice, where no source says anything
"""

import argparse
import dataclasses
import difflib
from dataclasses import dataclass, field

import torch

import data
import models
import regularizers
from recipes import fitting
from recipes.paper import BY_DATASET, EVERYONE, method_settings, schedule

LARGEST = {"width": 10_000, "image_size": 10_000}  # beyond which no machine trains
LARGEST_COUNT = 1_000_000  # of epochs, and of images in a batch or class
NOT_GIVEN = None  # a field which this run's data set, network or method has no use for


class RecipeError(ValueError):
    """A recipe that cannot be; the message names the field and what is possible."""


def number_list(text):
    """'7' -> (7,), '7,7,5' -> (7, 7, 5)."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be integers, as 7 or 7,7,5, not {text!r}") from None


def numbers(text):
    """'7' -> 7, '7,7,5' -> (7, 7, 5)."""
    parts = number_list(text)
    return parts if len(parts) > 1 else parts[0]


def layer_list(text):
    """'0,1' -> (0, 1), '0,features.2' -> (0, 'features.2')."""
    return tuple(int(part) if part.lstrip("-").isdigit() else part for part in text.split(","))


def option(parse, text, **more):
    """A field of the recipe that is a flag as well; text explains it, with unit and source."""
    return field(default=NOT_GIVEN, metadata={"parse": parse, "help": text, **more})


@dataclass(frozen=True)
class Recipe:
    """All that decides a run's result, apart from the device."""

    dataset: str
    model: str
    method: str
    seed: int
    images: str = NOT_GIVEN  # data set `folder`: where the images are

    train_per_class: int = option(int, "training images a class, at most; all by default, SVHN 7325 [C]")
    val_per_class: int = option(int, "images a class held out of the training set to select the epoch; 10 %% [C]")
    augment_val: bool = option(bool, "augment the validation images, as the official code does (Tables 6 and 7) [C]")
    image_size: int = option(int, "side of the images in pixels, for the data sets folder and imagenet")
    padding: int = option(int, "black border in pixels before the random crop: 2, Tiny-ImageNet 4 [C]")
    flip: bool = option(bool, "mirror training images at random; not for digits [C]")

    width: int = option(int, "channels of the first residual stage: PreActResNet 64, WRN-28-10 160")
    stem: str = option(str, "first layers of ResNet50/101/152", choices=("imagenet", "cifar"))
    stem_stride: int = option(int, "stride of a 3x3 stem: 1 at 32 pixels, 2 at 64 [C]")

    epochs: int = option(int, "passes over the training set; alone, the paper's milestones keep their fractions")
    batch_size: int = option(int, "images a step: 100 [C], ImageNet 256 [CM]")
    lr: float = option(float, "initial learning rate: 0.1 [C]")
    schedule: str = option(str, "`step`: lr times lr_decay at every milestone [C]", choices=("step", "cosine"))
    milestones: tuple = option(number_list, "epochs at which the learning rate drops, as 200,300 [C]")
    lr_decay: float = option(float, "factor of the learning rate at a milestone: 0.1 [C]")
    momentum: float = option(float, "Nesterov momentum: 0.9 [C]")
    weight_decay: float = option(float, "on all parameters: 0.0001 [C]")
    criterion: str = option(str, "`bce`: BCE on softmax [C]; `ce`: cross-entropy", choices=tuple(regularizers.CRITERIA))

    amp: str = option(
        str,
        "autocast: bf16, or fp16 with loss scaling (CUDA); `auto`: what this device is fastest at",
        choices=("off", "bf16", "fp16"),
        stand_ins=("auto",),
    )
    channels_last: bool = option(bool, "memory format NHWC, which is faster; rounds otherwise")
    compile: bool = option(bool, "torch.compile every stage")

    prob: float = option(float, "share of mixed batches: Soft PatchUp 1, Hard 0.7 [P]; CutMix 0.4 [C]")
    alpha: float = option(float, "lambda ~ Beta(alpha, alpha): Mixup 1, Manifold 1.5, Soft PatchUp 2 [P]; CutMix 1 [C]")
    gamma: float = option(float, "PatchUp: share of features to alter: Soft 0.75, Hard 0.5 [P]; Puzzle Mix: 0.5 [PM]")
    block_size: int = option(numbers, "side of a block in features, or one a layer as 7,7,5,3: 7 [P], WRN 7,7,5,3 [C]")
    layers: tuple = option(
        layer_list,
        "stages acted on, 0 the image: WRN 0,1,2,3 [P], PreActResNet 0,1,2 [C]; of a library's network 0 and names of "
        "submodules, at whose inputs it acts, as 0,features.2,features.4",
    )
    mask_per: str = option(str, "one mask a batch [C], or one a sample", choices=("batch", "sample"))
    input_mask: str = option(str, "PatchUp at layer 0: a CutMix box [P], or its own mask", choices=("box", "patchup"))
    loss_terms: str = option(
        str,
        "terms of equation 6: both [P], or one (Table 6), or what [C] takes for the second",
        choices=("both", "first", "second", "official_second"),
    )
    input_target: str = option(
        str, "W of PatchUp at layer 0: mixed [P], or the own label, as WRN in [C]", choices=("mixed", "own")
    )
    length: int = option(int, "Cutout: side of the hole in pixels: 16, WRN 8, SVHN 20 [C]")
    keep_prob: float = option(float, "DropBlock: share of features kept: 0.9 [C]")
    n_labels: int = option(int, "Puzzle Mix: values of the mask: 3 [PM]")
    eta: float = option(float, "Puzzle Mix: weight of the prior: 0.2 [PM]")
    beta: float = option(float, "Puzzle Mix: label smoothness: 1.2 [PM]")
    neigh_size: int = option(int, "Puzzle Mix: saliency pooling for data-local smoothness: 4 [PM]")
    transport: bool = option(bool, "Puzzle Mix: move the salient blocks: yes [PM]")
    t_size: int = option(int, "Puzzle Mix: block side for transport, pixels: 4, Tiny-ImageNet -1 (the mask's) [PM]")
    t_eps: float = option(float, "Puzzle Mix: cost of transport: 0.8 [PM]")
    clean_lam: float = option(float, "Puzzle Mix: weight of the clean loss: 0, Tiny-ImageNet 1 [PM]")

    def __str__(self):
        """One line a field that this run uses."""
        return "\n".join(f"  {name:16} {value}" for name, value in used(self).items())


FIELDS = {f.name: f for f in dataclasses.fields(Recipe)}
OPTIONS = {name: f.metadata for name, f in FIELDS.items() if f.metadata}


def resolve(dataset, model, method, seed=0, images=None, **overrides):
    """The complete Recipe of one run; overrides are fields of Recipe that shall differ from the paper.

    images: where a user's own images are; left out of the recipes of other data sets.
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
    values |= _network_settings(model, values["image_size"], overrides) | EVERYONE | BY_DATASET.get(dataset, {})
    values |= _schedule_settings(dataset, model, overrides)
    own = regularizers.hyperparameters(method)
    if unnamed := [name for name in own if name not in OPTIONS]:
        raise RecipeError(f"the method {method} takes {unnamed[0]}, which recipes.Recipe has no field for")
    values |= own | method_settings(dataset, model, method, values["image_size"])
    for name in overrides:
        if name in values:
            continue
        if name in METHOD_OPTIONS:
            raise RecipeError(f"{flag(name)} means nothing to the method {method}, which takes {flags(own)}")
        raise RecipeError(f"{flag(name)} means nothing to {model} on {dataset}")
    recipe = Recipe(dataset, model, method, seed, images=images if facts.own else None, **(values | overrides))
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
    theirs = resolve(recipe.dataset, recipe.model, recipe.method, images=recipe.images, **(base | free))
    return {name: value for name, value in overrides.items() if name in free or getattr(theirs, name) != value}


METHOD_OPTIONS = {name for method in regularizers.METHODS for name in regularizers.hyperparameters(method)}


def applicable(method, options):
    """Those of options that are no hyper-parameters of other methods alone."""
    own = regularizers.hyperparameters(method)
    return {name: value for name, value in options.items() if name in own or name not in METHOD_OPTIONS}


def unknown_name(kind, name, known):
    """What to say of a name that is none of those known: the nearest of them, if one is near, and all."""
    near = difflib.get_close_matches(name, known, 1)
    return f"unknown {kind} {name!r}{f'; did you mean {near[0]}?' if near else ''}; there are {', '.join(known)}"


def flag(name):
    """The flag of a field: train_per_class -> --train-per-class."""
    return f"--{name.replace('_', '-')}"


def flags(names):
    """The flags of several fields in words, or `no hyper-parameters`."""
    return ", ".join(map(flag, names)) or "no hyper-parameters"


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


def _network_settings(model, image_size, overrides):
    try:
        network = models.find(model)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    values = {name: default for name, default in network.options.items() if name != "layers"}
    if unnamed := [name for name in values if name not in OPTIONS]:
        raise RecipeError(f"the network {model} takes {unnamed[0]}, which recipes.Recipe has no field for")
    large = image_size >= 64
    if "stem" in values:
        values["stem"] = overrides.get("stem", network.stems[large])  # [own]: unknown for Tiny-ImageNet
    if "stem_stride" in values:
        values["stem_stride"] = 2 if large else 1  # [C] for Tiny-ImageNet
    if values.get("stem") == "imagenet":
        del values["stem_stride"]
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
    for name in ("train_per_class", "val_per_class", "image_size", "width", "stem_stride", "epochs", "batch_size"):
        value = getattr(recipe, name)
        if value is not NOT_GIVEN and value < 1:
            raise RecipeError(f"{flag(name)} must be at least 1, not {value}")
        most = LARGEST.get(name, LARGEST_COUNT)
        if value is not NOT_GIVEN and value > most:
            raise RecipeError(f"{flag(name)} must be at most {most}, not {value}")
    for name in ("lr", "lr_decay"):
        value = getattr(recipe, name)
        if value is not NOT_GIVEN and not 0 < value < float("inf"):
            raise RecipeError(f"{flag(name)} must be above 0, not {value}")
    if not 0 < recipe.momentum < 1:
        raise RecipeError(f"--momentum must lie in (0, 1), not {recipe.momentum}")
    if recipe.seed >= 2**63:
        raise RecipeError(f"--seed must be below 2^63, not {recipe.seed}")
    for name in ("seed", "weight_decay", "padding"):
        value = getattr(recipe, name)
        if value is not NOT_GIVEN and not 0 <= value < float("inf"):
            raise RecipeError(f"{flag(name)} must be at least 0, not {value}")
    if recipe.padding is not NOT_GIVEN and recipe.padding > recipe.image_size:
        raise RecipeError(f"--padding must be at most the images' side, {recipe.image_size}, not {recipe.padding}")
    for name, limits in OPTIONS.items():
        value = getattr(recipe, name)
        if value is not NOT_GIVEN and "choices" in limits and value not in limits["choices"]:
            raise RecipeError(f"{flag(name)} must be one of {', '.join(limits['choices'])}, not {value!r}")
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
    """The recipe's network, with initial weights from torch's global generator."""
    return models.build(recipe.model, num_classes, **fitting.options(recipe), layers=fitting.stages(recipe))


def regularizer(recipe, num_classes):
    """The recipe's method."""
    options = {name: getattr(recipe, name) for name in regularizers.hyperparameters(recipe.method)}
    if options.get("layers"):
        options["layers"] = fitting.stage_numbers(recipe)
    if recipe.method == "puzzlemix":
        options["std"] = data.FACTS[recipe.dataset].std
    return regularizers.build(recipe.method, num_classes, recipe.criterion, **options)


def used(recipe):
    """The fields that this run uses, as a dict that JSON can hold."""
    values = {name: value for name, value in dataclasses.asdict(recipe).items() if value is not NOT_GIVEN}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def restore(values):
    """The Recipe whose `used` gave the dict values. Raises RecipeError if there is none."""
    if unknown := [name for name in values if name not in FIELDS]:
        raise RecipeError(f"unknown field {unknown[0]!r}; a recipe has {', '.join(FIELDS)}")
    try:
        recipe = Recipe(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
        _check(recipe)
        _check_fit(recipe)
    except (TypeError, KeyError) as error:
        raise RecipeError(f"not a whole recipe ({error})") from error
    return recipe


def differences(one, other):
    """What differs between two dicts of `used`, in words."""
    names = [name for name in FIELDS if one.get(name) != other.get(name)]
    return ", ".join(f"{name} {one.get(name, '-')} there, {other.get(name, '-')} here" for name in names)


def add_flags(parser):
    """A flag for every field of Recipe but dataset, model, method and seed."""
    group = parser.add_argument_group(
        "recipe",
        "By default the paper's for this data set, network and method. "
        "Sources: [P] the paper, [C] its official code, [CM] CutMix's code, [PM] Puzzle Mix's code.",
    )
    for name, meta in OPTIONS.items():
        if meta["parse"] is bool:
            group.add_argument(flag(name), action=argparse.BooleanOptionalAction, help=meta["help"])
        else:
            choices = (*meta.get("choices", ()), *meta.get("stand_ins", ())) or None
            group.add_argument(flag(name), type=meta["parse"], choices=choices, help=meta["help"])


def arguments(overrides):
    """The command line's flags for fields of the recipe, a dict: ["--epochs=2", "--no-flip"]."""
    found = []
    for name, value in overrides.items():
        if isinstance(value, bool):
            found.append(flag(name) if value else flag(f"no_{name}"))
        else:
            found.append(f"{flag(name)}={as_text(value)}")
    return found


def as_text(value):
    """A field's value as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def takes(name, value):
    """Whether a field's flag can give the value, in this type: what a file says is checked as a command line is."""
    parse = OPTIONS[name]["parse"]
    if parse is bool or isinstance(value, bool):
        return parse is bool and isinstance(value, bool)
    try:
        parsed = parse(as_text(value))
    except (ValueError, argparse.ArgumentTypeError):
        return False
    return parsed == value and type(parsed) in (type(value), float)


def overrides_of(args):
    """The recipe's fields that were given on a command line made with add_flags."""
    return {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}


def objects(recipe, data_dir, workers=0):
    """The recipe's images and its network with the weights it starts from. Raises data.DataError where images lack."""
    images = datasets(recipe, data_dir, workers)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        return images, network(recipe, len(images.classes))
