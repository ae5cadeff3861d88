"""Doing many runs: several at a time on this machine, or on a cluster (slurm.py), with one live line a run.

A launcher keeps nothing but the runs' own files. So it can be stopped or killed at any moment, and the same command
goes on; two of them on the same runs, here or on machines that share the folder, divide the work.
"""

import collections
import contextlib
import importlib
import multiprocessing
import os
import re
import shlex
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from tqdm import tqdm

import recipes
from engine.device import select_device
from engine.files import ROOT, BadInput, RunFailed, RunFiles, make_folder, write_whole
from engine.signals import Stopped, StopSignals
from scripts.grid import estimates

POLL_SECONDS = 0.2
STATUS_SECONDS = 1  # between looks at the runs that are shown
ALL_SECONDS = 60  # and at all of them, which other launchers may do
ELSEWHERE_SECONDS = 2  # between looks at a run that another process is at
ATTEMPTS = 2
BAD_INPUT = 2  # the exit status that no second attempt mends
END_LINES = 10  # of the output of a failed run, shown
HEAD = "== "  # begins the line in a run's output that says what follows
ESTIMATED = (
    "Hours are estimates, of training alone: from a run's own log where it has one, else from a few steps timed here,\n"
    "alone on the device, of Puzzle Mix or of `none`, than which the other methods take a few percent longer at most."
)
BAR = re.compile(r"\d+%\|")


@dataclass(frozen=True)
class Job:
    """One run and what is to be done of it.

    commands: ((module, (argument, ...)), ...), done in order until one fails: module.main(arguments) gives the status.
    results: the files that are there when all of it is done.
    """

    recipe: recipes.Recipe
    files: RunFiles
    commands: tuple
    results: tuple

    @property
    def name(self):
        """As `cifar100/wrn28_10/none/seed0`, with the folder before it where that is not `runs`."""
        own = self.files.stem.relative_to(self.files.out)
        return str(own if self.files.out.name == "runs" else Path(self.files.out.name, own))

    def state(self):
        """files.state(), but `trained` where the training is finished and not yet all the rest."""
        state = self.files.state()
        return state._replace(name="trained") if state.name == "finished" and not self.finished() else state

    def finished(self):
        """Whether all of it is done. Raises BadInput if it was run with another recipe."""
        return bool(self.files.finished()) and all(Path(path).exists() for path in self.results)


def add_flags(parser):
    """The flags that say where runs are done, and how many at a time."""
    from scripts.grid import slurm

    add = parser.add_argument
    add("--launcher", choices=("local", "slurm"), default="local", help="this machine (default), or a cluster")
    add("--jobs", type=int, metavar="N", help="runs at a time (default: one a GPU, or one a core)")
    add("--jobs-per-gpu", type=int, default=1, metavar="N", help="small runs that share a GPU (default 1)")
    add("--gpus-per-run", type=int, default=1, metavar="N", help="GPUs that train a run together (default 1)")
    slurm.add_flags(parser)


def launch(jobs, args):
    """Do the jobs that are not finished and return those that failed twice, or once with bad input.

    SIGINT, SIGTERM and SIGUSR1 let all runs save and stop, and raise engine.Stopped. Raises BadInput or data.DataError
    before anything is started, for flags that cannot be together and for images that are missing.
    """
    jobs = [job for job in jobs if not job.finished()]
    if args.launcher == "slurm":
        from scripts.grid import slurm

        return slurm.launch(jobs, args)
    free = places(args)
    if not jobs:
        return []
    read_images(jobs, args)
    machine = Machine(jobs, free, args.gpus_per_run)
    with StopSignals() as signals, Status(jobs) as status:
        try:
            while machine.busy():
                if signals.received:
                    raise Stopped(signals.received)
                machine.start()
                time.sleep(POLL_SECONDS)
                for job in machine.collect():
                    status.say(report(job))
                status.update(list(machine.running), list(machine.elsewhere), len(machine.failed))
        finally:
            machine.stop()
    return machine.failed


def read_images(jobs, args):
    """Decode the images of every data set once, before many runs do. Raises data.DataError where they are missing."""
    for recipe in {(job.recipe.dataset, job.recipe.image_size): job.recipe for job in jobs}.values():
        recipes.datasets(recipe, args.data_dir, args.workers)


# ---- where runs are done ----


def places(args):
    """The places for runs at a time: what each adds to a run's environment, its GPUs and the number of threads.

    Raises BadInput for flags that cannot be together here.
    """
    for name in ("jobs", "jobs_per_gpu", "gpus_per_run"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise BadInput(f"{recipes.flag(name)} must be at least 1, not {getattr(args, name)}")
    each, share, gpus = args.gpus_per_run, args.jobs_per_gpu, visible_gpus(args.device)
    if share > 1 and each > 1:
        raise BadInput(f"--gpus-per-run {each} takes whole GPUs, --jobs-per-gpu {share} shares them: give one of them")
    if share > 1 and args.jobs:
        raise BadInput(f"--jobs {args.jobs} is the number of runs at a time: leave out --jobs-per-gpu")
    if share > 1 and not gpus:
        raise BadInput(f"--jobs-per-gpu {share} needs a GPU; on a CPU --jobs says how many runs at a time")
    groups = [gpus[i : i + each] for i in range(0, len(gpus) - each + 1, each)]
    if gpus and (not groups or (each > 1 and (args.jobs or 0) > len(groups))):
        runs = f"--jobs {args.jobs} with " if args.jobs else ""
        raise BadInput(f"{runs}--gpus-per-run {each} takes more GPUs than --device {args.device} has here, {len(gpus)}")
    count = args.jobs or len(groups) * share or max(1, cores() // each)
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // (count * each)))
    names = [",".join(groups[i % len(groups)]) if groups else "" for i in range(count)]
    return [{"OMP_NUM_THREADS": threads} | ({"CUDA_VISIBLE_DEVICES": name} if name else {}) for name in names]


def visible_gpus(name):
    """The GPUs that `--device name` may use, as CUDA_VISIBLE_DEVICES calls them; [""] for one GPU that it names itself.

    Raises BadInput where the device cannot be used.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        count, given = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
        return given.split(",")[:count] if given else [str(i) for i in range(count)]
    return [""] if select_device(name).type == "cuda" else []


def cores():
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


# ---- one machine ----


class Machine:
    """Jobs being done on this machine, each in a process of its own, as many at a time as there are places.

    failed: the jobs given up. A job that fails is tried again after the others have had their turn.
    """

    def __init__(self, jobs, free, gpus_per_run):
        self.queue, self.free, self.gpus_per_run = collections.deque(jobs), free, gpus_per_run
        self.running, self.elsewhere, self.failed = {}, {}, []  # job: (process, place); job: time of the last look
        self.attempts = collections.Counter()
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["__main__", __name__])  # torch is imported once for all runs

    def busy(self):
        """Whether something is still to be done, here or by another process."""
        return bool(self.queue or self.running or self.elsewhere)

    def start(self):
        """Start jobs while there are places; those that another process is at are looked at again later."""
        for job, seen in list(self.elsewhere.items()):
            if time.monotonic() - seen >= ELSEWHERE_SECONDS and not self._is_elsewhere(job):
                del self.elsewhere[job]
                self.queue.append(job)
        while self.queue and self.free:
            job = self.queue.popleft()
            if not self._is_elsewhere(job) and not job.finished():
                place = self.free.pop(0)
                self.running[job] = self._process(job, place), place

    def _is_elsewhere(self, job):
        """Whether another process is at the job now; if so, that is noted."""
        taken = job.files.state().name == "running"
        if taken:
            self.elsewhere[job] = time.monotonic()
        return taken

    def _process(self, job, place):
        make_folder(job.files.stem.parent)
        job.files.failed.unlink(missing_ok=True)
        commands = with_torchrun(job.commands, self.gpus_per_run)
        process = self.context.Process(target=work, args=(commands, job.files.output, place))
        process.start()
        return process

    def collect(self):
        """Take note of the processes that have ended, and return the jobs that are given up now."""
        given_up = []
        for job, (process, place) in list(self.running.items()):
            if process.is_alive():
                continue
            del self.running[job]
            self.free.append(place)
            if process.exitcode == os.EX_TEMPFAIL:
                self.elsewhere[job] = time.monotonic()
            elif process.exitcode:
                note_failure(job, process.exitcode)
                self.attempts[job] += 1
                if process.exitcode == BAD_INPUT or self.attempts[job] == ATTEMPTS:
                    given_up.append(job)
                else:
                    self.queue.append(job)
        self.failed += given_up
        return given_up

    def stop(self):
        """Let all runs save and stop, and wait for them."""
        for process, _ in self.running.values():
            process.terminate()
        for process, _ in self.running.values():
            process.join()


def with_torchrun(commands, processes):
    """The same commands, but with the training done by several processes, one a GPU."""
    if processes == 1:
        return commands
    options = "--standalone", "--nproc-per-node", str(processes), str(ROOT / "train.py")
    return tuple(
        ("torch.distributed.run", (*options, *arguments)) if module == "train" else (module, arguments)
        for module, arguments in commands
    )


# ---- in a run's process ----


def work(commands, output, environment):
    """What a run's process does; its exit status is that of the command that failed, or 0."""
    os.setsid()  # a Ctrl-C meant for the launcher reaches it through the launcher alone
    os.environ.update(environment)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    threading.Thread(target=stop_with_launcher, daemon=True).start()
    with output.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(perform(commands))


def stop_with_launcher():
    """Save and stop when the launcher is gone, also if it was killed."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)


def perform(commands):
    """Do commands ((module, arguments), ...) in order in this process; the first status that is not 0, or 0."""
    for module, arguments in commands:
        print(f"{HEAD}{time.strftime('%F %T')} python -m {module} {shlex.join(arguments)}", flush=True)
        sys.argv = [f"{module}.py", *arguments]  # what its messages begin with
        if status := _status(importlib.import_module(module).main, list(arguments)):
            return status
    return 0


def _status(main, arguments):
    try:
        return main(arguments)
    except SystemExit as error:
        return error.code
    except ChildFailedError as error:  # of torchrun, which counts every failure as 1
        code = error.get_first_failure()[1].exitcode
        return code if code >= 0 else 128 - code
    except SignalException as error:  # likewise
        return 128 + error.sigval


# ---- failures ----


def note_failure(job, code):
    """Write what happened, and the end of the output of the command that failed, to the job's files.failed."""
    happened = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    text = "\n".join([happened, *end_of(job.files.output)]) + "\n"
    with contextlib.suppress(RunFailed):  # on a full disk the others are to go on
        write_whole(job.files.failed, lambda file: file.write(text.encode()))


def report(job):
    """The lines that tell of a job that is given up."""
    text = job.files.failed.read_text() if job.files.failed.exists() else "the reason could not be written"
    happened, *lines = text.splitlines()
    return "\n".join([f"failed: {job.name} ({happened}), {job.files.output} ends:", *(f"  {line}" for line in lines)])


def end_of(path):
    """The last lines that the last command wrote to an output file, without progress bars."""
    text = path.read_bytes().decode(errors="replace").rpartition(HEAD)[2].partition("\n")[2] if path.exists() else ""
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", text)]
    return [line for line in lines if line and not BAR.search(line)][-END_LINES:]


# ---- the display ----


class Status:
    """One bar over the epochs of all jobs and, on a terminal, one for every run; read from the runs' files alone."""

    def __init__(self, jobs):
        self.live = sys.stderr.isatty()
        self.epochs = {job: job.files.state().epoch for job in jobs}  # done
        self.shown, self.lines, self.looked_at, self.looked_at_all = {}, {}, 0.0, time.monotonic()

    def __enter__(self):
        self.whole = self._bar("all", sum(job.recipe.epochs for job in self.epochs), sum(self.epochs.values()), 0)
        return self

    def __exit__(self, *exception):
        self._look({}, self.epochs)
        self.whole.close()

    def say(self, text):
        """Print text above the bars."""
        tqdm.write(text, file=sys.stderr)

    def update(self, running, elsewhere=(), failed=0):
        """Show the jobs that run here and those that another process is at; failed: how many were given up.

        Looks into the files once a second at most.
        """
        now = time.monotonic()
        if now - self.looked_at < STATUS_SECONDS:
            return
        done = sum(job.recipe.epochs == epochs for job, epochs in self.epochs.items())
        counts = {"trained": done, "elsewhere": len(elsewhere), "failed": failed}
        words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        self.whole.set_postfix_str(words, refresh=False)
        self.looked_at, more = now, ()
        if now - self.looked_at_all >= ALL_SECONDS:
            self.looked_at_all, more = now, self.epochs
        self._look(dict.fromkeys(running, "") | dict.fromkeys(elsewhere, "elsewhere"), more)

    def _look(self, shown, more=()):
        """Read how far the jobs are that are shown now, {job: remark}, that were so the last time, and more."""
        for job in dict.fromkeys((*self.shown, *shown, *more)):
            state = job.files.state()
            self.epochs[job] = state.epoch
            if job not in shown:
                self._clear(job)
            elif self.live:
                self._draw(job, state, shown[job])
        self.shown = shown
        self.whole.update(sum(self.epochs.values()) - self.whole.n)
        if self.live:
            self.whole.refresh()

    def _draw(self, job, state, remark):
        if job not in self.lines:
            taken = {abs(bar.pos) for bar in self.lines.values()}
            position = min(set(range(1, len(taken) + 2)) - taken)
            self.lines[job] = self._bar(job.name, state.epochs, state.epoch, position)
        best = None if state.best_val_error is None else f"best val {state.best_val_error:.2f} %"
        evaluating = "evaluating" if state.name == "finished" else None
        self.lines[job].n = state.epoch
        self.lines[job].set_postfix_str(", ".join(filter(None, (best, evaluating, remark))), refresh=False)
        self.lines[job].refresh()

    def _clear(self, job):
        if job in self.lines:
            self.lines.pop(job).close()

    def _bar(self, name, total, initial, position):
        return tqdm(
            desc=name,
            total=total,
            initial=initial,
            position=position,
            unit="epoch",
            dynamic_ncols=True,
            leave=position == 0,
            mininterval=0.5 if self.live else 60,  # a log file is no screen
        )


# ---- what is to be done ----


def dry_run(jobs, args, out):
    """Print every job, its state and the hours that it still takes, then the sums; nothing is started.

    out: the folder that keeps the speed measured on this device, speed.json (see estimates.py).
    """
    if args.launcher == "slurm":
        from scripts.grid import slurm

        at_once = args.jobs or slurm.RUNS_AT_A_TIME
    else:
        here = places(args)
        at_once = len(here)
        torch.set_num_threads(int(here[0]["OMP_NUM_THREADS"]))
    states = {job: job.state() for job in jobs}
    found = estimates.hours_left(states, out / "speed.json", select_device(args.device))
    hours = {job: one and one / args.gpus_per_run for job, one in found.items()}
    width = max((len(job.name) for job in jobs), default=3)
    print(f"{'run':{width}}  {'state':22}  hours left")
    for job, state in states.items():
        words = f"{state.name}, {state.epoch} of {state.epochs}" if 0 < state.epoch < state.epochs else state.name
        text = "too much memory" if hours[job] is None else f"{hours[job]:.2f}"
        print(f"{job.name:{width}}  {words:22}  {text:>10}")
    counts = collections.Counter(state.name for state in states.values())
    total = sum(filter(None, hours.values()))
    wall = estimates.wall_time(filter(None, hours.values()), at_once)
    print(f"\n{len(jobs)} runs: {', '.join(f'{count} {name}' for name, count in counts.items())}")
    print(f"about {total:,.1f} hours of training, {wall:,.1f} hours with {at_once} at a time")
    print(ESTIMATED)
