"""claims.md, claims.csv and the README's section: verdicts first, then a section a claim."""

import math

import pandas as pd

import recipes
from claims import evidence, statistics
from claims.accuracy import HARD, SOFT, sized
from claims.claim import FAILS, OPEN, Part, corrected
from claims.evidence import METHODS, TRAINED
from claims.scope import in_order, label, minus, paper
from engine.files import BadInput
from scripts.grid import comparison

RULE = """\
Methods are compared in pairs at the same seed, which has the same split, initial weights and order of images for all.
A difference is *decided* where its paired 95 % t interval over seeds excludes zero. A claim of several parts *holds*
where each part does, by its own interval: as all must, their number needs no correction. It *does not hold* where a
part is decided against it and stays so after Holm's correction for the number of the claim's differences (p < 0.05),
as any one of them would do. Otherwise it is *undecided at this scale*, which is no evidence for either side: it may
have rows that are `contradicted` by their own interval, but not after the correction, whose p value stands beside
them. A row against several methods shows the one against which it is least clear (`nearest`), and holds where it holds
against each. The claims are not corrected for their own number.

The t interval of three seeds reaches 2.5 standard deviations of the differences to either side, that of five 1.2: only
large effects are decided. The bootstrap resamples seeds and is too narrow for so few: of three it is their whole range,
which contains the middle of a symmetric distribution in 75 % of cases. It decides nothing, and neither does McNemar's
exact test, which compares two networks of one seed on the same test images and speaks of these networks, not of their
methods; given are the seeds in which it finds the first better and the second better (p < 0.05). All seeds are tested
on the same images: where an evaluation sees a part of the test set alone, what the intervals say is of these images."""


def markdown(scopes, claims, pictures, command):
    """claims.md.

    scopes: [Scope]; claims: [[Claim of each scope]], a list a claim; pictures: {path: caption}; command: derives it.
    """
    scales = dict.fromkeys(scope.scale for scope in scopes)
    lines = [
        "# The paper's claims, one by one",
        "",
        f"Made by `{command}` from the records of the study at the scale {' and '.join(scales)}, which "
        f"{' and '.join(f'`bash scripts/study.sh {scale}`' for scale in scales)} writes, and from "
        "[the benchmark](benchmarks) (claims 3 and 14); not to be edited.",
        "",
        *overview(scopes, claims),
        "",
        "## What was run",
        "",
        *(f"{paragraph}\n" for scope in scopes for paragraph in scale_of(scope)),
        "## How a verdict is reached",
        "",
        RULE,
        "",
        "## Tables and figures",
        "",
        *(f"- [Tables of {scale}](study/{scale}/tables.md)" for scale in scales),
        *(f"\n![{caption}]({path})\n\n{caption}" for path, caption in pictures.items()),
    ]
    for found in claims:
        lines += section(scopes, found)
    return "\n".join(lines) + "\n"


def overview(scopes, claims):
    """Lines of the table of verdicts, a row a claim and scope."""
    several = len(scopes) > 1
    lines = [
        "| | claim |" + " scale |" * several + " verdict | measured |",
        "| ---: | --- |" + " --- |" * (2 + several),
    ]
    for found in claims:
        for scope, claim in zip(scopes, found):
            where = f" {scope.name} |" * several
            lines.append(f"| {claim.number} | {claim.title} |{where} **{claim.verdict}** | {claim.in_one_line} |")
    return lines


# ---- what was run ----


def scale_of(scope):
    """Paragraphs that say what a scope's runs are, how far from the paper's, and what they took."""
    recipe, results = scope.recipe(), list(scope.results("none").values())
    if not results:
        return [f"**{scope.name}**: no run of No Mixup yet."]
    theirs = recipes.resolve(recipe["dataset"], scope.model, "none")
    words = ", ".join(
        f"{name} {value} ({'all' if getattr(theirs, name) is None else getattr(theirs, name)})"
        for name, value in recipe.items()
        if name != "seed" and comparable(getattr(theirs, name)) != value
    )
    errors = comparison.plus_minus(*comparison.average(in_order(scope.error("none"))))
    printed = paper("table2", scope.model, "none", "test_error")
    images = results[0]["images"]
    settings = (
        f"**{scope.name}**, CIFAR-100: {words}; in brackets the recipe of the paper and its code, which gives the "
        f"rest. {recipes.STUDY_REASONS[scope.scale]}"
    )
    limits = (
        f"{images['train']:,} training, {images['val']:,} validation and {images['test']:,} test images; No Mixup ends "
        f"at {errors} % test error, the paper's at {printed} %. So far from the paper's networks, a verdict is about "
        "this scale alone; that a claim is not seen here does not say that it fails at the paper's."
    )
    return [settings, limits, taken(scope, results[0])]


def comparable(value):
    """A recipe's value as JSON keeps it."""
    return list(value) if isinstance(value, tuple) else value


def taken(scope, result):
    """Seeds, device and hours in a sentence."""
    training, evaluating = scope.hours()
    environment = result["environment"]
    return (
        f"Seeds: {seeds_in_words(scope)}. {environment['device']}, {environment['threads']} thread(s) a run, torch "
        f"{environment['torch']}; {training:.1f} hours of training and {evaluating:.1f} of evaluation, summed over "
        f"runs, as they passed, whatever else the machine did. Command: `bash scripts/study.sh {scope.scale}`."
    )


def seeds_in_words(scope):
    """`methods 0 to 4; size, loss 0 to 2`: the seeds that there are of every part."""
    parts = {}
    for part in TRAINED:
        if seeds := scope.seeds(part):
            parts.setdefault(seeds, []).append(part)
    spans = {seeds: f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0]) for seeds in parts}
    return "; ".join(f"{', '.join(names)} {spans[seeds]}" for seeds, names in parts.items())


def cost_in_words(scope, claim):
    """The runs a claim rests on: table, done of wanted, hours, and its command."""
    words = []
    for part in claim.uses:
        done, wanted, hours = scope.cost(part)
        name = f"study_{scope.scale}" + (f"_{part}" if part != METHODS else "")
        kind = "evaluations" if evidence.table_of(part, scope.scale).evaluation else "runs"
        words.append(f"`python -m scripts.tables {name}` ({done} of {wanted} {kind}, {hours:.2f} hours)")
    return ", ".join(words)


# ---- a section ----


def section(scopes, found):
    """Lines of a claim's section: the paper's sentence and numbers, and what every scope found."""
    first = found[0]
    lines = ["", f"## {first.number}. {first.title}", "", f"*The paper*: {first.sentence} {first.paper}"]
    for scope, claim in zip(scopes, found):
        runs = f" Runs: {cost_in_words(scope, claim)}." if claim.uses else ""
        lines += ["", f"**{scope.name}: {claim.verdict}.**{runs}"]
        lines += remarks_of(claim)
        lines += table(scope, claim.parts, "the claim's parts", corrected(claim.parts))
        lines += table(scope, claim.beside, "beside it, without verdict")
        lines += table(scope, claim.official, "the official code's variants, without verdict")
    return lines


def remarks_of(claim):
    """The remarks as a paragraph."""
    return ["", " ".join(claim.remarks)] if claim.remarks else []


def table(scope, parts, head, p_values=()):
    """Lines of a table of parts; p_values: claim.corrected of them, where they have verdicts."""
    if not parts:
        return []
    judged = bool(p_values)
    matched = any(one.shown.mcnemar for one in parts)
    heads = ["seeds", "mean [95 % t]", "bootstrap"]
    heads += [f"McNemar +, - ({scope.predicted:,} images)"] * matched + ["verdict"] * judged
    lines = ["", f"| {head} | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    for one in parts:
        shown = one.shown
        texts = [str(shown.n), shown.in_words, bootstrap_text(shown)]
        texts += [mcnemar_text(shown)] * matched + [row_verdict(one, p_values)] * judged
        lines.append(f"| {shown.what} | " + " | ".join(texts) + " |")
    return lines


def row_verdict(one, p_values):
    """The verdict of a row; against the claim with its corrected p value (see claim.corrected)."""
    if one.verdict == FAILS:
        return f"contradicted (p {p_text(next(p for part, p in p_values if part is one.nearest[0]))})"
    return "missing" if not one.shown.n else "undecided" if one.verdict == OPEN else one.verdict


def bootstrap_text(part):
    """`[+0.50, +1.96]`, or nothing."""
    low, high, _ = part.bootstrap
    return "" if math.isnan(low) else f"[{low:+.{part.digits}f}, {high:+.{part.digits}f}]"


def mcnemar_text(part):
    """In how many seeds the first and the second is better: `2, 0 of 3`."""
    if not part.mcnemar:
        return ""
    found = [one for one in part.mcnemar.values() if one.p < statistics.LEVEL]
    better = sum(one.first > one.second for one in found)
    return f"{better}, {len(found) - better} of {len(part.mcnemar)}"


def p_text(p):
    """A p value of two digits, or nothing."""
    return "" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.2g}"


# ---- what is derived beside it ----

CSV = ["claim", "scale", "model", "kind", "what", "n", "mean", "low", "high", "bootstrap_low", "bootstrap_high"]
CSV += ["p", "p_holm", "says", "verdict"]


def csv(scopes, claims):
    """claims.csv: a row a difference, also of those that stand behind one row of claims.md."""
    rows = []
    for found in claims:
        for scope, claim in zip(scopes, found):
            corrections = {id(part): p for part, p in corrected(claim.parts)}
            for kind, parts in (("part", claim.parts), ("beside", claim.beside), ("official", claim.official)):
                for part in (single for one in parts for single in one.singles):
                    intervals = *part.interval[:2], *part.bootstrap[:2], part.interval.p
                    p = corrections.get(id(part), math.nan)
                    key = claim.number, scope.scale, scope.model, kind, part.what
                    rows.append((*key, part.n, part.mean, *intervals, p, part.says, part.verdict))
    return evidence.csv(pd.DataFrame(rows, columns=CSV)).decode()


HEADING = "## What holds"


def what_holds(scopes, claims):
    """The README's section: the verdicts, and what they rest on."""
    lines = [HEADING, ""]
    for scope in scopes:
        recipe, error = scope.recipe(), comparison.average(in_order(scope.error("none")))
        if recipe:
            lines.append(
                f"{scope.name}, width {recipe['width']}, {scope.images_a_class} training images a class of CIFAR-100, "
                f"{recipe['epochs']} epochs (No Mixup: {comparison.plus_minus(*error)} % test error; the paper's "
                f"{paper('table2', scope.model, 'none', 'test_error')} %). {to_none(scope)}"
            )
    lines += ["", *(overview(scopes, claims) if len(scopes) == 1 else side_by_side(scopes, claims)), ""]
    return "\n".join([*lines, READING]) + "\n"


def to_none(scope):
    """What PatchUp does to the test error after this and after fewer epochs, in a sentence."""
    own = scope.images_a_class, scope.recipe()["epochs"]
    shorter = [size for size in recipes.STUDY_SIZES[scope.scale] if size[0] == own[0] and size[1] < own[1]]
    found = []
    for size in (own, *shorter):
        parts = [Part("", minus(sized(scope, method, size), sized(scope, "none", size))) for method in (SOFT, HARD)]
        words = ", ".join(f"{label(method)} {part.in_words}" for method, part in zip((SOFT, HARD), parts))
        found.append(f"after {size[1]} epochs {words} ({parts[0].n} seeds)")
    return f"PatchUp's test error less No Mixup's at the same seeds, in points: {'; '.join(found)}."


READING = """\
A claim *holds* where the paired 95 % interval of each of its parts is on its side of zero, and *does not hold* where a
part is contradicted, corrected for their number; 3 and 14 go by a benchmark. Verdicts are of this scale alone; all rows
are in [claims.md](results/published/claims.md). `bash scripts/study.sh cpu` makes your own, in `results/study/cpu`."""


def side_by_side(scopes, claims):
    """Lines of the table of verdicts with a column a scope."""
    lines = [
        "| | claim | " + " | ".join(scope.name for scope in scopes) + " |",
        "| ---: | --- |" + " --- |" * len(scopes),
    ]
    for found in claims:
        words = " | ".join(f"**{claim.verdict}**" for claim in found)
        lines.append(f"| {found[0].number} | {found[0].title} | {words} |")
    return lines


def with_section(path, section):
    """The text of a page with its section `What holds` replaced. Raises BadInput where it has none."""
    try:
        before, after = path.read_text().split(f"{HEADING}\n", 1)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} has no section {HEADING!r} to write ({error})") from error
    rest = after.partition("\n## ")
    return before + section + "".join(rest[1:])
