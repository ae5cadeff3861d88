"""Doing many runs: several at a time on this machine, or on a cluster (slurm.py), with a live line for each run.

All state is in the runs' files. So a launcher can be stopped or killed at any moment, and the same command
goes on; two of them on the same runs, here or on machines that share the folder, divide the work.
"""

import collections
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

import recipes
import train
from engine.cli import require_counts
from engine.device import require_kernels, select_device
from engine.files import BadInput, Locked, make_folder
from engine.signals import Stopped, StopSignals
from scripts.grid import estimates, slurm
from scripts.grid.job import note_failure, perform, report, threads, with_torchrun
from scripts.grid.status import Status

POLL_SECONDS = 0.2
ELSEWHERE_SECONDS = 2  # between looks at a run that another process trains
PATIENCE_MINUTES = 60  # of waiting for other processes in whose files nothing changes
ATTEMPTS = 2
BAD_INPUT = 2  # the exit status that no second attempt mends
WAITING = "other processes are at all runs that are left: waiting for them"
ESTIMATED = (
    "Hours are estimates, of training alone: from a run's log where it has one, else from a few steps timed here,\n"
    "alone on the device, of Puzzle Mix or of `none`; the other methods take at most a few percent longer than `none`."
)


def add_flags(parser):
    """The flags that say where runs are done, and how many at a time."""
    add = parser.add_argument
    add("--launcher", choices=("local", "slurm"), default="local", help="this machine (default), or a cluster")
    add("--jobs", type=int, metavar="N", help="runs at a time (default: one a GPU, or one a core)")
    add("--jobs-per-gpu", type=int, default=1, metavar="N", help="small runs that share a GPU (default 1)")
    add("--gpus-per-run", type=int, default=1, metavar="N", help="GPUs that train a run together (default 1)")
    slurm.add_flags(parser)


def launch(jobs, args):
    """Do the jobs that are not finished and return those that failed twice, or once with bad input.

    SIGINT, SIGTERM and SIGUSR1 let all runs save and stop, and raise signals.Stopped. Raises BadInput or data.DataError
    before anything is started, for flags that cannot be together and for images that are missing; Locked where other
    processes have all runs that are left and nothing changes in their files.
    """
    require_counts(args, "workers", least=0)
    jobs = [job for job in jobs if not job.finished()]
    require_possible(jobs, args)
    if args.launcher == "slurm":
        return slurm.launch(jobs, args)
    free = places(args)
    if not jobs:
        return []
    read_images(jobs, args)
    machine, told = Machine(jobs, free, args.gpus_per_run), False
    with StopSignals() as signals, Status(jobs) as status:
        try:
            while machine.busy():
                machine.start()
                if machine.waits() and not told:
                    status.say(f"{WAITING}, until nothing changes in their files for {PATIENCE_MINUTES} minutes")
                    told = True
                machine.require_change()
                time.sleep(POLL_SECONDS)
                if signals.received:  # its processes may have got the signal, too, and look as if they had failed
                    raise Stopped(signals.received)
                for job in machine.collect():
                    status.say(report(job))
                status.update(list(machine.running), list(machine.elsewhere), len(machine.failed))
        finally:
            machine.stop()
    return machine.failed


def require_possible(jobs, args):
    """Raise BadInput for flags that no run of a job can have, as train.py does."""
    if args.launcher == "slurm":
        device = torch.device("cpu") if args.device == "cpu" else None  # a node's GPU is not known here
    else:
        device = select_device(args.device, use=False)  # its runs do
    for job in jobs:
        flags = args.graphs, args.checkpoint_minutes, args.tensorboard
        train.require_possible(job.recipe, device, args.gpus_per_run, *flags)


def read_images(jobs, args):
    """Decode the images of every data set once, before many runs do. Raises data.DataError where they are missing."""
    for recipe in {(job.recipe.dataset, job.recipe.image_size): job.recipe for job in jobs}.values():
        recipes.datasets(recipe, args.data_dir, args.workers)


# ---- where runs are done ----


def places(args):
    """The places for runs at a time: what each adds to a run's environment, its GPUs and the number of threads.

    Raises BadInput for flags that exclude each other.
    """
    require_counts(args, "jobs", "jobs_per_gpu", "gpus_per_run")
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
        raise BadInput(f"{runs}--gpus-per-run {each} takes more GPUs than --device {args.device} has, {len(gpus)}")
    count = args.jobs or len(groups) * share or max(1, cores() // each)
    shared = {"OMP_NUM_THREADS": threads(cores() // (count * each))}
    names = [",".join(groups[i % len(groups)]) if groups else "" for i in range(count)]
    return [shared | ({"CUDA_VISIBLE_DEVICES": name} if name else {}) for name in names]


def visible_gpus(name):
    """The GPUs that `--device name` may use, as CUDA_VISIBLE_DEVICES calls them; [""] for one GPU that it names itself.

    Raises BadInput where the device cannot be used.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        require_kernels(torch.device("cuda", 0))
        count, given = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
        return given.split(",")[:count] if given else [str(i) for i in range(count)]
    return [""] if select_device(name, use=False).type == "cuda" else []


def cores():
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


# ---- one machine ----


class Machine:
    """Jobs being done on this machine, each in another process, as many at a time as there are places.

    failed: the jobs given up. A job that fails is tried again after the others have had their turn.
    """

    def __init__(self, jobs, free, gpus_per_run):
        self.queue, self.free, self.gpus_per_run = collections.deque(jobs), free, gpus_per_run
        self.running, self.elsewhere, self.failed = {}, {}, []  # job: (process, place); job: time of the last look
        self.attempts = collections.Counter()
        self.unchanged = {}  # job of another process: (the last change in its files, since when it is known)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["__main__", __name__])  # torch is imported once for all runs

    def busy(self):
        """Whether something is left to do, for this or another process."""
        return bool(self.queue or self.running or self.elsewhere)

    def waits(self):
        """Whether other processes have all jobs that are left."""
        return bool(self.elsewhere) and not self.queue and not self.running

    def require_change(self):
        """Raise Locked where other processes have all jobs that are left, and have changed nothing for too long."""
        left = [*self.queue, *self.running, *self.elsewhere]
        if left and all(map(self._is_unchanged, left)):
            raise Locked(
                f"other processes are at the {len(left)} runs left, but nothing has changed in their files for "
                f"{PATIENCE_MINUTES} minutes (as {left[0].files.stem}.*): see whether they live, then come back"
            )

    def _is_unchanged(self, job):
        change, since = self.unchanged.get(job, (None, time.monotonic()))
        return time.monotonic() - since >= 60 * PATIENCE_MINUTES and job.changed_at() == change

    def start(self):
        """Start jobs while there are places; jobs of other processes are looked at again later."""
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
        """Whether another process does the job now; if so, that is noted."""
        taken = job.files.state().name == "running"
        if taken:
            self._note_elsewhere(job)
        return taken

    def _note_elsewhere(self, job):
        self.elsewhere[job] = time.monotonic()
        change = job.changed_at()
        if job not in self.unchanged or self.unchanged[job][0] != change:
            self.unchanged[job] = change, time.monotonic()

    def _process(self, job, place):
        make_folder(job.files.stem.parent)
        job.files.failed.unlink(missing_ok=True)
        commands = with_torchrun(job.commands, self.gpus_per_run)
        process = self.context.Process(target=work, args=(commands, job.files.output, place))
        try:
            process.start()
        except OSError as error:
            mend = f"give a TMPDIR shorter than {tempfile.gettempdir()}, or a higher ulimit"
            raise BadInput(f"the process of a run cannot start ({error}): {mend}") from error
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
                self._note_elsewhere(job)
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
            process.join()  # returns at once where the server of forks is gone
            while is_alive(process.pid):
                time.sleep(POLL_SECONDS)


def is_alive(pid):
    """Whether a process, of whatever parent, has not ended yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


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


# ---- what is to be done ----


def dry_run(jobs, args, out):
    """Print every job, its state and the hours that it still takes, then the sums; nothing is started.

    out: the folder that keeps the speed measured on this device, speed.json (see estimates.py).
    """
    require_counts(args, "workers", least=0)
    if args.launcher == "slurm":
        at_once = args.jobs or slurm.RUNS_AT_A_TIME
    else:
        free = places(args)
        at_once = len(free) // args.jobs_per_gpu
        torch.set_num_threads(int(free[0]["OMP_NUM_THREADS"]))
    states = {job: job.state() for job in jobs}
    device = select_device(args.device)
    alone = estimates.hours_left(states, out / "speed.json", device, args.graphs)
    hours = {job: time_left and time_left / args.gpus_per_run for job, time_left in alone.items()}
    width = max((len(job.name) for job in jobs), default=3)
    print(f"{'run':{width}}  {'state':22}  hours left")
    for job, state in states.items():
        words = f"{state.name}, {state.epoch} of {state.epochs}" if 0 < state.epoch < state.epochs else state.name
        text = "too much memory" if hours[job] is None else f"{hours[job]:.2f}"
        print(f"{job.name:{width}}  {words:22}  {text:>10}")
    counts = collections.Counter(state.name for state in states.values())
    total = sum(filter(None, hours.values()))
    wall = estimates.wall_time(filter(None, hours.values()), at_once)
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"\n{len(jobs)} run{'s' * (len(jobs) != 1)}: {words}")
    turns = ", as if those that share a GPU took turns" * (args.jobs_per_gpu > 1)
    print(f"about {estimates.in_words(total)} of training, {estimates.in_words(wall)} with {at_once} at a time{turns}")
    if gain := estimates.gain_of_amp(states, out / "speed.json", device, args.graphs):
        print(gain)
    print(ESTIMATED)
