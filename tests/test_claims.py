"""claims/ and scripts/claims.py: statistics, verdicts from records with known numbers, and the published page."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import study_records
from scipy import stats

import recipes
from claims import cost, evidence, inside, page, plots, robustness, statistics, verdicts
from claims.claim import FAILS, HOLDS, OPEN, UNTESTABLE, Claim, Group, Part, corrected
from claims.scope import Scope, minus
from data import affine
from engine.files import BadInput
from scripts import claims

PREACT = "preactresnet18"


# ---- statistics ----


def test_t_interval_equals_its_formula():
    values = np.array([-2.0, -1.2, -1.9, -0.4])
    half = stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2
    found = statistics.t_interval(values)
    assert found[:2] == pytest.approx([values.mean() - half, values.mean() + half])
    t = values.mean() / (values.std(ddof=1) / 2)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 3))


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0 + 1e-14], [1.0, math.nan], [1.0, math.inf]])
def test_no_interval_where_there_is_nothing_to_go_by(values):
    assert all(math.isnan(value) for value in statistics.t_interval(values))


def test_bootstrap_of_few_values_counts_all_resamples():
    values = [3.0, -1.0, 4.0, 1.5]
    means = sorted(np.mean(one) for one in itertools.product(values, repeat=4))
    low, high, _ = statistics.bootstrap_interval(values)
    assert (low, high) == (means[math.ceil(0.025 * 256) - 1], means[math.ceil(0.975 * 256) - 1])
    assert statistics.bootstrap_interval([3.0, -1.0, 4.0])[:2] == (-1.0, 4.0)  # of three, their range
    assert math.isnan(statistics.bootstrap_interval([1.0]).low)


def test_bootstrap_of_many_values_is_reproducible_and_close_to_the_normal():
    values = np.random.default_rng(1).normal(5, 2, 60)
    found = statistics.bootstrap_interval(values)
    assert found == statistics.bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(60)
    assert found[:2] == pytest.approx((values.mean() - half, values.mean() + half), abs=0.06)


def test_mcnemar_equals_the_binomial_sum():
    first = np.array([1] * 9 + [0] * 2 + [1] * 5 + [0] * 4, bool)
    second = np.array([0] * 9 + [1] * 2 + [1] * 5 + [0] * 4, bool)
    tail = sum(math.comb(11, k) for k in range(3)) / 2**11
    found = statistics.mcnemar(first, second)
    assert found[:2] == (9, 2) and found.p == pytest.approx(2 * tail)
    assert statistics.mcnemar(first, first).p == 1


def test_holm_by_hand():
    assert statistics.holm([0.04, 0.01, math.nan, 0.03]) == pytest.approx([0.06, 0.03, math.nan, 0.06], nan_ok=True)
    assert statistics.holm([0.6, 0.9]) == [1.0, 1.0] and statistics.holm([]) == []


def test_rank_correlation_equals_scipys():
    first, second = [3.0, 1.0, 2.0, 2.0, 7.0], [1.0, 5.0, 2.0, 2.5, 0.0]
    assert statistics.rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert math.isnan(statistics.rank_correlation([1.0, 1.0], [1.0, 2.0]))


# ---- the rule ----


def part(*values, says=-1):
    return Part("a - b, error", dict(enumerate(values)), says)


def claim(*parts):
    return Claim(1, "", "", "", parts=parts)


BELOW, ABOVE, AROUND = part(-2.0, -2.1, -1.9), part(2.0, 2.1, 1.9), part(-1.0, 1.5, 0.2)


@pytest.mark.parametrize(
    "parts, verdict",
    [
        ((BELOW,), HOLDS),
        ((ABOVE,), FAILS),
        ((AROUND,), OPEN),
        ((BELOW, BELOW), HOLDS),
        ((BELOW, AROUND), OPEN),
        ((BELOW, AROUND, ABOVE), FAILS),
        ((part(-5.0),), OPEN),  # one seed
        ((part(),), OPEN),  # none
        ((), OPEN),
        ((part(2.0, 2.1, 1.9, says=1),), HOLDS),
    ],
)
def test_verdicts(parts, verdict):
    assert claim(*parts).verdict == verdict


def test_one_contradiction_among_many_must_survive_holm():
    weak = part(1.0, 1.9, 1.45)
    assert 0.01 < weak.interval.p < 0.05 and weak.verdict == FAILS
    assert claim(weak).verdict == FAILS
    assert claim(weak, *[AROUND] * 9).verdict == OPEN


def test_many_parts_that_hold_need_no_correction():
    weak = part(-1.0, -1.9, -1.45)
    assert claim(*[weak] * 9).verdict == HOLDS


def test_a_group_shows_its_worst_and_holds_against_each():
    group = Group("a", (BELOW, part(-1.0, -1.1, -0.9)), ("far", "near"))
    assert group.verdict == HOLDS and group.shown.what == "a, nearest: near"
    assert Group("a", (BELOW, ABOVE), ("far", "near")).verdict == FAILS
    assert Group("a", (BELOW, AROUND), ("far", "near")).verdict == OPEN
    assert Group("a", (BELOW, part()), ("far", "missing")).verdict == OPEN
    assert Group("a", (part(-1.0, -1.1, -0.9), part(-2.0, -6.0, -3.0)), ("near", "wide")).shown.what.endswith("wide")
    assert Group("a", (part(-1.0), part(-0.5)), ("far", "near")).shown.what.endswith("near")  # one seed
    assert claim(Group("a", (BELOW, ABOVE), ("far", "near"))).verdict == FAILS
    against, wide, alone = part(1.02, 1.0, 0.98), part(-10.9, 8.9, -1.0), part(-5.0)
    group = Group("a", (wide, against, alone, part()), ("wide", "against", "alone", "missing"))
    assert group.shown.what == "a, nearest: against (1 of 4 without runs)"
    p = statistics.holm([wide.interval.p, against.interval.p, math.nan])[1]
    assert page.row_verdict(group, corrected([group])) == f"contradicted (p {page.p_text(p)})"


def test_texts_of_a_part():
    assert BELOW.in_words == "-2.00 [-2.25, -1.75]"
    assert part(-2.0).in_words == "-2.00" and part().in_words == "missing"
    assert part(-2.0, -2.0).in_words == "-2.00 (all alike)"
    found = claim(BELOW, dataclasses.replace(ABOVE, what="c: d, e (points)"), AROUND).in_one_line
    assert found == "a - b, error: -2.00 [-2.25, -1.75] (3 seeds); of 3 parts 1 hold (a - b), 1 contradicted (c: d)"


def test_differences_are_of_shared_seeds():
    assert minus({0: 5.0, 1: 6.0, 7: 1.0}, {1: 4.0, 0: 1.0, 3: 9.0}) == {0: 4.0, 1: 2.0}


# ---- claims from records ----


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Records in which the clean order is the paper's, and all evaluations follow it."""
    return study_records.make(tmp_path_factory.mktemp("plain") / "study/cpu")


def judged(folder):
    """{number: Claim} of records."""
    return {one.number: one for one in verdicts.judged(Scope(evidence.read(folder), PREACT))}


def noisy(value, part, method, variant, seed):
    """value with a noise of its own for every row and seed, below 0.2, the same everywhere."""
    key = [ord(character) for character in f"{part}{method}{variant}"] + [seed]
    return value + np.random.default_rng(key).uniform(-0.1, 0.1)


def by(errors, default=70.0):
    """error(part, method, variant, seed) of study_records.make, from {(part, method, variant): error}."""

    def error(part, method, variant, seed):
        value = errors.get((part, method, variant), errors.get((part, method), default))
        return None if value is None else noisy(value, part, method, variant, seed)

    return error


def of_ranks(*methods):
    """Errors 2 points apart in this order, then all others together, for the methods' part."""
    return {("methods", method): 60.0 + 2 * rank for rank, method in enumerate(methods)}


def make(tmp_path, errors, **options):
    return judged(study_records.make(tmp_path / "cpu", by(errors), **options))


def test_the_papers_order_holds_and_another_does_not(tmp_path):
    found = make(tmp_path / "a", of_ranks("patchup_hard", "patchup_soft"))
    assert [one.verdict for one in found[1].parts] == [HOLDS] * 8 and found[1].verdict == HOLDS
    assert found[1].parts[0].mean == pytest.approx(-2, abs=0.2)
    assert {one.first > one.second for one in found[1].parts[0].mcnemar.values()} == {True}
    found = make(tmp_path / "b", of_ranks("patchup_soft", "patchup_hard"))
    assert found[1].verdict == FAILS and found[1].parts[0].verdict == FAILS


def test_one_seed_decides_nothing(tmp_path):
    found = make(tmp_path, of_ranks("patchup_hard", "patchup_soft"), seeds=(0,))
    measured = [one for number, one in found.items() if number not in (3, 14)]
    assert {one.verdict for one in measured} == {OPEN}
    assert found[1].parts[0].n == 1 and "1 seed)" in found[1].in_one_line


def test_missing_runs_are_named_and_decide_nothing(tmp_path):
    found = make(tmp_path, of_ranks("patchup_hard", "patchup_soft") | {("methods", "puzzlemix"): None})
    assert found[1].verdict == OPEN
    assert [one.in_words == "missing" for one in found[1].parts].count(True) == 1


def test_soft_gains_with_few_images(tmp_path):
    soft, hard = "patchup_soft", "patchup_hard"
    errors = {("methods", soft): 68.0, ("size", soft, "10x30"): 68.0, ("size", hard, "25x40"): 69.0}
    found = make(tmp_path / "a", errors)[2]
    assert found.verdict == HOLDS and [one.n for one in found.parts] == [5, 3, 3]
    errors = {("size", soft, "25x40"): 68.0, ("size", soft, "25x12"): 68.0}
    found = make(tmp_path / "b", errors)[2]
    assert [one.verdict for one in found.parts] == [OPEN, FAILS, FAILS] and found.verdict == FAILS
    assert make(tmp_path / "c", {("methods", soft): 72.0})[2].verdict == FAILS  # Hard ahead with the fewest images
    assert make(tmp_path / "d", {})[2].verdict == OPEN


def test_loss_terms_layers_and_mask(tmp_path):
    soft, hard = "patchup_soft", "patchup_hard"
    errors = {("loss", soft, "L1+L2"): 65.0, ("layers", hard, "random_k"): 60.0, ("layers", hard, "k=3"): 75.0}
    found = make(tmp_path / "a", errors)
    assert [found[number].verdict for number in (4, 5, 6)] == [HOLDS] * 3
    found = make(tmp_path / "b", {("loss", soft, "L1"): 65.0, ("layers", hard, "mask_k=0"): 60.0})
    assert found[4].verdict == FAILS and found[6].verdict == FAILS and found[5].verdict == OPEN
    apart = found[4].beside[0]
    assert (
        apart.mean == pytest.approx(-5, abs=0.2) and f"at most {max(-apart.values):.3g} points" in found[4].remarks[1]
    )


def test_robustness_follows_the_records(tmp_path):
    found = make(tmp_path / "a", of_ranks("patchup_soft", "patchup_hard"))
    assert found[9].verdict == HOLDS and found[7].verdict == HOLDS and found[8].verdict == HOLDS
    found = make(tmp_path / "b", of_ranks("none", "cutmix", "patchup_soft"))
    assert found[7].verdict == FAILS and found[8].verdict == FAILS and found[9].verdict == FAILS
    assert [one.verdict for one in found[9].parts] == [HOLDS, FAILS]  # Soft before Hard, Hard not before the others
    assert found[7].parts[0].shown.what.endswith("nearest: CutMix")


def test_audit_of_attacks(plain):
    found = judged(plain)[11]
    assert found.remarks[0].endswith("No Mixup, Cutout, DropBlock, CutMix, Puzzle Mix, Hard PatchUp.")  # not Mixup
    assert "weaker than one step of FGSM at 8/255 in 45 of them" in found.remarks[1]
    assert "between 0.810 and 0.810, 26 times" in found.remarks[1]
    assert found.beside[4].mean == pytest.approx(1)  # attacked as clean


def test_soft_is_to_be_most_robust_to_foolbox(tmp_path):
    found = make(tmp_path / "a", of_ranks("mixup", "manifold_mixup", "patchup_soft"))[11]  # those two are ahead of it
    assert found.verdict == HOLDS and [one.n for one in found.parts] == [5] * 6
    assert make(tmp_path / "b", of_ranks("patchup_hard", "patchup_soft"))[11].verdict == FAILS
    assert make(tmp_path / "c", {("methods", "puzzlemix"): None})[11].verdict == OPEN


def test_fgsm_is_judged_where_it_leaves_more_than_chance(plain, tmp_path):
    found = judged(plain)[8]
    assert "six epsilons" in found.parts[0].what and "less than" not in found.remarks[0]
    found = judged(study_records.make(tmp_path / "cpu", by({}, default=99.0)))[8]  # 1 % of 100 classes
    assert "1 to 8 / 255 on pixels" in found.parts[0].what and "pixels' are judged" in found.remarks[0]
    assert [one.what for one in found.beside[:2]] == [
        f"{name} PatchUp, mean accuracy over six epsilons in normalised input (points)" for name in ("Soft", "Hard")
    ]


def test_the_paper_does_not_contradict_what_is_asked_of_the_methods(plain):
    """Where the paper's numbers are of the same quantity, they lie on the claims' side."""
    found = judged(plain)
    assert [one.what[: one.what.index(":")] for one in found[7].parts] == list(affine.SETS)[:7]
    assert found[7].beside[0].what.startswith("scale_1.4") and not found[7].beside[0].parts[0].says
    assert inside.paper_affine("manifold_mixup") == pytest.approx(50.043, abs=0.001)
    assert inside.paper_affine("cutmix") == pytest.approx(49.113, abs=0.001)
    assert [one.what for one in found[12].beside] == ["eight affine sets: ManifoldMixup - CutMix, mean error (points)"]


def test_numbers_are_of_their_own_sets_stages_and_corruptions(plain):
    scope = Scope(evidence.read(plain), PREACT)
    clean = scope.error("none")[0]
    assert robustness.affine_error(scope, "none", "scale_0.6")[0] == clean + 5 + list(affine.SETS).index("scale_0.6")
    assert robustness.affine_mean(scope, "none")[0] == pytest.approx(clean + 5 + 3.5)
    assert robustness.fgsm_accuracy(scope, "none", "official")[0] == pytest.approx(100 - clean - 0.35)
    assert robustness.fgsm_accuracy(scope, "patchup_soft", "pixel")[0] == pytest.approx(
        100 - scope.error("patchup_soft")[0] + 1 + 0.25
    )
    assert inside.magnitude(scope, "patchup_hard", "layer1")[0] == pytest.approx(20)
    frame = plots.robustness_frame(scope)
    soft = frame[(frame.panel == "corruption") & (frame.method == "patchup_soft")]
    assert soft.case.tolist() == ["noise", "blur", "weather", "digital"]
    apart = np.mean(list(minus(scope.error("patchup_soft"), scope.error("none")).values()))
    assert soft["mean"].tolist() == pytest.approx([apart] * 4)


def test_diversity_and_activations(plain):
    found = judged(plain)
    assert found[13].verdict == HOLDS and found[13].parts[0].mean == pytest.approx(1.02)
    assert [one.shown.mean for one in found[10].parts] == pytest.approx([3, 4, 6, 8])
    assert found[12].parts[0].shown.mean == pytest.approx(8)  # ManifoldMixup's is not the lowest here


@pytest.mark.parametrize(
    "gap, verdict, words", [(0.1, HOLDS, "over-confident: No"), (-0.1, FAILS, "under-confident: No")]
)
def test_calibration_has_a_sign(tmp_path, gap, verdict, words):
    found = make(tmp_path, {}, gap=gap)[15]
    assert found.verdict == verdict and words in found.line
    assert found.parts[0].mean == pytest.approx(100 * gap, abs=0.5)


# ---- cost ----


CHEAP, DEAR, BETWEEN = (1.05, 2.0, 1.7), (1.3, 25.0, 1.05), (1.2, 2.0, 1.15)  # a step and own share of Soft; Puzzle Mix


@pytest.mark.parametrize(
    "ratios, three, fourteen", [(CHEAP, HOLDS, HOLDS), (DEAR, FAILS, FAILS), (BETWEEN, OPEN, OPEN)]
)
def test_cost_is_judged_by_the_benchmark(tmp_path, monkeypatch, plain, ratios, three, fourteen):
    soft, own, puzzle = ratios
    rows = {
        "none": (1.0, 0.0),
        "patchup_soft k=1": (soft, own),
        "patchup_hard k=1": (1.0, 1.0),
        "puzzlemix": (puzzle, 70.0),
    }
    named = {case: {"over_none": ratio, "own": share / 50, "step": 2 * ratio} for case, (ratio, share) in rows.items()}
    recipe = {"width": 64, "batch_size": 100}
    record = {"environment": {"device": "x86_64", "threads": 2}, "recipe": {"model": PREACT} | recipe}
    record |= {"methods": named, "command": "python -m scripts.bench.benchmark", "rounds": 3}
    (tmp_path / "cpu.json").write_text(json.dumps(record))
    far = {"methods": {"none": {"over_none": 9, "own": 9, "step": 1}}}
    for name, more in (("gpu", {"environment": {"device": "A GPU"}}), ("wrn", {"recipe": {"model": "wrn28_10"}})):
        (tmp_path / f"{name}.json").write_text(json.dumps(record | far | more))
    monkeypatch.setattr(cost, "FOLDER", tmp_path)
    scope = Scope(evidence.read(plain), PREACT)
    assert (cost.claim3(scope).verdict, cost.claim14(scope).verdict) == (three, fourteen)
    assert f"Soft PatchUp k=1 {soft:.2f} (own operations {own:.1f} %)" in cost.claim3(scope).remarks[0]
    more = {"methods": named | {"patchup_hard k=1": {"over_none": 1.15, "own": 0.02, "step": 2.3}}}
    (tmp_path / "cpu2.json").write_text(json.dumps(record | more))  # both are judged, and named in the one line
    assert cost.claim3(scope).verdict == (FAILS if three == FAILS else OPEN)
    assert f"{max(soft, 1.15):.2f} times" in cost.claim3(scope).line


def test_without_a_benchmark_cost_is_not_testable(tmp_path, monkeypatch, plain):
    monkeypatch.setattr(cost, "FOLDER", tmp_path)
    assert cost.claim3(Scope(evidence.read(plain), PREACT)).verdict == UNTESTABLE
    rows = {"puzzlemix": {"over_none": 2, "own": 1}}
    record = {"environment": {"device": "x86_64"}, "recipe": {"model": PREACT}, "methods": rows}
    (tmp_path / "cpu.json").write_text(json.dumps(record))
    with pytest.raises(BadInput, match="cpu.json has no steps"):
        cost.claim3(Scope(evidence.read(plain), PREACT))


# ---- the page ----


def derived(*folders):
    """What scripts/claims.py would write, but the pictures, and the README's section."""
    read = [evidence.read(folder) for folder in folders]
    found, section = claims.derive([Scope(records, model) for records in read for model in records.models])
    return {name: text for name, text in found.items() if isinstance(text, str)}, section


def test_the_page_has_every_verdict_and_number(plain, tmp_path, capsys):
    assert claims.main(["--records", str(plain), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "claims.md").read_text()
    for number, one in judged(plain).items():
        assert f"| {number} | {one.title} | **{one.verdict}** | {one.in_one_line} |" in text
        assert all(shown.what in text and shown.in_words in text for shown in (part.shown for part in one.parts))
    assert "No Mixup ends at 70.02 ± 4.89 % test error, the paper's at 24.62 ± 0.36 %" in text
    assert "(45 of 45 runs, 1.27 hours)" in text and "(21 of 21 runs, 0.59 hours)" in text
    assert "Seeds: methods 0 to 4; size, loss, layers, official 0 to 2." in text
    assert "McNemar +, - (400 images)" in text
    texts, section = derived(plain)
    assert section in capsys.readouterr().out and len(section.splitlines()) <= 25
    assert {name: (tmp_path / name).read_text() for name in texts} == texts
    for name in ("errors", "sizes", "curves", "robustness", "calibration"):
        assert (tmp_path / f"study/cpu/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_tables_compare_with_none_in_pairs(plain):
    texts, _ = derived(plain)
    scope = Scope(evidence.read(plain), PREACT)
    apart = Part("", minus(scope.error("cutmix"), scope.error("none")))
    assert f"+{apart.mean:.2f}" in next(
        line for line in texts["study/cpu/tables.md"].splitlines()[20:] if "CutMix" in line
    )
    lines = texts["study/cpu/tables.csv"].splitlines()
    assert sum(line.startswith("methods,preactresnet18,cutmix,,CutMix,test_error,5,5,") for line in lines) == 1
    row = 'official,preactresnet18,patchup_soft,bce,"Soft PatchUp, BCE on softmax at lr 5",test_error,3,3,'
    assert row in "\n".join(lines)


def test_several_scales_stand_side_by_side(plain, tmp_path):
    gpu = study_records.make(tmp_path / "study/gpu", scale="gpu", evaluated=False)
    texts, section = derived(gpu, plain)
    assert "| 1 | Hard PatchUp best, Soft PatchUp second | gpu, PreActResNet18 | " in texts["claims.md"]
    assert "| | claim | gpu, PreActResNet18 | cpu, PreActResNet18 |" in section
    assert "study/gpu/tables.md" in texts and len(section.splitlines()) <= 27


def test_a_study_of_one_run_can_be_shown(tmp_path):
    def error(part, method, variant, seed):
        return 80.0 if (part, method) == ("methods", "none") else None

    texts, _ = derived(study_records.make(tmp_path / "cpu", error, seeds=(0,), evaluated=False))
    assert "(1 of 45 runs, 0.03 hours)" in texts["claims.md"] and "not run yet" in texts["claims.md"]


def test_the_readmes_section_is_replaced(tmp_path, plain, monkeypatch):
    monkeypatch.setattr(plots, "png", lambda draw: b"")
    readme = tmp_path / "README.md"
    readme.write_text("# A\n\n## What holds\n\nold\n\n## Next\n\ntext\n")
    assert claims.main(["--records", str(plain), "--out", str(tmp_path), "--readme", str(readme)]) == 0
    assert readme.read_text() == f"# A\n\n{derived(plain)[1]}\n## Next\n\ntext\n"
    with pytest.raises(BadInput, match="no section"):
        page.with_section(tmp_path / "claims.md", "")


def test_what_follows_from_other_records_needs_a_place(plain, capsys):
    assert claims.main(["--records", str(plain)]) == 2
    assert "--records needs --out" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["runs.jsonl", "evaluations.jsonl", "predictions.npz", "epochs.csv", "diversity.csv"])
@pytest.mark.parametrize("content", [None, b'{"scale": "cpu"', b'{"scale": "cpu"}\n'])
def test_damaged_records_are_named_in_one_line(tmp_path, capsys, plain, name, content):
    folder = tmp_path / "cpu"
    folder.mkdir()
    for path in plain.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    assert claims.main(["--records", str(folder), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert name in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


# ---- what is published ----

PUBLISHED = [path for scale in claims.SCALES if (path := claims.PUBLISHED / "study" / scale).is_dir()]


@pytest.mark.skipif(not PUBLISHED, reason="no records of the study are published")
def test_what_is_published_follows_from_its_records():
    texts, section = derived(*PUBLISHED)
    assert {name: (claims.PUBLISHED / name).read_text() for name in texts} == texts
    assert section in (claims.ROOT / "README.md").read_text()


def test_every_row_that_a_claim_reads_is_a_row_of_the_study():
    """All claims of a study without any run, at both scales: a row that is not there would be a KeyError."""
    for scale in recipes.STUDIES:
        empty = evidence.Records(
            None, scale, {}, {}, {}, *(evidence.pd.DataFrame(columns=c) for c in evidence.COLUMNS.values())
        )
        for model in recipes.STUDY_MODELS[scale]:
            assert [one.number for one in verdicts.judged(Scope(empty, model))] == list(range(1, 16))
