"""claims.md and claims.csv of a network, and the README's section."""

import math
from pathlib import Path

import jinja2
import pandas as pd

import recipes
from engine.files import BadInput
from scripts.claims.catalogue import CUTMIX, MANIFOLD, NONE, PATCHUP, pair, table2
from scripts.claims.judge import FAILS, FEWEST, HOLDS, NO_VERDICT, UNDECIDED, UNTESTABLE, finding
from scripts.claims.measured import measurements
from scripts.claims.network import MAIN
from scripts.claims.tables import as_csv
from scripts.grid.statistics import UNEQUAL, Interval

TEMPLATE = Path(__file__).with_name("claims.md.jinja")


def markdown(network, judgements, pictures, folder):
    """claims.md; pictures: the names of those that exist; folder: of pictures and tables beside the page."""
    options = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    template = jinja2.Environment(**options, keep_trailing_newline=True).from_string(TEMPLATE.read_text())
    return template.render(
        opening=opening(network, judgements),
        folder=folder,
        study=network.scale.replace("-quick", " --quick"),
        judgements=judgements,
        measurements=measurements(network),
        pictures=pictures,
        circumstances=circumstances(network),
        unequal=UNEQUAL,
        fewest=FEWEST,
        interval=lambda part, name: interval_text(getattr(part, name), part.measure.digits),
        parts_in_words=parts_in_words,
        remarks=remarks,
        verdicts=verdicts,
    )


def interval_text(interval, digits):
    """`-1.23 [-1.50, -0.96]`, without bounds where they are not known, `missing` without a mean."""
    if interval is None:
        return ""
    if not math.isfinite(interval.mean):
        return "missing"
    mean, low, high = (f"{round(value, digits) + 0.0:+.{digits}f}" for value in interval[:3])
    return mean if math.isnan(interval.low) else f"{mean} [{low}, {high}]"


# ---- the opening ----


def opening(network, judgements):
    """Five sentences: where, over no mixing, over CutMix, over the mixups, and what of the paper holds."""
    result = network.runs[0].result
    mean = network.additive("error", MAIN).mean((NONE, "")).mean
    error = "not known yet" if math.isnan(mean) else f"{mean:.1f} %"
    images = result["images"]["train"] // result["classes"]
    so_far = ", so far" * any(judgement.so_far != judgement.verdict for judgement in judgements)
    mixups = [other for other in ("mixup", MANIFOLD) if other in network.design.methods]
    return [
        f"**Where**: {images} training images a class of CIFAR-100, {recipes.printed(network.model)} of width "
        f"{result['recipe']['width']}, {result['recipe']['epochs']} epochs; its test error without mixing is {error}, "
        f"that of the paper's {recipes.printed(network.model)} {table2(network.model)[NONE, ''][0]:.1f} %. "
        f"{len(network.runs)} of {network.wanted_runs} runs are done.",
        f"**Over no mixing**: {ahead(network, NONE)}.",
        f"**Over CutMix**: {ahead(network, CUTMIX)}.",
        f"**Over the mixups**: {'; '.join(f'against {recipes.printed(m)} {ahead(network, m)}' for m in mixups)}.",
        f"**Of the paper's claims**{so_far}: {tally(judgements)}.",
    ]


def ahead(network, other):
    """How Soft and Hard PatchUp compare with another method on test error, in words."""
    paper = table2(network.model)
    findings = {method: finding(network, pair("error", method, other, 0, paper)) for method in PATCHUP}
    missing = all(math.isnan(part.pooled.mean) for part in findings.values())
    told = {m: f"is {in_paper(part)} of test error" if missing else lead(part) for m, part in findings.items()}
    words = " and ".join(f"{recipes.printed(method)} {text}" for method, text in told.items())
    place = f"{recipes.printed(network.model)} on CIFAR-100"
    return f"not compared yet; in the paper, {place}, {words}" if missing else words


def in_paper(part):
    """`ahead by 4.67 points`, in the paper; nothing where it has no numbers."""
    return f"{side(part.paper.mean)} by {abs(part.paper.mean):.2f} points" if part.paper else ""


def lead(part):
    """`is ahead by 5.02 points of test error [4.51, 5.53] (paper: ahead by 4.67 points)` for its Finding."""
    paper = in_paper(part)
    mean, low, high, _ = part.pooled
    low, high = sorted((abs(low), abs(high)))
    if math.isnan(mean):
        text = "has no run to compare yet"
    elif not part.enough:
        text = f"is {side(mean)} by {abs(mean):.2f} points of test error ({part.seeds} seed{'s' * (part.seeds > 1)})"
    elif part.side:
        text = f"is {side(mean)} by {abs(mean):.2f} points of test error [{low:.2f}, {high:.2f}]"
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
        names = [f'{claim.number} "{claim.title}"' if verdict == FAILS else str(claim.number) for claim in claims]
        if claims:
            words.append(f"{counted(verdict, len(claims))} ({', '.join(names)})")
    excluded = [str(j.claim.number) for j in judgements if any(part.excludes_paper for part in j.parts)]
    return "; ".join(words) + f"; the paper's margin is excluded in parts of {', '.join(excluded)}" * bool(excluded)


def counted(verdict, count):
    """`3 claims hold`, `no verdict yet on 12 claims`."""
    claims = f"{count} claim{'s' * (count > 1)}"
    verbs = {HOLDS: "hold", FAILS: "do not hold"}
    if verdict in verbs:
        return f"{claims} {verbs[verdict] if count > 1 else verdict}"
    return f"{verdict}: {claims}" if verdict == UNTESTABLE else f"{verdict} on {claims}"


# ---- a claim ----


def parts_in_words(judgement):
    """`8 parts: 2 hold, 1 contradicted`, ..."""
    words = {HOLDS: "hold", FAILS: "contradicted", UNDECIDED: "undecided", NO_VERDICT: "without verdict yet"}
    seen = [part.verdict for part in judgement.parts]
    counts = [f"{seen.count(verdict)} {word}" for verdict, word in words.items() if verdict in seen]
    return f"{len(seen)} part{'s' * (len(seen) > 1)}: {', '.join(counts)}"


def verdicts(judgement):
    """The verdicts of the parts, with Holm's p value where one is against the claim."""
    words = []
    for part, p in zip(judgement.parts, judgement.corrected):
        word = f"contradicted (p {p:.2g})" if part.verdict == FAILS else part.verdict
        words.append(word + "; the paper's margin is excluded" * part.excludes_paper)
    return words


def remarks(judgement):
    """What is to be known of a claim: its remark, why it cannot be tested, what the paper and the study leave open."""
    claim, parts = judgement.claim, judgement.parts
    sentences = [claim.remark, claim.floor]
    if labels := [part.label for part in parts if not part.paper_decides]:
        words = f"{len(labels)} of {len(parts)} parts undecided: {'; '.join(labels)}"
        sentences.append(f"The paper's own numbers leave {words}.")
    if claim.absent:
        sentences.append(f"{claim.absent} more parts need runs that this study does not have.")
    return " ".join(filter(None, sentences))


# ---- what was run ----


def circumstances(network):
    """How far the recipe is from the paper's, images, seeds, device and hours."""
    result = network.runs[0].result
    recipe, images, environment = result["recipe"], result["images"], result["environment"]
    theirs = recipes.used(recipes.resolve(recipe["dataset"], network.model, NONE))
    words = ", ".join(
        f"{name} {value} ({theirs.get(name, 'all')})"
        for name, value in recipe.items()
        if name != "seed" and theirs.get(name) != value
    )
    seeds = {part: sorted({s for runs in network.cells[part,].values() for s in runs}) for part in network.rows}
    words_of_seeds = ", ".join(f"{part} {s[0]}" + f" to {s[-1]}" * (len(s) > 1) for part, s in seeds.items() if s)
    training = sum(run.result["seconds"] for run in network.runs) / 3600
    evaluating = sum(kept["seconds"] for run in network.runs for kept in run.evaluations.values()) / 3600
    return (
        f"Differs from the paper's recipe (in brackets): {words}. {network.design.reason}\n\n"
        f"{images['train']:,} training, {images['val']:,} validation and {images['test']:,} test images. "
        f"{len(network.runs)} of {network.wanted_runs} runs (seeds: {words_of_seeds}); "
        f"{training:.1f} hours of training and {evaluating:.1f} of evaluation, summed over runs, as they passed. "
        f"{environment['device']}, {environment['threads']} thread(s) a run, torch {environment['torch']}."
    )


# ---- claims.csv ----

CSV = ["claim", "kind", "measure", "what", "seeds", "mean", "low", "high", "p", "p_holm", "paired_low", "paired_high"]
CSV += ["unequal", "best_epoch", "best_low", "best_high", "paper", "paper_low", "paper_high", "says", "verdict"]


def csv(judgements):
    """claims.csv: a row a contrast."""
    rows = []
    for judgement in judgements:
        parts = [("part", part, p, part.verdict) for part, p in zip(judgement.parts, judgement.corrected)]
        for kind, part, p, verdict in (*parts, *(("beside", part, math.nan, "") for part in judgement.beside)):
            names = judgement.claim.number, kind, part.contrast.measure, part.label, part.seeds
            best, paper = ((interval or Interval())[:3] for interval in (part.best, part.paper))
            paired = *part.paired[1:3], part.unequal
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
