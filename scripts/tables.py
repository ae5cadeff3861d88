"""Tables and figures of the paper: launch runs and evaluations that are missing, render ours beside the paper's.

python -m scripts.tables table2 --datasets cifar100 --models preactresnet18 --seeds 1
python -m scripts.tables all --dry-run
python -m scripts.tables compare --methods none patchup_hard feature_cutmix --dataset cifar100 --model preactresnet18
python -m scripts.tables table5 --limit 1000          # flags of the evaluation script are taken too

The same command goes on with what was interrupted and leaves alone what is finished. Fields of the recipe can be
overridden by flags; such runs and their table have other folders and titles, and never mix with the paper's.
"""

import argparse
import dataclasses
import difflib
import sys
from types import ModuleType

import pandas as pd
import torch

import recipes
from engine import cli
from engine.device import select_device, unused_gpu
from engine.evaluation_files import EvaluationFiles
from engine.files import NUMBER, BadInput, make_folder, read_json, write_json
from scripts.bench.hours import training_hours
from scripts.bench.timing import ROUNDS
from scripts.figures import demo_figures
from scripts.figures import evaluated as pictures
from scripts.grid import comparison, evaluated, grids, launcher
from scripts.grid.job import Job

CPU_BATCH = 10  # images a step of Table 8 on a CPU
ALL = tuple(name for name in recipes.TABLES if name.startswith(("table", "figure")))
NAMES = (*recipes.TABLES, "all")
UNKNOWN = "Table 9, Figure 11 and Figure 12 are unknown: they are in the paper's appendix alone, which is not available"


def table_name(text):
    """A name of NAMES, as it stands on a command line."""
    if text not in NAMES:
        nearest = ", ".join(difflib.get_close_matches(text, NAMES, cutoff=0))
        raise argparse.ArgumentTypeError(f"{text} is unknown; the nearest are {nearest}. {UNKNOWN}")
    return text


def needs(name):
    """What a table needs, in a line: title, data sets, networks and the number of runs."""
    table = recipes.TABLES[name]
    if table.kind == "any":
        return f"{table.title} of any methods on any data sets and networks"
    if table.kind == "steps":
        return f"{table.title} ({table.datasets[0]}, {table.models[0]}): timed steps, no runs"
    count = len(table.datasets) * len(table.models) * sum(len(table.seeds_of(row)) for row in table.rows)
    return f"{table.title} ({', '.join(table.datasets)}; {', '.join(table.models)}): {count} runs"


def more_flags(name):
    """What the help of a table with an evaluation says below its flags, or nothing."""
    if not recipes.TABLES[name].evaluation:
        return None
    kind = recipes.TABLES[name].evaluation[0]
    script = f"eval_{kind}.py"
    return (
        f"also taken: the flags of {script}, as --limit N (see {script} --help)\n"
        f"for other networks: scripts/compare.sh --evaluate {kind}"
    )


def parser(name=None):
    """The command line, but for the flags of evaluation scripts; name: the one table whose help it gives."""
    lines = [f"{name}: {needs(name)}"] if name else [__doc__, *(f"{name:10} {needs(name)}" for name in (*ALL, "demo"))]
    commands = cli.Parser(
        prog=f"{name}.sh" if name else None,
        description="\n".join(lines),
        epilog=more_flags(name) if name else None,
    )
    words = argparse.SUPPRESS if name else f"one or more of {', '.join((*ALL, 'demo', 'compare'))}; or all"
    commands.add_argument("tables", nargs="+", type=table_name, metavar="TABLE", help=words)
    grids.add_flags(commands)
    launcher.add_flags(commands)
    commands.add_argument("--dry-run", action="store_true", help="list the runs, their state and hours, launch nothing")
    commands.add_argument("--no-run", action="store_true", help="render the records so far, launch nothing")
    cli.add_run_flags(commands, "gets runs, tables and figures (default results, for the demo results/demo)")
    kinds = ", ".join(evaluated.EVALUATIONS)
    words = f"also evaluate the runs, of compare or of trainings: {kinds}; takes flags of eval_*.py, as --limit N"
    commands.add_argument("--evaluate", action=cli.Names, metavar="KIND", help=words)
    recipes.add_flags(commands)
    return commands


@dataclasses.dataclass(frozen=True)
class Plan:
    """A table to make: its grid and, where its cells show an evaluation, the script and what it does."""

    grid: grids.Grid
    script: ModuleType = None
    arguments: tuple = ()  # of the script, on top of the checkpoint
    evaluations: tuple = ()
    weights: str = "best"  # or `last`: those that are evaluated

    def checkpoint(self, run):
        """The weights of a run that are evaluated."""
        return getattr(run.files, self.weights)

    def records(self, run):
        """[(EvaluationFiles, the record or None)] of a run."""
        files = [EvaluationFiles(self.checkpoint(run), evaluation) for evaluation in self.evaluations]
        return [(file, file.finished(run.recipe)) for file in files]


def plan_of(name, choice, more=()):
    """The Plan of a grids.Choice of one table. more: the flags of its evaluation script."""
    grid = grids.grid_of(name, choice)
    if grid.table.evaluation:
        return evaluation_plan(grid, grid.table.evaluation, more)
    if more:
        message = f"unrecognized arguments for {name}: {' '.join(more)}"
        raise BadInput(message + parser().meant(message))
    return Plan(grid)


def plans_of(name, choice, more, kinds):
    """The Plans of a table: of its trainings and of evaluations of these kinds, or without kinds the table's alone."""
    if not kinds:
        return [plan_of(name, choice, more)]
    trained = plan_of(name, choice)
    table = trained.grid.table
    if trained.script or table.kind == "steps" or any(row.variant for row in table.rows):
        raise BadInput(f"--evaluate is for tables with a run a method and seed, as compare and table2, not for {name}")
    for kind in kinds:
        if kind not in evaluated.EVALUATIONS:
            raise BadInput(f"--evaluate: {recipes.unknown_name('kind of evaluation', kind, evaluated.EVALUATIONS)}")
    table = dataclasses.replace(table, paper=("none",), remark="")  # the paper's numbers are of the trainings
    grid = dataclasses.replace(trained.grid, table=table)
    return [trained, *(evaluation_plan(grid, evaluated.EVALUATIONS[kind], more) for kind in dict.fromkeys(kinds))]


def evaluation_plan(grid, evaluation, more):
    """The Plan of a table whose cells show an evaluation: (its name in evaluated.SCRIPTS, its flags, ...)."""
    kind, *flags = evaluation
    script = evaluated.SCRIPTS[kind]
    options = script.parser().parse_args([*flags, *more])
    if options.checkpoints:
        raise BadInput(f"{grid.name} shows the runs of its grid, not {options.checkpoints[0]}")
    shown = cli.Parser(add_help=False)
    shown.add_argument("--reference")  # which changes what is shown, not what a run's evaluation does
    arguments = (*flags, *shown.parse_known_args(more)[1])
    return Plan(grid, script, arguments, tuple(script.evaluations(options)), options.weights)


# ---- launching ----


def jobs_of(plans, args):
    """The Jobs of all plans, finished or not; a run that several tables show is one job."""
    shared = ["--data-dir", str(args.data_dir), "--device", args.device, "--workers", str(args.workers)]
    training = ["--checkpoint-minutes", str(args.checkpoint_minutes)]
    training += ["--deterministic"] * args.deterministic + ["--graphs"] * args.graphs
    training += ["--tensorboard", str(args.tensorboard)] if args.tensorboard else []
    jobs = {}
    for plan in plans:
        for run in plan.grid.runs() if plan.grid.table.kind != "steps" else ():
            run.files.finished()  # raises where it is of another recipe
            train_it = ("train", (*run.arguments(), *shared, *training))
            job = jobs.get(run.files.stem) or Job(run.recipe, run.files, (train_it,), (run.files.result,))
            if plan.script:
                evaluate_it = (plan.script.__name__, (str(plan.checkpoint(run)), *plan.arguments, *shared))
                records = [path for files, _ in plan.records(run) for path in (files.result, files.images)]
                commands = tuple(dict.fromkeys((*job.commands, evaluate_it)))
                job = dataclasses.replace(job, commands=commands, results=(*job.results, *records))
            jobs[run.files.stem] = job
    return list(jobs.values())


# ---- collecting and rendering ----


def finished(grid, runs=None):
    """[(run, its result)] of the finished runs, by default of all. Raises BadInput where they are of other images."""
    pairs, first = [], {}
    for run in grid.runs() if runs is None else runs:
        if result := run.files.finished(needed=("classes",)):
            pairs.append((run, result))
            other, path = first.setdefault(run.recipe.dataset, (result, run.files.result))
            if any(name in result and result[name] != other.get(name, result[name]) for name in ("digest", "classes")):
                raise BadInput(f"{run.files.result} and {path} are of other images: no table can show both")
    return pairs


def seeing(grid, runs=None):
    """The grid, which knows where the images of its runs lack classes; runs: by default all."""
    return grid if grid.table.kind == "steps" else grid.seeing(result for _, result in finished(grid, runs))


def collect(grid, runs=None):
    """A row a finished run (or timed method) and metric: comparison.CELL, seed, metric and value."""
    if grid.table.kind == "steps":
        hours = kept_hours(grid)
        rows = [(*cell, 0, "hours", hours[cell.method]["hours"]) for cell in grid.cells() if cell.method in hours]
    else:
        rows = [
            (*run.cell, run.recipe.seed, metric.name, result[metric.name])
            for run, result in finished(grid, runs)
            for metric in grid.table.metrics
            if metric.name in result
        ]
    return pd.DataFrame(rows, columns=[*comparison.CELL, "seed", "metric", "value"])


def compared(grid, runs=None):
    """The comparison.Header, the comparison and the runs' values of a table of trainings; runs: by default all."""
    grid, values = seeing(grid, runs), collect(grid, runs)
    frame = comparison.compare(grid.cells(), grid.table.metrics, values, grid.paper(), grid.wanted(), grid.printed())
    return comparison.Header(grid.name, grid.title, grid.note, grid.table.remark), frame, values


def measure_hours(grid, device):
    """Time a few steps of every method of Table 8 on this device, once, and keep the hours that a run would take."""
    hours = kept_hours(grid)
    if missing := [method for method in grid.table.methods if method not in hours]:
        device = select_device(device)
        batch = CPU_BATCH if device.type == "cpu" else None
        place = grid.table.datasets[0], grid.table.models[0], missing, device, ROUNDS[device.type], batch
        hours |= training_hours(*place, **grid.table.overrides | grid.overrides)
        write_json(hours_file(grid), hours)


def hours_file(grid):
    """Where measured hours are kept."""
    return grid.out / f"hours{grid.suffix}.json"


def kept_hours(grid):
    """{method: {hours, ...}} as measured so far. Raises BadInput where the file holds something else."""
    path = hours_file(grid)
    shape = {...: {"hours": NUMBER}}
    return read_json(path, "scripts/tables.py", "; remove it to measure anew", fields=shape) if path.exists() else {}


def render(plan, data_dir):
    """Write a plan's table, and its pictures, from the records so far; print it."""
    if plan.script:
        show_evaluations(plan)
        return
    header, frame, values = compared(plan.grid)
    grid = seeing(plan.grid)
    comparison.publish(header, frame, grid.out, grid.file_name, values)
    if grid.table.kind == "demo" and len(values):
        draw_demo(grid, data_dir)


def show_evaluations(plan):
    """Write the tables and pictures of a plan's evaluations from the records so far."""
    shown, columns = False, zip(*map(plan.records, plan.grid.runs()))
    for evaluation, column in zip(plan.evaluations, columns):
        records = [record for _, record in column if record]
        grid = plan.grid.seeing(records)
        if name := evaluated.publish(evaluation, records, grid, plan.weights):
            pictures.draw(evaluation, records, grid, name)
            shown = True
    if not shown:
        print(f"### {plan.grid.title}\n\nnothing is evaluated yet\n")


def draw_demo(grid, data_dir):
    """The demo's two pictures."""
    print("drawing the pictures", flush=True)
    torch.set_num_threads(1)  # networks this small are slower on more, far slower on a busy machine
    runs, figures = grid.runs(), grid.out / "figures"
    logs = {run.recipe: run.files.logged() for run in runs}
    make_folder(figures)
    demo_figures.error_curves(logs, figures / f"{grid.file_name}_curves.png")
    recipe = runs[0].recipe
    demo_figures.mixed_batch(recipe, *recipes.objects(recipe, data_dir), figures / f"{grid.file_name}_batch.png")
    print(f"pictures in {figures}")


def make(args, more):
    """Launch, collect and render what a command line asks for; 1 where a run failed."""
    names = ALL if "all" in args.tables else tuple(dict.fromkeys(args.tables))
    if more and "all" in args.tables:
        raise BadInput(f"unrecognized arguments for all tables together: {' '.join(more)}")
    if args.device == "auto" and args.launcher != "slurm" and set(names) & set(ALL) and (reason := unused_gpu()):
        raise BadInput(f"{reason}: mend that, or give --device cpu")
    choice = grids.Choice.of(args)
    plans = [plan for name in names for plan in plans_of(name, choice, more, args.evaluate)]
    for plan in plans:
        make_folder(plan.grid.out / "tables")
    jobs, failed = jobs_of(plans, args), []
    if args.dry_run:
        launcher.dry_run(jobs, args, plans[0].grid.out)
        return 0
    if not args.no_run:
        for plan in plans:
            plan.grid.remember()
        if missing := [job for job in jobs if not job.finished()]:
            failed = launcher.launch(missing, args)
        for plan in plans:
            if plan.grid.table.kind == "steps":
                measure_hours(plan.grid, args.device)
    for plan in plans:
        render(plan, args.data_dir)
    return 1 if failed else 0


def main(arguments=None):
    """Make the tables that a command line names; the exit status (see cli.explain)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments and arguments[0] in recipes.TABLES else None
    args, more = parser(name).parse_known_args(arguments)
    return cli.explain(lambda: make(args, more), f"{name}.sh" if name else None)


if __name__ == "__main__":
    sys.exit(main())
