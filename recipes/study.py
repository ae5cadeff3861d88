"""The reduced study: the paper's claims at the scale at hand."""

import regularizers
from recipes.tables import ERROR, NLL, Metric, Row, Table

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


STUDIES = {scale: study_tables(scale) for scale in STUDY_SCALES}
