"""Claims 10, 12, 13 and 15: activations, interpolated states and confidence."""

import numpy as np

import recipes
from claims.accuracy import HARD, OTHERS, SOFT, errors, rows_apart
from claims.claim import FAILS, HOLDS, Claim, Part
from claims.robustness import AFFINE_RIVALS, PATCHUP, SPACES, affine_mean, against, fgsm_accuracy, testable_space
from claims.scope import label, minus, paper, paper_numbers
from data import affine

FIGURE6 = ("layer1", "layer2")  # its stages
MANIFOLD = "manifold_mixup"
MEASURES = {  # of scripts/figures/diversity.py that say how diverse states are
    "dimensions": "dimensions of a pair's displacements",
    "distance": "distance to the nearest segment",
}


def magnitude(scope, method, stage):
    """{seed: mean |a| over a stage's channels, positions and test images}."""
    return scope.evaluated("activations", method, lambda record: float(np.mean(record["curves"][stage]["magnitude"])))


def acted_on(scope):
    """The stages whose output a layer of PatchUp is."""
    layers = scope.recipe(SOFT).get("layers", recipes.sites("cifar100", scope.model)["layers"])
    return tuple("conv1" if k == 1 else f"layer{k - 1}" for k in layers if k > 0)


def claim10(scope):
    """PatchUp's activations largest where it acts."""
    stages, parts = acted_on(scope), []
    for stage in stages:
        rivals = {method: magnitude(scope, method, stage) for method in AFFINE_RIVALS}
        for own in PATCHUP:
            parts.append(against(f"{stage}: {label(own)}, mean magnitude", magnitude(scope, own, stage), rivals, 1, 3))
    record = scope.any_record("activations")
    beside = []
    for stage in record["curves"] if record else ():
        for own in PATCHUP:
            apart = minus(magnitude(scope, own, stage), magnitude(scope, "none", stage))
            beside.append(Part(f"{stage}: {label(own)} - No Mixup, mean magnitude", apart, digits=3))
    return Claim(
        10,
        "PatchUp's activations largest",
        "In the stages where PatchUp acts, its networks have the largest mean activations.",
        "Figures 6 and 14; their values are not in the paper's text.",
        uses=("activations",),
        parts=tuple(parts),
        beside=tuple(beside),
        remarks=(
            f"PatchUp acts on the outputs of {', '.join(stages)} here. Magnitude: mean of |a| over all test images and "
            "positions; against Cutout, CutMix, ManifoldMixup and Puzzle Mix, as in the paper.",
        ),
    )


def claim12(scope):
    """ManifoldMixup's lowest, yet better than Cutout and CutMix."""
    others = tuple(method for method in recipes.PAPER_AFFINE if method != MANIFOLD)
    parts = []
    for stage in FIGURE6:
        rivals = {method: magnitude(scope, method, stage) for method in others}
        own = magnitude(scope, MANIFOLD, stage)
        parts.append(against(f"{stage}: ManifoldMixup, mean magnitude", own, rivals, -1, 3))
    space, beside = testable_space(scope), []
    for other in ("cutout", "cutmix"):
        name = f"ManifoldMixup - {label(other)}"
        deformed = minus(affine_mean(scope, MANIFOLD), affine_mean(scope, other))
        fooled = minus(fgsm_accuracy(scope, MANIFOLD, space), fgsm_accuracy(scope, other, space))
        row = f"eight affine sets: {name}, mean error (points)"
        ahead = paper_affine(MANIFOLD) < paper_affine(other)
        parts.append(errors(scope, MANIFOLD, other, -1))
        (parts if ahead else beside).append(Part(row, deformed, -ahead))
        parts.append(Part(f"FGSM: {name}, mean accuracy over {SPACES[space]} (points)", fooled, 1))
    printed = ", ".join(f"{label(name)} {paper_affine(name):.2f}" for name in (MANIFOLD, "cutout", "cutmix"))
    words = (
        f"{label(name)} {paper('table2', scope.model, name, 'test_error')}" for name in (MANIFOLD, "cutout", "cutmix")
    )
    return Claim(
        12,
        "ManifoldMixup's activations smallest, yet better",
        "ManifoldMixup's activations are the smallest, yet it beats Cutout and CutMix on clean, deformed and attacked "
        "images: large activations are no condition of a low error.",
        f"Figure 6, without values in the text; test error in percent (Table 2): {', '.join(words)}; mean of the eight "
        f"affine sets (Table 4, PreActResNet34): {printed}, where the sentence does not hold against CutMix.",
        uses=("activations", "methods", "affine", "fgsm"),
        parts=tuple(parts),
        beside=tuple(beside),
    )


def paper_affine(method):
    """The paper's mean error over the eight affine sets, in percent."""
    printed = paper_numbers("table4")
    return float(
        np.mean([printed["cifar100", "preactresnet34", method, f"test_error@{case}"][0] for case in affine.SETS])
    )


def claim13(scope):
    """PatchUp's interpolations more diverse than ManifoldMixup's."""
    parts = []
    for own in PATCHUP:
        for measure, words in MEASURES.items():
            apart = minus(scope.diversity(own, own, measure), scope.diversity(MANIFOLD, MANIFOLD, measure))
            parts.append(Part(f"{label(own)} - ManifoldMixup, {words}, each in its own network", apart, 1, 3))
    return Claim(
        13,
        "PatchUp's interpolations more diverse, by construction",
        "Interpolated hidden states of PatchUp are more diverse than ManifoldMixup's, which lie on lines.",
        "Figures 2 and 10; no values in the paper's text.",
        uses=("methods",),
        parts=tuple(parts),
        remarks=(
            "Measured in trained networks at k = 2: the participation ratio of the displacements of one state towards "
            "one partner (1 is a line), and the distance to the nearest segment between two real states of a batch, in "
            "units of the mean distance between real states. For ManifoldMixup they are 1 and 0 by construction; "
            "PatchUp's follow mostly from mask and lambda, in untrained networks too, and say what the layers above "
            "are fed, not that it helps.",
        ),
    )


def claim15(scope):
    """Which methods are over-confident."""
    parts = [
        Part(f"{label(method)}: mean confidence - accuracy (points)", scope.confidence_gap(method), 1)
        for method in (*OTHERS, *PATCHUP)
    ]
    sides = {HOLDS: "over-confident", FAILS: "under-confident"}
    found = {side: [one.what.partition(":")[0] for one in parts if one.verdict == side] for side in sides}
    line = "; ".join(f"{sides[side]}: {', '.join(names) or 'none shown'}" for side, names in found.items())
    ece = {method: scope.metric("test_ece", method) for method in (*OTHERS, *PATCHUP)}
    apart = [
        Part(f"{label(method)} - No Mixup, ECE", minus(ece[method], ece["none"]), digits=3)
        for method in ece
        if method != "none"
    ]
    return Claim(
        15,
        "All methods over-confident, a question of ours",
        "The paper gives NLLs and leaves open which methods are over-confident; asked here of each: is its mean "
        "confidence above its accuracy?",
        "No number.",
        uses=("methods", "activations", "official"),
        parts=tuple(parts),
        beside=tuple(apart),
        official=tuple(
            rows_apart(scope, "official", (method, scope.other_loss), (method, ""), 0, "test_ece", 3)
            for method in ("none", SOFT, HARD)
        ),
        remarks=(
            "`Holds` is over-confident, `contradicted` under-confident; a method is compared with itself here, its "
            "mean confidence with its accuracy. Confidence: the softmax of the predicted class, on "
            f"{scope.predicted:,} clean test images.",
        ),
        line=line if any(one.n for one in parts) else "not run yet",
    )
