"""Every hyper-parameter of the paper, once, with its source.

The methods' values for CIFAR are the defaults of their classes in regularizers/; everything else stands in this file.

    [P]  the paper                    [C]  the official code or its README
    [CM] CutMix's code                [PM] Puzzle Mix's code or README
    [ours] our choice, where no source says anything
"""

import models

SMALL = ("cifar10", "cifar100", "svhn")
EVERYONE = {
    "batch_size": 100,  # [C]
    "lr": 0.1,  # [C]
    "schedule": "step",  # [C]
    "momentum": 0.9,  # [C]
    "weight_decay": 1e-4,  # [C]
    "criterion": "bce",  # [C]
    "augment_val": False,  # [ours]: the official code augments them
    "amp": "off",
    "channels_last": True,  # [ours]: faster, the same but for rounding; False where it may crash, see fitting.py
    "compile": False,
}
BY_DATASET = {
    "imagenet": {"batch_size": 256, "criterion": "ce"},  # [CM], which the paper follows
    # [ours]: short runs need ce, and ce a lower learning rate than bce
    "digits": {
        "train_per_class": 10,
        "batch_size": 10,
        "lr": 0.02,
        "schedule": "cosine",
        "criterion": "ce",
    },
    "folder": {"criterion": "ce", "lr": 0.02},  # [ours]: by trial, see results/published/folder
}
SCHEDULES = {
    # [ours]: unknown; as WRN-28-10 elsewhere. The paper's 23 hours on a V100 would suit 200 to 300 epochs better.
    "tiny_imagenet": {"epochs": 400, "milestones": (200, 300)},
    "imagenet": {"epochs": 300, "milestones": (75, 150, 225)},  # [CM]
    "digits": {"epochs": 25, "milestones": (12, 18)},  # [ours]
}
OTHER_SCHEDULE = {"epochs": 200, "milestones": (100, 150)}  # [ours]: of the data set folder
BLOCK_SIZES = {"imagenet": 7}  # [P], of any network
LARGE = {
    "mixup": {"alpha": 0.2},  # [P] Table 5 for Tiny-ImageNet; ImageNet [ours], here and below
    "manifold_mixup": {"alpha": 0.2},  # [P]
    "puzzlemix": {"t_size": -1, "clean_lam": 1.0, "alpha": 0.2},  # [PM]
}
BY_METHOD = {
    "svhn": {"cutout": {"length": 20}},  # [C]
    "tiny_imagenet": LARGE,
    "imagenet": LARGE
    | {
        "patchup_soft": {"gamma": 0.6},  # [P]
        "patchup_hard": {"prob": 0.6},  # [P]
        "cutmix": {"prob": 1.0},  # [CM]
    },
    "digits": {"cutout": {"length": 8}},  # [ours]
}


def network_settings(model, image_size, stem=None):
    """A network's options and their values; stem: the chosen one. Raises ValueError where it does not exist."""
    network, large = models.find(model), image_size >= 64
    values = {name: default for name, default in network.options.items() if name != "layers"}
    if "stem" in values:
        values["stem"] = stem or network.stems[large]  # [ours]: unknown for Tiny-ImageNet
    if "stem_stride" in values:
        values["stem_stride"] = 2 if large else 1  # [C] for Tiny-ImageNet
    if values.get("stem") == "imagenet":
        del values["stem_stride"]
    return values


def schedule(dataset, model):
    """Epochs and milestones of a data set and network."""
    if dataset in SMALL:
        network = models.find(model)
        return {"epochs": network.epochs, "milestones": network.milestones}
    return SCHEDULES.get(dataset, OTHER_SCHEDULE)


def sites(dataset, model):
    """Layers and block sizes of PatchUp; WRN-28-10's for a network whose entry has none."""
    network = models.find(model)
    block_size = BLOCK_SIZES.get(dataset) or network.block_size or (7, 7, 5, 3)
    return {"layers": network.layers or (0, 1, 2, 3), "block_size": block_size}


def method_settings(dataset, model, method, image_size):
    """What a method takes other than its class' defaults, which are the paper's for CIFAR."""
    settings = {}
    if method in ("patchup_soft", "patchup_hard"):
        settings = sites(dataset, model)
    elif method == "manifold_mixup":
        settings = {"layers": sites(dataset, model)["layers"]}
    elif method == "cutout":
        # [ours] where not small
        settings = {"length": models.find(model).hole if dataset in SMALL else image_size // 2}
    return settings | BY_METHOD.get(dataset, {}).get(method, {})
