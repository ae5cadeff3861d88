"""launcher.py with real processes: runs that are interrupted, killed, failed, shared with other launchers."""

import concurrent.futures
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from engine.files import ROOT, BadInput, Locked, locked
from scripts.grid import launcher
from tests import digits_grid
from tests.digits_grid import arguments, flags, holder
from tests.trainings import assert_same_outcome, outcome

METHODS = ("none", "cutout")
LIMIT = 300  # seconds


def launch(out, *more):
    """Launch from this process, which spares the imports; the exit status."""
    return digits_grid.main(flags(out, *more))


@contextlib.contextmanager
def launched(out, *more):
    """The process of the same command, killed if it is still there at the end."""
    command = [sys.executable, "-m", "tests.digits_grid", *flags(out, *more)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen(command, cwd=ROOT, **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition, process=None):
    """Wait until condition() is true; fail after a while, or when the process has ended before."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        assert process is None or process.poll() is None, f"ended too early:\n{process.communicate()}"
        time.sleep(0.01)


@contextlib.contextmanager
def meanwhile(function):
    """Call function in a thread; what it raises is raised at the end."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        future = pool.submit(function)
        yield
        future.result()


def files(out, method, **overrides):
    """The RunFiles of a run of digits_grid.py."""
    return digits_grid.job(arguments(out), method, **overrides).files


def begun(run):
    """Whether a run has done an epoch."""
    return run.log.exists() and bool(run.log.read_text())


def owner(run):
    """The process that trains a run."""
    return int(run.with_suffix("lock").read_text().split()[0])


def assert_undisturbed(out, undisturbed):
    """Assert that the runs have ended as those that nothing happened to, bit for bit."""
    for method, expected in undisturbed.items():
        assert_same_outcome(outcome(out / "runs", method), expected)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """{method: outcome} of runs that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert launch(out, "--jobs", "2") == 0
    return {method: outcome(out / "runs", method) for method in METHODS}


@pytest.mark.slow
@pytest.mark.parametrize(
    "send, number, status",
    [
        (os.kill, signal.SIGINT, 130),
        (os.killpg, signal.SIGTERM, 143),  # as `timeout` does: the server that forks the runs gets it, too
        (os.kill, signal.SIGKILL, -9),
    ],
)
def test_a_launcher_stopped_or_killed_stops_its_runs_and_the_same_command_goes_on(
    send, number, status, tmp_path, undisturbed, capfd
):
    runs = [files(tmp_path, method) for method in METHODS]
    with launched(tmp_path, "--jobs", "2") as process:
        until(lambda: all(map(begun, runs)), process)
        pids = [owner(run) for run in runs if not run.finished()]
        send(process.pid, number)
        _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == status and "Traceback" not in errors
    if number != signal.SIGKILL:
        assert errors.splitlines()[-1].endswith(
            f"stopped by {number.name} and saved; the same command goes on from here"
        )
        assert not any(map(launcher.is_alive, pids)) and not any(run.failed.exists() for run in runs)
    assert launch(tmp_path, "--jobs", "2") == 0  # at once: killed launchers' runs may still be saving
    until(lambda: not any(map(launcher.is_alive, pids)))
    assert any("going on at step" in run.output.read_text() for run in runs), "they were stopped on the way"
    assert "60/60" in capfd.readouterr().err, "the bar counts the epochs of all runs"
    assert_undisturbed(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_killed_run_is_tried_again_and_goes_on_from_its_checkpoint(tmp_path, undisturbed, capfd):
    run = files(tmp_path, "none")

    def kill():
        until(lambda: run.checkpoint_before.exists() and begun(run))
        os.kill(owner(run), signal.SIGKILL)

    with meanwhile(kill):
        assert launch(tmp_path, "--checkpoint-minutes", "0", "--jobs", "2") == 0
    assert "failed" not in capfd.readouterr().err
    assert "going on at step" in run.output.read_text() and not run.failed.exists()
    assert_undisturbed(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_run_that_fails_is_tried_twice_and_named_while_the_others_go_on(tmp_path, capfd):
    assert launch(tmp_path, "--methods", "cutout", "none", "--lr", "1e30", "--jobs", "1") == 1
    bad, good, errors = files(tmp_path, "cutout", lr=1e30), files(tmp_path, "none"), capfd.readouterr().err
    assert bad.output.read_text().count("python -m train") == 2
    assert good.result.stat().st_mtime < bad.failed.stat().st_mtime, "the second try comes after the others"
    assert "failed: digits/preactresnet18/cutout/seed0 (exit status 1)" in errors and "Traceback" not in errors
    assert "  train.py: the loss is not finite at step" in errors
    happened, *lines = bad.failed.read_text().splitlines()
    assert happened == "exit status 1" and "not finite" in lines[-1]
    assert bad.state().name == "failed" and good.state().name == "finished"


def test_bad_input_is_not_tried_again(tmp_path, capfd):
    broken = files(tmp_path, "cutout")
    broken.stem.parent.mkdir(parents=True)
    broken.checkpoint.write_bytes(b"no checkpoint")
    assert launch(tmp_path, "--methods", "cutout") == 1
    assert broken.output.read_text().count("python -m train") == 1
    errors = capfd.readouterr().err
    assert "seed0 (exit status 2)" in errors and "seed0.checkpoint.pt is damaged or no checkpoint of train.py" in errors


@pytest.mark.slow
def test_two_processes_train_a_run_and_their_exit_status_is_heard(tmp_path, capfd):
    broken, good = files(tmp_path, "cutout", epochs=1), files(tmp_path, "none", epochs=1)
    broken.stem.parent.mkdir(parents=True)
    broken.checkpoint.write_bytes(b"no checkpoint")
    assert launch(tmp_path, "--gpus-per-run", "2", "--jobs", "2", "--epochs", "1") == 1
    assert good.finished()["processes"] == 2
    assert "cutout/seed0 (exit status 2)" in capfd.readouterr().err


@pytest.mark.slow
def test_a_run_that_another_process_is_at_is_waited_for(tmp_path):
    taken, other = files(tmp_path, "none"), files(tmp_path, "cutout")
    taken.stem.parent.mkdir(parents=True)
    with holder(taken.with_suffix("lock")) as release:

        def wait():
            until(other.result.exists)
            assert not taken.output.exists(), "no process is started for it"
            release()

        with meanwhile(wait):
            assert launch(tmp_path) == 0
    assert taken.finished()


@pytest.mark.slow
def test_two_launchers_share_the_runs_and_train_each_once(tmp_path, undisturbed):
    first = files(tmp_path, METHODS[0])
    with launched(tmp_path, "--jobs", "1") as process:
        until(lambda: begun(first), process)
        assert launch(tmp_path, "--jobs", "1") == 0
        _, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, errors
    for method in METHODS:
        printed = files(tmp_path, method).output.read_text()
        assert "going on" not in printed and printed.count("  0%|") == 1, "one bar began"
    assert_undisturbed(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_temporary_folder_with_too_long_a_name_is_told_in_one_line(tmp_path):
    long = tmp_path / ("x" * 110)
    long.mkdir()
    command = [sys.executable, "-m", "tests.digits_grid", *flags(tmp_path, "--methods", "none")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(long)})
    assert done.returncode == 2 and "Traceback" not in done.stderr
    line = "the process of a run cannot start (AF_UNIX path too long): give a TMPDIR shorter than"
    assert line in done.stderr.splitlines()[-1]


# ---- runs of other processes ----


def test_a_launcher_that_waits_in_vain_for_other_processes_says_so_and_ends(tmp_path, capfd, monkeypatch):
    taken = files(tmp_path, "none")
    taken.stem.parent.mkdir(parents=True)
    monkeypatch.setattr(launcher, "PATIENCE_MINUTES", 0.02)
    monkeypatch.setattr(launcher, "ELSEWHERE_SECONDS", 0.1)
    with holder(taken.with_suffix("lock")):
        assert launch(tmp_path, "--methods", "none") == os.EX_TEMPFAIL
    errors = capfd.readouterr().err
    assert errors.count("other processes are at all runs that are left: waiting for them") == 1
    assert "nothing has changed in their files for 0.02 minutes" in errors and "none/seed0.*" in errors
    assert not taken.output.exists(), "no process is started for it"


def test_what_changes_in_the_files_of_another_process_is_waited_for(tmp_path, monkeypatch):
    job = digits_grid.job(arguments(tmp_path), "none")
    machine = launcher.Machine([job], [], 1)
    job.files.stem.parent.mkdir(parents=True)
    job.files.log.touch()
    monkeypatch.setattr(launcher, "PATIENCE_MINUTES", 0)
    machine.require_change()
    machine._note_elsewhere(job)
    os.utime(job.files.log, ns=(0, job.changed_at() + 1))
    machine.require_change()
    machine._note_elsewhere(job)
    job.files.output.touch()
    with pytest.raises(Locked, match="nothing has changed"):
        machine.require_change()


@pytest.fixture
def as_nobody():
    """Within it this process, which must be root's, may do what the user nobody may; a folder for all users."""
    if os.geteuid():
        pytest.skip("it takes root to become another user")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)

        @contextlib.contextmanager
        def nobody():
            os.seteuid(65534)
            try:
                yield
            finally:
                os.seteuid(0)

        yield Path(folder), nobody


@pytest.mark.parametrize(
    "mode, words", [(0o644, "belongs to user 0 and nobody holds it"), (0o600, "belongs to user 0")]
)
def test_a_lock_file_of_another_user_that_nobody_holds_is_named(mode, words, as_nobody):
    folder, nobody = as_nobody
    path = folder / "seed0.lock"
    path.write_text("123 on there")
    path.chmod(mode)
    line = f"seed0.lock {words}: remove it, or give another --out"
    with nobody(), pytest.raises(BadInput, match=line) as refusal, locked(path, "the run is being trained"):
        pass
    assert not isinstance(refusal.value, Locked)
    with nobody():
        path.unlink()
        with locked(path, "the run is being trained"):
            assert path.exists()


def test_a_lock_of_another_user_that_is_held_is_waited_for(as_nobody):
    folder, nobody = as_nobody
    path = folder / "seed0.lock"
    refused = pytest.raises(Locked, match="is being trained by process")
    with holder(path), nobody(), refused, locked(path, "the run is being trained"):
        pass
