"""A stopped training goes on exactly, and nothing is lost when something breaks."""

import errno
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch

import recipes
import regularizers
from engine import files, metrics, trainer
from engine.files import ROOT, BadInput, RunFailed, load_checkpoint
from engine.runs import RunFiles
from engine.signals import Stopped
from engine.trainer import Trainer
from tests.trainings import TINY, assert_same_outcome, outcome


class Killed(BaseException):
    """Stands for SIGKILL inside this process: nothing is saved on the way out."""


def killed_at(monkeypatch, step):
    """Let the training die just before its step-th step."""
    real, count = Trainer.train_step, iter(range(10**6))

    def train_step(self, x, y):
        if next(count) == step:
            raise Killed
        real(self, x, y)

    monkeypatch.setattr(Trainer, "train_step", train_step)


@pytest.mark.parametrize("method", regularizers.METHODS)
def test_every_method_goes_on_bit_for_bit(method, train_anew, tmp_path, monkeypatch):
    """Killed at steps in the middle, at the start and at the end of epochs of 3 steps, with a checkpoint every step."""
    options = {"epochs": 2, "augment_val": True}
    train_anew(method, out=tmp_path / "whole", **options)
    for step in (2, 2, 1):
        with monkeypatch.context() as patch:
            killed_at(patch, step)
            with pytest.raises(Killed):
                train_anew(method, out=tmp_path / "parts", checkpoint_minutes=0, **options)
    train_anew(method, out=tmp_path / "parts", checkpoint_minutes=0, **options)
    assert_same_outcome(outcome(tmp_path / "whole", method), outcome(tmp_path / "parts", method))


def command(out, *more):
    """The command line of a small run."""
    run = [sys.executable, str(ROOT / "train.py"), "--dataset", "digits", "--model", "preactresnet18", "--width", "8"]
    run += ["--method", "patchup_soft", "--epochs", "6", "--out", str(out), "--checkpoint-minutes", "0", *more]
    return run


def interrupt(out, number, changes):
    """Start the run, send it a signal after so many new checkpoints; (exit status, stderr)."""
    checkpoint = out / "digits/preactresnet18/patchup_soft/seed0.checkpoint.pt"
    process = subprocess.Popen(command(out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seen, last = 0, checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
    deadline = time.monotonic() + 120
    while seen < changes and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
        try:
            stamp = checkpoint.stat().st_mtime_ns
        except FileNotFoundError:  # it is just being replaced
            continue
        seen, last = seen + (stamp != last), stamp
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.slow
def test_a_real_process_killed_and_stopped_again_and_again(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    subprocess.run(command(whole), check=True, capture_output=True)
    assert interrupt(parts, signal.SIGKILL, 3)[0] == -signal.SIGKILL
    assert interrupt(parts, signal.SIGKILL, 5)[0] == -signal.SIGKILL
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)):
        code, errors = interrupt(parts, number, 2)
        assert code == status, errors
        name = signal.Signals(number).name
        assert f"train.py: stopped by {name} and saved; the same command goes on from here" in errors
        assert "Traceback" not in errors
    subprocess.run(command(parts), check=True, capture_output=True)
    assert_same_outcome(outcome(whole, "patchup_soft"), outcome(parts, "patchup_soft"))
    left = sorted(path.name for path in (parts / "digits/preactresnet18/patchup_soft").iterdir())
    assert left == ["seed0.best.pt", "seed0.json", "seed0.jsonl", "seed0.last.pt"]


def test_a_finished_run_is_left_alone_and_another_recipe_refused(train_anew, tmp_path):
    path = tmp_path / "runs/digits/preactresnet18/none/seed0.json"
    path.parent.mkdir(parents=True)
    path.with_suffix(".failed").touch()
    result = train_anew()
    assert not path.with_suffix(".failed").exists()
    stamp = path.stat().st_mtime_ns
    assert train_anew() == result and path.stat().st_mtime_ns == stamp
    with pytest.raises(BadInput, match=r"has another recipe \(lr 0.02 there, 0.2 here\): give another --out"):
        train_anew(lr=0.2)


@pytest.fixture
def unfinished(train_anew, tmp_path, monkeypatch):
    """The RunFiles of a run that was killed after two steps."""
    with monkeypatch.context() as patch:
        killed_at(patch, 2)
        with pytest.raises(Killed):
            train_anew(checkpoint_minutes=0)
    files = RunFiles(tmp_path / "runs", recipes.resolve("digits", "preactresnet18", "none", **TINY))
    assert files.checkpoint.exists() and files.checkpoint_before.exists()
    return files


def test_unfinished_with_another_recipe_is_refused(unfinished, train_anew):
    before = unfinished.checkpoint.read_bytes()
    with pytest.raises(BadInput, match=r"another recipe \(momentum 0.9 there, 0.8 here\)"):
        train_anew(momentum=0.8)
    assert unfinished.checkpoint.read_bytes() == before


def test_a_damaged_checkpoint_falls_back_to_the_one_before(unfinished, train_anew, tmp_path):
    """See test_reading.py for other damage."""
    whole = unfinished.checkpoint.read_bytes()
    unfinished.checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="checkpoint.pt is damaged .* going on from the checkpoint before it"):
        train_anew()
    train_anew(out=tmp_path / "whole")
    assert_same_outcome(outcome(tmp_path / "runs"), outcome(tmp_path / "whole"))


class Evil:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_checkpoint_left_is_refused_and_code_in_it_is_not_run(unfinished, train_anew, tmp_path):
    unfinished.checkpoint_before.unlink()
    unfinished.checkpoint.write_bytes(pickle.dumps(Evil(tmp_path / "evil")))
    with pytest.raises(BadInput, match="checkpoint.pt is damaged or no checkpoint .*remove it to start anew"):
        train_anew()
    torch.save({"net": Evil(tmp_path / "evil")}, unfinished.checkpoint)
    with pytest.raises(BadInput, match="is no checkpoint of train.py: it holds objects that loading would execute"):
        train_anew()
    torch.save({"weights": torch.ones(3)}, unfinished.checkpoint)
    with pytest.raises(BadInput, match="is no checkpoint of train.py: it holds no recipe and network"):
        train_anew()
    assert not (tmp_path / "evil").exists()


def test_a_second_process_on_the_same_run_is_refused(tmp_path):
    """And one that is forked from the first, as workers are, does not hold the run when the first is gone."""
    files = RunFiles(tmp_path / "runs", recipes.resolve("digits", "preactresnet18", "none", **TINY))
    hold = "import os, sys, time; os.fork(); print(flush=True); time.sleep(60)"
    prepare = "import recipes; from engine.runs import RunFiles; from pathlib import Path; "
    prepare += f"recipe = recipes.resolve('digits', 'preactresnet18', 'none', **{TINY}); "
    prepare += f"lock = RunFiles(Path({str(tmp_path / 'runs')!r}), recipe).lock(); lock.__enter__(); "
    first = subprocess.Popen(
        [sys.executable, "-c", prepare + hold], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        first.stdout.readline()
        with pytest.raises(BadInput, match=f"seed0 is being trained by process {first.pid} on "), files.lock():
            pass
        first.kill()
        first.wait()
        with files.lock():
            pass
    finally:
        os.killpg(first.pid, signal.SIGKILL)


def test_a_full_disk_leaves_the_previous_checkpoint_whole(unfinished, train_anew, tmp_path):
    """The kernel refuses to write files beyond a size, as it does on a full disk."""
    before, limits = unfinished.checkpoint.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(
            RunFailed, match="cannot write .*checkpoint-new.pt.*File too large.*; what was saved before is whole"
        ):
            train_anew(checkpoint_minutes=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert unfinished.checkpoint.read_bytes() == before
    assert not list(unfinished.checkpoint.parent.glob("*.tmp"))
    train_anew()
    train_anew(out=tmp_path / "whole")
    assert_same_outcome(outcome(tmp_path / "runs"), outcome(tmp_path / "whole"))


def test_write_whole_passes_on_what_the_system_says(tmp_path):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.json").write_text("old")
    with pytest.raises(RunFailed, match="No space left on device"):
        files.write_whole(tmp_path / "a.json", full)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"] and (tmp_path / "a.json").read_text() == "old"


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(train_anew, tmp_path):
    message = (
        r"the (loss is|weights are) not finite at step [1-9] of epoch [1-9] with learning rate .*: try a lower --lr"
    )
    folder = tmp_path / "runs/digits/preactresnet18/none"
    with pytest.raises(RunFailed, match=message) as told:
        train_anew(lr=1e39, checkpoint_minutes=0)
    assert not folder.with_name("seed0.checkpoint.pt").exists() and "checkpoint" not in str(told.value)
    with pytest.raises(RunFailed, match=message + ".*seed0.checkpoint.pt is from before it"):
        train_anew(lr=1e4, checkpoint_minutes=0, out=tmp_path / "runs2", epochs=30)
    folder = tmp_path / "runs2/digits/preactresnet18/none"
    state = files.load_checkpoint(folder / "seed0.checkpoint.pt")
    assert all(torch.isfinite(tensor).all() for tensor in state["net"].values())
    assert torch.isfinite(state["losses"]).all() and not (folder / "seed0.json").exists()


def test_a_signal_while_testing_does_not_mix_up_the_weights(train_anew, tmp_path, monkeypatch):
    """SIGTERM during the test of the best weights, which follows that of the last ones."""
    real, tests = metrics.logits_of, iter(range(100))

    def logits_of(net, loader, *given, **options):
        if len(loader) == 797 and next(tests) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(net, loader, *given, **options)

    train_anew(out=tmp_path / "whole", epochs=4)
    monkeypatch.setattr(trainer, "logits_of", logits_of)
    try:
        train_anew(epochs=4)
    except Stopped:
        train_anew(epochs=4)
    assert next(tests) >= 2
    assert_same_outcome(outcome(tmp_path / "runs"), outcome(tmp_path / "whole"))


def in_the_format_before(files):
    """Write the files of an unfinished run as the code before `format` did: epochs from 0, one loss a step."""
    lines = [json.loads(line) for line in files.log.read_text().splitlines()]
    for line in lines:
        del line["format"], line["train_loss_per_term"]
        line["epoch"] -= 1
    files.log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    state = load_checkpoint(files.checkpoint)
    del state["format"], state["recipe"]
    state["epoch"] -= 1
    state["losses"] = state["losses"][0]
    state["best"]["epoch"] -= 1
    files.save_checkpoint(state)


def test_a_run_begun_before_epochs_counted_from_1_goes_on(train_anew, tmp_path, monkeypatch):
    train_anew(out=tmp_path / "whole", epochs=4)
    with monkeypatch.context() as patch:
        killed_at(patch, 7)  # in the third of four epochs of three steps
        with pytest.raises(Killed):
            train_anew(epochs=4, checkpoint_minutes=0)
    files = RunFiles(tmp_path / "runs", recipes.resolve("digits", "preactresnet18", "none", **TINY | {"epochs": 4}))
    in_the_format_before(files)
    assert [line["epoch"] for line in files.logged()] == [1, 2]
    train_anew(epochs=4)
    assert [line["epoch"] for line in files.logged()] == [1, 2, 3, 4]
    whole, parts = outcome(tmp_path / "whole"), outcome(tmp_path / "runs")
    assert [line.get("train_loss_per_term") for line in parts[0]] == [None] * 3 + [whole[0][3]["train_loss_per_term"]]
    same = [[line["train_loss"] for line in outcome[0]] for outcome in (whole, parts)]
    assert_same_outcome((same[0], *whole[1:]), (same[1], *parts[1:]))


def test_weights_alone_are_no_checkpoint(unfinished, train_anew):
    state = files.load_checkpoint(unfinished.checkpoint)
    unfinished.checkpoint_before.unlink()
    torch.save({"recipe": state["recipe"], "net": state["net"]}, unfinished.checkpoint)
    with pytest.raises(BadInput, match="holds weights alone, no training to go on with"):
        train_anew()


def test_other_images_are_refused(unfinished, train_anew, monkeypatch):
    monkeypatch.setattr(Trainer, "image_counts", lambda self: {"train": 1, "val": 2, "test": 3})
    with pytest.raises(BadInput, match="was trained on .*'train': 40.* give the same --data-dir, or another --out"):
        train_anew()
