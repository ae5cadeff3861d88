"""comparison.py: the statistics of a table's cells, and its texts."""

import json
import math

import pandas as pd
import pytest
from scipy import stats

import recipes
from scripts.grid import comparison
from scripts.grid.grids import Cell
from scripts.grid.statistics import AdditiveModel, welch

ERROR = recipes.Metric("test_error", "test error (%)")
PLACE = ("cifar100", "wrn28_10")


def table(values, metric=ERROR, paper=(), wanted=2, rows=None, printed=None):
    """The comparison of {method: values of its runs, from seed 0 on}."""
    rows = rows or {method: recipes.Row(method) for method in values}
    cells = {Cell(*PLACE, row.method, row.variant): row for row in rows.values()}
    runs = [(*cell, seed, metric.name, v) for cell, name in zip(cells, rows) for seed, v in enumerate(values[name])]
    frame = pd.DataFrame(runs, columns=[*comparison.CELL, "seed", "metric", "value"])
    return comparison.compare(cells, [metric], frame, dict(paper), dict.fromkeys(cells, wanted), printed)


def test_differences_to_none_and_to_the_best_other():
    frame = table({"none": [10.0, 12.0], "mixup": [8.0, 9.0], "patchup_hard": [7.0, 7.5], "cutmix": []})
    rows = frame.set_index("method")
    assert rows.to_none.round(3).tolist()[1:3] == [-2.5, -3.75] and math.isnan(rows.to_none["none"])
    assert rows.best_other.tolist()[:3] == ["Hard PatchUp", "Hard PatchUp", "Input Mixup"]
    assert rows.to_best.round(3).tolist()[:3] == [3.75, 1.25, -1.25]
    assert rows["rank"].tolist()[:3][1:] == [2, 1] and rows["rank"].isna().tolist() == [True, False, False, True]


def test_intervals_are_of_the_blocks_additive_model():
    values = {"none": [10.0, 14.0, 12.5], "mixup": [8.0, 12.5, 10.0], "cutmix": [7.5, 11.0, 9.9]}
    rows = table(values, wanted=3).set_index("method")
    model = AdditiveModel({method: dict(enumerate(runs)) for method, runs in values.items()})
    interval = model.contrast({"cutmix": 1, "none": -1})
    shown = rows.loc["cutmix", ["to_none", "to_none_low", "to_none_high"]].tolist()
    assert shown == pytest.approx(list(interval[:3])) and interval.high < 0  # Welch's would contain zero
    assert rows.deviation.tolist() == pytest.approx([model.deviation_of(method) for method in values])


def test_the_difference_to_the_paper_is_welchs():
    rows = table({"none": [22.0, 23.0, 22.4]}, paper=PAPER, wanted=3).iloc[0]
    interval = welch([(1, rows["mean"], rows["std"], 3), (-1, 22.442, 0.226, 5)])
    expected = stats.ttest_ind_from_stats(rows["mean"], rows["std"], 3, 22.442, 0.226, 5, equal_var=False)
    assert interval.p == pytest.approx(expected.pvalue)
    assert [rows.difference_low, rows.difference_high] == pytest.approx([interval.low, interval.high])
    assert rows.difference_low < 0 < rows.difference_high


def test_a_cell_with_missing_seeds_or_without_a_number_is_never_the_best():
    values = {"none": [10.0, 12.0], "mixup": [1.0], "cutmix": [8.0, 9.0], "cutout": [math.nan, math.nan]}
    rows = table(values).set_index("method")
    assert rows["rank"].isna().tolist() == [False, True, False, True] and rows["rank"]["cutmix"] == 1
    assert rows.best_other.tolist()[:3] == ["CutMix", "CutMix", "No Mixup"]
    assert rows.to_best["mixup"] == pytest.approx(1 + 0.75 - 8.5)  # none and CutMix tell what seed 1 adds


def test_rows_with_fewer_seeds_are_ranked_at_equal_seeds():
    """The second seed is 10 points worse for all: a row that wants the first alone is not the best for that."""
    rows = {name: recipes.Row(name) for name in ("none", "mixup", "cutout")}
    cells = {Cell(*PLACE, name): row for name, row in rows.items()}
    values = {"none": [20.0, 30.0], "mixup": [19.0, 29.5], "cutout": [21.0]}
    runs = [(*PLACE, name, "", seed, "test_error", v) for name in values for seed, v in enumerate(values[name])]
    frame = pd.DataFrame(runs, columns=[*comparison.CELL, "seed", "metric", "value"])
    wanted = {cell: len(values[cell.method]) for cell in cells}
    rows = comparison.compare(cells, [ERROR], frame, {}, wanted).set_index("method")
    assert rows["rank"].tolist()[:2] == [2, 1] and rows.best_other["cutout"] == "Input Mixup"


def test_the_papers_marks_are_ranked_over_its_whole_block():
    errors = {"none": 22.4, "mixup": 18.7, "patchup_hard": 16.1}
    paper = {(*PLACE, name, "test_error"): (error, 0.2) for name, error in errors.items()}
    printed = [Cell(*PLACE, name) for name in errors]
    rows = table({"none": [22.0], "mixup": [19.0]}, paper=paper, printed=printed)
    assert rows.paper_rank.isna().tolist() == [True, False] and rows.paper_rank[1] == 2
    assert table({"none": [22.0], "mixup": [19.0]}, paper=paper).paper_rank.tolist() == [2, 1]


def test_ranks_follow_what_is_better_and_ties_share():
    assert comparison.ranking({"a": 2.0, "b": 1.0, "c": 1.0, "d": 3.0}) == {"a": 2, "b": 1, "c": 1}
    assert comparison.ranking({"a": 2.0, "b": math.nan}) == {} == comparison.ranking({"a": 1.0, "b": 1.0})
    values = {"none": [0.5, 0.6], "mixup": [0.7, 0.8]}
    higher = table(values, recipes.Metric("a", "accuracy", better="higher"))
    assert higher["rank"].tolist() == [2, 1] and higher.best_other.tolist() == ["Input Mixup", "No Mixup"]
    neither = table(values, recipes.Metric("m", "magnitude", better=""))
    assert neither["rank"].isna().all() and neither.to_best.isna().all() and neither.to_none.tolist()[1] > 0.19


def test_variants_of_a_method_have_the_papers_numbers_of_their_own():
    rows = {
        "L1": recipes.Row("patchup_hard", "loss=L1", "L1", {"loss_terms": "first"}),
        "both": recipes.Row("patchup_hard", "loss=L1+L2", "L1+L2"),
    }
    metric = recipes.Metric("augmented_val_error", "validation error (%)", paper="val_error")
    paper = {(*PLACE, "patchup_hard", "val_error@loss=L1"): (16.1, 0.2)}
    frame = table({"L1": [17.0, 18.0], "both": [16.0, 16.0]}, metric, paper, rows=rows)
    assert frame.label.tolist() == ["Hard PatchUp, L1", "Hard PatchUp, L1+L2"]
    assert frame["mean"].tolist() == [17.5, 16.0] and frame.difference.round(3).tolist()[0] == 1.4
    assert math.isnan(frame.paper_mean[1]) and frame.best_other.tolist() == ["Hard PatchUp, L1+L2", "Hard PatchUp, L1"]


HEADER = comparison.Header("table2", "Table 2: test_error", "", "A remark.")
PAPER = {(*PLACE, "none", "test_error"): (22.442, 0.226), (*PLACE, "patchup_hard", "test_error"): (16.134, 0.197)}
VALUES = {"none": [22.0, 23.0], "mixup": [], "cutmix": [15.0], "patchup_hard": [16.0, 16.4]}


def test_markdown_of_one_block():
    text = comparison.markdown(HEADER, table(VALUES, paper=PAPER))
    assert text.splitlines()[6:] == [
        "| WRN-28-10, CIFAR-100: test error (%) | ours | deviation | paper | ours - paper | to No Mixup "
        "| to the best other |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| No Mixup | <ins>22.50 ± 0.71 (2)</ins> | 0.34 | <ins>22.44 ± 0.23</ins> | +0.058 [-5.361, +5.477] |  "
        "| +6.30 [+2.49, +10.11] (Hard PatchUp) |",
        "| Input Mixup | missing |  |  |  |  |  |",
        "| CutMix | 15.00 (1 of 2) |  |  |  | -7.15 [-12.19, -2.11] | -0.85 [-5.89, +4.19] (Hard PatchUp) |",
        "| Hard PatchUp | **16.20 ± 0.28 (2)** | 0.34 | **16.13 ± 0.20** | +0.066 [-1.369, +1.501] "
        "| -6.30 [-10.11, -2.49] | -6.30 [-10.11, -2.49] (No Mixup) |",
    ]
    assert text.startswith("### Table 2: test_error\n\nOurs: mean ± sample standard deviation (number of runs).")
    assert "A remark." in text


def test_an_overview_of_several_blocks_either_way():
    tables = table(VALUES, paper=PAPER), table(VALUES, recipes.Metric("test_nll", "test NLL"))
    frame = pd.concat(tables, ignore_index=True)
    methods = comparison.overview(frame, "methods")
    assert methods[1] == "| WRN-28-10, CIFAR-100 | test error (%) | test NLL |" and methods[-1] == "Ours / the paper's."
    assert methods[3].startswith("| No Mixup | <ins>22.50 ± 0.71 (2)</ins> / <ins>22.44 ± 0.23</ins> | <ins>22.50")
    metrics = comparison.overview(frame, "metrics")
    assert metrics[1] == "| WRN-28-10, CIFAR-100 | No Mixup | Input Mixup | CutMix | Hard PatchUp |"
    assert metrics[3].endswith("| missing | 15.00 (1 of 2) | **16.20 ± 0.28 (2)** / **16.13 ± 0.20** |")
    assert comparison.markdown(HEADER, frame, details=False).count("to the best other") == 0
    assert comparison.markdown(HEADER, frame).count("to the best other") == 2


def test_a_cited_row_says_so():
    frame = table({"none": [], "mixup": []}, paper=PAPER, wanted=0)
    assert "| No Mixup | cited |  | 22.44 ± 0.23 |" in comparison.markdown(HEADER, frame)


def test_latex_escapes_and_aligns():
    text = comparison.latex(HEADER, table(VALUES, paper=PAPER))
    assert r"\caption{Table 2: test\_error. A remark.}" in text and r"\begin{tabular}{lrr}" in text
    assert r"\multicolumn{2}{c}{test error (\%)}" in text and r"    & ours & paper \\" in text
    assert r"Hard PatchUp & \textbf{16.20 $\pm$ 0.28 (2)} & \textbf{16.13 $\pm$ 0.20} \\" in text
    plain = comparison.latex(HEADER, table(VALUES))
    assert r"\begin{tabular}{lr}" in plain and r"Input Mixup & missing \\" in plain
    assert comparison.escaped("a_b & 5 % {x} \\") == r"a\_b \& 5 \% \{x\} \textbackslash "


def test_what_is_published_is_complete_json(tmp_path, capsys):
    frame = table(VALUES, paper=PAPER)
    comparison.publish(HEADER, frame, tmp_path, "name", frame[["method", "mean"]])
    stored = json.loads((tmp_path / "tables/name.json").read_text(), parse_constant=pytest.fail)
    assert stored["name"] == "table2" and stored["rows"][1]["mean"] is None and stored["rows"][3]["rank"] == 1
    assert stored["rows"][0]["mean"] == 22.5 and stored["rows"][0]["best_other"] == "Hard PatchUp"
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == [
        "name-runs.csv", "name.csv", "name.json", "name.md", "name.tex"
    ]  # fmt: skip
    assert pd.read_csv(tmp_path / "tables/name.csv")["mean"][0] == 22.5
    assert "| Hard PatchUp | **16.20 ± 0.28 (2)**" in capsys.readouterr().out


def test_digits_tell_mean_and_deviation_apart():
    texts = {(1234.5, 2.0): "1234 ± 2", (12.345, math.nan): "12.35", (0.1234, 0.01): "0.123 ± 0.010"}
    texts |= {(0.0, math.nan, 2): "0.00", (2.302, math.nan, 3): "2.302"}  # a metric's own
    assert [comparison.plus_minus(*numbers) for numbers in texts] == list(texts.values())
