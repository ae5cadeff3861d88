"""The paper's claims as data: contrasts of measures, the side that the paper puts them on, and the paper's numbers.

`catalogue(network)` gives those that a study can say something of. 3, 13, 14 and 15 are measured, not judged (see
measured.py).
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import recipes
import regularizers
from data import affine
from scripts.claims.measures import FOOLBOX, STAGES
from scripts.claims.network import MAIN
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

    weights: {(method, variant): weight}; says: the side of zero that the claim puts it on, 0 for none; paper: the same
    of the paper's numbers, [(weight, mean, standard deviation, runs)], empty where it prints none; words: its name,
    where it is no plain difference.
    """

    measure: str
    weights: dict
    says: int = 0
    paper: tuple = ()
    words: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    title: in our words; source: where its numbers are; parts: contrasts that all must be on their side; beside:
    contrasts without verdict; remark: what is to be known of them; floor: function of the network that gives a sentence
    where nothing can be told apart, else nothing; absent: parts that the study does not have.
    """

    number: int
    title: str
    source: str
    parts: tuple
    beside: tuple = ()
    remark: str = ""
    floor: Callable = lambda network: ""
    absent: int = 0


# ---- the paper's numbers ----


class Printed(NamedTuple):
    """Numbers of a table of the paper, a number a cell.

    metrics: the name in results/paper, or several names whose mean it is, or {variant: name}; factor: on the numbers.
    """

    table: str
    dataset: str
    model: str
    metrics: str | tuple | dict
    factor: float = 1

    def of(self, cell):
        """(mean, standard deviation, runs) of a cell, or None. A mean of several gets the mean deviation, the most that
        it can have.
        """
        method, variant = cell
        names = self.metrics.get(variant) if isinstance(self.metrics, dict) else self.metrics
        names = (names,) if isinstance(names, str) else names or ()
        values = [numbers(self.table).get((self.dataset, self.model, method, name)) for name in names]
        if not values or None in values:
            return None
        mean, deviation = self.factor * np.mean(values, axis=0)
        return float(mean), float(deviation), PAPER_RUNS

    def mean(self, method):
        """The mean of a method's plain cell, which it must have."""
        return self.of((method, ""))[0]


@functools.cache
def numbers(table):
    """The paper's numbers of one table (see grids.paper_numbers)."""
    return grids.paper_numbers((table,))


TABLE1 = Printed("table1", "tiny_imagenet", "wrn28_10", "test_error")
TABLE1_NLL = Printed("table1", "tiny_imagenet", "wrn28_10", "test_loss_nll")
TABLE2 = Printed("table2", "cifar100", "wrn28_10", "test_error")
TABLE4 = Printed("table4", "cifar100", "preactresnet34", tuple(f"test_error@{name}" for name in affine.SETS))
TABLE5_METRICS = tuple(f"robust_accuracy_fraction@{attack}" for attack in FOOLBOX)
TABLE5 = Printed("table5", "tiny_imagenet", "wrn28_10", TABLE5_METRICS, 100)
TABLE6_METRICS = {"whole": "val_error@loss=L1+L2", "L1": "val_error@loss=L1", "official_L2": "val_error@loss=L2"}
TABLE6 = Printed("table6", "cifar100", "wrn28_10", TABLE6_METRICS)
TABLE7_METRICS = {f"k={k}": f"test_error@k={k}_only" for k in (1, 2, 3)}
TABLE7_METRICS |= {"whole": "test_error@random_k", "mask_k=0": "test_error@PatchUp_mask_also_at_k=0"}
TABLE7 = Printed("table7", "cifar100", "wrn28_10", TABLE7_METRICS)


def paper_terms(weights, printed):
    """[(weight, mean, standard deviation, runs)] of cells; empty where the paper lacks one."""
    terms = [(weight, printed.of(cell)) for cell, weight in weights.items()] if printed else []
    if any(number is None for _, number in terms):
        return ()
    return tuple((weight, *number) for weight, number in terms)


# ---- contrasts ----


def pair(measure, first, second, says=0, printed=None):
    """The Contrast first - second, each a method or (method, variant)."""
    weights = {as_cell(first): 1, as_cell(second): -1}
    return Contrast(measure, weights, says, paper_terms(weights, printed))


def pairs(measure, first, others, says=0, printed=None):
    """The Contrasts of a cell with several others."""
    return tuple(pair(measure, first, other, says, printed) for other in others)


def both(measure, others, says=0):
    """The Contrasts of Soft and of Hard PatchUp with several cells."""
    return tuple(contrast for patchup in PATCHUP for contrast in pairs(measure, patchup, others, says))


def as_cell(name):
    """A method's plain cell, or the cell itself."""
    return (name, "") if isinstance(name, str) else name


# ---- the claims ----


def catalogue(network):
    """The Claims that a network's study has parts of, in order, without the contrasts that it does not have."""
    claims = []
    for claim in (*on_clean_images(network), *on_parts(network), *on_robustness(network), *on_activations(network)):
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
    table2 = TABLE2._replace(model=network.model)
    longer = [(method, f"epochs={network.design.longer}") for method in (HARD, SOFT, CUTMIX, NONE)]
    yield Claim(
        1,
        "Hard PatchUp has the lowest test error, Soft PatchUp the second lowest",
        "Table 2, the same network at full width.",
        (pair("error", HARD, SOFT, -1, table2), *pairs("error", SOFT, OTHERS, -1, table2)),
        (*pairs("error", HARD, OTHERS, 0, table2), *(pair("error", *two) for two in itertools.combinations(longer, 2))),
    )
    if network.design.sizes:
        sizes = [f"{images}x{epochs}" for images, epochs in sorted(network.design.sizes)]
        signs = {(SOFT, sizes[0]): 1, (HARD, sizes[0]): -1, (SOFT, sizes[-1]): -1, (HARD, sizes[-1]): 1}
        numbers = [(printed, method) for printed in (TABLE1, TABLE2) for method in (SOFT, HARD)]
        paper = [(sign, *printed.of((method, ""))) for sign, (printed, method) in zip(signs.values(), numbers)]
        words = "(Soft - Hard) with {} images a class - (Soft - Hard) with {}".format(
            *(size.partition("x")[0] for size in (sizes[0], sizes[-1]))
        )
        two = ((SOFT, HARD), (SOFT, NONE), (HARD, NONE), (MANIFOLD, NONE), (CUTMIX, NONE))
        yield Claim(
            2,
            "With fewer training images a class Soft PatchUp, the more conservative, gains on Hard",
            "(Soft - Hard) on Tiny-ImageNet (Table 1) - (Soft - Hard) on CIFAR-100 (Table 2), WRN-28-10. They have 500 "
            "images a class alike and differ in classes and image size; images a class are what the sentence names.",
            (Contrast("error", signs, -1, tuple(paper), words),),
            tuple(pair("error", (first, size), (second, size)) for size in sizes for first, second in two),
            "All sizes have the same number of steps.",
        )
    yield Claim(
        16,
        "Soft PatchUp has the lowest test loss (NLL), Hard PatchUp the second lowest",
        "Table 1, Loss, WRN-28-10 on Tiny-ImageNet.",
        (pair("nll", SOFT, HARD, -1, TABLE1_NLL), *pairs("nll", HARD, OTHERS, -1, TABLE1_NLL)),
        (pair("nll", SOFT, NONE, 0, TABLE1_NLL), *pairs("ece", SOFT, OTHERS), *pairs("ece", HARD, OTHERS)),
        "The calibration error (ECE) stands beside it; the paper has none.",
    )


def on_parts(network):
    """Claims 4, 5 and 6: what Hard PatchUp is made of."""
    alone, third = tuple((HARD, f"k={k}") for k in (1, 2, 3)), {(HARD, "k=3"): 1, (NONE, ""): -1}
    printed = tuple((sign, *table.of(cell)) for (cell, sign), table in zip(third.items(), (TABLE7, TABLE2)))
    yield Claim(
        4,
        "Hard PatchUp's loss L1 + L2 gives a lower error than either term",
        "Table 6, validation error of WRN-28-10; its L2 against what the official code computes for it.",
        pairs("error", WHOLE, ((HARD, "L1"), (HARD, "official_L2")), -1, TABLE6),
        (pair("error", (HARD, "L1"), (HARD, "official_L2"), 0, TABLE6), pair("error", (HARD, "L1"), NONE)),
        "Cross-entropy is linear in the target and W = Mix(y_i, Y), so as the paper writes them L1 = L2, and L1 + L2 "
        "is twice either: what the sum can change is a factor of two on the gradient. The official code's second term "
        "is another one.",
    )
    yield Claim(
        5,
        "Hard PatchUp at a random layer beats any single layer; k = 3 alone is worse than no mixing",
        "Table 7, and No Mixup of Table 2, WRN-28-10.",
        (*pairs("error", WHOLE, alone, -1, TABLE7), Contrast("error", third, 1, printed)),
        (pair("error", (HARD, "mask_per_sample"), WHOLE),),
        "A random k is 0 at times, where a box of the image is swapped; the single layers have no such batch.",
    )
    yield Claim(
        6,
        "At the input PatchUp's mask is worse than a box",
        "Table 7, WRN-28-10.",
        (pair("error", (HARD, "mask_k=0"), WHOLE, 1, TABLE7),),
    )


def on_robustness(network):
    """Claims 7, 8, 9 and 11: deformed, attacked and corrupted images."""
    lead, second = sorted(PATCHUP, key=TABLE4.mean)
    single = []
    for name in affine.SETS:
        table = TABLE4._replace(metrics=f"test_error@{name}")
        best = min(PATCHUP, key=table.mean), min(AFFINE_RIVALS, key=table.mean)
        single.append(pair(f"affine {name}", *best, 0, table))
    yield Claim(
        7,
        "PatchUp has the lowest error on rotated, sheared and scaled images",
        "Table 4, PreActResNet34; deviations of means of eight sets are the most that they can be.",
        pairs("affine", lead, AFFINE_RIVALS, -1, TABLE4),
        (*pairs("affine", second, AFFINE_RIVALS, 0, TABLE4), *both("affine", (NONE,)), *single),
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
        functools.partial(near_chance, measure="fgsm"),
    )
    yield Claim(
        9,
        "Under corruptions Soft PatchUp has the lowest error, Hard PatchUp the second lowest",
        "Figure 4, Tiny-ImageNet-C, without values in the text.",
        (pair("corruption", SOFT, HARD, -1), *pairs("corruption", HARD, ROBUST_RIVALS, -1)),
        both("corruption", (NONE, "mixup")),
        "Corrupted here, not the released images, and of CIFAR-100; against the methods that the paper compares.",
    )
    below = tuple(method for method in regularizers.PAPER if TABLE5.mean(method) < TABLE5.mean(SOFT))
    yield Claim(
        11,
        "Soft PatchUp is among the most robust to DeepFool, DDN, Carlini-Wagner and PGD, more so than Hard",
        "Table 5, WRN-28-10 on Tiny-ImageNet; deviations of means of four attacks are the most that they can be.",
        pairs("foolbox", SOFT, below, 1, TABLE5),
        (*both("foolbox clean", (NONE,)), *both("ddn", (NONE,)), *both("pgd", (NONE,))),
        "As labelled in Table 5, against the methods that the paper has below Soft PatchUp.",
        attacks_that_attack,
    )


def on_activations(network):
    """Claims 10 and 12."""
    options = recipes.applicable(SOFT, network.design.recipe)
    acted_on = [k for k in recipes.resolve("cifar100", network.model, SOFT, **options).layers if k > 0]
    measures = [f"magnitude {STAGES[k - 1]}" for k in acted_on]
    others = tuple(method for method in recipes.PAPER_AFFINE if method != MANIFOLD)
    table2 = TABLE2._replace(model=network.model)
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
            *pairs("error", MANIFOLD, ("cutout", CUTMIX), -1, table2),
            pair("affine", MANIFOLD, "cutout", -1, TABLE4),
            *pairs("fgsm", MANIFOLD, ("cutout", CUTMIX), 1),
        ),
        (pair("affine", MANIFOLD, CUTMIX, 0, TABLE4),),
    )


# ---- floors ----

CHANCE_FACTOR = 2  # accuracies below so many times chance cannot be told apart
TAKEN = 0.1  # of the clean accuracy: an attack that takes less compares clean accuracies


def mean_over_methods(network, measure):
    """The mean of a measure over all runs of the methods, NaN without any."""
    values = network.values(measure, MAIN)
    numbers = [value for cell in values.values() for value in cell.values()]
    return float(np.mean(numbers)) if numbers else float("nan")


def near_chance(network, measure):
    """A sentence where a mean accuracy leaves nothing to compare, else nothing."""
    mean = mean_over_methods(network, measure)
    if mean < CHANCE_FACTOR * 100 / network.first["classes"]:
        return f"The mean accuracy is {mean:.2f} %, less than {CHANCE_FACTOR} times chance: nothing can be told apart."
    return ""


def attacks_that_attack(network):
    """A sentence where Foolbox's attacks leave nothing, or take nothing, else nothing."""
    clean, attacked = (mean_over_methods(network, measure) for measure in ("foolbox clean", "foolbox"))
    if clean - attacked < TAKEN * clean:
        return (
            f"The attacks as labelled take {clean - attacked:.2f} points of {clean:.2f} % accuracy, less than a tenth: "
            "what is compared is the clean accuracy."
        )
    return near_chance(network, "foolbox")
