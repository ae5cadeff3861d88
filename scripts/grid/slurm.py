"""Doing runs on a cluster: an array of Slurm jobs, one a run, through submitit.

Before its time limit a job is signalled, lets its run save and stop, and requeues itself; the run then goes on from
its checkpoint. So runs may take longer than the limit. All nodes must see this checkout, its .venv, the images and the
results under the same paths. <out>/slurm has what the jobs print and, below it, the number of every run's last job.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

from engine.cli import require_counts
from engine.files import ROOT, BadInput, RunFailed, locked, make_folder, write_whole
from engine.signals import StopSignals
from scripts.grid.job import Job, note_failure, report, threads, with_torchrun
from scripts.grid.status import Status

PROGRAMS = ("sbatch", "srun", "squeue")
REQUEUES = 10_000  # submitit gives up after so many
LONGEST_MINUTES = 365 * 24 * 60  # of a job
RUNS_AT_A_TIME = 100
SAVE_SECONDS = 120  # between Slurm's signal and the time limit
LOCK_SECONDS, LOCK_ATTEMPTS = 30, 20  # a lock outlives its process where a node breaks down
POLL_SECONDS = 0.2
QUEUE_SECONDS = 10  # between calls of squeue
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "SUSPENDED", "STOPPED")
RUNNING = ("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING")
ALIVE = WAITING + RUNNING


# ---- the command line ----


def add_flags(parser):
    """The flags that say what a job asks Slurm for."""
    about = (
        "--jobs says how many jobs run at a time (default 100), --gpus-per-run each one's GPUs (none for --device cpu)"
    )
    add = parser.add_argument_group("with --launcher slurm", about).add_argument
    add("--partition", help="where the jobs go (default: the cluster's)")
    add("--account", help="who pays (default: the cluster's)")
    add("--time-limit", type=minutes, default="24", metavar="H[:MM]", help="hours a job may take until it is requeued")
    add("--cpus", type=int, default=4, metavar="N", help="cores of a job (default 4)")
    add("--memory", help="of a job, as 16G (default: the cluster's)")
    extra_help = "further options of sbatch, as qos=high constraint=a100 exclusive"
    add("--slurm-extra", nargs="+", type=option, default=[], metavar="KEY=VALUE", help=extra_help)


def minutes(text):
    """The minutes, 1 to LONGEST_MINUTES, that `24`, `0.5` (hours) or `1:30` say."""
    hours, colon, rest = text.partition(":")
    try:
        if colon and not (hours.isdigit() and len(rest) == 2 and int(rest) < 60):
            raise ValueError
        total = int(hours) * 60 + int(rest) if colon else round(float(hours) * 60)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text} is no time: give hours, as 24 or 0.5, or 1:30") from None
    if not 1 <= total <= LONGEST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text} is no time: give a minute (0:01) to a year (8760)")
    return total


def option(text):
    """(name, value) of a further option of sbatch, value True where it has none."""
    name, equals, value = text.partition("=")
    if not name or name.startswith("-"):
        raise argparse.ArgumentTypeError(f"{text} is no option of sbatch: give it as qos=high")
    return name, value if equals else True


def library():
    """The package submitit, which only clusters need. Raises BadInput where it cannot be imported."""
    try:
        import submitit
    except ImportError as error:
        raise BadInput(
            f"--launcher slurm needs submitit, which cannot be imported ({error}): pip install -r requirements.txt"
        ) from error
    return submitit


# ---- in a job ----


@dataclass
class Task:
    """What a Slurm job does: a Job. submitit calls it, and checkpoint() when Slurm's signal comes."""

    job: Job
    environment: dict  # of the run's process, see launcher.work
    gpus: int  # that train it together
    process = None
    stopping = False

    def __call__(self):
        signal.signal(signal.SIGTERM, self.stop)  # of scancel, or where Slurm itself requeues
        for _ in range(LOCK_ATTEMPTS):
            code = self.perform()
            if code != os.EX_TEMPFAIL or self.stopping:
                break
            time.sleep(LOCK_SECONDS)
        if code and not self.stopping:
            note_failure(self.job, code)
        if code:
            sys.exit(code if code > 0 else 128 - code)

    def perform(self):
        """Do the job's commands in another process, and return its exit status."""
        make_folder(self.job.files.stem.parent)
        self.job.files.failed.unlink(missing_ok=True)
        commands = with_torchrun(self.job.commands, self.gpus)
        with self.job.files.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-m", "scripts.grid.job", json.dumps(commands)],
                cwd=ROOT,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=ignore_slurm,
            )
        if self.stopping:  # the signal came while it was starting
            self.process.terminate()
        return self.process.wait()

    def stop(self, number=None, frame=None):
        """Let the run save and stop."""
        if self.process and not self.stopping:
            self.process.terminate()
        self.stopping = True

    def checkpoint(self):
        """What is to be done when the job is requeued, once the run has saved."""
        self.stop()
        with contextlib.suppress(ChildProcessError):  # it has ended
            if self.process:  # not its wait(), which this may have interrupted and which is not to be entered twice
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return library().helpers.DelayedSubmission(Task(self.job, self.environment, self.gpus))


def ignore_slurm():
    """Leave Slurm's signal to the Task, also in what the run's process starts: some clusters send it to all of them."""
    signal.signal(submitit_signal(), signal.SIG_IGN)


def submitit_signal():
    """The signal that Slurm sends before the time limit."""
    return getattr(signal, f"SIG{library().JobEnvironment.USR_SIG}")


# ---- submitting and following ----


def launch(jobs, args):
    """Submit the jobs, follow them to their end and return those that failed twice or were cancelled.

    What is queued or running already is not submitted again. SIGINT, SIGTERM and SIGUSR1 end the following, not the
    jobs, with SystemExit. Raises BadInput without Slurm, RunFailed where it refuses the jobs.
    """
    check(args)
    if not jobs:
        return []
    with StopSignals() as signals, Status(jobs) as status:
        cluster = Cluster(args, status.say)
        cluster.submit(jobs)
        asked_at = time.monotonic()
        while cluster.numbers and not signals.received:
            time.sleep(POLL_SECONDS)
            if time.monotonic() - asked_at >= QUEUE_SECONDS:
                cluster.look()
                asked_at = time.monotonic()
            status.update(cluster.running, failed=len(cluster.failed))
    if signals.received:
        left = " ".join(sorted({number.partition("_")[0] for number in cluster.numbers.values()}))
        print(f"the jobs go on: the same command comes back to them, `scancel {left}` ends them", file=sys.stderr)
        sys.exit(128 + signals.received)
    return cluster.failed


def check(args):
    """Raise BadInput without Slurm, or for flags that mean nothing to it."""
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        raise BadInput(f"--launcher slurm: this machine has no {missing[0]}; call it where jobs can be submitted")
    library()
    if args.jobs_per_gpu != 1:
        raise BadInput("--jobs-per-gpu is for --launcher local: a Slurm job has its GPUs for itself")
    require_counts(args, "jobs", "gpus_per_run", "cpus")


class Cluster:
    """Jobs in Slurm.

    numbers: {job: its number in Slurm} of those that are queued or running; failed: those given up.
    """

    def __init__(self, args, say):
        self.args, self.say = args, say
        self.numbers, self.running, self.tried_again, self.failed = {}, [], set(), []

    def submit(self, jobs):
        """Submit, as one array, those of the jobs that are not queued or running already."""
        folder = jobs[0].files.out / "slurm"
        with locked(folder / "lock", f"the runs in {jobs[0].files.out} are being submitted"):
            states = queue()
            if states is None:
                raise RunFailed("squeue fails: try again when Slurm answers")
            queued = {job: number for job in jobs if states.get(number := remembered(job)) in ALIVE}
            fresh = [job for job in jobs if job not in queued]
            numbers = submit_array([task(job, self.args) for job in fresh], folder, self.args) if fresh else []
            for job, number in zip(fresh, numbers):
                remember(job, number)
        if queued:
            self.say(f"{len(queued)} runs are in Slurm already")
        if fresh:
            self.say(f"{len(fresh)} runs submitted to Slurm as job {numbers[0].partition('_')[0]}")
        self.numbers |= queued | dict(zip(fresh, numbers))

    def look(self):
        """Ask Slurm how far the jobs are. What ended without result is submitted again, once, but not if cancelled."""
        states = queue()
        if states is None:  # Slurm does not answer now
            return
        self.running = [job for job, number in self.numbers.items() if states.get(number) in RUNNING]
        ended = {job: number for job, number in self.numbers.items() if states.get(number) not in ALIVE}
        again = []
        for job, number in ended.items():
            del self.numbers[job]
            if job.finished():
                continue
            state = states.get(number, "gone")
            self.say(f"{job.name}: Slurm job {number} ended as {state} without result")
            if state == "CANCELLED" or job in self.tried_again:
                self.failed.append(job)
                self.say(ending(job, state))
            else:
                again.append(job)
        self.tried_again.update(again)
        if again:
            self.submit(again)


def ending(job, state):
    """The lines that tell of a job that is given up."""
    if state == "CANCELLED":
        return f"cancelled: {job.name}; the same command submits it again"
    if not job.files.failed.exists():  # it was killed together with what would have noted it
        note_failure(job, -signal.SIGKILL)
    return report(job)


# ---- Slurm ----


def queue():
    """{number: state} of this user's Slurm jobs, also of those just ended; None where Slurm does not answer."""
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i %T"]
    try:
        lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(line.split() for line in lines)


def task(job, args):
    """The Task of a job."""
    return Task(job, {"OMP_NUM_THREADS": threads(args.cpus // args.gpus_per_run)}, args.gpus_per_run)


def submit_array(tasks, folder, args):
    """The numbers of the Slurm jobs that now are to do the tasks. Raises RunFailed where Slurm refuses them."""
    executor = library().AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=REQUEUES)
    executor.update_parameters(**parameters(args))
    refusals = library().core.utils
    try:
        return [job.job_id for job in executor.submit_array(tasks)]
    except (refusals.FailedJobError, refusals.FailedSubmissionError) as error:
        raise RunFailed(f"Slurm refuses the jobs: {error}") from error


def parameters(args):
    """What the jobs ask for, by submitit's names."""
    root = shlex.quote(str(ROOT))
    return {
        "name": "patchup",
        "timeout_min": args.time_limit,
        "cpus_per_task": args.cpus,
        "gpus_per_node": None if args.device == "cpu" else args.gpus_per_run,
        "slurm_partition": args.partition,
        "slurm_account": args.account,
        "slurm_mem": args.memory,
        "slurm_array_parallelism": args.jobs or RUNS_AT_A_TIME,
        "slurm_signal_delay_s": min(SAVE_SECONDS, args.time_limit * 60 // 4),
        "slurm_setup": [f"export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}"],
        "slurm_srun_args": [f"--cpus-per-task={args.cpus}"],  # which srun of Slurm 22.05 does not take from sbatch
        "slurm_additional_parameters": {"requeue": True} | dict(args.slurm_extra),
    }


# ---- the numbers of jobs ----


def number_file(job):
    """Where the number of a run's last Slurm job is kept."""
    return (job.files.out / "slurm" / job.files.stem.relative_to(job.files.out)).with_suffix(".job")


def remembered(job):
    """The number of a run's last Slurm job, or nothing; what else is in the file is no number of a job."""
    path = number_file(job)
    return path.read_text(errors="replace").strip() if path.is_file() else ""


def remember(job, number):
    """Keep the number of a run's Slurm job."""
    path = number_file(job)
    make_folder(path.parent)
    write_whole(path, lambda file: file.write(f"{number}\n".encode()))
