"""Claims 1, 2, 4, 5 and 6: test errors, and what they depend on."""

import itertools

import recipes
import regularizers
from claims.claim import Claim, Part
from claims.scope import label, minus, paper

HARD, SOFT = "patchup_hard", "patchup_soft"
OTHERS = tuple(method for method in regularizers.PAPER if method not in (HARD, SOFT))


def errors(scope, first, second, says=0):
    """The Part of two methods' test errors, with McNemar's test on the same images."""
    what = f"{label(first)} - {label(second)}, test error (points)"
    return Part(what, minus(scope.error(first), scope.error(second)), says, mcnemar=scope.mcnemar(first, second))


def rows_apart(scope, part, first, second, says=0, metric="test_error", digits=2):
    """The Part of two rows of a part of the study, each (method, variant)."""
    shown = scope.labels(part)
    values = [scope.metric(metric, method, part, variant) for method, variant in (first, second)]
    words = {"test_error": "test error (points)", "test_ece": "ECE"}[metric]
    return Part(f"{shown[first]} - {shown[second]}, {words}", minus(*values), says, digits)


def claim1(scope):
    """Hard below Soft below all others."""
    best = min(OTHERS, key=lambda method: float(paper("table2", scope.model, method, "test_error").split()[0]))
    shown = (HARD, SOFT, best, "none")
    words = (f"{label(method)} {paper('table2', scope.model, method, 'test_error')}" for method in shown)
    return Claim(
        1,
        "Hard PatchUp best, Soft PatchUp second",
        "On CIFAR-100 Hard PatchUp has the lowest test error, Soft PatchUp the second lowest, below all others.",
        f"Table 2, test error in percent: {', '.join(words)}.",
        uses=("methods", "official"),
        parts=(errors(scope, HARD, SOFT, -1), *(errors(scope, SOFT, other, -1) for other in OTHERS)),
        beside=(*(errors(scope, HARD, other) for other in OTHERS), *last_epoch(scope)),
        official=official_order(scope),
        remarks=(
            "Claim 2's rows have Soft and Hard PatchUp against No Mixup at other numbers of images and epochs; claim "
            "4's have Soft PatchUp against No Mixup at the same scale of the loss, which PatchUp's two terms double.",
        ),
    )


def last_epoch(scope):
    """The order of Hard, Soft and No Mixup without the choice of an epoch, which is noisy on few validation images."""
    found = []
    for first, second in itertools.combinations((HARD, SOFT, "none"), 2):
        values = (scope.metric("last_epoch_test_error", method) for method in (first, second))
        found.append(Part(f"{label(first)} - {label(second)}, test error of the last epoch (points)", minus(*values)))
    return found


def official_order(scope):
    """What the official code's variants change in the order of No Mixup, Soft and Hard."""
    loss, pairs = scope.other_loss, itertools.combinations((HARD, SOFT, "none"), 2)
    found = [rows_apart(scope, "official", (first, loss), (second, loss)) for first, second in pairs]
    changes = (("own_target", ""), ("mask_per_sample", ""), ("k<=3", "k<=2"))
    return (*found, *(rows_apart(scope, "official", (HARD, one), (HARD, other)) for one, other in changes))


def claim2(scope):
    """Soft gains on Hard with fewer images a class."""
    sizes = recipes.STUDY_SIZES[scope.scale]
    fewest, longest = min(images for images, _ in sizes), max(epochs for _, epochs in sizes)
    gap = {size: minus(sized(scope, SOFT, size), sized(scope, HARD, size)) for size in sizes}
    parts = [Part(f"Soft - Hard at {in_words((fewest, longest))}, test error (points)", gap[fewest, longest], -1)]
    beside = []
    for few, many in itertools.combinations(sizes, 2):
        if few[0] != many[0] and (few[1] == many[1] or few[0] * few[1] == many[0] * many[1]):
            alike = "epochs" if few[1] == many[1] else "steps"
            what = f"(Soft - Hard) at {in_words(few)} - (Soft - Hard) at {in_words(many)}, as many {alike} (points)"
            parts.append(Part(what, minus(gap[few], gap[many]), -1))
    for size in sizes:
        if size != (fewest, longest):
            beside.append(Part(f"Soft - Hard at {in_words(size)}, test error (points)", gap[size]))
        none = sized(scope, "none", size)
        for method in (SOFT, HARD, "cutmix"):
            what = f"{label(method)} - No Mixup at {in_words(size)}, test error (points)"
            beside.append(Part(what, minus(sized(scope, method, size), none)))
    words = (
        f"{label(method)} {paper(table, 'wrn28_10', method, 'test_error', dataset)}"
        for table, dataset in (("table1", "tiny_imagenet"), ("table2", "cifar100"))
        for method in (SOFT, HARD)
    )
    tiny_soft, tiny_hard, soft, hard = words
    return Claim(
        2,
        "Soft PatchUp ahead of Hard on few images a class",
        "With few training images a class and many classes (Tiny-ImageNet) Soft PatchUp, the more conservative, "
        "beats Hard.",
        f"Test error in percent, WRN-28-10: {tiny_soft} and {tiny_hard} on Tiny-ImageNet (Table 1), {soft} and {hard} "
        "on CIFAR-100 (Table 2).",
        uses=("size",),
        parts=tuple(parts),
        beside=tuple(beside),
        remarks=(
            "Soft is to be below Hard with the fewest images, and by more than with more images. Where a pair has as "
            "many steps, the fewer images are seen in more epochs. The paper compares data sets, which differ in "
            "classes and image size and have 500 images a class alike; images a class are what its sentence names.",
        ),
    )


def sized(scope, method, size):
    """{seed: test error} at (images a class, epochs); the scale's own pair is that of all methods, with more seeds."""
    variant = f"{size[0]}x{size[1]}"
    (row,) = (row for row in scope.rows("size") if (row.method, row.variant) == (method, variant))
    return scope.error(method, "size", variant) if row.overrides else scope.error(method)


def in_words(size):
    """(images a class, epochs) in words."""
    return f"{size[0]} images x {size[1]} epochs"


def claim4(scope):
    """Both terms better than either."""
    both, first, second, doubled = ((SOFT, name) for name in ("L1+L2", "L1", "L2", "2xL1"))
    none, none_doubled, none_rate = (("none", name) for name in ("", "2xloss", "lr=0.2"))

    def apart(one, other, says=0):
        return rows_apart(scope, "loss", one, other, says)

    gain, of_none = apart(both, first), apart(none_doubled, none)
    terms = ("L1", "L2", "L1+L2")
    words = (f"{name} {paper('table6', 'wrn28_10', SOFT, f'val_error@loss={name}')}" for name in terms)
    hard = (f"{name} {paper('table6', 'wrn28_10', HARD, f'val_error@loss={name}')}" for name in terms)
    return Claim(
        4,
        "L1 + L2 better than L1 or L2",
        "The sum L1 + L2 gives a lower error than L1 or L2 alone.",
        f"Table 6, validation error in percent, WRN-28-10: Soft {', '.join(words)}; Hard {', '.join(hard)}.",
        uses=("loss",),
        parts=(apart(both, first, -1), apart(both, second, -1)),
        beside=(
            apart(first, second),
            apart(both, doubled),
            of_none,
            apart(none_rate, none),
            apart(first, none),
            apart(both, none_doubled),
            Part("(L1+L2 - L1) - (No Mixup, twice the loss - No Mixup) (points)", minus(*differences(gain, of_none))),
        ),
        remarks=(
            "An identity first: cross-entropy and BCE are linear in the target, and W = Mix(y_i, Y), so L1 = L2 = "
            "l(f, W) and L1 + L2 = 2 l(f, W) (a unit test computes it). What a sum can change is a factor of two on "
            "the gradient: the row `2 x L1` has it without L2, and No Mixup with twice the loss (twice the rate, half "
            "the decay) has it without PatchUp. `L1 - No Mixup` and `L1 + L2 - No Mixup, twice the loss` "
            "compare at one scale.",
            identity(scope, first, second),
        ),
    )


def differences(*parts):
    """The {seed: difference} of Parts."""
    return [part.differences for part in parts]


def identity(scope, first, second):
    """How far runs of L1 and of L2 end apart, and those of two seeds, in words."""
    errors = [scope.error(method, "loss", variant) for method, variant in (first, second)]
    apart, seeds = minus(*errors), list(errors[0].values())
    if not apart or len(seeds) < 2:
        return "Tested on Soft PatchUp alone. Runs of L1 and of L2 are missing."
    return (
        "Tested on Soft PatchUp alone. Runs of L1 and L2 at one seed can differ by rounding alone, which training "
        f"amplifies: they end at most {max(map(abs, apart.values())):.2f} points of test error apart, L1's of "
        f"different seeds {max(seeds) - min(seeds):.2f}."
    )


def claim5(scope):
    """Random k better than any one, k = 3 worse than none."""
    drawn, alone = (HARD, "random_k"), {k: (HARD, f"k={k}") for k in (1, 2, 3)}
    names = ("random_k", "k=1_only", "k=2_only", "k=3_only")
    words = (f"{name.replace('_', ' ')} {paper('table7', 'wrn28_10', HARD, f'test_error@{name}')}" for name in names)
    return Claim(
        5,
        "A random layer better than any one",
        "Hard PatchUp at a layer drawn for every batch beats any one layer, and k = 3 alone is worse than no mixing.",
        f"Table 7, test error in percent, WRN-28-10: {', '.join(words)}; No Mixup "
        f"{paper('table2', 'wrn28_10', 'none', 'test_error')} (Table 2).",
        uses=("layers", "official"),
        parts=(
            *(rows_apart(scope, "layers", drawn, one, -1) for one in alone.values()),
            rows_apart(scope, "layers", alone[3], ("none", ""), 1),
        ),
        official=(rows_apart(scope, "official", (HARD, "k<=3"), (HARD, "k<=2")),),
        remarks=(
            "A random k is 0 at times, where a box of the image is swapped; the single layers have no such batch.",
        ),
    )


def claim6(scope):
    """PatchUp's mask at the input hurts."""
    own, box = "PatchUp_mask_also_at_k=0", "random_k"
    words = (paper("table7", "wrn28_10", HARD, f"test_error@{name}") for name in (own, box))
    return Claim(
        6,
        "PatchUp's mask hurts at the input",
        "PatchUp's own mask is too strong for the input; a box at k = 0 is better.",
        "Table 7, test error in percent, WRN-28-10: mask {}, box {}.".format(*words),
        uses=("layers", "official"),
        parts=(rows_apart(scope, "layers", (HARD, "mask_k=0"), (HARD, "random_k"), 1),),
        official=(rows_apart(scope, "official", (HARD, "own_target"), (HARD, "")),),
    )
