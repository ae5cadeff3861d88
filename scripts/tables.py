"""A table of the paper, or the demo: launch the runs that are missing, collect all, render ours beside the paper's.

python scripts/tables.py demo
python scripts/tables.py table2 --datasets cifar100 --models preactresnet18 --seeds 1

The same command goes on with what was interrupted and leaves alone what is finished. Fields of the recipe can be
overridden by flags; such runs and their table have folders and a title of their own, and never mix with the paper's.
"""

import argparse
import contextlib
import math
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import check_install

check_install.main()  # before anything else imports torchvision

import data
import engine
import grids
import recipes
import train
from records import BadInput, RunFiles, make_folder, write_whole
from scripts import demo_figures

POLL_SECONDS = 0.2


def parser():
    """The command line."""
    found = train.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    found.add_argument("table", choices=recipes.TABLES)
    grids.add_flags(found)
    found.add_argument("--jobs", type=int, help="runs at a time (default: one a GPU, or one a core)")
    found.add_argument("--no-run", action="store_true", help="render what is there, launch nothing")
    out_help = "gets runs, tables and figures (default results, for the demo results/demo)"
    train.add_run_flags(found, out_help, out=None)
    recipes.add_flags(found)
    return found


# ---- launching ----


def train_one(recipe, options, threads):
    """One run in a process of its own; a signal meant for the table reaches it through its parent alone."""
    os.setsid()
    torch.set_num_threads(threads)

    def quietly():
        train.run(recipe, quiet=True, **options)
        return 0

    sys.exit(train.explain(quietly))


def launch(grid, wanted, options, jobs):
    """Train the recipes that are not finished, `jobs` at a time, under one progress bar over all their epochs.

    Returns the recipes that failed. SIGINT and SIGTERM save and stop all runs and raise engine.Stopped.
    """
    missing = [recipe for recipe in wanted if not RunFiles(grid.runs, recipe).finished()]
    if not missing:
        return []
    engine.select_device(options["device"])
    for recipe in {recipe.dataset: recipe for recipe in missing}.values():
        recipes.datasets(recipe, options["data_dir"], options["workers"])  # decoded once, refused once
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__"])  # torch is imported once for all runs
    threads = max(1, (os.cpu_count() or 1) // jobs)
    slots, running, failed = list(range(jobs)), {}, []
    done = sum(recipe.epochs for recipe in wanted) - sum(recipe.epochs for recipe in missing)
    with stop_signals(), tqdm(total=sum(recipe.epochs for recipe in wanted), unit="epoch", dynamic_ncols=True) as bar:
        try:
            while missing or running:
                while missing and slots:
                    recipe, slot = missing.pop(0), slots.pop(0)
                    arguments = (recipe, options | {"device": device_of(slot, options["device"])}, threads)
                    running[recipe] = context.Process(target=train_one, args=arguments), slot
                    running[recipe][0].start()
                time.sleep(POLL_SECONDS)
                for recipe, (process, slot) in list(running.items()):
                    if not process.is_alive():
                        del running[recipe]
                        slots.append(slot)
                        failed += [recipe] * bool(process.exitcode)
                        done += recipe.epochs
                bar.n = done + sum(epochs_done(RunFiles(grid.runs, recipe)) for recipe in running)
                bar.set_postfix_str(", ".join(f"{recipe.method} {recipe.seed}" for recipe in running))
        except engine.Stopped:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.join()
            raise
    return failed


def device_of(slot, name):
    """The device of the slot-th run at a time: GPUs in turn where there are several and none was named."""
    count = torch.cuda.device_count()
    return f"cuda:{slot % count}" if name in ("auto", "cuda") and count > 1 else name


@contextlib.contextmanager
def stop_signals():
    """Within it, SIGINT and SIGTERM raise engine.Stopped, once; a second one acts as usual."""

    def stop(number, frame):
        restore()
        raise engine.Stopped(number)

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()


def epochs_done(files):
    """Epochs in a run's log."""
    with contextlib.suppress(FileNotFoundError), files.log.open("rb") as log:
        return sum(1 for _ in log)
    return 0


# ---- collecting and rendering ----


def collect(grid, wanted):
    """A row a finished run: dataset, model, method, seed and the table's metrics."""
    rows = []
    for recipe in wanted:
        files = RunFiles(grid.runs, recipe)
        if result := files.finished():
            classes = data.FACTS[recipe.dataset].num_classes
            if result["classes"] != classes:
                raise BadInput(f"{files.result} saw {result['classes']} of the {classes} classes of {recipe.dataset}")
            metrics = {name: result[name] for name, _ in grid.table.metrics}
            rows.append({name: result[name] for name in ("dataset", "model", "method", "seed")} | metrics)
    return pd.DataFrame(rows, columns=["dataset", "model", "method", "seed", *dict(grid.table.metrics)])


def compare(grid, runs):
    """A row a cell and metric: n, mean and sample standard deviation of ours, the paper's, and their difference."""
    paper, rows = grids.paper_numbers(grid.name), []
    for dataset, model, method in grid.table.cells():
        cell = runs[(runs.dataset == dataset) & (runs.model == model) & (runs.method == method)]
        for metric, _ in grid.table.metrics:
            mean, std = cell[metric].mean(), cell[metric].std(ddof=1)
            paper_mean, paper_std = paper.get((dataset, model, method, metric), (math.nan, math.nan))
            rows.append(
                {
                    "dataset": dataset,
                    "model": model,
                    "method": method,
                    "metric": metric,
                    "n": len(cell),
                    "mean": mean,
                    "std": std,
                    "paper_mean": paper_mean,
                    "paper_std": paper_std,
                    "difference": mean - paper_mean,
                }
            )
    return pd.DataFrame(rows)


def markdown(grid, rows):
    """The table: one part a network, a row a method, a column a data set and metric; the paper's beside ours."""
    paper = bool(rows.paper_mean.notna().any())
    lines = [f"### {grid.title}", ""]
    rows = rows.set_index(["dataset", "model", "method", "metric"])
    lines += [f"Ours: mean ± sample standard deviation (number of runs).{paper * ' Difference: ours minus the paper.'}"]
    for model in grid.table.models:
        columns = [(dataset, *metric) for dataset in grid.table.datasets for metric in grid.table.metrics]
        heads = [f"{dataset} {head}" if len(grid.table.datasets) > 1 else head for dataset, _, head in columns]
        heads = [h for head in heads for h in ([head, "paper", "difference"] if paper else [head])]
        lines += ["", f"| {model} | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
        for method in grid.table.methods:
            texts = []
            for dataset, metric, _ in columns:
                row = rows.loc[(dataset, model, method, metric)]
                texts.append(grids.cell_text(row["mean"], row["std"], row["n"]))
                if paper:
                    texts.append(grids.plus_minus(row.paper_mean, row.paper_std))
                    texts.append(f"{row.difference:+.2f}" if row.n else "")
            lines.append(f"| {recipes.LABELS[method]} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def write(grid, wanted, data_dir):
    """Collect, compare, write Markdown and CSV, print the Markdown; the demo's pictures too."""
    runs = collect(grid, wanted)
    rows = compare(grid, runs)
    text = markdown(grid, rows)
    for folder, suffix, content in (("tables", "md", text), ("tables", "csv", rows.to_csv(index=False))):
        path = grid.out / folder / f"{grid.file_name}.{suffix}"
        write_whole(path, lambda file, content=content: file.write(content.encode()))
    print(text)
    print(f"written to {grid.out / 'tables'}")
    if grid.name == "demo" and len(runs):
        print("drawing the pictures", flush=True)
        torch.set_num_threads(1)  # networks this small are slower on more, far slower on a busy machine
        logs = {recipe: RunFiles(grid.runs, recipe).log for recipe in wanted}
        demo_figures.error_curves(logs, grid.out / "figures" / f"{grid.file_name}_curves.png")
        picture = grid.out / "figures" / f"{grid.file_name}_batch.png"
        demo_figures.mixed_batch(wanted[0], *train.objects(wanted[0], data_dir), picture)
        print(f"pictures in {grid.out / 'figures'}")


def make(args):
    """Launch, collect and render what a command line asks for; 1 where a run failed."""
    if args.jobs is not None and args.jobs < 1:
        raise BadInput(f"--jobs must be at least 1, not {args.jobs}")
    grid = grids.grid_of(args)
    wanted, failed = grid.recipes(), []
    for folder in ("tables", "figures"):
        make_folder(grid.out / folder)
    if not args.no_run:
        options = {name: getattr(args, name) for name in train.RUN_FLAGS} | {"out": grid.runs}
        jobs = args.jobs or torch.cuda.device_count() or os.cpu_count() or 1
        failed = launch(grid, wanted, options, jobs)
    write(grid, wanted, args.data_dir)
    for recipe in failed:
        train.one_line(f"failed: {recipe.method} with {recipe.model} on {recipe.dataset}, seed {recipe.seed}")
    return 1 if failed else 0


def main(arguments=None):
    """Make the table that a command line says; the exit status (see train.explain)."""
    args = parser().parse_args(arguments)
    return train.explain(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
