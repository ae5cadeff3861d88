"""The reduced study: the paper's claims at the scale at hand, a Design a scale."""

import dataclasses
from dataclasses import dataclass, field

import regularizers
from recipes.tables import ERROR, NLL, Metric, Row, Table

EVALUATED_SEEDS = 5  # of the main part's runs, that are evaluated
FEWER_SEEDS = ("cutout", "dropblock")  # half of the seeds: nothing hangs on their order
SIZED = ("none", "manifold_mixup", "cutmix", "patchup_soft", "patchup_hard")
LONGER = ("none", "cutmix", "patchup_soft", "patchup_hard")
PARTS = (  # of Hard PatchUp
    ("L1", "L1 alone", {"loss_terms": "first"}),
    ("official_L2", "the official code's L2", {"loss_terms": "official_second"}),
    ("k=1", "k = 1 alone", {"layers": (1,)}),
    ("k=2", "k = 2 alone", {"layers": (2,)}),
    ("k=3", "k = 3 alone", {"layers": (3,)}),
    ("mask_k=0", "PatchUp's mask at k = 0 too", {"input_mask": "patchup"}),
    ("mask_per_sample", "one mask a sample", {"mask_per": "sample"}),
)
EVALUATIONS = {
    "affine": ("affine",),
    "activations": ("activations",),
    "fgsm": ("adversarial", "--attacks", "fgsm"),
    "corruption": ("corruption",),
    "attacks": ("adversarial", "--attacks", "table5", "converged"),
}


@dataclass(frozen=True)
class Design:
    """One scale of the study: what is trained and evaluated.

    recipe: what differs from the paper's; sizes: (images a class, epochs) at equal steps, the recipe's pair among
    them; longer: epochs of the longer schedule; images: {evaluation: how many test images it sees, where not all};
    free: fields of the recipe that are chosen before the first run, the same for all runs.
    """

    reason: str
    recipe: dict
    models: tuple
    seeds: int
    methods: tuple = regularizers.PAPER
    sizes: tuple = ()
    longer: int = None
    parts: tuple = PARTS
    evaluations: tuple = tuple(EVALUATIONS)
    images: dict = field(default_factory=dict)
    free: tuple = ()


# Second edition, written down before its first run: methods, epochs and seeds are not changed after looking.
CPU = Design(
    "All 100 classes of CIFAR-100 with 50 training images each, a narrow network and 3,750 steps: a first look had "
    "PatchUp about 5 points ahead of No Mixup there, as in the paper. Cross-entropy, since the gradients of BCE on "
    "softmax are too small for so few steps.",
    {
        "width": 16,
        "criterion": "ce",
        "train_per_class": 50,
        "val_per_class": 5,
        "epochs": 75,
        "schedule": "cosine",
        "weight_decay": 5e-4,
        "amp": "bf16",
    },
    models=("preactresnet18",),
    seeds=8,
    sizes=((10, 375), (25, 150), (50, 75)),
    longer=150,
    images={"affine": 5000, "fgsm": 5000, "corruption": 1000, "attacks": 200},
)
GPU = Design(
    "All images and the full width, the paper's loss and schedule at a tenth (PreActResNet18) and half (WRN-28-10) of "
    "its epochs: aimed at a night of one H200.",
    {"epochs": 200, "amp": "bf16"},
    models=("preactresnet18", "wrn28_10"),
    seeds=3,
    sizes=((45, 2000), (150, 600), (450, 200)),
    longer=400,
    images={"attacks": 1000},
)
GPU_MINUTES = Design(
    "All images and the full width with a short cosine schedule: 12 minutes of one H100. It can decide mixing against "
    "none, not Hard PatchUp against Soft; being behind in under 100 epochs is no evidence against the paper.",
    {"epochs": 80, "criterion": "ce", "schedule": "cosine", "weight_decay": 5e-4, "amp": "bf16"},
    models=("preactresnet18",),
    seeds=2,
    methods=SIZED,
    parts=(),
    evaluations=("affine", "fgsm"),
    images={"affine": 2000, "fgsm": 2000},  # in float32: all 10,000 would take minutes
    free=("epochs",),
)
DESIGNS = {
    "cpu": CPU,
    "gpu": GPU,
    "gpu-minutes": GPU_MINUTES,
    "cpu-quick": dataclasses.replace(
        CPU,
        reason="The whole path in half an hour, far too short for a result.",
        recipe=CPU.recipe | {"train_per_class": 25, "epochs": 10},
        seeds=2,
        sizes=((5, 50), (10, 25), (25, 10)),
        longer=20,
        images={"affine": 500, "activations": 1000, "fgsm": 500, "corruption": 50, "attacks": 10},
    ),
    "gpu-minutes-quick": dataclasses.replace(
        GPU_MINUTES,
        reason="The path of gpu-minutes in a minute or two of any machine, far too short for a result.",
        recipe=GPU_MINUTES.recipe | {"width": 8, "train_per_class": 10, "val_per_class": 5, "epochs": 2},
        images={"affine": 200, "fgsm": 200},
    ),
}


def method_rows(design):
    """A row a method."""
    half = max(1, design.seeds // 2)
    return tuple(Row(name, seeds=half if name in FEWER_SEEDS else design.seeds) for name in design.methods)


def size_rows(design):
    """Rows of images a class at equal steps; the design's pair is that of the methods' rows."""
    plain = design.recipe.get("train_per_class", 450), design.recipe["epochs"]
    for images, epochs in design.sizes:
        overrides = {} if (images, epochs) == plain else {"train_per_class": images, "epochs": epochs}
        for method in SIZED:
            # the interaction of claim 2 is judged on these
            whole = (images, epochs) in (plain, min(design.sizes)) and (not overrides or method.startswith("patchup"))
            words = f"{images} images a class, {epochs} epochs"
            seeds = design.seeds if whole else (design.seeds + 1) // 2
            yield Row(method, f"{images}x{epochs}", words, overrides, seeds)


def longer_rows(design):
    """Rows of a longer schedule."""
    epochs = design.longer
    for method in LONGER if epochs else ():
        yield Row(method, f"epochs={epochs}", f"{epochs} epochs", {"epochs": epochs}, min(3, design.seeds))


def part_rows(design):
    """Rows of what Hard PatchUp is made of: its terms, layers and masks."""
    if design.parts:
        yield Row("patchup_hard", "whole", "as in the paper", {}, design.seeds)
    for variant, words, overrides in design.parts:
        yield Row("patchup_hard", variant, words, overrides, (design.seeds + 1) // 2)


def table_name(scale, part):
    """The name of a part's table: `study_cpu` for the part `methods`, `study_cpu_size` for `size`."""
    return f"study_{scale}" + (f"_{part}" if part != "methods" else "")


def study_tables(scale):
    """The tables of the study at a scale, {part: Table}."""
    design = DESIGNS[scale]
    common = {
        "datasets": ("cifar100",),
        "models": design.models,
        "metrics": (Metric("last_epoch_test_error", "test error (%), last epoch", digits=2), ERROR, NLL),
        "overrides": design.recipe,
        "folder": f"study/{scale}",
        "paper": ("none",),  # its numbers are of another recipe
        "remark": "Recipe: " + ", ".join(f"{name} {value}" for name, value in design.recipe.items()) + ".",
    }
    rows = {
        "methods": (method_rows(design), "the methods"),
        "size": (tuple(size_rows(design)), "images a class at equal steps"),
        "longer": (tuple(longer_rows(design)), "a longer schedule"),
        "parts": (tuple(part_rows(design)), "what Hard PatchUp is made of"),
    }
    title, tables = f"Study at the scale {scale}: ", {}
    for part, (variants, words) in rows.items():
        if variants:
            methods = tuple(dict.fromkeys(row.method for row in variants))
            chosen = {"methods": methods, "variants": variants, "seeds": tuple(range(design.seeds))}
            tables[part] = Table(title + words, **common, **chosen)
    evaluated = {
        "methods": design.methods,
        "variants": method_rows(design),
        "seeds": tuple(range(min(design.seeds, EVALUATED_SEEDS))),
    }
    for name in design.evaluations:
        limit = ("--limit", str(design.images[name])) if name in design.images else ()
        evaluation = (*EVALUATIONS[name], "--weights", "last", *limit)  # the last epoch is primary
        tables[name] = Table(title + name, **common, **evaluated, evaluation=evaluation)
    return tables


STUDIES = {scale: study_tables(scale) for scale in DESIGNS}
