"""What the report page shows of a folder of results. What a file makes impossible becomes a line of `problems`."""

import base64
import collections
import contextlib
import itertools
import operator
import re
import struct

import pandas as pd

import data
import recipes
from engine.files import BadInput, load_checkpoint, read_json
from engine.runs import RunFiles
from scripts import tables
from scripts.figures.illustrations import FIGURES
from scripts.grid import comparison, grids
from scripts.report import curves

LOG_LINES = 40  # shown of a failed run
PIXELS_PER_INCH = 150  # of a picture on the page: text of 8 points is then as large as the page's
RUN_FILE = re.compile(r"(seed\d+)\.(json|jsonl|failed|lock|checkpoint\.pt)")
UNBROKEN = re.compile("(?<=±) |(?<=,) | (?=of )|(?<=of) ")  # spaces within a number and its deviation, for a phone
MARKS = {1: "strong", 2: "ins"}  # of the best and the second best: elements of HTML
NUMBERS = ("n", "wanted", "mean", "std", "paper_mean", "paper_std", "difference", "rank", "paper_rank")
NUMBERS += tuple(f"to_{other}{end}" for other in ("none", "best") for end in ("", "_low", "_high"))


def gather(out):
    """All that the page shows of the folder `out`, by the names of its template."""
    problems = []
    plans = [tables.plan_of(name, grids.Choice(out=out)) for name in tables.ALL]
    runs = all_runs(out, plans, problems)
    shown = all_tables(out, plans, {run["stem"]: run for run in runs}, problems)
    pictures, drawn = all_pictures(out, problems), all_curves(runs, problems)
    missing = ({plan.grid.name for plan in plans} | {*FIGURES}) - {item["name"] for item in (*shown, *pictures)}
    return {
        "problems": dict.fromkeys(problems),
        "tables": shown,
        "pictures": pictures,
        "curves": drawn,
        "runs": runs,
        "progress": progress_of(plans, {run["stem"]: run["state"] for run in runs if not run["foreign"]}),
        "missing": {name: title(name) for name in sorted(missing, key=in_order)},
        "unknown": tables.UNKNOWN,
    }


@contextlib.contextmanager
def noted(problems, path):
    """Within it, an error about the file at path becomes a line of problems instead."""
    try:
        yield
    except (BadInput, recipes.RecipeError) as error:
        problems.append(str(error))
    except Exception as error:  # whatever a file holds, the page is made
        problems.append(f"{path} cannot be shown: {error!r:.300}")


def in_order(name):
    """A key that sorts a user's tables first, then table2 before table10 with its shortened ones behind it."""
    paper = re.match(r"(table|figure)(\d+)", name)
    return (1, paper[1] == "figure", int(paper[2]), name) if paper else (0, False, 0, name)


def title(name):
    """The title of a table or figure."""
    return recipes.TABLES[name].title if name in recipes.TABLES else re.sub(r"figure(\d+)", r"Figure \1", name)


def all_runs(out, plans, problems):
    """A dict for every run below <out>/runs*; `foreign` says so where a run of the plans has its place."""
    wanted = {run.files.stem: run.files.recipe for plan in plans for run in plan.grid.runs()}
    files = (path for folder in sorted(out.glob("runs*")) for path in folder.glob("*/*/*/seed*"))
    stems = {path.with_name(match[1]) for path in files if (match := RUN_FILE.fullmatch(path.name))}
    stems = sorted(stems, key=lambda stem: (stem.parent, len(stem.name), stem))  # seed9 before seed10
    runs = [run_at(stem, wanted.get(stem), problems) for stem in stems]
    return [run for run in runs if run["state"] != "missing"]


def run_at(stem, wanted, problems):
    """What the page shows of the run whose files begin with stem; wanted: the recipe that is expected, if any."""
    folder, (dataset, model, method, name) = stem.parents[3], stem.parts[-4:]
    words = ", ".join(recipes.printed(part) for part in (dataset, model, method, name))
    run = {"stem": stem, "folder": folder.name, "dataset": dataset, "model": model, "method": method, "words": words}
    run |= dict.fromkeys(("epochs", "error", "minutes", "foreign", "failure", "lines"), "") | {"state": "damaged"}
    with noted(problems, stem):
        recipe = recipe_at(stem, problems)
        if recipe and wanted and recipe != wanted:
            run["foreign"] = "not counted"
            problems.append(f"{stem} has another recipe than its tables ({recipes.differences(recipe, wanted)})")
        free = dataset in data.FACTS and not data.FACTS[dataset].image_size
        size = {"image_size": 64} if free else {}  # any: without a recipe its files alone are shown
        known = recipe or wanted or recipes.used(recipes.resolve(dataset, model, method, int(name[4:]), **size))
        files = RunFiles(folder, recipes.restore(known))
        if files.stem != stem:
            raise BadInput(f"{stem} holds the run {files.stem.relative_to(folder)}")
        state = files.state()
        run |= {"epochs": f"{state.epoch}/{state.epochs if recipe or wanted else '?'}", "lines": files.logged()}
        if state.seconds is not None:
            run |= {"error": f"{state.best_val_error:.2f}", "minutes": f"{state.seconds / 60:.1f}"}
        run["state"] = state.name
        if state.name == "failed":
            run["failure"] = "\n".join(files.failed.read_text(errors="replace").splitlines()[-LOG_LINES:])
    return run


def recipe_at(stem, problems):
    """The recipe, a dict, in a run's result or else in its checkpoint, or None."""
    result, checkpoint = (stem.with_name(f"{stem.name}.{suffix}") for suffix in ("json", "checkpoint.pt"))
    if result.exists():
        return read_json(result, fields={"recipe": dict})["recipe"]
    with noted(problems, checkpoint):
        return load_checkpoint(checkpoint)["recipe"] if checkpoint.exists() else None


def progress_of(plans, states):
    """{table or figure: how far its runs are, in words}; states: {stem: state}."""
    words = {}
    for plan in (plan for plan in plans if plan.grid.table.kind != "steps"):
        counts = collections.Counter(states.get(run.files.stem, "missing") for run in plan.grid.runs())
        others = [f"{counts[state]} {state}" for state in ("running", "stopped", "failed") if counts[state]]
        words[plan.grid.name] = ", ".join([f"{counts['finished']} of {counts.total()} runs", *others])
    return words


def all_tables(out, plans, runs, problems):
    """Every table: those of trainings as they are now, others and parts as they were rendered; empty ones last.

    runs: {stem: what the page shows of it}; a run that a table cannot count is made `foreign`.
    """
    trained = [plan for plan in plans if plan.grid.name.startswith("table") and not plan.script]
    names, shown = {plan.grid.name for plan in trained}, []
    for path in sorted((out / "tables").glob("*.json")):
        if path.stem not in names:
            with noted(problems, path):
                stored = read_json(path, maker="scripts/tables.py", remedy="; remove it to render it again")
                header = {name: str(stored.get(name) or "") for name in ("name", "title", "note", "remark")}
                shown.append(table(path.stem, header, pd.DataFrame(stored["rows"])))
    for plan in trained:
        with noted(problems, plan.grid.title):
            header, frame, _ = tables.compared(plan.grid, sound(plan.grid, runs, problems))
            shown.append(table(plan.grid.name, header._asdict(), frame))
    return sorted(shown, key=lambda table: (not table["results"], in_order(table["file"])))


def sound(grid, shown, problems):
    """The runs of a grid that its table can count."""
    runs = []
    for run in grid.runs():
        row = shown.get(run.files.stem)
        if row and not row["foreign"]:
            row["foreign"] = "not counted"
            with noted(problems, run.files.result):
                tables.seeing(grid, [run])
                row["foreign"] = ""
                runs.append(run)
    return runs


def table(file, header, frame):
    """What the page shows of a comparison: its texts block by block. Raises where the frame is none."""
    frame = frame.astype(dict.fromkeys(NUMBERS, float) | dict.fromkeys(("n", "wanted"), int))
    groups = [rows for _, rows in frame.groupby(comparison.BLOCK, sort=False)]
    full, empty = ([block(rows, header["title"]) for rows in groups if rows.n.any() == some] for some in (True, False))
    return header | {"file": file, "results": bool(full), "blocks": full or empty, "folded": empty if full else []}


def block(rows, title):
    """The rows of one data set, network and metric."""
    first, lines = rows.iloc[0], []
    for _, row in rows.iterrows():
        best = comparison.difference_text(row.to_best, row.to_best_low, row.to_best_high)
        texts = {
            "ours": comparison.ours_text(row),
            "paper": comparison.paper_text(row),
            "difference": comparison.difference_text(row.difference),
            "to_none": comparison.difference_text(row.to_none, row.to_none_low, row.to_none_high),
            "to_best": f"{best} ({row.best_other})" if best else "",
        }
        marks = {"ours": MARKS.get(row["rank"]), "paper": MARKS.get(row.paper_rank)}
        cells = {name: (UNBROKEN.sub("\N{NO-BREAK SPACE}", text), marks.get(name)) for name, text in texts.items()}
        lines.append({"label": row.label, "method": row.method, "cells": cells})
    columns = {"ours": "ours (runs)"}
    if rows.paper_mean.notna().any():
        columns |= {"paper": "paper", "difference": "diff."}
    others = {"to_none": "to No Mixup", "to_best": "to the best other"} if rows.to_best.notna().any() else {}
    head = {"title": title, "place": comparison.place(first.model, first.dataset), "heading": first.heading}
    return head | {"columns": columns, "others": others, "rows": lines}


def all_pictures(out, problems):
    """The pictures in <out>/figures with their captions, in the order of the tables."""
    shown = []
    for path in sorted((out / "figures").glob("*.png"), key=lambda path: in_order(path.stem)):
        with noted(problems, path):
            name, text = re.split(r"[-_.]", path.stem, maxsplit=1)[0], path.with_suffix(".txt")
            caption = text.read_text(errors="replace").strip() if text.exists() else ""
            shown.append(picture(path) | {"name": name, "title": title(name), "caption": caption, "file": path.name})
    return shown


def all_curves(runs, problems):
    """Pictures of the learning curves of every folder, data set and network."""
    shown, begun = [], [run for run in runs if run["lines"]]
    for (folder, dataset, model), group in itertools.groupby(begun, operator.itemgetter("folder", "dataset", "model")):
        words, lines = f"{comparison.place(model, dataset)}: {folder}", [*group]
        with noted(problems, f"the curves of {words}"):
            shown.append({"title": words, "panels": curves.panels(lines)})
    return shown


def picture(path):
    """A PNG as the page holds it, {data, width, height}: no larger than its text should be."""
    data = path.read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        raise BadInput(f"{path} is no PNG: remove it to draw it again")
    per_metre = re.search(rb"pHYs(.{4})", data[:200], re.DOTALL)
    zoom = min(1, PIXELS_PER_INCH / (struct.unpack(">I", per_metre[1])[0] * 0.0254)) if per_metre else 1
    width, height = (round(size * zoom) for size in struct.unpack(">II", data[16:24]))
    return {"data": base64.b64encode(data).decode(), "width": width, "height": height}
