"""scripts/claims: verdicts from records with known numbers, the page, and what is published."""

import json
import math
import re

import numpy as np
import pytest
import study_records
from study_records import lines_of, write_lines

import recipes
from engine.files import BadInput
from scripts.claims import __main__ as claims
from scripts.claims import catalogue, judge, measured, page, pictures, records
from scripts.claims.catalogue import CUTMIX, HARD, MANIFOLD, NONE, SOFT, Contrast
from scripts.claims.judge import FAILS, HOLDS, NO_VERDICT, UNDECIDED, UNTESTABLE, Finding, Judgement
from scripts.claims.network import Network
from scripts.grid.statistics import Interval

PREACT = "preactresnet18"


def network_of(folder):
    """The Network of a folder of records."""
    return Network(records.read(folder), PREACT)


def judged(folder):
    """{number: Judgement} of records."""
    return {judgement.claim.number: judgement for judgement in judge.judge(network_of(folder))}


# ---- the rule ----

BELOW, ABOVE = Interval(-2.0, -2.5, -1.5, 1e-6), Interval(2.0, 1.5, 2.5, 1e-6)
AROUND, WEAK = Interval(-0.2, -1.0, 0.6, 0.5), Interval(1.0, 0.1, 1.9, 0.04)


def part(pooled, says=-1, seeds=8, paired=None, unequal=False, paper=None, complete=True):
    enough = seeds >= judge.FEWEST
    contrast = Contrast("error", {}, says)
    return Finding(contrast, "a - b", seeds, enough, complete, pooled, paired or pooled, None, paper, unequal)


def judgement(*parts, floor="", absent=0):
    return Judgement(catalogue.Claim(1, "", "", (), floor=floor, absent=absent), parts, ())


@pytest.mark.parametrize(
    "parts, verdict",
    [
        ([part(BELOW)], HOLDS),
        ([part(ABOVE)], FAILS),
        ([part(ABOVE, says=1)], HOLDS),
        ([part(AROUND)], UNDECIDED),
        ([part(BELOW), part(BELOW)], HOLDS),
        ([part(BELOW), part(AROUND)], UNDECIDED),
        ([part(BELOW), part(AROUND), part(ABOVE)], FAILS),
        ([part(BELOW, seeds=2)], NO_VERDICT),  # too few
        ([part(BELOW), part(Interval(), seeds=0)], NO_VERDICT),
        ([part(ABOVE), part(Interval(), seeds=0)], FAILS),  # the other part cannot mend that
        ([part(WEAK)], FAILS),
        ([part(WEAK), *[part(AROUND)] * 5], UNDECIDED),  # 0.04 does not survive Holm
        ([part(Interval(-1.0, -1.9, -0.1, 0.04))] * 6, HOLDS),  # as all must, no correction
        ([part(BELOW, unequal=True, paired=AROUND)], UNDECIDED),  # Levene: both intervals decide
        ([part(BELOW, unequal=True)], HOLDS),
        ([part(BELOW, unequal=True, paired=ABOVE)], UNDECIDED),
        ([part(ABOVE, unequal=True, paired=AROUND)], UNDECIDED),
    ],
)
def test_verdicts(parts, verdict):
    assert judgement(*parts).verdict == verdict


def test_what_is_missing_keeps_a_claim_from_holding():
    assert judgement(part(BELOW), absent=1).verdict == UNDECIDED
    assert judgement(part(BELOW), floor="Nothing to compare.").verdict == UNTESTABLE
    assert judgement(part(BELOW, complete=False)).so_far == "holds so far"
    assert judgement(part(BELOW, seeds=2, complete=False)).so_far == NO_VERDICT


def test_the_papers_margin():
    paper = Interval(-4.7, -5.1, -4.2, 1e-9)
    assert part(BELOW, paper=paper).excludes_paper and not part(AROUND, paper=AROUND).excludes_paper
    assert not part(BELOW, paper=paper, unequal=True, paired=Interval(-3, -5, -1)).excludes_paper
    assert not part(BELOW, paper=paper, seeds=2).excludes_paper and not part(BELOW).excludes_paper
    assert part(BELOW, paper=paper).paper_decides and not part(BELOW, paper=AROUND).paper_decides
    assert not part(BELOW, paper=ABOVE).paper_decides and part(BELOW).paper_decides  # contradicts; prints none
    assert page.verdicts(judgement(part(ABOVE, paper=paper))) == [
        "contradicted (p 1e-06); the paper's margin is excluded"
    ]


# ---- claims from records ----


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Records in which the clean order is the paper's, and all evaluations follow it."""
    return study_records.make(tmp_path_factory.mktemp("plain") / "study/cpu")


def make(folder, errors, **options):
    """{number: Judgement} of records whose errors are {(part, method) or (part, method, variant): error}, else 70."""

    def error(part, method, variant, seed):
        value = errors.get((part, method, variant), errors.get((part, method), 70.0))
        noise = np.random.default_rng([*map(ord, f"{part}{method}{variant}"), seed]).uniform(-0.1, 0.1)
        return None if value is None else value + seed + noise

    return judged(study_records.make(folder, error, **options))


def of_ranks(*methods):
    """Errors 2 points apart in this order, then all others together."""
    return {("methods", method): 60.0 + 2 * rank for rank, method in enumerate(methods)}


FEW = ("size", SOFT, "10x375")
BETTER = {("parts", HARD, name): 72.0 for name in ("L1", "official_L2", "k=1", "k=2", "mask_k=0")}
CLAIMS = {
    "as in the paper": (of_ranks(HARD, SOFT), {1: HOLDS, 10: HOLDS, 12: FAILS}),  # their activations are the largest
    "soft before hard": (of_ranks(SOFT, HARD), {1: FAILS, 7: HOLDS, 8: HOLDS, 9: HOLDS}),
    "others ahead": (of_ranks(NONE, CUTMIX, SOFT), {7: FAILS, 8: FAILS, 9: FAILS}),
    "soft gains with fewer images": ({FEW: 68.0, ("methods", SOFT): 69.0}, {2: HOLDS}),
    "soft is ahead by as much everywhere": ({FEW: 68.0, ("methods", SOFT): 68.0}, {2: UNDECIDED}),
    "soft loses with fewer images": ({FEW: 72.0}, {2: FAILS}),
    "parts are worse": (BETTER | {("parts", HARD, "k=3"): 75.0}, {4: HOLDS, 5: HOLDS, 6: HOLDS}),
    "parts are better": (
        {("parts", HARD, "L1"): 65.0, ("parts", HARD, "mask_k=0"): 60.0},
        {4: FAILS, 5: UNDECIDED, 6: FAILS},
    ),
    "ahead of soft as in Table 5": (of_ranks("mixup", MANIFOLD, SOFT), {11: HOLDS}),
}


@pytest.mark.parametrize("errors, verdicts", CLAIMS.values(), ids=CLAIMS)
def test_claims_follow_the_records(tmp_path, errors, verdicts):
    judgements = make(tmp_path, errors)
    assert {number: judgements[number].verdict for number in verdicts} == verdicts


def test_parts_have_the_differences_of_ours_and_of_the_papers(tmp_path):
    judgements = make(tmp_path / "a", of_ranks(HARD, SOFT) | {FEW: 69.0}, best=lambda error: 140 - error)
    first = judgements[1].parts[0]
    assert [len(judgements[number].parts) for number in (1, 2, 4, 10, 11)] == [8, 1, 2, 16, 6]
    assert first.pooled.mean == pytest.approx(-2, abs=0.1) and first.paper.mean == pytest.approx(19.12 - 19.95)
    assert first.best.mean == pytest.approx(-first.pooled.mean), "it stands beside and decides nothing"
    assert judgements[2].parts[0].pooled.mean == pytest.approx((69 - 70) - (62 - 60), abs=0.15)
    assert judgements[2].parts[0].paper.mean == pytest.approx((29.812 - 33.116) - (16.726 - 16.134))
    assert judgements[10].parts[0].pooled.mean == pytest.approx(4, abs=0.2)
    assert [p.paper_decides for p in judgements[4].parts] == [False, True]  # by its own numbers
    assert "The paper's own numbers leave 1 of 2 parts undecided: Hard PatchUp" in page.remarks(judgements[4])
    assert all(p.complete for judgement in judgements.values() for p in judgement.parts)


def test_one_or_two_seeds_decide_nothing(tmp_path):
    for seeds in ((0,), (0, 1)):
        judgements = make(tmp_path / str(len(seeds)), of_ranks(HARD, SOFT), seeds=seeds)
        assert {judgement.verdict for judgement in judgements.values()} == {NO_VERDICT}
        assert judgements[1].parts[0].seeds == len(seeds)
    assert not math.isnan(judgements[1].parts[0].pooled.low)  # the interval is shown all the same


def test_two_seeds_decide_where_the_design_has_no_more_and_absent_methods_keep_a_claim_open(tmp_path):
    first = make(tmp_path, of_ranks(HARD, SOFT), scale="gpu-minutes", evaluated=False)[1]
    assert [part.verdict for part in first.parts] == [HOLDS] * 4
    assert first.claim.absent == 4 and first.so_far == UNDECIDED


def test_missing_runs_leave_the_others_verdicts(tmp_path):
    first = make(tmp_path, of_ranks(HARD, SOFT) | {("methods", "puzzlemix"): None})[1]
    assert [p.verdict for p in first.parts] == [HOLDS] * 7 + [NO_VERDICT] and first.verdict == NO_VERDICT
    assert page.interval_text(first.parts[-1].pooled, 2) == "missing"


@pytest.mark.parametrize("options, words", [({"clean": 99.0}, "times chance"), ({"taken": 0.02}, "less than a tenth")])
def test_foolbox_needs_accuracy_and_attacks(tmp_path, options, words):
    claim = make(tmp_path, {}, **options)[11]
    assert claim.verdict == UNTESTABLE and words in claim.claim.floor


def test_the_paper_is_on_the_side_of_what_is_asked(plain):
    """Where it prints numbers, but for those that it leaves undecided."""
    parts = [part for judgement in judged(plain).values() for part in judgement.parts if part.paper and part.paper.side]
    assert len(parts) > 30
    assert [part.label for part in parts if part.paper.side != part.contrast.says] == []


def test_measures_are_of_their_own_evaluations(plain):
    network = network_of(plain)
    none, soft, hard = (network.cells["methods",][method, ""][0].numbers for method in (NONE, SOFT, HARD))
    clean = none["error"]
    assert none["affine"] == pytest.approx(clean + 5 + 3.5)
    assert none["affine shear_28.6"] == pytest.approx(clean + 7)
    assert none["fgsm official"] == pytest.approx(100 - clean - 0.35, abs=1e-3)
    assert soft["fgsm"] == pytest.approx(100 - soft["error"] + 0.25 + 0.25, abs=1e-3)
    assert none["corruption"] == pytest.approx(clean + 8)
    assert hard["magnitude layer1"] == pytest.approx(20, abs=0.1)
    assert none["ddn"] == pytest.approx(1 - clean / 200, abs=1e-5)
    assert len(network.values("affine")[NONE, ""]) == 5 and len(network.values("error")[NONE, ""]) == 8


def test_measured_lines(plain, tmp_path, monkeypatch):
    network = network_of(plain)
    by_number = {number: text for number, _, text in measured.measurements(network)}
    assert "Soft PatchUp 1.02, Hard PatchUp 2.04" in by_number[13]
    assert "No Mixup +10.0" in by_number[15]
    rows = {"none": (1.0, 0.0), "patchup_soft k=1": (1.02, 2.0), "puzzlemix": (1.7, 70.0)}
    steps = {case: {"over_none": ratio, "own": share / 50, "step": 2 * ratio} for case, (ratio, share) in rows.items()}
    record = {"environment": {"device": "x86_64"}, "recipe": {"model": PREACT}, "methods": steps}
    (tmp_path / "cpu.json").write_text(json.dumps(record))
    (tmp_path / "gpu.json").write_text(json.dumps(record | {"environment": {"device": "A GPU"}}))
    (tmp_path / "wrn.json").write_text(json.dumps(record | {"recipe": {"model": "wrn28_10"}}))
    monkeypatch.setattr(measured, "BENCHMARKS", tmp_path)
    by_number = {number: text for number, _, text in measured.measurements(network)}
    assert by_number[3].endswith("full width: Soft PatchUp k=1 1.02 (own operations 2.0 %).")
    assert by_number[14].count("Puzzle Mix 1.70") == 1
    (tmp_path / "cpu.json").write_text(json.dumps(record | {"methods": {"puzzlemix": {"over_none": 2}}}))
    with pytest.raises(BadInput, match="cpu.json has no steps"):
        measured.measurements(network)


# ---- records ----


def test_records_are_read_as_written(plain, tmp_path):
    study = records.read(plain)
    records.write(tmp_path, study)
    assert (tmp_path / records.FILE).read_bytes() == (plain / records.FILE).read_bytes()
    assert len(study.runs) == study.wanted(PREACT) == 152
    record = next(iter(study))
    assert study.of(record.result["recipe"]) is record and record.result["method"] == "none"
    assert [place[0] for place in study.rows(record)] == ["methods", "size"]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({4: {"recipe": {"lr": 0.2}}}, r"line 5: .*another recipe than the study cpu \(lr 0.2 there, 0.1 here\)"),
        ({2: {"classes": 10}}, "line 3: classes 10, the study's is 100"),
        ({1: {"digest": "a"}, 2: {"digest": "b"}}, "line 3: digest b, the study's is a"),  # the first has none: older
    ],
)
def test_records_of_other_runs_or_images_are_refused(plain, tmp_path, changes, words):
    lines = lines_of(plain)[:5]
    for number, change in changes.items():
        lines[number]["result"]["recipe"] |= change.pop("recipe", {})
        lines[number]["result"] |= change
    write_lines(tmp_path, lines)
    with pytest.raises(BadInput, match=words):
        records.read(tmp_path)


def test_records_of_another_study_are_refused(plain):
    with pytest.raises(BadInput, match="is of the study cpu, not gpu"):
        records.read(plain, "gpu")


def test_epochs_that_are_free_are_the_same_for_all_runs(tmp_path):
    folder = study_records.make(tmp_path / "a", scale="gpu-minutes", evaluated=False)
    lines = lines_of(folder)
    for line in lines:
        line["result"]["recipe"]["epochs"] = 60
    write_lines(tmp_path / "b", lines)
    assert len(records.read(tmp_path / "b").runs) == 10
    lines[3]["result"]["recipe"]["epochs"] = 61
    write_lines(tmp_path / "c", lines)
    with pytest.raises(BadInput, match="line 4: epochs 61, the study's is 60"):
        records.read(tmp_path / "c")


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: "{",
        lambda line: "[1]",
        lambda line: "[" * 100_000,
        lambda line: json.dumps({"scale": "cpu"}),
        lambda line: json.dumps(line | {"result": [1]}),
        lambda line: json.dumps(line | {"result": line["result"] | {"last_epoch_test_error": "low"}}),
        lambda line: json.dumps(line | {"result": line["result"] | {"seed": 7}}),
        lambda line: json.dumps(line | {"evaluations": {"affine": {"cases": {}}}}),
        lambda line: json.dumps(line | {"evaluations": {"affine": line["evaluations"]["affine"] | {"cases": {}}}}),
        lambda line: json.dumps(line | {"evaluations": {"unknown": {}}}),
        lambda line: json.dumps(line | {"diversity": [["a", "b"]]}),
        lambda line: json.dumps(line | {"scale": ["cpu"]}),
        None,
    ],
)
def test_damaged_records_are_named_in_one_line(tmp_path, capsys, plain, damage):
    folder = tmp_path / "cpu"
    folder.mkdir()
    texts = (plain / records.FILE).read_text().splitlines()[:3]
    if damage:
        texts[2] = damage(json.loads(texts[2]))
        (folder / records.FILE).write_text("\n".join(texts) + "\n")
    assert claims.main(["--records", str(folder), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert records.FILE in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
    assert not damage or "line 3" in error


# ---- the page ----


def derived(folder, named="study/cpu"):
    """What scripts/claims would write, but the pictures, and the README's section."""
    texts, beside, section = claims.derive(network_of(folder), named)
    return texts, {name: text for name, text in beside.items() if isinstance(text, str)}, section


def test_the_page_has_every_verdict_and_number(plain, tmp_path, capsys):
    folder, readme = tmp_path / "study/cpu", tmp_path / "README.md"
    write_lines(folder, lines_of(plain))
    readme.write_text("# A\n\n## What holds\n\nold\n\n## Next\n\ntext\n")
    assert claims.main(["--records", str(folder), "--out", str(tmp_path), "--readme", str(readme)]) == 0
    text = (tmp_path / "claims.md").read_text()
    for number, claim in judged(folder).items():
        assert f"| {number} | {claim.claim.title} | **{claim.verdict}** |" in text
        for p in claim.parts:
            assert f"{p.label}, " in text and page.interval_text(p.pooled, p.measure.digits) in text
    opening = text.splitlines()[2:7]
    assert [line[:2] for line in opening] == ["- "] * 5
    assert "50 training images a class" in opening[0] and "152 of 152 runs" in opening[0]
    assert re.search(
        r"Hard PatchUp is ahead by 3.\d\d points of test error \[3.\d\d, 4.\d\d\] \(paper: ahead by 5.50 p", opening[1]
    )
    texts, beside, section = derived(folder)
    assert section in capsys.readouterr().out and len(section.splitlines()) <= 12
    assert readme.read_text() == f"# A\n\n{section}\n## Next\n\ntext\n"
    assert {name: (tmp_path / name).read_text() for name in texts} == texts
    assert {name: (folder / name).read_text() for name in beside} == beside
    for name in ("errors", "sizes", "robustness"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG") and f"study/cpu/{name}.png" in text


def test_a_readme_without_the_section_is_refused_before_anything_is_written(plain, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pictures, "png", lambda draw: b"")
    folder, readme = tmp_path / "cpu", tmp_path / "README.md"
    write_lines(folder, lines_of(plain))
    readme.write_text("# A\n")
    assert claims.main(["--records", str(folder), "--out", str(tmp_path / "out"), "--readme", str(readme)]) == 2
    assert "has no section '## What holds'" in capsys.readouterr().err and readme.read_text() == "# A\n"
    assert not (tmp_path / "out").exists() and len(list(folder.iterdir())) == 1


def test_a_study_of_one_run_can_be_shown(tmp_path):
    def error(part, method, variant, seed):
        return 80.0 if (part, method, variant) == ("methods", NONE, "") else None

    folder = study_records.make(tmp_path / "cpu", error, seeds=(0,), evaluated=False)
    texts, _, section = derived(folder)
    assert "1 of 152 runs are done" in section
    place = "PreActResNet18 on CIFAR-100"
    assert f"not compared yet; in the paper, {place}, Soft PatchUp is ahead by 4.67 points of test error" in section
    assert "no verdict yet on 12 claims (1, " in texts["claims.md"] and "| 0 | missing" not in texts["claims.md"]
    assert "Nothing of ours is measured yet (part: 8 rows)" in texts["claims.md"]


def test_what_only_the_paper_measured_is_not_told_as_ours(tmp_path):
    def error(part, method, variant, seed):
        return {(NONE, ""): 80.0, (SOFT, ""): 78.0}.get((method, variant)) if part == "methods" else None

    section = derived(study_records.make(tmp_path / "cpu", error, seeds=(0,), evaluated=False))[2]
    assert "Soft PatchUp is ahead by 2.00 points of test error (1 seed) (paper: ahead by 4.67 points)" in section
    assert "Hard PatchUp has no run to compare yet (paper: ahead by 5.50 points)" in section


def test_what_does_not_hold_is_named_and_said_to_be_so_far_while_seeds_are_missing(tmp_path):
    def error(part, method, *row):
        return study_records.plain_error(part, {NONE: HARD, HARD: NONE}.get(method, method), *row)

    for seeds, words in ((range(3), ", so far"), (None, "")):
        section = derived(study_records.make(tmp_path / f"cpu{words}", error, seeds=seeds))[2]
        assert f"**Of the paper's claims**{words}: " in section
        assert '(1 "Hard PatchUp has the lowest test error, Soft PatchUp the second lowest", ' in section


@pytest.mark.parametrize("scale", recipes.DESIGNS)
def test_every_design_can_be_shown_from_its_first_run(tmp_path, scale):
    """Rows that a claim reads and a design has not would be errors."""
    folder = study_records.make(tmp_path, scale=scale, seeds=(0,), evaluated=not scale.startswith("gpu"))
    study = records.read(folder)
    claims.derive(Network(study, study.models[0]), "x")


# ---- what is published ----

PUBLISHED = claims.PUBLISHED / "study" / claims.SCALE


@pytest.mark.skipif(not (PUBLISHED / records.FILE).exists(), reason="no records of the study are published")
def test_what_is_published_follows_from_its_records():
    texts, beside, section = derived(PUBLISHED)
    assert {name: (claims.PUBLISHED / name).read_text() for name in texts} == texts
    assert {name: (PUBLISHED / name).read_text() for name in beside} == beside
    assert section in (claims.ROOT / "README.md").read_text()
