"""claims.md and claims.csv of a network, and the README's section."""

import math

import pandas as pd

import recipes
from engine.files import BadInput
from scripts.claims.catalogue import CUTMIX, MANIFOLD, NONE, PATCHUP, TABLE2, pair
from scripts.claims.judge import FAILS, FEWEST, HOLDS, NO_VERDICT, UNDECIDED, UNTESTABLE, finding
from scripts.claims.measured import measurements
from scripts.claims.measures import MEASURES
from scripts.claims.network import MAIN
from scripts.claims.tables import as_csv
from scripts.grid.statistics import UNEQUAL

RULE = f"""\
Runs of one seed share split, initial weights and order of images. One additive model, row + seed, is fitted to all runs
of a table of the study and one measure, by least squares where runs are missing; its pooled residual gives every
difference a 95 % t interval. A part of a claim is *decided* where that interval excludes zero; where Levene's test
finds that rows deviate differently (p < {UNEQUAL}), only where the interval of the paired differences does so too. Rows
with fewer than {FEWEST} seeds decide nothing where the design has more. A claim *holds* where all its parts do. It
*does not hold* where a part is decided against it and stays so after Holm's correction for the number of parts, whose p
value stands beside it. Otherwise it is *undecided*, which is no evidence for either side. Claims are not corrected for
their number.

Last epoch: of the last epoch's weights, which decide. Best epoch: of the weights that were best on validation, beside
it. The paper's: the same difference of its printed means, after Welch with five runs each. *The paper's margin is
excluded* where its difference lies outside our interval; a network this small may compress differences, so that says
that the margin is different here, not that the paper is wrong. A verdict *so far* has not all seeds of the design,
which were fixed before the first run; looking early makes false decisions likelier. All seeds are tested on the same
images, so the intervals are of these images."""


# ---- texts ----


def interval_text(interval, digits):
    """`-1.23 [-1.50, -0.96]`, without bounds where they are not known, `missing` without a mean."""
    if interval is None:
        return ""
    if not math.isfinite(interval.mean):
        return "missing"
    mean, low, high = (f"{round(value, digits) + 0.0:+.{digits}f}" for value in interval[:3])
    return mean if math.isnan(interval.low) else f"{mean} [{low}, {high}]"


def part_verdict(judgement, number):
    """The verdict of a part, with Holm's p value where it is against the claim."""
    part, p = judgement.parts[number], judgement.corrected[number]
    word = f"contradicted (p {p:.2g})" if part.verdict == FAILS else part.verdict
    return word + "; the paper's margin is excluded" * part.excludes_paper


def so_far(judgement):
    """The verdict, and whether it is final."""
    decided = judgement.verdict in (HOLDS, FAILS, UNDECIDED)
    return judgement.verdict + " so far" * (decided and not judgement.final)


def parts_in_words(judgement):
    """`2 of 8 parts hold, 1 is contradicted`, ..."""
    words = {HOLDS: "hold", FAILS: "contradicted", UNDECIDED: "undecided", NO_VERDICT: "without verdict yet"}
    counts = [f"{n} {word}" for verdict, word in words.items() if (n := judgement.count(verdict))]
    total = len(judgement.parts)
    return f"{total} part{'s' * (total > 1)}: {', '.join(counts)}"


def measured(part):
    """A part in a line."""
    return f"{part.label}: {interval_text(part.pooled, part.digits)}"


# ---- the opening ----


def opening(network, judgements):
    """Five sentences: where, over no mixing, over CutMix, over the mixups, and what of the paper holds."""
    result, recipe = network.first, network.first["recipe"]
    mean = network.additive("error", MAIN).mean((NONE, "")).mean
    error = "not known yet" if math.isnan(mean) else f"{mean:.1f} %"
    theirs = TABLE2._replace(model=network.model).mean(NONE)
    effort = network.effort()
    images = result["images"]["train"] // result["classes"]
    mixups = [other for other in ("mixup", MANIFOLD) if other in network.design.methods]
    return [
        f"**Where**: {images} training images a class of CIFAR-100, {recipes.printed(network.model)} of width "
        f"{recipe['width']}, {recipe['epochs']} epochs; its test error without mixing is {error}, "
        f"that of the paper's network {theirs:.1f} %. {effort.runs} of {effort.wanted} runs are done.",
        f"**Over no mixing**: {ahead(network, NONE)}.",
        f"**Over CutMix**: {ahead(network, CUTMIX)}.",
        f"**Over the mixups**: {'; '.join(ahead(network, other, name=True) for other in mixups)}.",
        f"**Of the paper's claims**: {tally(judgements)}.",
    ]


def ahead(network, other, name=False):
    """How Soft and Hard PatchUp compare with another method on test error, in words."""
    table2 = TABLE2._replace(model=network.model)
    findings = {method: finding(network, pair("error", method, other, 0, table2)) for method in PATCHUP}
    words = " and ".join(f"{recipes.printed(method)} {lead(part)}" for method, part in findings.items())
    if all(math.isnan(part.pooled.mean) for part in findings.values()):
        words = f"not compared yet; in the paper {words}"
    return f"against {recipes.printed(other)} " * name + words


def lead(part):
    """`is ahead by 5.02 points [4.51, 5.53] (paper: ahead by 4.67)` for the Finding of a difference in test error."""
    paper = f"{side(part.paper.mean)} by {abs(part.paper.mean):.2f}" if part.paper else ""
    mean, low, high, _ = part.pooled
    low, high = sorted((abs(low), abs(high)))
    if math.isnan(mean):
        return f"is {paper}"
    if not part.enough:
        text = f"is {side(mean)} by {abs(mean):.2f} points ({part.seeds} seed{'s' * (part.seeds > 1)})"
    elif part.side:
        text = f"is {side(mean)} by {abs(mean):.2f} points [{low:.2f}, {high:.2f}]"
    else:
        text = f"is not told apart ({interval_text(part.pooled, 2)})"
    return text + f" (paper: {paper})" * bool(paper)


def side(difference):
    """Where a difference in error puts the first: `ahead` or `behind`."""
    return "ahead" if difference < 0 else "behind"


def tally(judgements):
    """How many claims have which verdict, and which they are: those that do not hold by their titles."""
    words = []
    for verdict in (HOLDS, FAILS, UNDECIDED, UNTESTABLE, NO_VERDICT):
        claims = [judgement.claim for judgement in judgements if judgement.verdict == verdict]
        names = [claim.title if verdict == FAILS else str(claim.number) for claim in claims]
        if claims:
            words.append(f"{verdict} {len(claims)} ({', '.join(names)})")
    excluded = [str(j.claim.number) for j in judgements if any(part.excludes_paper for part in j.parts)]
    return "; ".join(words) + f"; the paper's margin is excluded in parts of {', '.join(excluded)}" * bool(excluded)


# ---- the page ----


def markdown(network, judgements, pictures, folder, command):
    """claims.md.

    pictures: {name: caption}; folder: of pictures and tables beside the page; command: that derives it.
    """
    lines = [
        "# The paper's claims, one by one",
        "",
        *(f"{number}. {sentence}" for number, sentence in enumerate(opening(network, judgements), 1)),
        "",
        f"Made by `{command}` from [records]({folder}/records.jsonl) that "
        f"`bash scripts/study.sh {network.scale.replace('-quick', ' --quick')}` writes, and for 3 and 14 from the "
        "benchmark in results/published/benchmarks; not to be edited.",
        "",
        *overview(network, judgements),
        "",
        *pictures_of(pictures, folder, ("errors", "sizes")),
        "## What was run",
        "",
        *circumstances(network),
        "",
        f"Every row's numbers: [tables]({folder}/tables.md).",
        "",
        "## How a verdict is reached",
        "",
        RULE,
        "",
        *pictures_of(pictures, folder, ("robustness",)),
    ]
    for judgement in judgements:
        lines += section(judgement)
    return "\n".join(lines) + "\n"


def pictures_of(pictures, folder, names):
    """Lines that show some of the pictures with their captions."""
    names = [name for name in names if name in pictures]
    return [text for name in names for text in (f"![{name}]({folder}/{name}.png)", "", pictures[name], "")]


def overview(network, judgements):
    """Lines of the table of verdicts, and of what has none."""
    lines = ["| | claim | verdict | its parts | the first part |", "| ---: | --- | --- | --- | --- |"]
    for judgement in judgements:
        claim = judgement.claim
        verdict = f"**{so_far(judgement)}**"
        texts = str(claim.number), claim.title, verdict, parts_in_words(judgement), measured(judgement.parts[0])
        lines.append(f"| {' | '.join(texts)} |")
    lines += ["", "Measured, without verdict:", ""]
    return lines + [f"- {number}. {title}: {text}" for number, title, text in measurements(network)]


def circumstances(network):
    """Lines on the recipe, how far it is from the paper's, seeds, device and hours."""
    result, recipe, environment = network.first, network.first["recipe"], network.first["environment"]
    theirs = recipes.used(recipes.resolve(recipe["dataset"], network.model, NONE))
    words = ", ".join(
        f"{name} {value} ({theirs.get(name, 'all')})"
        for name, value in recipe.items()
        if name != "seed" and theirs.get(name) != value
    )
    images, effort = result["images"], network.effort()
    return [
        f"Differs from the paper's recipe (in brackets): {words}. {network.design.reason}",
        "",
        f"{images['train']:,} training, {images['val']:,} validation and {images['test']:,} test images. "
        f"{effort.runs} of {effort.wanted} runs (seeds: {seeds_in_words(network)}); {effort.training:.1f} hours of "
        f"training and {effort.evaluating:.1f} of evaluation, summed over runs, as they passed. "
        f"{environment['device']}, {environment['threads']} thread(s) a run, torch {environment['torch']}.",
    ]


def seeds_in_words(network):
    """`methods 0 to 7, size 0 to 3`: the seeds of every part."""
    words = []
    for part in network.rows:
        seeds = sorted({seed for runs in network.cells((part,)).values() for seed in runs})
        if seeds:
            words.append(f"{part} {seeds[0]}" + f" to {seeds[-1]}" * (len(seeds) > 1))
    return ", ".join(words)


def section(judgement):
    """Lines of a claim."""
    claim = judgement.claim
    lines = ["", f"## {claim.number}. {claim.title}", "", f"**{so_far(judgement)}.** The paper's: {claim.source}"]
    remarks = [claim.remark, judgement.floor, left_undecided(judgement)]
    if claim.absent:
        remarks.append(f"{claim.absent} more parts need runs that this study does not have.")
    if text := " ".join(filter(None, remarks)):
        lines += ["", text]
    verdicts = [part_verdict(judgement, number) for number in range(len(judgement.parts))]
    return lines + table(judgement.parts, "part", verdicts) + table(judgement.beside, "beside it, without verdict")


def left_undecided(judgement):
    """A sentence on the parts that the paper's numbers do not decide, or nothing."""
    names = [part.label for part in judgement.parts if not part.paper_decides]
    if not names:
        return ""
    return f"The paper's own numbers leave {len(names)} of {len(judgement.parts)} parts undecided: {'; '.join(names)}."


def table(findings, head, verdicts=()):
    """Lines of a table of Findings."""
    if not findings:
        return []
    columns = ["seeds", "last epoch", "best epoch", "the paper's", *["verdict"] * bool(verdicts)]
    lines = ["", f"| {head} | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for number, part in enumerate(findings):
        texts = [interval_text(i, part.digits) for i in (part.pooled, part.best, part.paper)]
        texts = [f"{part.label}, {MEASURES[part.contrast.measure].words}", str(part.seeds), *texts]
        lines.append("| " + " | ".join([*texts, *verdicts[number : number + 1]]) + " |")
    return lines


CSV = ["claim", "kind", "measure", "what", "seeds", "mean", "low", "high", "p", "p_holm", "paired_low", "paired_high"]
CSV += ["unequal", "best_epoch", "best_low", "best_high", "paper", "paper_low", "paper_high", "says", "verdict"]


def csv(judgements):
    """claims.csv: a row a contrast."""
    rows = []
    for judgement in judgements:
        for kind, findings in (("part", judgement.parts), ("beside", judgement.beside)):
            for number, part in enumerate(findings):
                p = judgement.corrected[number] if kind == "part" else math.nan
                best, paper = ((i or [math.nan] * 3)[:3] for i in (part.best, part.paper))
                paired = *part.paired[1:3], part.unequal
                names = judgement.claim.number, kind, part.contrast.measure, part.label, part.seeds
                verdict = part.verdict if kind == "part" else ""
                rows.append((*names, *part.pooled, p, *paired, *best, *paper, part.contrast.says, verdict))
    return as_csv(pd.DataFrame(rows, columns=CSV))


# ---- the README ----

HEADING = "## What holds"


def what_holds(network, judgements):
    """The README's section: three of the five sentences."""
    where, none, *_, verdicts = opening(network, judgements)
    link = (
        "Every part with its interval: [claims.md](results/published/claims.md). `bash scripts/study.sh cpu` goes on "
        "with the study, `--quick` shows its path in half an hour. "
        "[Its first edition](results/published/study/first/claims.md) is superseded."
    )
    return "\n\n".join([HEADING, where, none, verdicts, link]) + "\n"


def with_section(path, section):
    """The text of a page with its section `What holds` replaced. Raises BadInput where it has none."""
    try:
        before, after = path.read_text().split(f"{HEADING}\n", 1)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} has no section {HEADING!r} to write ({error})") from error
    rest = after.partition("\n## ")
    return before + section + "".join(rest[1:])
