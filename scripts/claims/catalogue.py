"""The paper's claims as data: contrasts of measures, the side that the paper puts them on, and the paper's numbers.

`catalogue(network)` gives those that a study can say something of. 3, 13, 14 and 15 are measured, not judged (see
measured.py).
"""

import dataclasses
import itertools
from dataclasses import dataclass, field

import numpy as np

import recipes
import regularizers
from data import affine
from scripts.claims.measures import FOOLBOX, STAGES
from scripts.grid import grids
from scripts.grid.comparison import PAPER_RUNS

NONE, SOFT, HARD, MANIFOLD, CUTMIX = "none", "patchup_soft", "patchup_hard", "manifold_mixup", "cutmix"
PATCHUP, WHOLE = (SOFT, HARD), (HARD, "whole")
OTHERS = tuple(method for method in regularizers.PAPER if method not in PATCHUP)
AFFINE_RIVALS = tuple(method for method in recipes.PAPER_AFFINE if method not in PATCHUP)
ROBUST_RIVALS = tuple(method for method in recipes.PAPER_ROBUST if method not in PATCHUP)


@dataclass(frozen=True)
class Contrast:
    """sum(weight * cell) of a measure, with weights that add up to 0.

    weights: {(method, variant): weight}; says: the side of zero that the claim puts it on, 0 for none; paper: what the
    paper prints, {cell: (mean, standard deviation, runs)}; words: its name, where it is no plain difference.
    """

    measure: str
    weights: dict
    says: int = 0
    paper: dict = field(default_factory=dict)
    words: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    title: in our words; source: where its numbers are; parts: contrasts that all must be on their side; beside:
    contrasts without verdict; remark: what is to be known of them; floor: a sentence where nothing can be told apart;
    absent: parts that the study does not have.
    """

    number: int
    title: str
    source: str
    parts: tuple
    beside: tuple = ()
    remark: str = ""
    floor: str = ""
    absent: int = 0


def pair(measure, first, second, says=0, paper=None):
    """The Contrast first - second, each a method or (method, variant)."""
    first, second = ((cell, "") if isinstance(cell, str) else cell for cell in (first, second))
    return Contrast(measure, {first: 1, second: -1}, says, paper or {})


def pairs(measure, first, others, says=0, paper=None):
    """The Contrasts of a cell with several others."""
    return tuple(pair(measure, first, other, says, paper) for other in others)


def both(measure, others, says=0):
    """The Contrasts of Soft and of Hard PatchUp with several cells."""
    return tuple(contrast for patchup in PATCHUP for contrast in pairs(measure, patchup, others, says))


# ---- the paper's numbers ----

WRN = "wrn28_10"
CIFAR, TINY = ("cifar100", WRN), ("tiny_imagenet", WRN)
TERMS = {"whole": "L1+L2", "L1": "L1", "official_L2": "L2"}  # variants of Hard PatchUp in Table 6
PLACES = {"whole": "random_k", **{f"k={k}": f"k={k}_only" for k in (1, 2, 3)}}  # and in Table 7
PLACES |= {"mask_k=0": "PatchUp_mask_also_at_k=0"}


def paper_cells(table, place, *metrics, variant="", factor=1):
    """{(method, variant): (mean, standard deviation, runs)} of a table of the paper, times a factor.

    place: data set and network; metrics: names in results/paper, whose mean it is. A mean of several gets the mean
    deviation, the most that it can have.
    """
    numbers, cells = grids.paper_numbers((table,)), {}
    for method in regularizers.PAPER:
        values = [numbers.get((*place, method, metric)) for metric in metrics]
        if None not in values:
            mean, deviation = factor * np.mean(values, axis=0)
            cells[method, variant] = float(mean), float(deviation), PAPER_RUNS
    return cells


def table2(model):
    """The test errors of a network on CIFAR-100."""
    return paper_cells("table2", ("cifar100", model), "test_error")


def table4(*sets):
    """The mean test errors on affine sets."""
    return paper_cells("table4", ("cifar100", "preactresnet34"), *(f"test_error@{name}" for name in sets))


def by_mean(methods, paper):
    """Methods by the paper's mean, the lowest first."""
    return sorted(methods, key=lambda method: paper[method, ""][0])


# ---- the claims ----


def catalogue(network):
    """The Claims that a network's study has parts of, in order, without the contrasts that it does not have."""
    claims = []
    for claim in (*on_clean_images(network), *on_parts(), *on_robustness(network), *on_activations(network)):
        parts, beside = (
            tuple(contrast for contrast in contrasts if network.has(contrast.measure, contrast.weights))
            for contrasts in (claim.parts, claim.beside)
        )
        if parts:
            absent = len(claim.parts) - len(parts)
            claims.append(dataclasses.replace(claim, parts=parts, beside=beside, absent=absent))
    return sorted(claims, key=lambda claim: claim.number)


def on_clean_images(network):
    """Claims 1, 2 and 16."""
    errors, losses = table2(network.model), paper_cells("table1", TINY, "test_loss_nll")
    longer = [(method, f"epochs={network.design.longer}") for method in (HARD, SOFT, CUTMIX, NONE)]
    yield Claim(
        1,
        "Hard PatchUp has the lowest test error, Soft PatchUp the second lowest",
        "Table 2, the same network at full width.",
        (pair("error", HARD, SOFT, -1, errors), *pairs("error", SOFT, OTHERS, -1, errors)),
        (*pairs("error", HARD, OTHERS, 0, errors), *(pair("error", *two) for two in itertools.combinations(longer, 2))),
    )
    if network.design.sizes:
        yield on_fewer_images([f"{images}x{epochs}" for images, epochs in sorted(network.design.sizes)])
    yield Claim(
        16,
        "Soft PatchUp has the lowest test loss (NLL), Hard PatchUp the second lowest",
        "Table 1, Loss, WRN-28-10 on Tiny-ImageNet.",
        (pair("nll", SOFT, HARD, -1, losses), *pairs("nll", HARD, OTHERS, -1, losses)),
        (pair("nll", SOFT, NONE, 0, losses), *both("ece", OTHERS)),
        "The calibration error (ECE) stands beside it; the paper has none.",
    )


def on_fewer_images(sizes):
    """Claim 2; sizes: variants, as `10x375`, that with the fewest images a class first."""
    (few, _, _), (many, _, _) = (size.partition("x") for size in (sizes[0], sizes[-1]))
    weights = {(SOFT, sizes[0]): 1, (HARD, sizes[0]): -1, (SOFT, sizes[-1]): -1, (HARD, sizes[-1]): 1}
    paper = paper_cells("table1", TINY, "test_error", variant=sizes[0])
    paper |= paper_cells("table2", CIFAR, "test_error", variant=sizes[-1])
    words = f"(Soft - Hard) with {few} images a class - (Soft - Hard) with {many}"
    two = ((SOFT, HARD), (SOFT, NONE), (HARD, NONE), (MANIFOLD, NONE), (CUTMIX, NONE))
    return Claim(
        2,
        "With fewer training images a class Soft PatchUp, the more conservative, gains on Hard",
        "(Soft - Hard) on Tiny-ImageNet (Table 1) - (Soft - Hard) on CIFAR-100 (Table 2), WRN-28-10. They have 500 "
        "images a class alike and differ in classes and image size; images a class are what the sentence names.",
        (Contrast("error", weights, -1, paper, words),),
        tuple(pair("error", (first, size), (second, size)) for size in sizes for first, second in two),
        "All sizes have the same number of steps.",
    )


def on_parts():
    """Claims 4, 5 and 6: what Hard PatchUp is made of."""
    terms, places = {}, table2(WRN)
    for variant, name in TERMS.items():
        terms |= paper_cells("table6", CIFAR, f"val_error@loss={name}", variant=variant)
    for variant, name in PLACES.items():
        places |= paper_cells("table7", CIFAR, f"test_error@{name}", variant=variant)
    yield Claim(
        4,
        "Hard PatchUp's loss L1 + L2 gives a lower error than either term",
        "Table 6, validation error of WRN-28-10; its L2 against what the official code computes for it.",
        pairs("error", WHOLE, ((HARD, "L1"), (HARD, "official_L2")), -1, terms),
        (pair("error", (HARD, "L1"), (HARD, "official_L2"), 0, terms), pair("error", (HARD, "L1"), NONE)),
        "Cross-entropy is linear in the target and W = Mix(y_i, Y), so as the paper writes them L1 = L2, and L1 + L2 "
        "is twice either: what the sum can change is a factor of two on the gradient. The official code's second term "
        "is another one.",
    )
    alone = tuple((HARD, f"k={k}") for k in (1, 2, 3))
    yield Claim(
        5,
        "Hard PatchUp at a random layer beats any single layer; k = 3 alone is worse than no mixing",
        "Table 7, and No Mixup of Table 2, WRN-28-10.",
        (*pairs("error", WHOLE, alone, -1, places), pair("error", (HARD, "k=3"), NONE, 1, places)),
        (pair("error", (HARD, "mask_per_sample"), WHOLE),),
        "A random k is 0 at times, where a box of the image is swapped; the single layers have no such batch.",
    )
    yield Claim(
        6,
        "At the input PatchUp's mask is worse than a box",
        "Table 7, WRN-28-10.",
        (pair("error", (HARD, "mask_k=0"), WHOLE, 1, places),),
    )


def on_robustness(network):
    """Claims 7, 8, 9 and 11: deformed, attacked and corrupted images."""
    deformed, single = table4(*affine.SETS), []
    lead, second = by_mean(PATCHUP, deformed)
    for name in affine.SETS:
        errors = table4(name)
        best = by_mean(PATCHUP, errors)[0], by_mean(AFFINE_RIVALS, errors)[0]
        single.append(pair(f"affine {name}", *best, 0, errors))
    yield Claim(
        7,
        "PatchUp has the lowest error on rotated, sheared and scaled images",
        "Table 4, PreActResNet34; deviations of means of eight sets are the most that they can be.",
        pairs("affine", lead, AFFINE_RIVALS, -1, deformed),
        (*pairs("affine", second, AFFINE_RIVALS, 0, deformed), *both("affine", (NONE,)), *single),
        "Judged is the variant that the paper has ahead over the eight sets, against the methods of its table; single "
        "sets compare the paper's better variant with its best other method.",
    )
    yield Claim(
        8,
        "Under FGSM both PatchUps keep a higher accuracy than the other regularizers",
        "Figure 5, without values in the text.",
        both("fgsm", ROBUST_RIVALS, 1),
        (*both("fgsm", (NONE, "mixup")), *both("fgsm official", (NONE,))),
        "On pixels, where accuracies stay above chance.",
        near_chance(network, "fgsm"),
    )
    yield Claim(
        9,
        "Under corruptions Soft PatchUp has the lowest error, Hard PatchUp the second lowest",
        "Figure 4, Tiny-ImageNet-C, without values in the text.",
        (pair("corruption", SOFT, HARD, -1), *pairs("corruption", HARD, ROBUST_RIVALS, -1)),
        both("corruption", (NONE, "mixup")),
        "Corrupted here, not the released images, and of CIFAR-100; against the methods that the paper compares.",
    )
    accuracies = (f"robust_accuracy_fraction@{attack}" for attack in FOOLBOX)
    attacked = paper_cells("table5", TINY, *accuracies, factor=100)
    yield Claim(
        11,
        "Soft PatchUp is among the most robust to DeepFool, DDN, Carlini-Wagner and PGD, more so than Hard",
        "Table 5, WRN-28-10 on Tiny-ImageNet; deviations of means of four attacks are the most that they can be.",
        pairs("foolbox", SOFT, [cell for cell in attacked if attacked[cell][0] < attacked[SOFT, ""][0]], 1, attacked),
        (*both("foolbox clean", (NONE,)), *both("ddn", (NONE,)), *both("pgd", (NONE,))),
        "As labelled in Table 5, against the methods that the paper has below Soft PatchUp.",
        attacks_take_little(network) or near_chance(network, "foolbox"),
    )


def on_activations(network):
    """Claims 10 and 12."""
    options = recipes.applicable(SOFT, network.design.recipe)
    acted_on = [k for k in recipes.resolve("cifar100", network.model, SOFT, **options).layers if k > 0]
    measures = [f"magnitude {STAGES[k - 1]}" for k in acted_on]
    others = tuple(method for method in recipes.PAPER_AFFINE if method != MANIFOLD)
    errors, deformed = table2(network.model), table4(*affine.SETS)
    yield Claim(
        10,
        "PatchUp's networks have the largest mean activations where it acts",
        "Figures 6 and 14, without values in the text.",
        tuple(contrast for measure in measures for contrast in both(measure, AFFINE_RIVALS, 1)),
        tuple(contrast for measure in measures for contrast in both(measure, (NONE,))),
    )
    yield Claim(
        12,
        "ManifoldMixup's activations are the smallest, yet it beats Cutout and CutMix",
        "On clean, deformed and attacked images: Figure 6 without values; Table 2; Table 4, where it does not hold "
        "against CutMix.",
        (
            *pairs("magnitude layer1", MANIFOLD, others, -1),
            *pairs("magnitude layer2", MANIFOLD, others, -1),
            *pairs("error", MANIFOLD, ("cutout", CUTMIX), -1, errors),
            pair("affine", MANIFOLD, "cutout", -1, deformed),
            *pairs("fgsm", MANIFOLD, ("cutout", CUTMIX), 1),
        ),
        (pair("affine", MANIFOLD, CUTMIX, 0, deformed),),
    )


# ---- floors ----

CHANCE_FACTOR = 2  # accuracies below so many times chance cannot be told apart
TAKEN = 0.1  # of the clean accuracy: an attack that takes less compares clean accuracies


def mean_over_methods(network, measure):
    """The mean of a measure over all runs of the methods, NaN without any."""
    numbers = [value for runs in network.values(measure).values() for value in runs.values()]
    return float(np.mean(numbers)) if numbers else float("nan")


def near_chance(network, measure):
    """A sentence where a mean accuracy leaves nothing to compare, else nothing."""
    mean = mean_over_methods(network, measure)
    if mean < CHANCE_FACTOR * 100 / network.runs[0].result["classes"]:
        return f"The mean accuracy is {mean:.2f} %, less than {CHANCE_FACTOR} times chance: nothing can be told apart."
    return ""


def attacks_take_little(network):
    """A sentence where Foolbox's attacks take next to nothing, else nothing."""
    clean, attacked = (mean_over_methods(network, measure) for measure in ("foolbox clean", "foolbox"))
    if clean - attacked < TAKEN * clean:
        return (
            f"The attacks as labelled take {clean - attacked:.2f} points of {clean:.2f} % accuracy, less than a tenth: "
            "what is compared is the clean accuracy."
        )
    return ""
