"""The reduced study of the paper's claims: train and evaluate what is missing, collect the records, derive the claims.

python -m scripts.study cpu                     # hours per part first, then what is missing
python -m scripts.study cpu --quick             # the whole path in half an hour: 2 seeds, 10 epochs
python -m scripts.study cpu --dry-run           # every run, its state and hours, launch nothing
python -m scripts.study cpu --no-run            # collect and derive from what is done
python -m scripts.study gpu-minutes --graphs --jobs-per-gpu 5     # five methods at full size, minutes of one GPU

Its designs are recipes.DESIGNS. First three seeds of the methods are trained, for the verdicts on clean errors, then
evaluated; then come all other runs seed by seed, each with its evaluations. It can be stopped at any moment; the same
command goes on. A record with all its evaluations stands for its run, which is not trained again: those in
results/published/study/<scale>, or in --records instead (--records NEW_FOLDER begins anew).

<out> gets the runs; --records, or else <out>/records, the records of before and of these runs together (see
scripts/claims/records.py) and what follows from them: tables and pictures; <out> gets claims.md.
"""

import dataclasses
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

import recipes
from engine import cli
from engine.device import select_device
from engine.files import BadInput, make_folder, read_json
from scripts import tables
from scripts.claims import __main__ as claims
from scripts.claims import records
from scripts.claims.judge import FEWEST
from scripts.claims.records import KINDS, RunRecord, StudyRecords
from scripts.figures import diversity
from scripts.grid import estimates, grids, launcher

SCALES = [scale for scale in recipes.DESIGNS if not scale.endswith("-quick")]


def parser():
    """The command line."""
    commands = cli.Parser(description=__doc__)
    add = commands.add_argument
    add("scale", choices=SCALES)
    add("--quick", action="store_true", help="the same path in small, in another folder")
    add("--models", "--model", nargs="+", help="of the study's, by default all")
    add("--seeds", type=int, metavar="N", help="seeds 0 to N - 1 alone")
    add("--epochs", type=int, metavar="N", help="of gpu-minutes: chosen before the first run (default 80)")
    launcher.add_flags(commands)
    add("--dry-run", action="store_true", help="list the runs, their state and hours, launch nothing")
    add("--no-run", action="store_true", help="collect what is done, launch nothing")
    add("--records", type=Path, metavar="DIR", help="records that count, and that get these runs'")
    cli.add_run_flags(commands, "gets runs, records and claims (default results/study/<scale>)")
    return commands


def plans_of(scale, args, whole=False):
    """{part: tables.Plan} of the study; whole: whatever part of it the command line chooses."""
    plans, overrides = {}, {} if args.epochs is None else {"epochs": args.epochs}
    for part, table in recipes.STUDIES[scale].items():
        models, seeds = (None, max(len(table.seeds), args.seeds or 0)) if whole else (args.models, args.seeds)
        choice = grids.Choice(models=models, seeds=seeds, overrides=overrides, out=args.out, data_dir=args.data_dir)
        plans[part] = tables.plan_of(recipes.table_name(scale, part), choice)
    return plans


# ---- launching ----


def jobs_of(plans, args):
    """The Jobs of all plans, each run with its evaluations: the first ones, then all others seed by seed."""
    diverse = {run.files.stem for run in plans["activations"].grid.runs()} if "activations" in plans else ()
    jobs = [
        with_diversity(job, args) if job.files.stem in diverse and job.recipe.method in diversity.METHODS else job
        for job in tables.jobs_of(plans.values(), args)
    ]
    first = first_runs(plans)
    return sorted(jobs, key=lambda job: (job.files.stem not in first, job.recipe.seed))


def first_runs(plans):
    """The stems of the runs of those seeds of the methods that a verdict takes."""
    return {run.files.stem for run in plans["methods"].grid.runs() if run.recipe.seed < FEWEST}


def training(job):
    """The Job without its evaluations."""
    return dataclasses.replace(job, commands=job.commands[:1], results=(job.files.result,))


def with_diversity(job, args):
    """The job that draws Figure 10 of the run as well."""
    path = diversity_file(job.files)
    where = "--out", path.parent.parent, "--data-dir", args.data_dir
    how = "--device", args.device, "--workers", args.workers
    arguments = ("figure10", "--checkpoint", job.files.best, *where, *how)
    command = "scripts.figures.illustrations", tuple(map(str, arguments))
    return dataclasses.replace(job, commands=(*job.commands, command), results=(*job.results, path))


def diversity_file(files):
    """Where the numbers of Figure 10 of a run are."""
    return files.with_suffix("diversity") / "figures" / "figure10.json"


def missing(jobs, plans, known):
    """The jobs that neither are finished nor have a record, known, of run and evaluations."""
    evaluations = {}
    for plan in plans.values():
        for run in plan.grid.runs() if plan.script else ():
            evaluations.setdefault(run.files.stem, []).extend(e for e in plan.evaluations if e.kind in KINDS)

    def is_recorded(job):
        record = known.of(recipes.used(job.recipe))
        if record is None or (diversity_file(job.files) in job.results and not record.diversity):
            return False
        return all(has_evaluation(record, evaluation) for evaluation in evaluations.get(job.files.stem, ()))

    return [job for job in jobs if not is_recorded(job) and not job.finished()]


def has_evaluation(record, evaluation):
    """Whether a RunRecord has an evaluation, with the same setting."""
    kept = record.evaluations.get(evaluation.kind)
    setting = records.rounded({name: value for name, value in evaluation.setting.items() if value is not None})
    return kept is not None and all(kept["setting"].get(name) == value for name, value in setting.items())


def print_hours(plans, jobs, known, args, out):
    """Print a line a part: its runs, how many are left, and the hours that they take on this device, one at a time.

    Trainings by a few steps timed now, evaluations by the mean seconds of those that have records.
    """
    if args.launcher == "local":
        torch.set_num_threads(int(launcher.places(args)[0]["OMP_NUM_THREADS"]))
    states = {job: job.files.state() for job in jobs}
    hours = estimates.hours_left(states, out / "speed.json", select_device(args.device), args.graphs)
    counted, total = set(), 0.0
    print(f"{'part':12} {'runs':>5} {'left':>5}  hours")
    for part, plan in plans.items():
        runs = {run.files.stem for run in plan.grid.runs()}
        if plan.script:
            left = [job for job in jobs if job.files.stem in runs]
            amount = len(left) * hours_of_evaluation({evaluation.kind for evaluation in plan.evaluations}, known)
        else:
            runs -= counted
            counted |= runs
            left = [job for job, state in states.items() if job.files.stem in runs and state.name != "finished"]
            amount = sum(hours[job] or 0 for job in left)
        total += np.nan_to_num(amount)
        print(f"{part:12} {len(runs):5} {len(left):5}  {'not known yet' if np.isnan(amount) else f'{amount:.2f}'}")
    print(f"about {estimates.in_words(total)} of this device, one run at a time\n", flush=True)


def hours_of_evaluation(kinds, known):
    """The mean hours that kinds of evaluations took a run of the records; NaN where none has them."""
    seconds = [sum(r.evaluations[kind]["seconds"] for kind in kinds & r.evaluations.keys()) for r in known]
    return np.mean([value for value in seconds if value] or [np.nan]) / 3600


# ---- collecting ----


def local_records(plans):
    """The RunRecords of the finished runs of plans. Raises BadInput where one is damaged."""
    places = {}
    for plan in plans.values():
        for run in plan.grid.runs():
            places.setdefault(run.files.stem, []).append((plan, run))
    for shown in places.values():
        run = shown[0][1]
        if result := run.files.finished():
            pairs = [pair for plan, run in shown for pair in plan.records(run)]
            kept = dict(kept_of(files, record) for files, record in pairs if record and files.evaluation.kind in KINDS)
            path = diversity_file(run.files)
            rows = read_json(path, maker="scripts/figures/illustrations.py figure10")["rows"] if path.exists() else []
            yield RunRecord(result, kept, [[row["method"], row["measure"], row["mean"]] for row in rows])


def kept_of(files, record):
    """(kind, what is kept) of an evaluation that is done."""
    kind = record["evaluation"]
    return kind, records.evaluation(record, mean_confidence(files.images) if kind == "activations" else None)


def mean_confidence(path):
    """The mean confidence in percent on the clean images of an evaluation's arrays."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return 100 * float(stored["clean/confidence"].mean(dtype=np.float64))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is damaged ({error}); remove it to evaluate anew") from error


def known_records(scale, folder, given):
    """The StudyRecords so far: those in a folder, and in the one given or else the published ones."""
    known = StudyRecords(scale)
    for place in dict.fromkeys((given or claims.PUBLISHED / "study" / scale, folder)):
        if (place / records.FILE).exists():
            for record in records.read(place, scale):
                known.add(record, str(place / records.FILE))
    return known


def make(args):
    """Do what a command line asks for; 1 where a run failed."""
    scale = args.scale + "-quick" * args.quick
    if scale not in recipes.DESIGNS:
        raise BadInput(f"--quick is for {', '.join(scale for scale in SCALES if f'{scale}-quick' in recipes.DESIGNS)}")
    is_free = "epochs" in recipes.DESIGNS[scale].free
    if args.epochs and not is_free:
        raise BadInput(f"the epochs of the study {scale} are fixed: leave out --epochs")
    plans, failed = plans_of(scale, args), []
    out = plans["methods"].grid.out
    make_folder(out)
    folder = args.records or out / "records"
    known = known_records(scale, folder, args.records)
    if not args.no_run:
        jobs = missing(jobs_of(plans, args), plans, known)
        if not is_free:
            print_hours(plans, jobs, known, args, out)
        if args.dry_run:
            launcher.dry_run(jobs, args, out)
            return 0
        first = first_runs(plans)
        launcher.launch([training(job) for job in jobs if job.files.stem in first], args)
        failed = launcher.launch(jobs, args)
    for record in local_records(plans_of(scale, args, whole=True)):
        known.add(record, str(out))
    if not known.runs:
        raise BadInput(f"{out} holds no finished run of the study {scale}, nor has it a record")
    records.write(folder, known)
    claims.publish(folder, out)
    return 1 if failed else 0


def main(arguments=None):
    """Make the study that a command line names; the exit status (see cli.explain)."""
    args = parser().parse_args(arguments)
    return cli.explain(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
