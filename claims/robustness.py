"""Claims 7, 8, 9 and 11: deformed, attacked and corrupted images."""

import numpy as np

import recipes
from claims import statistics
from claims.accuracy import HARD, OTHERS, SOFT
from claims.claim import Claim, Group, Part
from claims.scope import in_order, label, mean_of, minus, paper, paper_numbers
from data import affine
from engine import attacks

PATCHUP = (SOFT, HARD)
METHODS = (*OTHERS, *PATCHUP)  # all nine
AFFINE_RIVALS = tuple(method for method in recipes.PAPER_AFFINE if method not in PATCHUP)
FGSM_RIVALS = tuple(method for method in recipes.PAPER_ROBUST if method not in PATCHUP)
CLEAN_ALONE = "The official code's variants were tested on clean images alone (claim 1)."


def against(what, own, rivals, says, digits=2):
    """The Group of one {seed: value} against those of several methods, {method: {seed: value}}."""
    parts = tuple(Part(f"{what} - {label(name)}", minus(own, one), says, digits) for name, one in rivals.items())
    return Group(what, parts, tuple(label(name) for name in rivals))


# ---- deformed images ----


def affine_error(scope, method, case):
    """{seed: error in percent on an affine set}."""
    return scope.evaluated("affine", method, lambda record: record["cases"][case]["error"])


def affine_mean(scope, method):
    """{seed: mean error over the eight affine sets}."""
    return mean_of([affine_error(scope, method, case) for case in affine.SETS])


def claim7(scope):
    """PatchUp best on all affine sets."""
    printed = paper_numbers("table4")

    def theirs(method, case):
        return printed["cifar100", "preactresnet34", method, f"test_error@{case}"][0]

    parts, beside, words = [], [], []
    for case in affine.SETS:
        own = min(PATCHUP, key=lambda method: theirs(method, case))  # noqa: B023, used at once
        rivals = {method: affine_error(scope, method, case) for method in AFFINE_RIVALS}
        best = min(AFFINE_RIVALS, key=lambda method: theirs(method, case))  # noqa: B023
        ahead = theirs(own, case) < theirs(best, case)
        row = against(f"{case}: {label(own)}, error (points)", affine_error(scope, own, case), rivals, -ahead)
        (parts if ahead else beside).append(row)
        words.append(f"{case} {label(own)} {theirs(own, case):.2f}, {label(best)} {theirs(best, case):.2f}")
    mean = {method: affine_mean(scope, method) for method in (*PATCHUP, "none", *AFFINE_RIVALS)}
    beside += [
        Part(f"mean of the eight sets: {label(own)} - {label(other)} (points)", minus(mean[own], mean[other]))
        for own in PATCHUP
        for other in ("none", *AFFINE_RIVALS)
    ]
    return Claim(
        7,
        "PatchUp best on deformed images",
        "On rotated, sheared and scaled test images PatchUp has the lowest errors.",
        f"Table 4, PreActResNet34 on CIFAR-100, error in percent of the better PatchUp and of the best other method: "
        f"{'; '.join(words)}. PatchUp is first in {len(parts)} of {len(affine.SETS)}.",
        uses=("affine",),
        parts=tuple(parts),
        beside=tuple(beside),
        remarks=(
            "Each set where the paper has PatchUp first, and the variant that is ahead there, against Cutout, CutMix, "
            f"ManifoldMixup and Puzzle Mix; {images(scope, 'affine')}.",
            CLEAN_ALONE,
        ),
    )


# ---- FGSM ----


SPACES = {"official": "six epsilons in normalised input", "pixel": "epsilons of 1 to 8 / 255 on pixels"}
EPSILONS = {"official": attacks.OFFICIAL_EPSILONS, "pixel": attacks.PIXEL_EPSILONS}
FLOOR = 2  # times chance: methods that are all below it cannot be told apart


def fgsm_accuracy(scope, method, space):
    """{seed: mean accuracy in percent over the epsilons above 0 of one way to attack}."""
    cases = [f"{space}@{epsilon}" for epsilon in EPSILONS[space] if epsilon != "0"]
    return mean_of([attacked(scope, method, case, "fgsm") for case in cases])


def attacked(scope, method, case, kind):
    """{seed: accuracy in percent in one case of an evaluation}."""
    return scope.evaluated(kind, method, lambda record: 100 - record["cases"][case]["error"])


def testable_space(scope):
    """How to attack so that methods can be told apart: as the paper, on pixels where that leaves all near chance."""
    found = {method: fgsm_accuracy(scope, method, "official") for method in FGSM_RIVALS + PATCHUP}
    means = [np.mean(in_order(one)) for one in found.values() if one]
    return "pixel" if means and max(means) < FLOOR * scope.chance else "official"


def claim8(scope):
    """PatchUp most robust to FGSM."""
    judged, parts, beside = testable_space(scope), [], []
    for space, words in SPACES.items():
        rivals = {method: fgsm_accuracy(scope, method, space) for method in FGSM_RIVALS}
        for own in PATCHUP:
            what = f"{label(own)}, mean accuracy over {words} (points)"
            row = against(what, fgsm_accuracy(scope, own, space), rivals, int(space == judged))
            (parts if space == judged else beside).append(row)
    for own in PATCHUP:
        name = f"{label(own)} - No Mixup"
        for epsilon in attacks.OFFICIAL_EPSILONS:
            at = (attacked(scope, method, f"official@{epsilon}", "fgsm") for method in (own, "none"))
            beside.append(Part(f"epsilon {epsilon}: {name}, accuracy (points)", minus(*at)))
        pixel = (fgsm_accuracy(scope, method, "pixel") for method in (own, "none"))
        beside.append(Part(f"{name}, mean accuracy over {SPACES['pixel']} (points)", minus(*pixel)))
    return Claim(
        8,
        "PatchUp most robust to FGSM",
        "Under FGSM PatchUp keeps a higher accuracy than the other regularizers.",
        "Figure 5; its values are not in the paper's text.",
        uses=("fgsm",),
        parts=tuple(parts),
        beside=tuple(beside),
        remarks=(*levels(scope, judged), CLEAN_ALONE),
    )


def levels(scope, judged):
    """Sentences on how much accuracy either way to attack leaves."""
    spans = []
    for space, words in SPACES.items():
        means = [np.mean(in_order(one)) for name in METHODS if (one := fgsm_accuracy(scope, name, space))]
        if means:
            spans.append(f"{min(means):.2f} to {max(means):.2f} % over {words}")
    if not spans:
        return ("Not run yet.",)
    sentence = f"Mean accuracies of the nine methods: {' and '.join(spans)}; {images(scope, 'fgsm')}"
    if judged == "pixel":
        sentence += f". The paper's epsilons leave less than {FLOOR} times chance, so pixels' are judged"
    return (sentence + ".",)


def images(scope, kind):
    """How many test images an evaluation saw, in words."""
    record = scope.any_record(kind)
    return f"{record['images']:,} test images" if record else "not run yet"


# ---- corruptions ----


def corruption_error(scope, method):
    """{seed: error in percent, mean over 15 corruptions and five severities}."""
    return scope.evaluated("corruption", method, lambda record: record["mean_error"])


def claim9(scope):
    """Soft first, Hard second under corruptions."""
    found = {method: corruption_error(scope, method) for method in (*PATCHUP, *OTHERS)}

    def rise(method):
        clean = scope.evaluated("corruption", method, lambda record: record["cases"]["clean"]["error"])
        return minus(found[method], clean)

    beside = []
    for own in PATCHUP:
        name = f"{label(own)} - No Mixup"
        beside.append(Part(f"{name}, mean error (points)", minus(found[own], found["none"])))
        beside.append(Part(f"{name}, rise over the clean error (points)", minus(rise(own), rise("none"))))
        beside.append(Part(f"{label(own)} - Input Mixup, mean error (points)", minus(found[own], found["mixup"])))
    rivals = {method: found[method] for method in FGSM_RIVALS}
    record = scope.any_record("corruption")
    source = record["source"] if record else "not run yet"
    return Claim(
        9,
        "Soft PatchUp best, Hard second under corruptions",
        "Under common corruptions Soft PatchUp has the lowest error, Hard PatchUp the second lowest.",
        "Figure 4, Tiny-ImageNet-C; its values are not in the paper's text.",
        uses=("corruption",),
        parts=(
            Part("Soft PatchUp - Hard PatchUp, mean error (points)", minus(found[SOFT], found[HARD]), -1),
            against("Hard PatchUp, mean error (points)", found[HARD], rivals, -1),
        ),
        beside=tuple(beside),
        remarks=(
            f"Images: {source}; {images(scope, 'corruption')}. Corrupted here, not the released set, and of CIFAR-100. "
            "Against the methods that the paper compares, which leave out No Mixup and Input Mixup.",
            CLEAN_ALONE,
        ),
    )


# ---- Foolbox ----

FOOLBOX = ("deepfool", "ddn", "cw", "pgd_linf")
EPSILON = attacks.TABLE5_EPSILON


def correlation(columns, reference):
    """{seed: rank correlation} of {method: {seed: value}} with {method: value or {seed: value}}, where defined."""
    methods = list(columns)
    found = {}
    for seed in sorted(set.intersection(*(set(columns[method]) for method in methods))):
        theirs = [one[seed] if isinstance(one := reference[method], dict) else one for method in methods]
        found[seed] = statistics.rank_correlation([columns[method][seed] for method in methods], theirs)
    return {seed: value for seed, value in found.items() if value == value}


def claim11(scope):
    """The order of methods under Foolbox's attacks."""
    methods = METHODS

    def theirs(attack):
        key = f"robust_accuracy_fraction@{attack}"
        return {method: paper_numbers("table5")["tiny_imagenet", "wrn28_10", method, key][0] for method in methods}

    def column(case):
        return {method: attacked(scope, method, case, "table5") for method in methods}

    ours = {attack: column(f"{attack}@{EPSILON}") for attack in FOOLBOX}
    mean = {method: mean_of([ours[attack][method] for attack in FOOLBOX]) for method in methods}
    their_mean = {method: np.mean([theirs(attack)[method] for attack in FOOLBOX]) for method in methods}
    below = [method for method in methods if their_mean[method] < their_mean[SOFT]]
    apart = {label(method): minus(mean[SOFT], mean[method]) for method in below}
    under = "mean accuracy under the four (points)"
    parts = [Part(f"Soft PatchUp - {name}, {under}", one, 1) for name, one in apart.items()]
    what = "as labelled: rank correlation of nine methods with Table 5"
    ranks = [Part(f"{attack} {what}", correlation(ours[attack], theirs(attack))) for attack in FOOLBOX]
    metric = "robust_accuracy_fraction@ddn"
    words = (
        f"{label(method)} {paper('table5', 'wrn28_10', method, metric, 'tiny_imagenet')}"
        for method in ("manifold_mixup", SOFT, HARD, "none", "cutmix")
    )
    return Claim(
        11,
        "Soft PatchUp robust to Foolbox's attacks",
        "Under DeepFool, DDN, Carlini-Wagner and PGD PatchUp is among the most robust, Soft more so than Hard.",
        f"Table 5, accuracy under DDN, WRN-28-10 on Tiny-ImageNet: {', '.join(words)}.",
        uses=("attacks",),
        parts=tuple(parts),
        beside=(*ranks, *worth(mean, column("clean")), *converged(scope, theirs("ddn"))),
        remarks=(
            f"As labelled in Table 5; Soft PatchUp against those that the paper has below it: {named(below)}.",
            *audit(scope),
            CLEAN_ALONE,
        ),
    )


def worth(mean, clean):
    """Rows on what the attacks as labelled measure; mean, clean: {method: {seed: accuracy}}."""
    taken = minus(mean_of(list(clean.values())), mean_of(list(mean.values())))
    return (
        Part("rank correlation of the accuracy under the four with the clean accuracy", correlation(mean, clean)),
        Part("accuracy that the four take from the clean one, mean over methods (points)", taken),
    )


def converged(scope, theirs):
    """Rows of attacks that were given the steps they need; theirs: {method: Table 5's accuracy under DDN}."""

    def distance(record):
        return record["cases"]["ddn_100"]["median_distance"]

    def apart(numbers, own):
        return minus(numbers[own], numbers["none"])

    nearest = {method: scope.evaluated("converged", method, distance) for method in theirs}
    pgd = {method: attacked(scope, method, "pgd_linf_40@2/255", "converged") for method in theirs}
    what = "converged DDN (100 steps): rank correlation of the median distance with Table 5's DDN"
    rows = [Part(what, correlation(nearest, theirs))]
    for own in PATCHUP:
        name = f"{label(own)} - No Mixup"
        rows.append(Part(f"converged DDN: {name}, median distance (L2)", apart(nearest, own), digits=3))
        rows.append(Part(f"converged PGD (40 steps) at 2/255: {name}, accuracy (points)", apart(pgd, own)))
    return rows


def audit(scope):
    """Sentences on what the attacks are worth, from the records."""
    records = [one for key, one in scope.records.evaluations.items() if key[:2] == ("table5", scope.model)]
    if not records:
        return ("Not run yet.",)
    weaker = sum("remark" in record["cases"][f"pgd_linf@{EPSILON}"] for record in records)
    distances = [record["cases"]["ddn"]["median_distance"] for record in records]
    text = f"Audit, of {len(records)} runs and {images(scope, 'table5')}: PGD as labelled is weaker than one step of "
    text += f"FGSM at {EPSILON} in {weaker} of them"
    if known := [value for value in distances if value is not None]:
        text += f"; DDN's median distance in its 7 steps lies between {min(known):.3f} and {max(known):.3f}, "
        text += f"{min(known) / attacks.strength(EPSILON):.0f} times the L2 radius of {EPSILON} that it is cut to"
    return (text + ".",)


def named(methods):
    """Methods as the paper writes them, in a list."""
    return ", ".join(map(label, methods))
