"""The reduced study of the paper's claims: train and evaluate what is missing, collect the records, derive the claims.

python -m scripts.study cpu                     # 126 runs of minutes each, and the evaluations of 45 of them
python -m scripts.study gpu --dry-run           # every run, its state, the hours it takes on this device
python -m scripts.study cpu --no-run            # collect and derive from what is there

Its tables are recipes.STUDIES. The methods' runs come first, then those of the parts, all seed by seed; then the
evaluations of the methods' runs, and how diverse interpolated states are in their networks. It can be stopped at any
moment; the same command goes on. Of an unfinished study the claims say how many seeds they rest on. --models and a
smaller --seeds choose what is trained; all that is there is collected.

<out> gets the runs; <out>/records what claims are derived from (see claims/evidence.py), small enough for git; and
claims.md, tables and figures (see scripts/claims.py).
"""

import argparse
import dataclasses
import sys
import zipfile
from pathlib import Path

import numpy as np

import recipes
from claims import evidence
from engine import cli
from engine.files import BadInput, make_folder, read_json
from scripts import claims, tables
from scripts.figures import diversity
from scripts.grid import launcher


def parser():
    """The command line."""
    found = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = found.add_argument
    add("scale", choices=recipes.STUDIES)
    add("--models", "--model", nargs="+", help="of the study's, by default all")
    add("--seeds", type=int, metavar="N", help="seeds 0 to N - 1, by default 5 of the methods, 3 of the parts")
    launcher.add_flags(found)
    add("--dry-run", action="store_true", help="list the runs, their state and hours, launch nothing")
    add("--no-run", action="store_true", help="collect what is there, launch nothing")
    add("--records", type=Path, help="gets the records (default <out>/records)")
    cli.add_run_flags(found, "gets runs, records and claims (default results/study/<scale>)")
    fixed = ("datasets", "methods", "recipe_tag", *recipes.OPTIONS)  # pairs need all methods, by the study's recipe
    found.set_defaults(**dict.fromkeys(fixed))
    return found


# ---- launching ----


def jobs_of(plans, args):
    """The Jobs of all plans, seed by seed, each run with its evaluations right after its training."""
    jobs = tables.jobs_of(plans, args)
    evaluated = {run.files.stem for one in plans if one.script for run in one.grid.runs()}
    jobs = [
        with_diversity(job, args) if job.files.stem in evaluated and job.recipe.method in diversity.METHODS else job
        for job in jobs
    ]
    return sorted(jobs, key=lambda job: job.recipe.seed)  # stable: the methods' before the parts'


def with_diversity(job, args):
    """The job that draws Figure 10 of the run as well."""
    found = diversity_file(job.files)
    where = "--out", found.parent.parent, "--data-dir", args.data_dir
    how = "--device", args.device, "--workers", args.workers
    arguments = ("figure10", "--checkpoint", job.files.best, *where, *how)
    command = "scripts.figures.illustrations", tuple(map(str, arguments))
    return dataclasses.replace(job, commands=(*job.commands, command), results=(*job.results, found))


def diversity_file(files):
    """Where the numbers of Figure 10 of a run are."""
    return files.with_suffix("diversity") / "figures" / "figure10.json"


# ---- collecting ----


def collect(plans, args, folder):
    """Write what is there of the study to a folder of records. Raises BadInput where nothing is, or it is damaged."""
    runs, results = {}, {}
    for one in (one for one in plans if not one.script):
        for run in one.grid.runs():
            if result := run.files.finished():
                results[run.files.stem] = result
                row = [evidence.part_of(one.grid.name, args.scale), run.cell.variant]
                runs.setdefault(run.files.stem, []).append(row)
    if not runs:
        raise BadInput(f"{plans[0].grid.out} holds no finished run of the study {args.scale}")
    records, predictions, epochs, diverse = [], {}, [], []
    for run in plans[0].grid.runs():
        if run.files.stem not in runs:
            continue
        cell = run.cell.model, run.cell.method, run.recipe.seed
        epochs += [(*cell, *(line[name] for name in evidence.COLUMNS["epochs"][3:])) for line in run.files.logged()]
        for one in (one for one in plans if one.script):
            for record, result in one.evaluations(run):
                if result:
                    records.append(result)
                    if result["evaluation"] == "activations":  # of the whole test set
                        add_predictions(predictions, record.images, cell)
        diverse += diversity_rows(diversity_file(run.files), cell)
    chosen = [(rows, results[stem]) for stem, rows in runs.items()]
    evidence.write(folder, args.scale, chosen, epochs, records, predictions, diverse)


def add_predictions(predictions, path, cell):
    """Add to predictions what became of every clean test image, from an evaluation's file at path.

    Raises BadInput where it is damaged, or of other images than those before.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            labels, *found = (stored[name] for name in ("labels", "clean/predicted", "clean/confidence"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is damaged ({error}); remove it to evaluate anew") from error
    if not np.array_equal(labels, predictions.setdefault("labels", labels.astype(np.uint8))):
        raise BadInput(f"{path} is of other images than the others; remove it to evaluate anew")
    place = "/".join(map(str, cell))
    predictions[f"{place}/predicted"], predictions[f"{place}/confidence"] = found[0], found[1].astype(np.float16)


def diversity_rows(path, cell):
    """Rows of diversity.csv of one network, none where it is not measured yet."""
    if not path.exists():
        return []
    rows = read_json(path, maker="scripts/figures/illustrations.py figure10").get("rows", [])
    return [(*cell, row["method"], row["measure"], row["mean"]) for row in rows]


def whole(args):
    """The plans of the whole study, whatever part of it the command line chooses."""
    found = []
    for name, table in recipes.STUDIES[args.scale].items():
        seeds = max(len(table.seeds), args.seeds or 0)
        found.append(tables.plan(name, argparse.Namespace(**vars(args) | {"models": None, "seeds": seeds}), ()))
    return found


def make(args):
    """Do what a command line asks for; 1 where a run failed."""
    plans = [tables.plan(name, args, ()) for name in recipes.STUDIES[args.scale]]
    out, failed = plans[0].grid.out, []
    make_folder(out)
    if args.dry_run:
        launcher.dry_run(tables.jobs_of(plans, args), args, out)
        return 0
    if not args.no_run:
        failed += launcher.launch(jobs_of(plans, args), args)
    folder = args.records or out / "records"
    collect(whole(args), args, folder)
    claims.make(claims.parser().parse_args(["--records", str(folder), "--out", str(out)]))
    return 1 if failed else 0


def main(arguments=None):
    """Make the study that a command line names; the exit status (see cli.explain)."""
    args = parser().parse_args(arguments)
    return cli.explain(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
