"""slurm.py: what it asks Slurm for and remembers, and on a real Slurm: the same results through signals and kills."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import train
from engine.files import ROOT, BadInput, RunFailed
from scripts.grid import launcher, slurm
from tests import digits_grid, slurm_cluster
from tests.digits_grid import arguments
from tests.slurm_cluster import until
from tests.trainings import assert_same_outcome, outcome

LIMIT = 600  # seconds, on a busy machine


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A Slurm for these tests. Skips where there can be none."""
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")):
        yield


def started(script, out, *flags):
    """A process that launches through Slurm, with what it prints on stderr going to <out>.txt."""
    where = ("--out", out, "--data-dir", out, "--device", "cpu", "--launcher", "slurm", "--cpus", 1)
    command = [sys.executable, *script, *where, *flags]
    with Path(f"{out}.txt").open("w") as errors:
        return subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)


def begun(job):
    """Whether a run has done an epoch."""
    return job.files.log.exists() and job.files.log.read_text().count("\n") > 1


# ---- a real Slurm ----


def test_nothing_is_installed_unless_that_is_asked_for(monkeypatch):
    calls = []
    monkeypatch.setattr(slurm_cluster.os, "geteuid", lambda: 0)
    monkeypatch.setattr(slurm_cluster.os, "environ", {"PATH": ""})
    monkeypatch.setattr(slurm_cluster.shutil, "which", lambda name: None)
    monkeypatch.setattr(slurm_cluster.subprocess, "run", lambda *command, **_: calls.append(command))
    assert "PATCHUP_TEST_INSTALL_SLURM=1 installs it" in slurm_cluster.missing() and not calls


@pytest.mark.slow
def test_a_grid_through_slurm_that_is_left_and_come_back_to_equals_the_local_one(cluster, tmp_path):
    grid = ["demo", "--methods", "none", "patchup_hard", "--seeds", "2"]
    grid += ["--width", "4", "--epochs", "3", "--train-per-class", "4"]
    script = "-m", "scripts.tables"
    slurm_cluster.output("scontrol", "update", "PartitionName=main", "State=DOWN")  # jobs wait
    first = started(script, tmp_path / "cluster", *grid)
    text = Path(f"{tmp_path}/cluster.txt")
    until(lambda: "4 runs submitted" in text.read_text() or first.poll() is not None, LIMIT, "the submission")
    first.send_signal(signal.SIGINT)
    assert first.wait(LIMIT) == 130, text.read_text()
    assert "the jobs go on: the same command comes back to them, `scancel" in text.read_text()

    second = started(script, tmp_path / "cluster", *grid)
    attached = "4 runs are in Slurm already"
    until(lambda: attached in text.read_text() or second.poll() is not None, LIMIT, "the second launch")
    slurm_cluster.output("scontrol", "update", "PartitionName=main", "State=UP")
    local = [sys.executable, *script, *grid, "--out", tmp_path / "local", "--data-dir", tmp_path, "--device", "cpu"]
    subprocess.run(list(map(str, local)), cwd=ROOT, check=True, capture_output=True)
    assert second.wait(LIMIT) == 0, text.read_text()
    assert attached in text.read_text() and "submitted" not in text.read_text()

    runs, local_runs = (next((tmp_path / name).glob("runs*")) for name in ("cluster", "local"))
    assert len(list(runs.rglob("seed?.json"))) == len(list(local_runs.rglob("seed?.json"))) == 4
    for method, seed in itertools.product(("none", "patchup_hard"), range(2)):
        assert_same_outcome(outcome(runs, method, seed), outcome(local_runs, method, seed))
    tables = [next((tmp_path / name / "tables").glob("*.json")) for name in ("cluster", "local")]
    rows = [[row for row in json.loads(table.read_text())["rows"] if row["metric"] != "seconds"] for table in tables]
    assert len(rows[0]) > 0 and rows[0] == rows[1]


def signal_step(name, job):
    """Send a signal to a job's step, as Slurm does before the time limit (to a job of an array it would retry)."""
    number = slurm_cluster.output("squeue", "--noheader", f"--jobs={slurm.remembered(job)}", "--format=%A")
    slurm_cluster.output("scancel", f"--signal={name}", f"{number}.0")


@pytest.mark.slow
def test_signalled_killed_and_cancelled_jobs(cluster, tmp_path):
    """A job is signalled as at its time limit, a run is killed, a job is killed, a job is cancelled."""
    flags = ("--checkpoint-minutes", 0, "--jobs", 2, "--epochs", 60)  # time to catch each while it trains
    methods = ("none", "cutout", "mixup", "dropblock")
    jobs = [digits_grid.job(arguments(tmp_path / "out", *flags), method) for method in methods]
    signalled, run_killed, job_killed, cancelled = jobs
    process = started(["-m", "tests.digits_grid"], tmp_path / "out", *flags, "--methods", *methods)
    try:
        until(lambda: begun(signalled), LIMIT, "the first run")
        number = slurm.remembered(signalled)
        signal_step("USR2", signalled)
        until(lambda: begun(run_killed), LIMIT, "the second run")
        os.kill(int(run_killed.files.with_suffix("lock").read_text().split()[0]), signal.SIGKILL)
        until(lambda: begun(job_killed), LIMIT, "the third run")
        signal_step("KILL", job_killed)
        until(lambda: begun(cancelled), LIMIT, "the fourth run")
        cancelled_number = slurm.remembered(cancelled)
        slurm_cluster.output("scancel", cancelled_number)
        status = process.wait(LIMIT)
    finally:
        process.kill()
    text = Path(f"{tmp_path}/out.txt").read_text()
    assert status == 1, text
    assert slurm.remembered(signalled) == number, "Slurm has requeued the same job"
    assert "Restarts=1 " in slurm_cluster.output("scontrol", "show", "job", number)
    for job in (run_killed, job_killed):
        assert f"{job.name}: Slurm job {number.partition('_')[0]}_{jobs.index(job)} ended as FAILED" in text
        assert slurm.remembered(job).partition("_")[0] != number.partition("_")[0]
    assert f"cancelled: {cancelled.name}" in text and slurm.remembered(cancelled) == cancelled_number
    assert not cancelled.finished() and not cancelled.files.failed.exists()
    for job in (signalled, run_killed, job_killed):
        assert "going on at step" in job.files.output.read_text()
        options = {"data_dir": tmp_path, "out": tmp_path / "undisturbed", "device": "cpu", "quiet": True}
        train.run(job.recipe, **options)
        method = job.recipe.method
        assert_same_outcome(outcome(job.files.out, method), outcome(tmp_path / "undisturbed", method))


# ---- without Slurm ----


@pytest.mark.parametrize(
    "text, minutes", [("24", 1440), ("0.5", 30), ("1:30", 90), ("48:00", 2880), ("0:01", 1), ("100:05", 6005)]
)
def test_time_limits(text, minutes):
    assert arguments("x", "--time-limit", text).time_limit == minutes


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--time-limit 1:60", "argument --time-limit: 1:60 is no time: give hours, as 24 or 0.5, or 1:30"),
        ("--time-limit 0", "argument --time-limit: 0 is no time"),
        ("--time-limit 1e30", "argument --time-limit: 1e30 is no time: give a minute (0:01) to a year (8760)"),
        ("--time-limit soon", "argument --time-limit: soon is no time"),
        ("--time-limit nan", "argument --time-limit: nan is no time"),
        ("--time-limit inf", "argument --time-limit: inf is no time"),
        ("--slurm-extra =high", "argument --slurm-extra: =high is no option of sbatch: give it as qos=high"),
    ],
)
def test_flags_that_say_nothing_are_refused_in_one_line(flags, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        arguments("x", *flags.split())
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and message in error and error.count("\n") == 1


def sbatch_file(*flags, device="cpu"):
    """What sbatch would be given."""
    from submitit.auto.auto import AutoExecutor
    from submitit.slurm.slurm import SlurmExecutor

    args = arguments("x", *flags)
    args.device = device
    SlurmExecutor.affinity, affinity = classmethod(lambda cls: 2), SlurmExecutor.affinity
    try:
        executor = AutoExecutor("x", cluster="slurm")
    finally:
        SlurmExecutor.affinity = affinity
    executor.update_parameters(**slurm.parameters(args))
    return executor._executor._make_submission_file_text("run", "")


def test_flags_become_options_of_sbatch():
    text = sbatch_file("--partition", "gpu", "--account", "lab", "--time-limit", "1:30", "--cpus", 6, "--memory", "16G")
    for line in ("partition=gpu", "account=lab", "time=90", "cpus-per-task=6", "mem=16G", "signal=USR2@120", "requeue"):
        assert f"#SBATCH --{line}\n" in text
    assert "--gpus" not in text and "--cpus-per-task=6 run" in text
    assert f"PYTHONPATH={ROOT}$" in text
    text = sbatch_file("--gpus-per-run", 4, "--slurm-extra", "qos=high", "exclusive", device="auto")
    for line in ("gpus-per-node=4", "qos=high", "exclusive"):
        assert f"#SBATCH --{line}\n" in text
    assert "signal=USR2@15" in sbatch_file("--time-limit", "0:01")


def test_a_machine_without_slurm_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="--launcher slurm: this machine has no sbatch"):
        launcher.launch([], arguments(tmp_path, "--launcher", "slurm"))


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--jobs-per-gpu 2", "--jobs-per-gpu is for --launcher local"),
        ("--cpus 0", "--cpus must be at least 1, not 0"),
        ("--jobs 0", "--jobs must be at least 1, not 0"),
        ("--gpus-per-run 0", "--gpus-per-run must be at least 1, not 0"),
    ],
)
def test_flags_that_mean_nothing_in_slurm_are_refused(flags, message, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    with pytest.raises(BadInput, match=message):
        launcher.launch([], arguments(tmp_path, "--launcher", "slurm", *flags.split()))


class FakeSlurm:
    """Slurm as this module sees it: gives numbers, and says of each job what a test wants."""

    def __init__(self, monkeypatch):
        self.states, self.arrays = {}, []
        monkeypatch.setattr(slurm, "queue", lambda: self.states)
        monkeypatch.setattr(slurm, "submit_array", self.submit)

    def submit(self, tasks, folder, args):
        self.arrays.append([task.job for task in tasks])
        numbers = [f"{len(self.arrays)}_{i}" for i in range(len(tasks))]
        self.states |= dict.fromkeys(numbers, "PENDING")
        return numbers


@pytest.fixture
def fake(monkeypatch):
    return FakeSlurm(monkeypatch)


def jobs_and_cluster(out, *methods):
    """Jobs of these methods, a slurm.Cluster and the list of what it says."""
    args, said = arguments(out), []
    return [digits_grid.job(args, method) for method in methods], slurm.Cluster(args, said.append), said


def test_what_is_queued_or_running_is_not_submitted_again_by_another_launcher(tmp_path, fake):
    (first, second, third), cluster, _ = jobs_and_cluster(tmp_path, "none", "cutout", "mixup")
    cluster.submit([first, second])
    fake.states |= {"1_0": "RUNNING", "1_1": "FAILED"}
    other = jobs_and_cluster(tmp_path)[1]
    other.submit([first, second, third])
    assert fake.arrays == [[first, second], [second, third]]
    assert other.numbers == {first: "1_0", second: "2_0", third: "2_1"}
    other.look()
    assert other.running == [first]


def test_what_ends_without_result_is_submitted_again_once(tmp_path, fake):
    (job,), cluster, said = jobs_and_cluster(tmp_path, "none")
    cluster.submit([job])
    del fake.states["1_0"]  # Slurm forgets in time
    cluster.look()
    assert fake.arrays == [[job], [job]] and cluster.numbers == {job: "2_0"} and not cluster.failed
    job.files.output.parent.mkdir(parents=True)
    job.files.output.write_text("== now\nno space left\n")
    fake.states["2_0"] = "NODE_FAIL"
    cluster.look()
    assert len(fake.arrays) == 2 and not cluster.numbers and cluster.failed == [job]
    assert "Slurm job 2_0 ended as NODE_FAIL without result" in said[-2]
    assert "(killed by SIGKILL)" in said[-1] and said[-1].endswith("  no space left")


def test_what_was_cancelled_is_not_submitted_again(tmp_path, fake):
    (job,), cluster, said = jobs_and_cluster(tmp_path, "none")
    cluster.submit([job])
    fake.states["1_0"] = "CANCELLED"
    cluster.look()
    assert len(fake.arrays) == 1 and cluster.failed == [job]
    assert said[-1].startswith("cancelled: digits/preactresnet18/none/seed0")


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"9" * 10_000])
def test_a_file_that_holds_no_number_of_a_job_is_written_anew(content, tmp_path, fake):
    (job,), cluster, _ = jobs_and_cluster(tmp_path, "none")
    slurm.number_file(job).parent.mkdir(parents=True)
    slurm.number_file(job).write_bytes(content)
    cluster.submit([job])
    assert cluster.numbers == {job: "1_0"} and slurm.remembered(job) == "1_0"


def test_a_slurm_that_does_not_answer_ends_nothing(tmp_path, fake):
    (job,), cluster, _ = jobs_and_cluster(tmp_path, "none")
    cluster.submit([job])
    fake.states = None
    cluster.look()
    assert cluster.numbers == {job: "1_0"} and len(fake.arrays) == 1
    with pytest.raises(RunFailed, match="squeue fails"):
        cluster.submit([job])


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A slurm.Task of one run, which does not wait long for locks."""
    monkeypatch.setattr(slurm, "LOCK_SECONDS", 0)
    handler = signal.getsignal(signal.SIGTERM)
    yield slurm.Task(digits_grid.job(arguments(tmp_path), "none"), {"OMP_NUM_THREADS": "1"}, 1)
    signal.signal(signal.SIGTERM, handler)


def test_a_task_does_its_commands_in_a_process_of_their_own(task):
    commands = (("tests.digits_grid", ("--no-such-flag",)),)
    task.job = dataclasses.replace(task.job, commands=commands)
    assert task.perform() == 2
    printed = task.job.files.output.read_text()
    assert "python -m tests.digits_grid --no-such-flag" in printed and "unrecognized arguments" in printed


def test_a_task_waits_while_another_process_has_the_lock(task, monkeypatch):
    codes = [os.EX_TEMPFAIL, os.EX_TEMPFAIL, 0]
    monkeypatch.setattr(slurm.Task, "perform", lambda self: codes.pop(0))
    task()
    assert not codes and not task.job.files.failed.exists()


def test_a_task_ends_as_its_run_and_notes_the_failure(task, monkeypatch):
    task.job.files.stem.parent.mkdir(parents=True)
    for code, status, happened in ((2, 2, "exit status 2"), (-9, 137, "killed by SIGKILL")):
        monkeypatch.setattr(slurm.Task, "perform", lambda self, code=code: code)
        with pytest.raises(SystemExit) as exit_:
            task()
        assert exit_.value.code == status
        assert task.job.files.failed.read_text().startswith(happened)


def test_a_task_that_was_told_to_stop_notes_no_failure(task, monkeypatch):
    def stopped(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return 143

    monkeypatch.setattr(slurm.Task, "perform", stopped)
    with pytest.raises(SystemExit) as exit_:
        task()
    assert exit_.value.code == 143 and not task.job.files.failed.exists()
