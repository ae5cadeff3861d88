"""comparison.py: the statistics of a table's cells, and its texts."""

import json
import math

import numpy as np
import pandas as pd
import pytest

import recipes
from scripts.grid import comparison
from scripts.grid.grids import Cell

ERROR = recipes.Metric("test_error", "test error (%)")
PLACE = ("cifar100", "wrn28_10")


def table(values, metric=ERROR, paper=(), wanted=2, rows=None):
    """The comparison of {method: values of its runs}."""
    rows = rows or {method: recipes.Row(method) for method in values}
    cells = {Cell(*PLACE, row.method, row.variant): row for row in rows.values()}
    runs = [(*cell, metric.name, v) for cell, name in zip(cells, rows) for v in values[name]]
    frame = pd.DataFrame(runs, columns=[*comparison.CELL, "metric", "value"])
    return comparison.compare(cells, [metric], frame, dict(paper), dict.fromkeys(cells, wanted))


def test_welchs_interval_equals_its_formula():
    """Degrees of freedom after Welch and Satterthwaite; 95 % quantile of Student's t by a sum over its density."""
    a, b = np.array([3.0, 4.0, 6.5, 5.0]), np.array([9.0, 8.0, 12.0])
    found = comparison.interval("x", a, b)
    u, v = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    df = (u + v) ** 2 / (u**2 / (len(a) - 1) + v**2 / (len(b) - 1))
    t = np.linspace(0, 60, 2_000_001)
    density = (1 + t**2 / df) ** (-(df + 1) / 2)
    quantile = t[np.searchsorted(np.cumsum(density) / density.sum(), 0.95)]
    middle, half = a.mean() - b.mean(), quantile * math.sqrt(u + v)
    assert list(found.values()) == pytest.approx([middle, middle - half, middle + half], rel=1e-3)


def test_no_interval_where_there_is_none():
    for one, other in (([1.0], [2.0, 3.0]), ([1.0, 1.0], [2.0, 2.0 + 4e-16]), ([1.0, math.inf], [2.0, 3.0])):
        found = comparison.interval("x", np.array(one), np.array(other))
        assert math.isnan(found["x_low"]) and math.isnan(found["x_high"])
    assert math.isnan(comparison.interval("x", np.array([1.0]), np.array([]))["x"])


def test_differences_to_none_and_to_the_best_other():
    frame = table({"none": [10.0, 12.0], "mixup": [8.0, 9.0], "patchup_hard": [7.0, 7.5], "cutmix": []})
    rows = frame.set_index("method")
    assert rows.to_none.round(3).tolist()[1:3] == [-2.5, -3.75] and math.isnan(rows.to_none["none"])
    assert rows.best_other.tolist()[:3] == ["Hard PatchUp", "Hard PatchUp", "Input Mixup"]
    assert rows.to_best.round(3).tolist()[:3] == [3.75, 1.25, -1.25]
    assert rows.to_best_low["none"] < 3.75 < rows.to_best_high["none"]
    assert rows["rank"].tolist()[:3][1:] == [2, 1] and rows["rank"].isna().tolist() == [True, False, False, True]


def test_ranks_follow_what_is_better_and_ties_share():
    assert comparison.ranking({"a": 2.0, "b": 1.0, "c": 1.0, "d": 3.0}) == {"a": 2, "b": 1, "c": 1}
    assert comparison.ranking({"a": 2.0, "b": math.nan}) == {} == comparison.ranking({"a": 1.0, "b": 1.0})
    higher = table({"none": [0.5], "mixup": [0.7]}, recipes.Metric("a", "accuracy", better="higher"))
    assert higher["rank"].tolist() == [2, 1] and higher.best_other.tolist() == ["Input Mixup", "No Mixup"]
    neither = table({"none": [0.5], "mixup": [0.7]}, recipes.Metric("m", "magnitude", better=""))
    assert neither["rank"].isna().all() and neither.to_best.isna().all() and neither.to_none.tolist()[1] > 0.19


def test_variants_of_a_method_have_the_papers_numbers_of_their_own():
    rows = {
        "L1": recipes.Row("patchup_hard", "loss=L1", "L1", {"loss_terms": "first"}),
        "both": recipes.Row("patchup_hard", "loss=L1+L2", "L1+L2"),
    }
    metric = recipes.Metric("augmented_val_error", "validation error (%)", paper="val_error")
    paper = {(*PLACE, "patchup_hard", "val_error@loss=L1"): (16.1, 0.2)}
    frame = table({"L1": [17.0, 18.0], "both": [16.0]}, metric, paper, rows=rows)
    assert frame.label.tolist() == ["Hard PatchUp, L1", "Hard PatchUp, L1+L2"]
    assert frame["mean"].tolist() == [17.5, 16.0] and frame.difference.round(3).tolist()[0] == 1.4
    assert math.isnan(frame.paper_mean[1]) and frame.best_other.tolist() == ["Hard PatchUp, L1+L2", "Hard PatchUp, L1"]


HEADER = comparison.Header("table2", "Table 2: test_error", "", "A remark.")
PAPER = {(*PLACE, "none", "test_error"): (22.442, 0.226), (*PLACE, "patchup_hard", "test_error"): (16.134, 0.197)}
VALUES = {"none": [22.0, 23.0], "mixup": [], "patchup_hard": [16.0]}


def test_markdown_of_one_block():
    text = comparison.markdown(HEADER, table(VALUES, paper=PAPER))
    assert text.splitlines()[6:] == [
        "| WRN-28-10, CIFAR-100: test error (%) | ours | paper | ours - paper | to No Mixup | to the best other |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| No Mixup | <ins>22.50 ± 0.71 (2)</ins> | <ins>22.44 ± 0.23</ins> | +0.058 |  | +6.50 (Hard PatchUp) |",
        "| Input Mixup | missing |  |  |  |  |",
        "| Hard PatchUp | **16.00 (1 of 2)** | **16.13 ± 0.20** | -0.13 | -6.50 | -6.50 (No Mixup) |",
    ]
    assert text.startswith("### Table 2: test_error\n\nOurs: mean ± sample standard deviation (number of runs).")
    assert "A remark." in text


def test_an_overview_of_several_blocks_either_way():
    one = table(VALUES, paper=PAPER)
    frame = pd.concat([one, table(VALUES, recipes.Metric("test_nll", "test NLL"))], ignore_index=True)
    methods = comparison.overview(frame, "methods")
    assert methods[1] == "| WRN-28-10, CIFAR-100 | test error (%) | test NLL |" and methods[-1] == "Ours / the paper's."
    assert methods[3].startswith("| No Mixup | <ins>22.50 ± 0.71 (2)</ins> / <ins>22.44 ± 0.23</ins> | <ins>22.50")
    metrics = comparison.overview(frame, "metrics")
    assert metrics[1] == "| WRN-28-10, CIFAR-100 | No Mixup | Input Mixup | Hard PatchUp |"
    assert metrics[3].endswith("| missing | **16.00 (1 of 2)** / **16.13 ± 0.20** |")
    assert comparison.markdown(HEADER, frame, details=False).count("to the best other") == 0
    assert comparison.markdown(HEADER, frame).count("to the best other") == 2


def test_a_cited_row_says_so():
    frame = table({"none": [], "mixup": []}, paper=PAPER, wanted=0)
    assert "| No Mixup | cited | 22.44 ± 0.23 |" in comparison.markdown(HEADER, frame)


def test_latex_escapes_and_aligns():
    text = comparison.latex(HEADER, table(VALUES, paper=PAPER))
    assert r"\caption{Table 2: test\_error. A remark.}" in text and r"\begin{tabular}{lrr}" in text
    assert r"\multicolumn{2}{c}{test error (\%)}" in text and r"    & ours & paper \\" in text
    assert r"Hard PatchUp & \textbf{16.00 (1 of 2)} & \textbf{16.13 $\pm$ 0.20} \\" in text
    plain = comparison.latex(HEADER, table(VALUES))
    assert r"\begin{tabular}{lr}" in plain and r"Input Mixup & missing \\" in plain
    assert comparison.escaped("a_b & 5 % {x} \\") == r"a\_b \& 5 \% \{x\} \textbackslash "


def test_what_is_published_is_complete_json(tmp_path, capsys):
    frame = table(VALUES, paper=PAPER)
    comparison.publish(HEADER, frame, tmp_path, "name", frame[["method", "mean"]])
    found = json.loads((tmp_path / "tables/name.json").read_text(), parse_constant=pytest.fail)
    assert found["name"] == "table2" and found["rows"][1]["mean"] is None and found["rows"][2]["rank"] == 1
    assert found["rows"][0]["mean"] == 22.5 and found["rows"][0]["best_other"] == "Hard PatchUp"
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == [
        "name-runs.csv", "name.csv", "name.json", "name.md", "name.tex"
    ]  # fmt: skip
    assert pd.read_csv(tmp_path / "tables/name.csv")["mean"][0] == 22.5
    assert "| Hard PatchUp | **16.00 (1 of 2)**" in capsys.readouterr().out


def test_digits_tell_mean_and_deviation_apart():
    assert [comparison.plus_minus(*one) for one in ((1234.5, 2.0), (12.345, math.nan), (0.1234, 0.01))] == [
        "1234 ± 2", "12.35", "0.123 ± 0.010"
    ]  # fmt: skip
