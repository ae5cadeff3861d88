"""One page with every table and figure, run states and learning curves: <out>/report.html, which needs no network.

python -m scripts.report
python -m scripts.report --out results/demo

Shows what is there: the tables that were rendered to <out>/tables, the others from the runs in <out>/runs, the figures
in <out>/figures, and all runs below <out>/runs*. The page holds it all, figures too, and can be sent as one file.
"""

import argparse
import base64
import datetime
import html
import json
import math
import re
import struct
import sys
from pathlib import Path

import recipes
from engine import cli, evaluation
from engine.device import code_version
from engine.files import ROOT, BadInput, RunFiles, load_checkpoint, make_folder, read_json, write_whole
from scripts import tables
from scripts.figures.charts import NAMES, styles
from scripts.grid import comparison

PARTS = Path(__file__).resolve().parent
AXES = ("dataset", "model", "method")
MOST_POINTS = 200  # of a curve
LOG_LINES = 40  # shown of a failed run
PIXELS_PER_INCH = 150  # of a figure on the page: 8 points are about its text
ILLUSTRATIONS = {  # figures that need no grid of runs
    "figure1": "Figure 1: the PatchUp operation on two feature maps",
    "figure2": "Figure 2: where the samples of ManifoldMixup and PatchUp lie",
    "figure3": "Figure 3: the boxes of CutMix",
    "figure7": "Figure 7: PatchUp's mask on images",
    "figure8": "Figure 8: masks in input and hidden space",
    "figure9": "Figure 9: how PatchUp's mask is made",
    "figure10": "Figure 10: diversity of interpolated representations",
}
RUN_FILE = re.compile(r"(seed\d+)\.(json|jsonl|failed|lock|checkpoint\.pt)")
DASHES = {"-": (), "--": (3.7, 1.6), "-.": (6.4, 1.6, 1, 1.6), ":": (1, 1.65)}  # matplotlib's, in line widths


def parser():
    """The command line."""
    found = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    out_help = "has runs, tables and figures, and gets report.html (default results)"
    found.add_argument("--out", type=Path, default=ROOT / "results", help=out_help)
    return found


# ---- tables ----


def in_order(name):
    """A key that sorts table2 before table10, and its shortened ones behind it; what is not the paper's comes last."""
    paper = re.match(r"(table|figure)(\d+)", name)
    return (paper[1] == "figure", int(paper[2]), name) if paper else (True, math.inf, name)


def rendered(path):
    """A table from its file. Raises BadInput where it is none."""
    found = read_json(path, maker="scripts/tables.py", remedy="; remove it to render it again")
    try:
        shown = {name: str(found.get(name) or "") for name in ("name", "title", "note", "remark")}
        rows = [row | {axis: str(row[axis]) for axis in AXES} for row in found["rows"]]
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is no table of scripts/tables.py ({error!r}); remove it to render it again") from error
    return shown | {"rows": rows, "file": path.stem}


def present(plan):
    """A table as it is now, from its runs; of an evaluation what the paper has."""
    grid = plan.grid
    if plan.script:
        header = comparison.Header(grid.name, grid.title, grid.note, grid.table.remark, layout="metrics")
        frame = evaluation.comparison_of(plan.studies[0], [], grid)
        if frame.empty:  # nor has the paper anything
            nothing = recipes.Metric("", "not evaluated yet")
            frame = comparison.compare(grid.cells(), [nothing], (), {}, grid.wanted())
    else:
        header, frame, _ = tables.compared(grid)
    return header._asdict() | {"rows": json.loads(frame.to_json(orient="records")), "file": grid.name}


def all_tables(out, plans):
    """Every table, in the paper's order: those of trainings as they are now, others and parts as they were rendered."""
    plans = {plan.grid.name: plan for plan in plans if plan.grid.name.startswith("table")}
    trained = {name for name, plan in plans.items() if not plan.script}
    found = [rendered(path) for path in (out / "tables").glob("*.json") if path.stem not in trained]
    whole = {table["name"] for table in found if not table["note"]} - trained
    found += [present(plan) for name, plan in plans.items() if name not in whole]
    found = sorted(found, key=lambda table: in_order(table["file"]))
    for table in found:
        part = table["file"].removeprefix(table["name"]).strip("-")
        table["id"] = f"table-{table['file']}"
        table["short"] = re.split(r":| \(", table["title"])[0] + (f" ({part})" if part else "")
    return found


# ---- runs ----


def plain_plans(out):
    """The Plan of every table and figure of the paper, with the paper's recipes."""
    return [tables.plan(name, tables.parser().parse_args([name, "--out", str(out)]), []) for name in tables.ALL]


def stems(out):
    """The stems of all runs that have files below <out>/runs*."""
    files = (path for folder in out.glob("runs*") for path in folder.glob("*/*/*/seed*"))
    return {path.with_name(match[1]) for path in files if (match := RUN_FILE.fullmatch(path.name))}


def all_runs(out, plans):
    """[(RunFiles, State or None where no file is there, names of the tables that show it)], the paper's runs first."""
    there, found = stems(out), {}
    for plan in plans:
        for run in plan.grid.runs() if plan.grid.name != "table8" else ():  # which measures steps, and trains nothing
            files, names = found.setdefault(run.files.stem, (run.files, []))
            names.append(plan.grid.name)
    runs = [(files, files.state() if stem in there else None, names) for stem, (files, names) in found.items()]
    others = [stray(stem) for stem in sorted(there - set(found), key=lambda stem: (str(stem.parent), seed_of(stem)))]
    return runs + [(files, state, []) for files, state in others if state and state.name != "missing"]


def seed_of(stem):
    """7 of .../seed7."""
    return int(stem.name.removeprefix("seed"))


def stray(stem):
    """(RunFiles, State) of a run of no table: with the recipe of its result or checkpoint, or epochs unknown."""
    out, (dataset, model, method) = stem.parents[3], stem.parts[-4:-1]
    try:
        recipe = recipes.resolve(dataset, model, method, seed_of(stem), image_size=64 if dataset == "folder" else None)
        known = stored_recipe(RunFiles(out, recipe))
        files = RunFiles(out, known or recipe)
    except recipes.RecipeError:  # of a method or network that is gone
        return None, None
    return files, files.state() if known else files.state()._replace(epochs=None)


def stored_recipe(files):
    """The Recipe that a run's own files tell, or None."""
    if files.result.exists():
        return recipes.restore(read_json(files.result).get("recipe", {}))
    try:
        return recipes.restore(load_checkpoint(files.checkpoint)["recipe"]) if files.checkpoint.exists() else None
    except BadInput:  # damaged: train.py says so when it goes on
        return None


def run_in_page(files, state, names, folder):
    """What the page shows of a run."""
    recipe = files.recipe
    cell = {name: recipe[name] for name in (*AXES, "seed")} | {"folder": folder, "grids": names}
    if state is None:
        return cell | {"state": "missing", "epoch": 0, "epochs": recipe["epochs"]}
    shown = {"state": state.name, "epoch": state.epoch, "epochs": state.epochs, "seconds": state.seconds}
    if state.name == "failed":
        shown["failure"] = "\n".join(files.failed.read_text(errors="replace").splitlines()[-LOG_LINES:])
    return cell | shown | {"val_error": state.best_val_error}


def thinned(count, epochs):
    """Indices of count epochs, about MOST_POINTS at most: the same for all runs of so many epochs, and the last."""
    step = math.ceil(max(count, epochs or 0) / MOST_POINTS)
    return [*range(0, count - 1, step), count - 1] if count else []


def curve(path, epochs):
    """{epoch, error, loss} of a run's log, lists; None where no epoch is done. Raises BadInput where a line is damaged.

    epoch: counted from 1; error: validation error in percent; loss: mean training loss; null where not finite.
    """
    if not path.exists():
        return None
    text = path.read_text(errors="replace")
    lines = text[: text.rfind("\n") + 1].splitlines()  # without one that is being written
    try:
        rows = [json.loads(lines[i]) for i in thinned(len(lines), epochs)]
        found = {name: [rounded(row[f"{kind}_{name}"]) for row in rows] for kind, name in CURVES}
        return {"epoch": [row["epoch"] + 1 for row in rows]} | found if rows else None
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is no log of train.py ({error!r})") from error


CURVES = (("val", "error"), ("train", "loss"))


def rounded(value):
    """value to five digits, which no screen can tell from it, or None where it is not finite."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


# ---- figures ----


def figures(out):
    """The figures as HTML, in the paper's order: picture and caption, or the command that draws it."""
    grids_ = {name: table.title for name, table in recipes.TABLES.items() if name.startswith("figure")}
    titles = dict(sorted((ILLUSTRATIONS | grids_).items(), key=lambda item: in_order(item[0])))
    pictures = sorted((out / "figures").glob("*.png"), key=lambda path: in_order(path.stem))
    shown = [figure(path, titles.get(figure_of(path.stem), path.stem)) for path in pictures]
    drawn = {figure_of(path.stem) for path in pictures}
    missing = [(name, title) for name, title in titles.items() if name not in drawn]
    lines = [f"<li>{html.escape(title)}: <code>bash scripts/{name}.sh</code></li>" for name, title in missing]
    todo = f'<div class="todo"><h3>Not drawn yet</h3>\n<ul>\n{chr(10).join(lines)}\n</ul></div>' if missing else ""
    return "\n".join([*shown, todo])


def figure_of(stem):
    """figure5 of figure5-fgsm-limit100."""
    return re.split(r"[-_.]", stem, maxsplit=1)[0]


def figure(path, title):
    """A picture with its caption, if there is one, as HTML. Raises BadInput where it is no PNG."""
    picture, text = path.read_bytes(), path.with_suffix(".txt")
    if picture[:8] != b"\x89PNG\r\n\x1a\n" or len(picture) < 24:
        raise BadInput(f"{path} is no PNG: remove it to draw it again")
    width, height = (round(size * zoom(picture)) for size in struct.unpack(">II", picture[16:24]))
    caption = text.read_text(errors="replace").strip() if text.exists() else ""
    title, caption = html.escape(title), html.escape(caption)
    return (
        f'<figure><h3>{title}</h3>\n<div class="paper"><img alt="{title}" width="{width}" height="{height}" '
        f'decoding="async" src="data:image/png;base64,{base64.b64encode(picture).decode()}"></div>\n'
        f"<figcaption>{caption} <code>{html.escape(path.name)}</code></figcaption></figure>"
    )


def zoom(picture):
    """By how much a PNG is shown smaller, so that what was made for print has the size of text; never larger."""
    per_metre = re.search(rb"pHYs(.{4})", picture[:200], re.DOTALL)
    return min(1, PIXELS_PER_INCH / (struct.unpack(">I", per_metre[1])[0] * 0.0254)) if per_metre else 1


# ---- the page ----


def content(out):
    """All that the page's script shows, as JSON can hold it."""
    plans = plain_plans(out)
    shown, runs, curves = all_tables(out, plans), [], []
    for files, state, names in all_runs(out, plans):
        run = run_in_page(files, state, names, files.out.name)
        runs.append(run)
        if state and (found := curve(files.log, state.epochs)):
            curves.append({name: run[name] for name in (*AXES, "seed", "folder")} | found)
    cells = [*runs, *(row for table in shown for row in table["rows"])]
    axes = {axis: named(axis, {cell[axis] for cell in cells}) for axis in AXES}
    looks = styles(axes["method"])
    return {
        "grids": [{"name": plan.grid.name, "title": plan.grid.title} for plan in plans],
        "tables": shown,
        "runs": runs,
        "curves": curves,
        "axes": axes,
        "names": NAMES,
        "styles": {method: {**look._asdict(), "dashes": dashes(look.dashes)} for method, look in looks.items()},
    }


def named(axis, names):
    """The names of an axis in the paper's order."""
    order = [name for table in recipes.TABLES.values() for name in getattr(table, f"{axis}s")]
    return sorted(names, key=lambda name: (order.index(name) if name in order else math.inf, name))


def dashes(style):
    """The dashes of a matplotlib line style in line widths, a list."""
    return list(DASHES[style] if isinstance(style, str) else style[1])


def safe_json(value):
    """JSON that can stand within <script>: no text in it can end the element or begin another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", text)


def counts(shown):
    """How much is there, in words."""
    finished = sum(run["state"] == "finished" for run in shown["runs"])
    return f"{finished} of {len(shown['runs'])} runs finished, {len(shown['tables'])} tables"


def unknown():
    """What this page cannot show, as a sentence."""
    return f"{tables.UNKNOWN}."


def page(shown, pictures, made, code):
    """The page. shown: see content; pictures: HTML; made: when, in words."""
    texts = {"made": made, "code": code, "counts": counts(shown), "unknown": unknown()}
    parts = {name: html.escape(text) for name, text in texts.items()}
    parts |= {"figures": pictures, "data": safe_json(shown)}
    parts |= {name: (PARTS / f"report.{name}").read_text() for name in ("css", "js")}
    template = (PARTS / "report_template.html").read_text()
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def make(out):
    """Write <out>/report.html and say so."""
    make_folder(out)
    made = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    text = page(content(out), figures(out), made, code_version())
    path = out / "report.html"
    write_whole(path, lambda file: file.write(text.encode()))
    print(f"written to {path} ({len(text.encode()) / 2**20:.1f} MiB)")
    return 0


def main(arguments=None):
    """Make the page that a command line asks for; the exit status (see cli.explain)."""
    args = parser().parse_args(arguments)
    return cli.explain(lambda: make(args.out))


if __name__ == "__main__":
    sys.exit(main())
