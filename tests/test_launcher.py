"""launcher.py: many runs at a time, interrupted, killed, failed, shared with other launchers; and the dry run."""

import concurrent.futures
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import data
import recipes
from engine.files import ROOT, BadInput, RunFiles, load_checkpoint
from scripts import stress
from scripts.grid import estimates, launcher
from scripts.grid.job import Job, perform, with_torchrun
from scripts.grid.status import Status
from tests import digits_grid
from tests.trainings import TINY

METHODS = ("none", "cutout")
LIMIT = 300  # seconds
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
input()
"""


def flags(out, *more):
    """The flags of digits_grid.py."""
    return ["--out", str(out), "--data-dir", str(out), "--device", "cpu", *more]


def arguments(out, *more):
    """The parsed command line of digits_grid.py."""
    return digits_grid.make_parser().parse_args(flags(out, *more))


def launch(out, *more):
    """Launch from this process, which spares the imports; the exit status."""
    return digits_grid.main(flags(out, *more))


@contextlib.contextmanager
def launched(out, *more):
    """The process of the same command, killed if it is still there at the end."""
    command = [sys.executable, "-m", "tests.digits_grid", *flags(out, *more)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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


@contextlib.contextmanager
def holder(path):
    """Another process holds the lock file at path until release() is called."""
    command = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield lambda: process.communicate("\n")
        process.kill()


def files(out, method, **overrides):
    """The RunFiles of a run of digits_grid.py."""
    return digits_grid.job(arguments(out), method, **overrides).files


def begun(found):
    """Whether a run has done an epoch."""
    return found.log.exists() and bool(found.log.read_text())


def owner(found):
    """The process that trains a run."""
    return int(found.with_suffix("lock").read_text().split()[0])


def outcome(found):
    """What a finished run has found: test error, NLL, weights."""
    result = found.finished()
    return result["test_error"], result["test_nll"], load_checkpoint(found.best)["net"]


def assert_undisturbed(out, undisturbed):
    """Assert that the runs have ended as those that nothing happened to, bit for bit."""
    for method, expected in undisturbed.items():
        found = outcome(files(out, method))
        assert found[:2] == expected[:2]
        assert all(torch.equal(found[2][name], expected[2][name]) for name in expected[2])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """{method: outcome} of runs that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert launch(out, "--jobs", "2") == 0
    return {method: outcome(files(out, method)) for method in METHODS}


@pytest.mark.slow
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_launcher_stopped_or_killed_stops_its_runs_and_the_same_command_goes_on(
    number, status, tmp_path, undisturbed, capfd
):
    runs = [files(tmp_path, method) for method in METHODS]
    with launched(tmp_path, "--jobs", "2") as process:
        until(lambda: all(map(begun, runs)), process)
        pids = [owner(found) for found in runs if not found.finished()]
        process.send_signal(number)
        _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == status and "Traceback" not in errors
    if number == signal.SIGINT:
        assert errors.splitlines()[-1].endswith("stopped by SIGINT and saved; the same command goes on from here")
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert launch(tmp_path, "--jobs", "2") == 0  # at once: killed launchers' runs may still be saving
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert any("going on at step" in found.output.read_text() for found in runs), "they were stopped on the way"
    assert "60/60" in capfd.readouterr().err, "the bar counts the epochs of all runs"
    assert_undisturbed(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_killed_run_is_tried_again_and_goes_on_from_its_checkpoint(tmp_path, undisturbed, capfd):
    found = files(tmp_path, "none")

    def kill():
        until(lambda: found.checkpoint_before.exists() and begun(found))
        os.kill(owner(found), signal.SIGKILL)

    with meanwhile(kill):
        assert launch(tmp_path, "--checkpoint-minutes", "0", "--jobs", "2") == 0
    assert "failed" not in capfd.readouterr().err
    assert "going on at step" in found.output.read_text() and not found.failed.exists()
    assert_undisturbed(tmp_path, undisturbed)


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


def test_missing_images_are_refused_before_anything_starts(tmp_path):
    args = arguments(tmp_path)
    good = digits_grid.job(args, "none")
    recipe = recipes.resolve("tiny_imagenet", "preactresnet18", "none")
    found = RunFiles(tmp_path, recipe)
    with pytest.raises(data.DataError, match="tiny-imagenet-200 is missing"):
        launcher.launch([good, Job(recipe, found, (), (found.result,))], args)
    assert not good.files.output.exists()


def test_all_commands_of_a_job_are_done_until_one_fails(capsys):
    assert perform((("tests.digits_grid", ("--no-such-flag",)), ("no.such.module", ()))) == 2
    assert "python -m tests.digits_grid --no-such-flag" in capsys.readouterr().out


def test_a_job_is_finished_when_all_its_results_are_there(tmp_path, train_tiny):
    recipe = recipes.resolve("digits", "preactresnet18", "none", **TINY)
    found = RunFiles(tmp_path / "runs", recipe)
    extra = tmp_path / "extra.json"
    job = Job(recipe, found, (), (found.result, extra))
    assert not job.finished() and job.state().name == "missing"
    train_tiny()
    assert not job.finished() and job.state().name == "trained"
    extra.touch()
    assert job.finished() and job.state().name == "finished"


# ---- places ----


@pytest.fixture
def gpus(monkeypatch):
    """gpus(n): this machine seems to have n GPUs and 8 cores."""

    def seem(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(launcher, "cores", lambda: 8)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    return seem


def places(*flags, device="auto"):
    """[(CUDA_VISIBLE_DEVICES or None, threads)] of the places for these flags."""
    found = launcher.places(digits_grid.make_parser().parse_args([*flags, "--device", device]))
    return [(place.get("CUDA_VISIBLE_DEVICES"), int(place["OMP_NUM_THREADS"])) for place in found]


def test_runs_get_gpus_in_turn_and_cores_are_divided(gpus, monkeypatch):
    gpus(2)
    assert places() == [("0", 4), ("1", 4)]
    assert places("--jobs-per-gpu", "2") == [("0", 2), ("1", 2), ("0", 2), ("1", 2)]
    assert places("--jobs", "3") == [("0", 2), ("1", 2), ("0", 2)]
    assert places(device="cpu") == [(None, 1)] * 8
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert places() == [("4", 4), ("6", 4)], "within what this process was given"
    gpus(5)
    assert places("--gpus-per-run", "2") == [("0,1", 2), ("2,3", 2)]
    gpus(0)
    assert places() == [(None, 1)] * 8
    assert places("--jobs", "2", "--gpus-per-run", "2") == [(None, 2)] * 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert places("--jobs", "1") == [(None, 3)]


@pytest.mark.parametrize(
    "count, flags, message",
    [
        (2, "--jobs 0", "--jobs must be at least 1, not 0"),
        (2, "--jobs-per-gpu 0", "--jobs-per-gpu must be at least 1, not 0"),
        (2, "--gpus-per-run -1", "--gpus-per-run must be at least 1, not -1"),
        (4, "--jobs-per-gpu 2 --gpus-per-run 2", "--gpus-per-run 2 takes whole GPUs, --jobs-per-gpu 2 shares them"),
        (2, "--jobs-per-gpu 2 --jobs 3", "--jobs 3 is the number of runs at a time: leave out --jobs-per-gpu"),
        (0, "--jobs-per-gpu 2", "--jobs-per-gpu 2 needs a GPU; on a CPU --jobs says how many runs at a time"),
        (2, "--gpus-per-run 4", "--gpus-per-run 4 takes more GPUs than --device auto has here, 2"),
        (4, "--gpus-per-run 2 --jobs 3", "--jobs 3 with --gpus-per-run 2 takes more GPUs than --device auto has"),
        (0, "--device cuda", "--device cuda cannot be used here"),
    ],
)
def test_flags_that_cannot_be_together_are_refused(count, flags, message, gpus):
    gpus(count)
    with pytest.raises(BadInput) as error:
        launcher.places(digits_grid.make_parser().parse_args(flags.split()))
    assert message in str(error.value)


def test_several_gpus_train_a_run_by_torchrun_and_evaluate_it_without():
    commands = ("train", ("--seed", "1")), ("eval_affine", ("x.pt",))
    assert with_torchrun(commands, 1) == commands
    train, evaluate = with_torchrun(commands, 2)
    script = str(ROOT / "train.py")
    assert train == ("torch.distributed.run", ("--standalone", "--nproc-per-node", "2", script, "--seed", "1"))
    assert evaluate == commands[1]


# ---- states, display, dry run ----


def log(found, *errors):
    """Write a log with these validation errors, ten seconds an epoch."""
    found.stem.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"epoch": i, "val_error": error, "seconds": 10.0 * (i + 1)} for i, error in enumerate(errors)]
    found.log.write_text("".join(json.dumps(line) + "\n" for line in lines))


HOLDER = (
    "import fcntl, sys; f = open(sys.argv[1], 'a+'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); input()"
)


def test_states_of_a_run(tmp_path, train_tiny):
    recipe = recipes.resolve("digits", "preactresnet18", "none", **TINY)
    found = RunFiles(tmp_path / "runs", recipe)
    assert found.state() == ("missing", 0, 2, None, None)
    log(found, 50.0)
    assert found.state() == ("missing", 0, 2, None, None), "without a checkpoint it starts anew"
    found.checkpoint.touch()
    found.log.write_text(found.log.read_text() + '{"epoch": 1, "val_')
    assert found.state() == ("stopped", 1, 2, 50.0, 10.0), "a line that is being written does not count"
    with holder(found.with_suffix("lock")):
        assert found.state() == ("running", 1, 2, 50.0, 10.0)
    assert found.state().name == "stopped", "a lock file that nobody holds is of a process that was killed"
    found.failed.touch()
    assert found.state().name == "failed"
    found.checkpoint.unlink()
    result = train_tiny()
    assert found.state() == ("finished", 2, 2, result["val_error"], result["seconds"])


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self):
        return True


def test_a_terminal_shows_a_line_a_run(tmp_path, monkeypatch):
    args = arguments(tmp_path)
    running, other, waiting = (digits_grid.job(args, method) for method in ("none", "cutout", "mixup"))
    monkeypatch.setattr("scripts.grid.status.STATUS_SECONDS", 0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Status([running, other, waiting]) as status:
        running.files.stem.parent.mkdir(parents=True)
        running.files.checkpoint.touch()
        log(running.files, 70.0, 40.0, 45.0)
        status.update([running], [other], failed=1)
        shown = sys.stderr.getvalue()
        assert "digits/preactresnet18/none/seed0:  10%" in shown and " 3/30 [" in shown and "best val 40.00 %" in shown
        assert "digits/preactresnet18/cutout/seed0:   0%" in shown and "elsewhere" in shown
        assert "mixup" not in shown
        assert " 3/90 [" in shown and "1 elsewhere, 1 failed" in shown
        status.update([waiting])
        assert "mixup/seed0" in sys.stderr.getvalue() and list(status.lines) == [waiting]


def test_the_numbers_of_training_images_need_no_images(tmp_path):
    for dataset, images in {
        "cifar10": 45_000,
        "cifar100": 45_000,
        "svhn": 57_158,
        "tiny_imagenet": 90_000,
        "imagenet": 1_271_167,
        "digits": 100,
    }.items():
        assert estimates.training_images(recipes.resolve(dataset, "preactresnet18", "none")) == images
    short = recipes.resolve("svhn", "preactresnet18", "none", train_per_class=4_000, val_per_class=700)
    assert estimates.training_images(short) == 9 * 4_000 + (4_659 - 700)
    recipe = recipes.resolve("digits", "preactresnet18", "none", train_per_class=1000)
    real = recipes.datasets(recipe, tmp_path, 0)
    assert estimates.training_images(recipe) == len(real.train) == 900


def test_images_in_a_folder_are_counted(tmp_path):
    for name in ("a", "b"):
        for part, count in (("train", 20), ("test", 1)):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / part / name / f"{i}.png").touch()
    recipe = recipes.resolve("folder", "preactresnet18", "none", images=str(tmp_path), image_size=32)
    assert estimates.training_images(recipe) == 36, "a tenth validates"


def test_the_dry_run_lists_states_hours_and_sums(tmp_path, monkeypatch, capsys):
    args = arguments(tmp_path, "--jobs", "2")
    args.device = "cpu"
    measured = []
    monkeypatch.setattr(estimates, "images_per_second", lambda recipe, device: measured.append(recipe) or 0.25)
    jobs = [digits_grid.job(args, method) for method in ("none", "cutout", "mixup", "puzzlemix", "cutmix")]
    fresh, failed, stopped, puzzlemix, finished = jobs
    for job in (failed, stopped, finished):
        job.files.stem.parent.mkdir(parents=True)
    failed.files.failed.touch()
    stopped.files.checkpoint.touch()
    log(stopped.files, *[50.0] * 12)
    recipe = recipes.used(finished.recipe)
    finished.files.result.write_text(json.dumps({"recipe": recipe, "val_error": 1.0, "seconds": 1.0}))
    launcher.dry_run(jobs, args, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    each = 30 * 40 / 0.25 / 3600  # epochs x images / speed, in hours
    expected = [("missing", each), ("failed", each), ("stopped, 12 of 30", 18 * 10 / 3600), ("missing", each)]
    for job, line, (state, hours) in zip(jobs, lines[1:], [*expected, ("finished", 0)]):
        assert line.split() == [job.name, *state.split(), f"{hours:.2f}"]
    assert "5 runs: 2 missing, 1 failed, 1 stopped, 1 finished" in lines
    wall = 2 * each  # two at once: the third starts after 0.05 hours
    assert any(
        line.startswith(f"about {3 * each + 0.05:.1f} hours of training, {wall:.1f} hours with 2") for line in lines
    )
    assert [recipe.method == "puzzlemix" for recipe in measured] == [False, True], "each setting once"
    launcher.dry_run(jobs, args, tmp_path)
    assert capsys.readouterr().out.splitlines() == lines and len(measured) == 2, "the speed is kept"


def test_the_speed_of_training_steps_is_measured():
    for method in ("none", "puzzlemix"):
        recipe = recipes.resolve("cifar100", "preactresnet18", method, width=4)
        assert 1 < estimates.images_per_second(recipe, torch.device("cpu")) < 1e6


def test_wall_time_is_that_of_the_longest_place():
    assert estimates.wall_time([3, 1, 1, 1], at_once=2) == 3
    assert estimates.wall_time([1, 1, 3], at_once=2) == 4
    assert estimates.wall_time([], at_once=2) == 0


def test_the_stress_command_finds_what_differs(tmp_path, train_tiny):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        train_tiny(seed=seed, out=tmp_path / name / "runs")
        (tmp_path / name / "tables").mkdir()
        seconds = f"x,seconds,{seed}\n"
        (tmp_path / name / "tables/demo.csv").write_text(f"{seconds}x,test_error,1\n" + (name == "other") * "y")
    folder = tmp_path / "other/runs/digits/preactresnet18/none"
    assert stress.differences(tmp_path / "one", tmp_path / "same") == []
    assert len(stress.differences(tmp_path / "one", tmp_path / "other")) == 3, "seed 0, seed 1, the table"
    result = json.loads((folder / "seed1.json").read_text())
    for path in folder.iterdir():
        path.rename(path.with_name(path.name.replace("seed1", "seed0")))
    differences = "\n".join(stress.differences(tmp_path / "one", tmp_path / "other"))
    assert "seed0.json: test_nll " in differences and f"{result['test_nll']}" in differences
    assert "seed0.json: the weights of best.pt" in differences
