"""launcher.py and what it needs, without processes: states, places, display, refusals; and the dry run."""

import io
import json
import sys

import pytest
import torch

import data
import recipes
from engine import device
from engine.files import ROOT, BadInput
from engine.runs import RunFiles
from scripts import stress
from scripts.grid import estimates, launcher
from scripts.grid.job import Job, perform, report, with_torchrun
from scripts.grid.status import Status
from tests import digits_grid
from tests.digits_grid import arguments, holder
from tests.trainings import TINY


def test_missing_images_are_refused_before_anything_starts(tmp_path):
    args = arguments(tmp_path)
    good = digits_grid.job(args, "none")
    recipe = recipes.resolve("tiny_imagenet", "preactresnet18", "none")
    run = RunFiles(tmp_path, recipe)
    with pytest.raises(data.DataError, match="tiny-imagenet-200 is missing"):
        launcher.launch([good, Job(recipe, run, (), (run.result,))], args)
    assert not good.files.output.exists()


@pytest.mark.parametrize(
    "flags, fields, message",
    [
        ("--checkpoint-minutes nan", {}, "--checkpoint-minutes must be at least 0, not nan"),
        ("--checkpoint-minutes -1 --launcher slurm", {}, "--checkpoint-minutes must be at least 0, not -1"),
        ("--graphs", {}, "--graphs is for one process on a CUDA device"),
        ("--graphs --launcher slurm", {}, "--graphs is for one process on a CUDA device"),
        ("--workers 1000000", {}, "--workers must be at most 10000, not 1000000"),
        ("--workers -1 --launcher slurm", {}, "--workers must be at least 0, not -1"),
        ("", {"amp": "fp16"}, "--amp fp16 needs a CUDA device; a CPU takes bf16"),
    ],
)
def test_flags_that_no_run_can_have_are_refused_before_anything_starts(flags, fields, message, tmp_path):
    args = arguments(tmp_path, *flags.split())
    job = digits_grid.job(args, "none", **fields)
    with pytest.raises(BadInput, match=message):
        launcher.launch([job], args)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_refuses_them_too(tmp_path):
    with pytest.raises(BadInput, match="--workers must be at most 10000"):
        launcher.dry_run([], arguments(tmp_path, "--workers", "1000000"), tmp_path)


def test_all_commands_of_a_job_are_done_until_one_fails(capsys):
    assert perform((("tests.digits_grid", ("--no-such-flag",)), ("no.such.module", ()))) == 2
    assert "python -m tests.digits_grid --no-such-flag" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"\xff\n\xfe"])
def test_any_note_of_a_failure_can_be_reported(content, tmp_path):
    job = digits_grid.job(arguments(tmp_path), "none")
    job.files.stem.parent.mkdir(parents=True)
    job.files.failed.write_bytes(content)
    assert report(job).startswith("failed: digits/preactresnet18/none/seed0 (")


def test_a_job_is_finished_when_all_its_results_are_there(tmp_path, train_tiny):
    recipe = recipes.resolve("digits", "preactresnet18", "none", **TINY)
    run = RunFiles(tmp_path / "runs", recipe)
    extra = tmp_path / "extra.json"
    job = Job(recipe, run, (), (run.result, extra))
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
        monkeypatch.setattr(launcher, "require_kernels", lambda device: None)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(launcher, "cores", lambda: 8)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    return seem


def places(*flags, device="auto"):
    """[(CUDA_VISIBLE_DEVICES or None, threads)] of the places for these flags."""
    chosen = launcher.places(digits_grid.make_parser().parse_args([*flags, "--device", device]))
    return [(place.get("CUDA_VISIBLE_DEVICES"), int(place["OMP_NUM_THREADS"])) for place in chosen]


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


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_launcher_uses_no_gpu_itself(name, gpus, tmp_path, monkeypatch):
    """It would hold memory beside its runs, and keep them off a GPU that serves one process at a time."""
    gpus(2)
    monkeypatch.setattr(device, "require_kernels", lambda place: None)
    monkeypatch.setattr(torch, "empty", lambda *size, **options: pytest.fail("it is used"))
    args = arguments(tmp_path, "--device", name)
    assert len(launcher.places(args)) == (2 if name == "cuda" else 1)
    launcher.require_possible([digits_grid.job(args, "none")], args)


@pytest.mark.parametrize(
    "count, flags, message",
    [
        (2, "--jobs 0", "--jobs must be at least 1, not 0"),
        (0, "--jobs 1000000", "--jobs must be at most 10000, not 1000000"),
        (2, "--jobs-per-gpu 0", "--jobs-per-gpu must be at least 1, not 0"),
        (2, "--gpus-per-run -1", "--gpus-per-run must be at least 1, not -1"),
        (4, "--jobs-per-gpu 2 --gpus-per-run 2", "--gpus-per-run 2 takes whole GPUs, --jobs-per-gpu 2 shares them"),
        (2, "--jobs-per-gpu 2 --jobs 3", "--jobs 3 is the number of runs at a time: leave out --jobs-per-gpu"),
        (0, "--jobs-per-gpu 2", "--jobs-per-gpu 2 needs a GPU; on a CPU --jobs says how many runs at a time"),
        (2, "--gpus-per-run 4", "--gpus-per-run 4 takes more GPUs than --device auto has, 2"),
        (4, "--gpus-per-run 2 --jobs 3", "--jobs 3 with --gpus-per-run 2 takes more GPUs than --device auto has"),
        (0, "--device cuda", "--device cuda cannot be used"),
    ],
)
def test_flags_that_cannot_be_together_are_refused(count, flags, message, gpus):
    gpus(count)
    with pytest.raises(BadInput) as error:
        launcher.places(digits_grid.make_parser().parse_args(flags.split()))
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["0", "-1", "two", "4,2", "1.5"])
def test_threads_that_are_no_number_are_refused(text, gpus, monkeypatch):
    gpus(0)
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(BadInput, match=f"OMP_NUM_THREADS must be a number of threads, not '{text}'"):
        places()


def test_several_gpus_train_a_run_by_torchrun_and_evaluate_it_without():
    commands = ("train", ("--seed", "1")), ("eval_affine", ("x.pt",))
    assert with_torchrun(commands, 1) == commands
    train, evaluate = with_torchrun(commands, 2)
    script = str(ROOT / "train.py")
    assert train == ("torch.distributed.run", ("--standalone", "--nproc-per-node", "2", script, "--seed", "1"))
    assert evaluate == commands[1]


# ---- states, display, dry run ----


def log(run, *errors):
    """Write a log with these validation errors, ten seconds an epoch."""
    run.stem.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"epoch": i, "val_error": error, "seconds": 10.0 * (i + 1)} for i, error in enumerate(errors)]
    run.log.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_states_of_a_run(tmp_path, train_tiny):
    recipe = recipes.resolve("digits", "preactresnet18", "none", **TINY)
    run = RunFiles(tmp_path / "runs", recipe)
    assert run.state() == ("missing", 0, 2, None, None)
    log(run, 50.0)
    assert run.state() == ("missing", 0, 2, None, None), "without a checkpoint it starts anew"
    run.checkpoint.touch()
    run.log.write_text(run.log.read_text() + '{"epoch": 1, "val_')
    assert run.state() == ("stopped", 1, 2, 50.0, 10.0), "a line that is being written does not count"
    with holder(run.with_suffix("lock")):
        assert run.state() == ("running", 1, 2, 50.0, 10.0)
    assert run.state().name == "stopped", "a lock file that nobody holds is of a process that was killed"
    run.failed.touch()
    assert run.state().name == "failed"
    run.checkpoint.unlink()
    result = train_tiny()
    assert run.state() == ("finished", 2, 2, result["val_error"], result["seconds"])


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
        assert (
            "digits/preactresnet18/none/seed0:  10%" in shown
            and " 3/30 [" in shown
            and "best val error 40.00 %" in shown
        )
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
    measured = []
    monkeypatch.setattr(estimates, "images_per_second", lambda recipe, device, graphs: measured.append(recipe) or 0.25)
    monkeypatch.setattr(estimates, "best_amp", lambda device: "off")
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
    assert [estimates.in_words(hours) for hours in (0, 0.001, 0.04, 1)] == [
        "0 minutes",
        "1 minute",
        "2 minutes",
        "1.0 hours",
    ]
    assert [recipe.method == "puzzlemix" for recipe in measured] == [False, True], "each setting once"
    launcher.dry_run(jobs, args, tmp_path)
    assert capsys.readouterr().out.splitlines() == lines and len(measured) == 2, "the speed is kept"


def test_the_dry_run_says_what_amp_auto_would_choose_and_gain(tmp_path, monkeypatch, capsys):
    args = arguments(tmp_path, "--jobs", "1")
    monkeypatch.setattr(
        estimates, "images_per_second", lambda recipe, device, graphs: 0.1 if recipe.amp == "off" else 0.25
    )
    monkeypatch.setattr(estimates, "best_amp", lambda device: "bf16")
    fresh, begun = (digits_grid.job(args, method) for method in ("none", "cutout"))
    begun.files.stem.parent.mkdir(parents=True)
    begun.files.checkpoint.touch()
    log(begun.files, *[50.0] * 12)
    launcher.dry_run([fresh, begun], args, tmp_path)
    slow, fast = (30 * 40 / speed / 3600 for speed in (0.1, 0.25))
    wanted = f"--amp auto would choose bf16 here: {fast:.1f} instead of {slow:.1f} hours for the runs not begun"
    assert wanted in capsys.readouterr().out.splitlines()
    launcher.dry_run([begun], args, tmp_path)
    assert "--amp auto" not in capsys.readouterr().out


def test_the_speed_of_training_steps_is_measured():
    for method in ("none", "puzzlemix"):
        recipe = recipes.resolve("cifar100", "preactresnet18", method, width=4)
        assert 1 < estimates.images_per_second(recipe, torch.device("cpu")) < 1e6


@pytest.mark.parametrize("speed, sizes", [(50, [10, 100]), (5, [10])])
def test_a_quick_step_is_timed_whole(speed, sizes, monkeypatch):
    timed = []
    monkeypatch.setattr(estimates, "_speed", lambda recipe, device, size, graphs: timed.append(size) or speed)
    recipe = recipes.resolve("cifar100", "preactresnet18", "none")
    assert estimates.images_per_second(recipe, torch.device("cpu")) == speed
    assert timed == sizes


def test_graphed_steps_are_timed_as_such_on_a_gpu_and_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(estimates, "environment", lambda device: {"device": "any", "torch": "2", "threads": 1})
    monkeypatch.setattr(estimates, "images_per_second", lambda recipe, device, graphs: 200 if graphs else 100)
    recipe = recipes.resolve("cifar100", "preactresnet18", "none")
    for name, graphs, speed in (("cuda", False, 100), ("cuda", True, 200), ("cpu", True, 100)):
        speeds = estimates.Speeds(tmp_path / "speed.json", torch.device(name), graphs)
        speeds.measure([recipe])
        assert speeds.of(recipe) == speed


def test_wall_time_is_that_of_the_longest_place():
    assert estimates.wall_time([3, 1, 1, 1], at_once=2) == 3
    assert estimates.wall_time([1, 1, 3], at_once=2) == 4
    assert estimates.wall_time([], at_once=2) == 0


def test_the_stress_command_finds_what_differs(tmp_path, train_tiny):
    for name, seed in (("first", 0), ("same", 0), ("other", 1)):
        train_tiny(seed=seed, out=tmp_path / name / "runs")
        (tmp_path / name / "tables").mkdir()
        seconds = f"x,seconds,{seed}\n"
        (tmp_path / name / "tables/demo.csv").write_text(f"{seconds}x,test_error,1\n" + (name == "other") * "y")
    folder = tmp_path / "other/runs/digits/preactresnet18/none"
    assert stress.differences(tmp_path / "first", tmp_path / "same") == []
    assert len(stress.differences(tmp_path / "first", tmp_path / "other")) == 3, "seed 0, seed 1, the table"
    result = json.loads((folder / "seed1.json").read_text())
    for path in folder.iterdir():
        path.rename(path.with_name(path.name.replace("seed1", "seed0")))
    differences = "\n".join(stress.differences(tmp_path / "first", tmp_path / "other"))
    assert "seed0.json: test_nll " in differences and f"{result['test_nll']}" in differences
    assert "seed0.json: the weights of best.pt" in differences
