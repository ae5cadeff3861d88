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
import functools
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

import data
import models
import regularizers

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

    amp: str = option(str, "autocast: bf16, or fp16 with loss scaling (CUDA)", choices=("off", "bf16", "fp16"))
    channels_last: bool = option(bool, "memory format NHWC, which is faster; rounds otherwise")
    compile: bool = option(bool, "torch.compile every stage")

    prob: float = option(float, "share of mixed batches: Soft PatchUp 1, Hard 0.7 [P]; CutMix 0.4 [C]")
    alpha: float = option(float, "lambda ~ Beta(alpha, alpha): Mixup 1, Manifold 1.5, Soft PatchUp 2 [P]; CutMix 1 [C]")
    gamma: float = option(float, "PatchUp: share of features to alter: Soft 0.75, Hard 0.5 [P]; Puzzle Mix: 0.5 [PM]")
    block_size: int = option(numbers, "side of a block in features, or one a layer as 7,7,5,3: 7 [P], WRN 7,7,5,3 [C]")
    layers: tuple = option(number_list, "stages acted on, 0 the image: WRN 0,1,2,3 [P], PreActResNet 0,1,2 [C]")
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

SMALL = ("cifar10", "cifar100", "svhn")
PREACT = ("preactresnet18", "preactresnet34")
RESNET = ("resnet50", "resnet101", "resnet152")

EVERYONE = {
    "batch_size": 100,  # [C]
    "lr": 0.1,  # [C]
    "schedule": "step",  # [C]
    "momentum": 0.9,  # [C]
    "weight_decay": 1e-4,  # [C]
    "criterion": "bce",  # [C]
    "augment_val": False,  # [own]: the official code augments them
    "amp": "off",
    "channels_last": True,  # [own]: faster, the same but for rounding
    "compile": False,
}

BY_DATASET = {
    "imagenet": {"batch_size": 256, "criterion": "ce"},  # [CM], which the paper follows
    # [own]: short runs need ce, and ce a lower learning rate than bce
    "digits": {
        "train_per_class": 10,
        "batch_size": 10,
        "lr": 0.02,
        "schedule": "cosine",
        "criterion": "ce",
    },
    "folder": {"criterion": "ce"},  # [own]
}


def schedule(dataset, model):
    """Epochs and milestones of a data set and network."""
    if dataset in SMALL and model in PREACT:
        return {"epochs": 2000, "milestones": (500, 1000, 1500)}  # [C]
    if dataset in SMALL:
        return {"epochs": 400, "milestones": (200, 300)}  # [C] for WRN-28-10, [own] for ResNets
    if dataset == "tiny_imagenet":
        # [own]: unknown; as WRN-28-10 elsewhere. The paper's 23 hours on a V100 would suit 200 to 300 epochs better.
        return {"epochs": 400, "milestones": (200, 300)}
    if dataset == "imagenet":
        return {"epochs": 300, "milestones": (75, 150, 225)}  # [CM]
    if dataset == "digits":
        return {"epochs": 25, "milestones": (12, 18)}  # [own]
    return {"epochs": 200, "milestones": (100, 150)}  # [own]


def sites(dataset, model):
    """Layers and block sizes of PatchUp."""
    if model in PREACT:
        return {"layers": (0, 1, 2), "block_size": 7}  # [C]
    if dataset == "imagenet":
        return {"layers": (0, 1, 2, 3), "block_size": 7}  # [P] block, [own] layers, by analogy with WRN
    return {"layers": (0, 1, 2, 3), "block_size": (7, 7, 5, 3)}  # [P] layers, [C] blocks of WRN; [own] for ResNets


def method_settings(dataset, model, method, image_size):
    """What a method takes other than its class' defaults, which are the paper's for CIFAR."""
    large = dataset in ("tiny_imagenet", "imagenet")
    small_alpha = {"alpha": 0.2} if large else {}  # [P] Table 5 for Tiny-ImageNet; ImageNet [own]
    if method in ("patchup_soft", "patchup_hard"):
        settings = sites(dataset, model)
        if dataset == "imagenet":
            settings |= {"gamma": 0.6} if method == "patchup_soft" else {"prob": 0.6}  # [P]
        return settings
    if method == "manifold_mixup":
        return {"layers": sites(dataset, model)["layers"]} | small_alpha  # [P]
    if method == "mixup":
        return small_alpha
    if method == "cutmix":
        return {"prob": 1.0} if dataset == "imagenet" else {}  # [CM]
    if method == "cutout":
        if dataset == "svhn":
            return {"length": 20}  # [C]
        if dataset in SMALL:
            return {"length": 8 if model == "wrn28_10" else 16}  # [C]; ResNets [own]
        return {"length": image_size // 4 if dataset == "digits" else image_size // 2}  # [own]
    if method == "puzzlemix" and large:
        return {"t_size": -1, "clean_lam": 1.0} | small_alpha  # [PM]; ImageNet [own]
    return {}


def resolve(dataset, model, method, seed=0, images=None, **overrides):
    """The complete Recipe of one run; overrides are fields of Recipe that shall differ from the paper.

    Raises RecipeError for an unknown name, a field that the data set, network or method lacks, or an impossible value.
    """
    for kind, name, known in (
        ("data set", dataset, data.FACTS),
        ("model", model, models.MODELS),
        ("method", method, regularizers.METHODS),
    ):
        if name not in known:
            raise RecipeError(f"unknown {kind} {name!r}; there are {', '.join(known)}")
    overrides = {name: value for name, value in overrides.items() if value is not NOT_GIVEN}
    unknown = [name for name in overrides if name not in OPTIONS]
    if unknown:
        raise RecipeError(f"unknown field {unknown[0]!r}; a recipe has {', '.join(OPTIONS)}")

    values = _dataset_settings(dataset, overrides)
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
    recipe = Recipe(dataset, model, method, seed, images=images, **(values | overrides))
    _check(recipe)
    return recipe


METHOD_OPTIONS = {name for method in regularizers.METHODS for name in regularizers.hyperparameters(method)}


def applicable(method, options):
    """Those of options that are no hyper-parameters of other methods alone."""
    own = regularizers.hyperparameters(method)
    return {name: value for name, value in options.items() if name in own or name not in METHOD_OPTIONS}


def flag(name):
    """The flag of a field: train_per_class -> --train-per-class."""
    return f"--{name.replace('_', '-')}"


def flags(names):
    """The flags of several fields in words, or `no hyper-parameters`."""
    return ", ".join(map(flag, names)) or "no hyper-parameters"


def _dataset_settings(dataset, overrides):
    facts = data.FACTS[dataset]
    values = {name: getattr(facts, name) for name in ("image_size", "flip", "val_per_class", "train_per_class")}
    if dataset in ("folder", "imagenet"):
        values["image_size"] = overrides.get("image_size", values["image_size"])
        if values["image_size"] is None:
            raise RecipeError("the data set folder needs --image-size, the side in pixels that images are scaled to")
    elif "image_size" in overrides:
        raise RecipeError(f"{dataset} has images of {facts.image_size} pixels; --image-size is for folder and imagenet")
    if dataset != "imagenet":  # its random crop is another one
        values["padding"] = values["image_size"] // 16 if facts.padding is None else facts.padding
    return values


def _network_settings(model, image_size, overrides):
    stride = {"stem_stride": 1 if image_size < 64 else 2}  # [C] for Tiny-ImageNet
    if model in RESNET:
        stem = overrides.get("stem", "cifar" if image_size < 64 else "imagenet")  # [own]: unknown for Tiny-ImageNet
        return {"stem": stem} | (stride if stem == "cifar" else {})
    return {"width": 64 if model in PREACT else 160} | stride


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
    """Raise RecipeError where a value is impossible; the method's own are checked by its class."""
    for name in ("train_per_class", "val_per_class", "image_size", "width", "stem_stride", "epochs", "batch_size"):
        value = getattr(recipe, name)
        if value is not NOT_GIVEN and value < 1:
            raise RecipeError(f"{flag(name)} must be at least 1, not {value}")
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

    try:
        regularizer(recipe, 2).check(
            _shapes(recipe.model, recipe.width, recipe.stem, recipe.stem_stride, recipe.image_size)
        )
    except ValueError as error:
        raise RecipeError(str(error)) from error


@functools.cache
def _shapes(model, width, stem, stem_stride, image_size):
    with torch.device("meta"):
        return models.build(model, 2, width=width, stem=stem, stem_stride=stem_stride or 1).shapes(image_size)


def datasets(recipe, data_dir, workers):
    """The recipe's images, from the folder data_dir (see data.load)."""
    names = ("val_per_class", "train_per_class", "image_size", "padding", "flip", "augment_val")
    options = {name: getattr(recipe, name) for name in names}
    return data.load(recipe.dataset, data_dir, seed=recipe.seed, workers=workers, **options)


def network(recipe, num_classes):
    """The recipe's network, with initial weights from torch's global generator."""
    names = {"width": recipe.width, "stem": recipe.stem, "stem_stride": recipe.stem_stride or 1}
    return models.build(recipe.model, num_classes, **names)


def regularizer(recipe, num_classes):
    """The recipe's method."""
    options = {name: getattr(recipe, name) for name in regularizers.hyperparameters(recipe.method)}
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
            group.add_argument(flag(name), type=meta["parse"], choices=meta.get("choices"), help=meta["help"])


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


def overrides_of(args):
    """The recipe's fields that were given on a command line made with add_flags."""
    return {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}


LABELS = {  # as the paper writes them
    "none": "No Mixup",
    "mixup": "Input Mixup",
    "manifold_mixup": "ManifoldMixup",
    "cutout": "Cutout",
    "dropblock": "DropBlock",
    "cutmix": "CutMix",
    "puzzlemix": "Puzzle Mix",
    "patchup_soft": "Soft PatchUp",
    "patchup_hard": "Hard PatchUp",
    "feature_cutmix": "Feature CutMix",  # of Table 3
}

PAPER_ROBUST = ("manifold_mixup", "cutout", "dropblock", "cutmix", "puzzlemix", "patchup_soft", "patchup_hard")
PAPER_AFFINE = ("cutout", "cutmix", "manifold_mixup", "puzzlemix", "patchup_soft", "patchup_hard")  # and Figures 6, 14


class Metric(NamedTuple):
    """A number that a table shows of its runs."""

    name: str  # in a run's result
    heading: str
    paper: str = ""  # in results/paper, where it has another name
    better: str = "lower"  # or `higher`, or nothing where neither is


@dataclass(frozen=True)
class Row:
    """A row of a table: a method, and what its recipe has other than the paper's."""

    method: str
    variant: str = ""  # names the row, as results/paper does behind a metric's @
    words: str = ""  # what is said of it behind the method's name
    overrides: dict = field(default_factory=dict)
    seeds: int = None  # how many of the table's seeds it has, where not all

    @property
    def label(self):
        """How the row is headed."""
        return LABELS.get(self.method, self.method) + (f", {self.words}" if self.words else "")


@dataclass(frozen=True)
class Table:
    """A grid of runs: every data set x model x row x seed, and what its cells show."""

    title: str
    datasets: tuple
    models: tuple
    metrics: tuple = ()  # of the runs; an evaluation brings its own
    methods: tuple = regularizers.PAPER
    variants: tuple = ()  # the rows, where they are more than the methods
    seeds: tuple = (0, 1, 2, 3, 4)
    overrides: dict = field(default_factory=dict)  # what differs from the paper's recipe
    evaluation: tuple = ()  # the script that evaluates the runs, with its arguments, where the cells show that
    cited: tuple = ()  # methods whose numbers the paper cites: shown, not run
    paper: tuple = ()  # files in results/paper, where they are others than the table's own
    remark: str = ""  # to stand below the title
    folder: str = ""  # in results, of runs whose recipe differs from the paper's by the table's own overrides

    @property
    def rows(self):
        """The rows in their order, those of cited methods too."""
        return tuple(map(Row, self.cited)) + (self.variants or tuple(map(Row, self.methods)))


NOT_IN_PAPER = "The paper's numbers are in its appendix, which is not available."
ERROR = Metric("test_error", "test error (%)")
NLL = Metric("test_nll", "test NLL", paper="test_loss_nll")
ERROR_AND_NLL = (ERROR, NLL)
VALIDATION = (
    Metric("augmented_val_error", "validation error (%), images augmented [C]", paper="val_error"),
    Metric("val_error", "validation error (%), clean images", paper="-"),
)
LOSS_TERMS = (  # of equation 6
    ("L1", {"loss_terms": "first"}),
    ("L2", {"loss_terms": "second"}),
    ("L1+L2", {}),
    # what the official code computes for L2: its loss_alpha misses a part of L1, and its WRN does not mix W at k = 0
    ("official L2", {"loss_terms": "official_second", "input_target": "own"}),
)
TABLE7_ROWS = (
    ("k=1_only", "k = 1 alone", {"layers": (1,)}),
    ("k=2_only", "k = 2 alone", {"layers": (2,)}),
    ("k=3_only", "k = 3 alone", {"layers": (3,)}),
    ("random_k", "random k", {}),
    ("PatchUp_mask_also_at_k=0", "random k, PatchUp's mask at k = 0 too", {"input_mask": "patchup"}),
)

# ---- the reduced study ----

# Second edition, written down before its first run: methods, epochs and seeds are not changed after looking.
STUDY_REASONS = {
    "cpu": "All 100 classes of CIFAR-100 with 50 training images each, a narrow network and 3,750 steps: a first look "
    "had PatchUp about 5 points ahead of No Mixup there, as in the paper. Cross-entropy, since the gradients of BCE on "
    "softmax are too small for so few steps.",
    "gpu": "All images and the full width, the paper's loss and schedule at a tenth (PreActResNet18) and half "
    "(WRN-28-10) of its epochs: aimed at a night of one H200.",
}
STUDY_SCALES = {
    "cpu": {
        "width": 16,
        "criterion": "ce",
        "train_per_class": 50,
        "val_per_class": 5,
        "epochs": 75,
        "schedule": "cosine",
        "weight_decay": 5e-4,
        "amp": "bf16",
    },
    "gpu": {"epochs": 200, "amp": "bf16"},
}
STUDY_MODELS = {"cpu": ("preactresnet18",), "gpu": ("preactresnet18", "wrn28_10")}
STUDY_SEEDS = {"cpu": 8, "gpu": 3}
EVALUATED_SEEDS = 5
STUDY_SIZES = {  # images a class x epochs: equal steps
    "cpu": ((10, 375), (25, 150), (50, 75)),
    "gpu": ((45, 2000), (150, 600), (450, 200)),
}
STUDY_LONGER = {"cpu": 150, "gpu": 400}  # epochs
STUDY_IMAGES = {  # of the test set that an evaluation sees, where not all
    "cpu": {"affine": 5000, "fgsm": 5000, "corruption": 1000, "attacks": 200},
    "gpu": {"attacks": 1000},
}
FEWER_SEEDS = ("cutout", "dropblock")  # half of the seeds: nothing hangs on their order
SIZED = ("none", "manifold_mixup", "cutmix", "patchup_soft", "patchup_hard")
LONGER = ("none", "cutmix", "patchup_soft", "patchup_hard")


def method_rows(seeds):
    """A row a method."""
    return tuple(Row(name, seeds=seeds // 2 if name in FEWER_SEEDS else seeds) for name in regularizers.PAPER)


def size_rows(scale):
    """Rows of images a class at equal steps; the scale's own pair is that of the methods' table."""
    seeds = STUDY_SEEDS[scale]
    plain = STUDY_SCALES[scale].get("train_per_class", 450), STUDY_SCALES[scale]["epochs"]
    fewest = min(STUDY_SIZES[scale])
    for images, epochs in STUDY_SIZES[scale]:
        overrides = {} if (images, epochs) == plain else {"train_per_class": images, "epochs": epochs}
        for method in SIZED:
            # the interaction of claim 2 is judged on these
            whole = (images, epochs) == plain or ((images, epochs) == fewest and method.startswith("patchup"))
            words = f"{images} images a class, {epochs} epochs"
            yield Row(method, f"{images}x{epochs}", words, overrides, seeds if whole else (seeds + 1) // 2)


def longer_rows(scale):
    """Rows of a longer schedule."""
    epochs = STUDY_LONGER[scale]
    for method in LONGER:
        yield Row(method, f"epochs={epochs}", f"{epochs} epochs", {"epochs": epochs}, min(3, STUDY_SEEDS[scale]))


def part_rows(scale):
    """Rows of what Hard PatchUp is made of: its terms, layers and masks."""
    seeds = (STUDY_SEEDS[scale] + 1) // 2
    parts = (
        ("L1", "L1 alone", {"loss_terms": "first"}),
        ("official_L2", "the official code's L2", {"loss_terms": "official_second"}),
        ("k=1", "k = 1 alone", {"layers": (1,)}),
        ("k=2", "k = 2 alone", {"layers": (2,)}),
        ("k=3", "k = 3 alone", {"layers": (3,)}),
        ("mask_k=0", "PatchUp's mask at k = 0 too", {"input_mask": "patchup"}),
        ("mask_per_sample", "one mask a sample", {"mask_per": "sample"}),
    )
    yield Row("patchup_hard", "whole", "as in the paper", {}, STUDY_SEEDS[scale])
    for variant, words, overrides in parts:
        yield Row("patchup_hard", variant, words, overrides, seeds)


def study_tables(scale):
    """The tables of the study at a scale, {name: Table}."""
    seeds = STUDY_SEEDS[scale]
    common = {
        "datasets": ("cifar100",),
        "models": STUDY_MODELS[scale],
        "metrics": (Metric("last_epoch_test_error", "test error (%), last epoch"), ERROR, NLL),
        "overrides": STUDY_SCALES[scale],
        "folder": f"study/{scale}",
        "paper": ("none",),  # its numbers are of another recipe
        "remark": "Recipe: " + ", ".join(f"{name} {value}" for name, value in STUDY_SCALES[scale].items()) + ".",
    }
    rows = {
        "": (method_rows(seeds), "nine methods"),
        "_size": (tuple(size_rows(scale)), "images a class at equal steps"),
        "_longer": (tuple(longer_rows(scale)), "a longer schedule"),
        "_parts": (tuple(part_rows(scale)), "what Hard PatchUp is made of"),
    }
    evaluations = {
        "affine": ("eval_affine",),
        "activations": ("eval_activations",),
        "fgsm": ("eval_adversarial", "--attacks", "fgsm"),
        "corruption": ("eval_corruption",),
        "attacks": ("eval_adversarial", "--attacks", "table5", "converged"),
    }
    limits = {name: ("--limit", str(count)) for name, count in STUDY_IMAGES[scale].items()}
    title = f"Study at the scale {scale}: "
    tables = {}
    for name, (variants, words) in rows.items():
        methods = tuple(dict.fromkeys(row.method for row in variants))
        parts = {"methods": methods, "variants": variants, "seeds": tuple(range(seeds))}
        tables[f"study_{scale}{name}"] = Table(title + words, **common, **parts)
    evaluated = min(seeds, EVALUATED_SEEDS)
    for name, evaluation in evaluations.items():
        parts = {"variants": method_rows(seeds), "seeds": tuple(range(evaluated))}
        evaluation += ("--weights", "last", *limits.get(name, ()))  # the last epoch is primary
        tables[f"study_{scale}_{name}"] = Table(title + name, **common, **parts, evaluation=evaluation)
    return tables


TABLES = {
    "table1": Table(
        "Table 1: test error and NLL on Tiny-ImageNet",
        datasets=("tiny_imagenet",),
        models=("resnet101", "resnet152", "wrn28_10"),
        metrics=ERROR_AND_NLL,
    ),
    "table2": Table(
        "Table 2: test error on CIFAR-10, CIFAR-100 and SVHN",
        datasets=SMALL,
        models=(*PREACT, "wrn28_10"),
        metrics=(ERROR,),
    ),
    "table3": Table(
        "Table 3: validation error on ImageNet",
        datasets=("imagenet",),
        models=("resnet50",),
        metrics=(
            Metric("test_error", "top-1 error (%)", paper="val_top1_error"),
            Metric("test_top5_error", "top-5 error (%)", paper="val_top5_error"),
        ),
        methods=("patchup_soft", "patchup_hard"),
        seeds=(0,),
        cited=("none", "mixup", "manifold_mixup", "cutout", "feature_cutmix", "cutmix", "puzzlemix"),
        remark="The other methods' numbers are citations in the paper (of the CutMix and the Puzzle Mix paper).",
    ),
    "table4": Table(
        "Table 4: test error under affine deformations",
        datasets=("cifar100",),
        models=("preactresnet34",),
        methods=PAPER_AFFINE,
        evaluation=("eval_affine",),
    ),
    "table5": Table(
        "Table 5: accuracy under attacks",
        datasets=("tiny_imagenet",),
        models=("wrn28_10",),
        evaluation=("eval_adversarial", "--attacks", "table5"),
    ),
    "table6": Table(
        "Table 6: the terms of PatchUp's loss",
        datasets=("cifar100",),
        models=("wrn28_10",),
        metrics=(*VALIDATION, ERROR),
        methods=("none", "patchup_soft", "patchup_hard"),
        variants=(
            Row("none"),
            *(
                Row(method, f"loss={terms}", terms, overrides)
                for method in ("patchup_soft", "patchup_hard")
                for terms, overrides in LOSS_TERMS
            ),
        ),
        remark="L1 and L2 are equal, and L1+L2 is twice either (README, detail 4).",
    ),
    "table7": Table(
        "Table 7: the layers that Hard PatchUp acts on",
        datasets=("cifar100",),
        models=("wrn28_10",),
        metrics=(*VALIDATION, ERROR, Metric("test_nll", "test NLL")),
        methods=("none", "patchup_hard"),
        variants=(Row("none"), *(Row("patchup_hard", *row) for row in TABLE7_ROWS)),
        paper=("table6", "table7"),
    ),
    "table8": Table(
        "Table 8: hours of a training",
        datasets=("tiny_imagenet",),
        models=("wrn28_10",),
        metrics=(Metric("hours", "hours a run", better=""),),
        seeds=(0,),
        remark="The paper's: its text's, about 23 hours on one V100, Puzzle Mix 53. Its table is in the appendix, "
        "which is not available.",
    ),
    "table10": Table(
        "Table 10: test error under affine deformations",
        datasets=("cifar100",),
        models=("wrn28_10",),
        methods=PAPER_AFFINE,
        evaluation=("eval_affine",),
        remark=NOT_IN_PAPER,
    ),
    "table11": Table(
        "Table 11: test error and NLL on CIFAR-10 and CIFAR-100",
        datasets=("cifar10", "cifar100"),
        models=(*PREACT, "wrn28_10"),
        metrics=ERROR_AND_NLL,
        paper=("table2",),
        remark=f"{NOT_IN_PAPER} The errors are Table 2's; which of Tables 11 and 12 shows what is our guess.",
    ),
    "table12": Table(
        "Table 12: test error and NLL on SVHN",
        datasets=("svhn",),
        models=(*PREACT, "wrn28_10"),
        metrics=ERROR_AND_NLL,
        paper=("table2",),
        remark=f"{NOT_IN_PAPER} The errors are Table 2's; which of Tables 11 and 12 shows what is our guess.",
    ),
    "figure4": Table(
        "Figure 4: errors under common corruptions",
        datasets=("tiny_imagenet",),
        models=("wrn28_10",),
        evaluation=("eval_corruption",),
    ),
    "figure5": Table(
        "Figure 5: accuracy under FGSM",
        datasets=("cifar100", "tiny_imagenet"),
        models=("wrn28_10",),
        methods=PAPER_ROBUST,
        evaluation=("eval_adversarial", "--attacks", "fgsm"),
    ),
    "figure6": Table(
        "Figure 6: activation magnitudes after the first two layers",
        datasets=("cifar100",),
        models=("wrn28_10",),
        methods=PAPER_AFFINE,
        evaluation=("eval_activations",),
    ),
    "figure13": Table(
        "Figure 13: accuracy under FGSM",
        datasets=("cifar10", "svhn"),
        models=(*PREACT, "wrn28_10"),
        methods=PAPER_ROBUST,
        evaluation=("eval_adversarial", "--attacks", "fgsm"),
    ),
    "figure14": Table(
        "Figure 14: activation magnitudes after conv1 and every layer",
        datasets=("cifar100",),
        models=("wrn28_10",),
        methods=PAPER_AFFINE,
        evaluation=("eval_activations",),
    ),
    "figure15": Table(
        "Figure 15: errors under common corruptions",
        datasets=("tiny_imagenet",),
        models=("resnet101", "resnet152"),
        evaluation=("eval_corruption",),
    ),
    "demo": Table(
        "Demo: nine methods on scikit-learn's digits, 10 training images a class, PreActResNet18 of width 16",
        datasets=("digits",),
        models=("preactresnet18",),
        metrics=(ERROR, NLL, Metric("seconds", "seconds a run")),
        seeds=(0, 1, 2),
        overrides={"width": 16},
        folder="demo",
    ),
    "compare": Table(  # any methods, on any data set and network
        "Comparison",
        datasets=tuple(data.FACTS),
        models=tuple(models.MODELS),
        metrics=ERROR_AND_NLL,
        methods=tuple(regularizers.METHODS),
        paper=("table1", "table2"),
    ),
}

STUDIES = {scale: study_tables(scale) for scale in STUDY_SCALES}
TABLES |= {name: table for tables in STUDIES.values() for name, table in tables.items()}
