"""The fields of a recipe: all that decides a run's result, each a flag of the command lines. Sources: see paper.py."""

import argparse
import dataclasses
from dataclasses import dataclass, field

import models
import regularizers
from recipes.paper import BY_DATASET, EVERYONE, OTHER_SCHEDULE, SCHEDULES

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


def flag(name):
    """The flag of a field: train_per_class -> --train-per-class."""
    return f"--{name.replace('_', '-')}"


def flags(names):
    """The flags of several fields in words, or `no hyper-parameters`."""
    return ", ".join(map(flag, names)) or "no hyper-parameters"


def used(recipe):
    """The fields that this run uses, as a dict that JSON can hold."""
    values = {name: value for name, value in dataclasses.asdict(recipe).items() if value is not NOT_GIVEN}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def differences(stored, wanted):
    """What differs between two dicts of `used`, in words: `lr 0.1 there, 0.2 here`."""
    names = [name for name in FIELDS if stored.get(name) != wanted.get(name)]
    return ", ".join(f"{name} {stored.get(name, '-')} there, {wanted.get(name, '-')} here" for name in names)


def default_of(name):
    """The default of a field, or on what it depends, in words."""
    if name in EVERYONE:
        others = [f"{as_text(values[name])} for {key}" for key, values in BY_DATASET.items() if name in values]
        return f"default: {', '.join([as_text(EVERYONE[name]), *others])}"
    if name in ("epochs", "milestones"):
        networks = {as_text(getattr(network, name)) for network in models.MODELS.values()}
        others = [f"{as_text(values[name])} for {key}" for key, values in SCHEDULES.items()]
        others.append(f"{as_text(OTHER_SCHEDULE[name])} for folder")
        return f"default: the network's, {' or '.join(sorted(networks))}; {', '.join(others)}"
    methods = {method: regularizers.hyperparameters(method).get(name) for method in regularizers.METHODS}
    values = [f"{method} {as_text(value)}" for method, value in methods.items() if value is not None]
    if values:
        return f"default: {', '.join(values)}; may depend on data set and network"
    return "default: depends on data set, network and schedule"


def add_flags(parser):
    """A flag for every field of Recipe but dataset, model, method and seed."""
    group = parser.add_argument_group(
        "recipe",
        "By default the paper's for this data set, network and method. "
        "Sources: [P] the paper, [C] its official code, [CM] CutMix's code, [PM] Puzzle Mix's code.",
    )
    for name, meta in OPTIONS.items():
        text = f"{meta['help']} ({default_of(name)})"
        if meta["parse"] is bool:
            group.add_argument(flag(name), action=argparse.BooleanOptionalAction, help=text)
        else:
            choices = (*meta.get("choices", ()), *meta.get("stand_ins", ())) or None
            group.add_argument(flag(name), type=meta["parse"], choices=choices, help=text)


def arguments(overrides):
    """The command line's flags for fields of the recipe, a dict: ["--epochs=2", "--no-flip"]."""
    return [
        flag(name if value else f"no_{name}") if isinstance(value, bool) else f"{flag(name)}={as_text(value)}"
        for name, value in overrides.items()
    ]


def as_text(value):
    """A field's value as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def takes(name, value):
    """Whether a field's flag can give the value, in this type: what a file says is checked as a command line is."""
    parse = OPTIONS[name]["parse"]
    if parse is bool:
        return isinstance(value, bool)
    try:
        parsed = parse(as_text(value))
    except (ValueError, argparse.ArgumentTypeError):
        return False
    return parsed == value and type(parsed) in (type(value), float)


def overrides_of(args):
    """The recipe's fields that were given on a command line made with add_flags."""
    return {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
