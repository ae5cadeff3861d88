"""Ours beside the paper's: the statistics of a table's cells, and the table as Markdown, CSV, LaTeX and JSON.

A comparison is a DataFrame with a row a cell and metric, in the table's order:

    dataset, model, method, variant, label    the cell, and how its row is headed
    metric, heading, better                   better: `lower`, `higher`, or nothing where neither is
    digits                                    behind the point, or nothing: as many as the mean needs
    n, wanted, mean, std                      of ours: runs, and how many are wanted (0: cited); std: sample's
    deviation, levene                         of the cell's residuals; p value that all cells' deviate alike
    paper_mean, paper_std                     the paper's
    difference, difference_low, _high         ours minus the paper's, after Welch
    to_none, to_none_low, to_none_high        ours minus the method `none`'s, by the block's additive model
    best_other, to_best, to_best_low, to_best_high    the same to the best other row of the block, and its label
    rank, paper_rank                          1 and 2 for the best and the second best of a block

A block is what is compared: the rows of a data set, network and metric. Cells with missing runs are never the best
nor the best other. What does not exist is NaN or None. See statistics.py.
"""

import json
import math
from typing import NamedTuple

import numpy as np
import pandas as pd

import recipes
from engine.files import make_folder, write_json, write_whole
from scripts.grid.statistics import UNEQUAL, AdditiveModel, Interval, welch

PAPER_RUNS = 5  # seeds of the paper's means
BLOCK = ["dataset", "model", "metric"]
CELL = ["dataset", "model", "method", "variant"]
LEGEND = "Ours: mean ± sample standard deviation (number of runs). **Best**, <ins>second best</ins> of complete rows."
INTERVALS = (
    "In brackets 95 % intervals: of differences between ours, which share seeds, by an additive model of row and seed "
    "with its pooled residual; of ours less the paper's, after Welch. *Deviation* is that of a row's residuals. The "
    "best other row is picked after the fact, so its interval is too favourable to it."
)


class Header(NamedTuple):
    """What a table says of itself."""

    name: str  # in recipes.TABLES
    title: str
    note: str = ""  # what differs from the paper's recipe
    remark: str = ""
    layout: str = "methods"  # what the overview has a row each of; or `metrics`


# ---- statistics ----


def compare(cells, metrics, values, paper, wanted, printed=None):
    """The comparison of a table.

    cells: {grids.Cell: recipes.Row}; metrics: [recipes.Metric]; values: a DataFrame with CELL, seed, metric and value,
    a row a run; paper: see grids.paper_numbers; wanted: {Cell: number of runs when complete}; printed: the Cells
    that the paper's marks are ranked over, where they are more than the cells.
    """
    by_cell = {}
    runs = values[[*CELL, "seed", "metric", "value"]].itertuples(index=False) if len(values) else ()
    for *cell, seed, name, value in runs:
        by_cell.setdefault((*cell, name), {})[seed] = value
    blocks = []
    for dataset, model in dict.fromkeys(cell[:2] for cell in cells):
        rows = {cell: row for cell, row in cells.items() if cell[:2] == (dataset, model)}
        ranked = [cell for cell in printed or cells if cell[:2] == (dataset, model)]
        for metric in metrics:
            ours = {cell: by_cell.get((*cell, metric.name), {}) for cell in rows}
            theirs = {cell: paper_number(paper, metric, cell) for cell in dict.fromkeys((*rows, *ranked))}
            blocks += block(rows, metric, ours, theirs, wanted)
    return pd.DataFrame(blocks)


def block(rows, metric, ours, theirs, wanted):
    """The rows of a comparison for a data set, network and metric, dicts.

    ours: {Cell: {seed: value}}; theirs: {Cell: (mean, std)} of all that the paper ranks.
    """
    sign = {"lower": 1, "higher": -1, "": math.nan}[metric.better]
    model = AdditiveModel(ours)
    complete = [cell for cell, runs in ours.items() if 0 < wanted.get(cell, 0) <= len(runs)]
    scores = {cell: sign * model.mean(cell).mean for cell in complete}
    scores = {cell: score for cell, score in scores.items() if math.isfinite(score)}
    ranks = ranking(scores)
    paper_ranks = ranking({cell: sign * mean for cell, (mean, _) in theirs.items()})
    none = next((cell for cell in rows if cell.method == "none"), None)
    lines = []
    for cell, row in rows.items():
        others = {other: score for other, score in scores.items() if other != cell}
        n = len(ours[cell])
        best = min(others, key=others.get) if others and n else None
        mean, std = average(ours[cell].values())
        to_paper = welch([(1, mean, std, n), (-1, *theirs[cell], PAPER_RUNS)]) if n else Interval()
        lines.append(
            {
                **cell._asdict(),
                "label": row.label,
                "metric": metric.name,
                "heading": metric.heading,
                "better": metric.better,
                "digits": metric.digits,
                "n": n,
                "wanted": wanted.get(cell, 0),
                "mean": mean,
                "std": std,
                "deviation": model.deviation_of(cell),
                "levene": model.levene,
                "paper_mean": theirs[cell][0],
                "paper_std": theirs[cell][1],
                **columns("difference", to_paper),
                **columns("to_none", difference(model, cell, none if cell.method != "none" else None)),
                "best_other": rows[best].label if best else None,
                **columns("to_best", difference(model, cell, best)),
                "rank": ranks.get(cell),
                "paper_rank": paper_ranks.get(cell),
            }
        )
    return lines


def difference(model, cell, other):
    """The Interval of a cell less another, by an AdditiveModel; empty without another."""
    return model.contrast({cell: 1, other: -1}) if other else Interval()


def columns(name, interval):
    """An Interval as {name, name_low, name_high}."""
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def paper_number(paper, metric, cell):
    """The paper's (mean, standard deviation) of a cell, NaN where it prints none."""
    name = (metric.paper or metric.name) + (f"@{cell.variant}" if cell.variant else "")
    return paper.get((*cell[:3], name), (math.nan, math.nan))


def average(values):
    """Mean and sample standard deviation; NaN of too few."""
    values = np.array(list(values), float)
    mean = float(values.mean()) if len(values) else math.nan
    with np.errstate(invalid="ignore"):  # infinite values have no deviation
        return mean, float(values.std(ddof=1)) if len(values) > 1 else math.nan


def ranking(scores):
    """{key: 1 or 2} for the best and the second best of {key: score}, the lowest being the best; ties share one."""
    scores = {key: score for key, score in scores.items() if math.isfinite(score)}
    best = sorted(set(scores.values()))[:2]
    return {} if len(best) < 2 else {key: 1 + best.index(score) for key, score in scores.items() if score in best}


# ---- texts ----


def plus_minus(mean, std, digits=None):
    """Mean and standard deviation, by default with the digits that tell them apart; a single run has no deviation."""
    digits = (0 if abs(mean) >= 1000 else 2 if abs(mean) >= 1 else 3) if pd.isna(digits) else int(digits)
    return f"{mean:.{digits}f}" + ("" if math.isnan(std) else f" ± {std:.{digits}f}")


def ours_text(row):
    """`12.34 ± 0.56 (5)`, `(3 of 5)` where runs lack, `missing` where all do, `cited` where none is wanted."""
    if not row.wanted:
        return "cited"
    if not row.n:
        return "missing"
    count = f"{row.n}" if row.n == row.wanted else f"{row.n} of {row.wanted}"
    return f"{plus_minus(row['mean'], row['std'], row.get('digits'))} ({count})"


def paper_text(row):
    """The paper's number, or nothing."""
    return "" if math.isnan(row.paper_mean) else plus_minus(row.paper_mean, row.paper_std, row.get("digits"))


def difference_text(value, low=math.nan, high=math.nan):
    """`-1.23 [-1.50, -0.96]`, without the interval where it is not known, or nothing."""
    if not math.isfinite(value):
        return ""
    digits = 2 if abs(value) >= 0.1 else 3
    return f"{value:+.{digits}f}" + ("" if math.isnan(low) else f" [{low:+.{digits}f}, {high:+.{digits}f}]")


def deviation_text(value):
    """A standard deviation, or nothing."""
    return "" if math.isnan(value) else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def marked(text, rank, best, second):
    """text within the marks of its rank; best and second: what stands before and behind."""
    before, behind = {1: best, 2: second}.get(rank, ("", ""))
    return before + text + behind if text else ""


MARKDOWN = ("**", "**"), ("<ins>", "</ins>")
LATEX = (r"\textbf{", "}"), (r"\underline{", "}")


def place(model, dataset):
    """`WRN-28-10, CIFAR-100`."""
    return f"{recipes.printed(model)}, {recipes.printed(dataset)}"


def markdown(header, frame, details=True):
    """The table: an overview, and block by block the differences with intervals (of a single block these alone).

    details: False leaves out the blocks after an overview.
    """
    lines = [f"### {header.title}", "", " ".join(filter(None, [LEGEND, header.remark]))]
    blocks = list(frame.groupby(BLOCK, sort=False))
    if len(blocks) > 1:
        lines += overview(frame, header.layout)
    if len(blocks) > 1 and not details:
        blocks = []
    if blocks:
        lines += ["", INTERVALS]
    for (dataset, model, _), rows in blocks:
        paper = bool(rows.paper_mean.notna().any())
        heads = ["ours", "deviation", *["paper", "ours - paper"] * paper, "to No Mixup", "to the best other"]
        head = f"{place(model, dataset)}: {rows.heading.iloc[0]}"
        lines += ["", f"| {head} | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
        for _, row in rows.iterrows():
            texts = [marked(ours_text(row), row["rank"], *MARKDOWN), deviation_text(row.deviation)]
            if paper:
                apart = difference_text(row.difference, row.difference_low, row.difference_high)
                texts += [marked(paper_text(row), row.paper_rank, *MARKDOWN), apart]
            texts.append(difference_text(row.to_none, row.to_none_low, row.to_none_high))
            best = difference_text(row.to_best, row.to_best_low, row.to_best_high)
            texts.append(f"{best} ({row.best_other})" if best else "")
            lines.append(f"| {row.label} | " + " | ".join(texts) + " |")
        if rows.levene.iloc[0] < UNEQUAL:
            lines += ["", f"The rows deviate differently (Levene's test, p = {rows.levene.iloc[0]:.2g})."]
    return "\n".join(lines) + "\n"


def overview(frame, layout):
    """Lines of a table a network, the paper's number behind ours.

    layout: `methods`, with a column a data set and metric, or `metrics`, with a column a method.
    """
    lines = []
    for model, rows in frame.groupby("model", sort=False):
        several = rows.dataset.nunique() > 1
        name = recipes.printed(model) if several else place(model, rows.dataset.iloc[0])
        heads = [f"{recipes.printed(row.dataset)} " * several + row.heading for row in rows.itertuples()]
        texts = [overview_text(row) for _, row in rows.iterrows()]
        cells = pd.DataFrame({"method": rows.label, "column": heads, "text": texts})
        table = cells.pivot(index="method", columns="column", values="text")
        table = table.loc[list(dict.fromkeys(rows.label)), list(dict.fromkeys(heads))]
        if layout == "metrics":
            table = table.T
        lines += ["", f"| {name} | " + " | ".join(table.columns) + " |", "| --- |" + " ---: |" * len(table.columns)]
        lines += [f"| {head} | " + " | ".join(line) + " |" for head, line in zip(table.index, table.to_numpy())]
    if frame.paper_mean.notna().any():
        lines += ["", "Ours / the paper's."]
    return lines


def overview_text(row):
    """Ours / the paper's of a cell, marked."""
    paper = marked(paper_text(row), row.paper_rank, *MARKDOWN)
    return marked(ours_text(row), row["rank"], *MARKDOWN) + (f" / {paper}" if paper else "")


def latex(header, frame):
    """The table for LaTeX with booktabs: a part a network, a row a method, for every column ours and the paper's."""
    columns = dict(list(frame.groupby(["dataset", "metric"], sort=False)))
    with_paper = {key: bool(part.paper_mean.notna().any()) for key, part in columns.items()}
    count = len(columns) + sum(with_paper.values())
    heads, subheads = [], []
    for key, part in columns.items():
        name = f"{recipes.printed(key[0])} " * (frame.dataset.nunique() > 1) + part.heading.iloc[0]
        heads.append(rf"\multicolumn{{{1 + with_paper[key]}}}{{c}}{{{escaped(name)}}}")
        subheads += ["ours", *["paper"] * with_paper[key]]
    lines = [
        rf"% {header.title}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escaped(' '.join(filter(None, [header.title + '.', header.remark])))}}}",
        rf"  \begin{{tabular}}{{l{'r' * count}}}",
        r"    \toprule",
        *("    & " + " & ".join(line) + r" \\" for line in (heads, subheads)),
    ]
    for model, rows in frame.groupby("model", sort=False):
        lines += [r"    \midrule", rf"    \multicolumn{{{1 + count}}}{{l}}{{{escaped(recipes.printed(model))}}} \\"]
        for label, cells in rows.groupby("label", sort=False):
            by_column = {(row.dataset, row.metric): row for _, row in cells.iterrows()}
            texts = [text for key in columns for text in latex_texts(by_column.get(key), with_paper[key])]
            lines.append(f"    {escaped(label)} & " + " & ".join(texts) + r" \\")
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]) + "\n"


def latex_texts(row, paper):
    """Ours, and the paper's, of a cell; row None where the table has none."""
    if row is None:
        return [""] * (1 + paper)
    ours = marked(escaped(ours_text(row)), row["rank"], *LATEX)
    return [ours, marked(escaped(paper_text(row)), row.paper_rank, *LATEX)] if paper else [ours]


def escaped(text):
    """Text as LaTeX takes it."""
    for character in "\\&%$#_{}":
        text = text.replace(character, rf"\{character}" if character != "\\" else r"\textbackslash ")
    return text.replace("±", r"$\pm$").replace("~", r"\textasciitilde ").replace("^", r"\textasciicircum ")


# ---- files ----


def publish(header, frame, out, file_name, runs):
    """Write <out>/tables/<file_name>.md, .csv, .tex and .json, and the runs' values to -runs.csv; print it."""
    folder = out / "tables"
    make_folder(folder)
    contents = {
        ".md": markdown(header, frame),
        ".csv": frame.to_csv(index=False),
        ".tex": latex(header, frame),
        "-runs.csv": runs.to_csv(index=False),
    }
    for suffix, content in contents.items():
        write_whole(folder / f"{file_name}{suffix}", lambda file, content=content: file.write(content.encode()))
    write_json(folder / f"{file_name}.json", header._asdict() | {"rows": json.loads(frame.to_json(orient="records"))})
    print(markdown(header, frame, details=False))
    print(f"written to {folder / file_name}.md (with all differences and intervals), .csv, .tex and .json")
