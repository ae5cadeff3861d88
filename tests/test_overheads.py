"""scripts/startup.py and scripts/overheads.py: what they time, on clocks of ours, and that they work."""

from types import SimpleNamespace

import pytest
import torch

import engine
import estimates
import recipes
from data import MemoryLoader
from records import BadInput, RunFailed, RunFiles
from scripts import overheads, startup

CPU = torch.device("cpu")


def tiny(**more):
    return recipes.resolve("cifar100", "preactresnet18", "none", width=4, **more)


# ---- the start of a run ----


def test_a_run_has_its_imports_and_then_its_first_step(capsys):
    assert startup.main(["--rounds", "1", "--", "--dataset", "digits", "--width", "4", "--device", "cpu"]) == 0
    out, errors = capsys.readouterr()
    found = {name: float(seconds) for name, seconds in map(str.split, out.splitlines())}
    assert list(found) == ["import_seconds", "first_step_seconds"] and errors == ""
    assert 0 < found["import_seconds"] < found["first_step_seconds"]


@pytest.mark.parametrize("status, kind", [(2, BadInput), (1, RunFailed)])
def test_what_a_run_says_that_fails_is_passed_on(status, kind, monkeypatch):
    done = SimpleNamespace(returncode=status, stdout="", stderr="a warning\ntrain.py: no such method\n")
    monkeypatch.setattr(startup.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(kind, match="^train.py: no such method$"):
        startup.measure()


def test_the_median_process_counts(monkeypatch):
    found = iter([(1, 9), (5, 6), (3, 8)])
    monkeypatch.setattr(startup, "once", lambda arguments: dict(zip(("imports", "step"), next(found))))
    assert startup.measure(rounds=3) == {"imports": 3, "step": 8}


# ---- evaluation ----


@pytest.mark.parametrize("options", [{}, {"channels_last": True, "amp": "bf16"}])
def test_the_forward_passes_alone_are_those_of_the_evaluation(options, monkeypatch):
    turns, trainer_of, real = [], overheads.trainer_of, overheads.seconds

    def looked_at(*given):
        trainer = trainer_of(*given)
        trainer.net.register_forward_pre_hook(lambda net, given: turns[-1].append((net.training, given[0])))
        return trainer

    def seconds(function, *given, **options):
        turns.append([])
        real(function, *given, **options)
        return len(turns)  # evaluations take 3, 5, forward passes alone 4, 6 after the first round

    monkeypatch.setattr(overheads, "trainer_of", looked_at)
    monkeypatch.setattr(overheads, "seconds", seconds)
    found = overheads.evaluation_ratio(tiny(**options), CPU, images=260, rounds=2)
    assert found == pytest.approx({"evaluation": 260 / 4, "forward": 260 / 5, "ratio": 5 / 4})
    for evaluation, alone in zip(turns[::2], turns[1::2]):
        assert [len(x) for _, x in evaluation] == [250, 10]
        for (training, one), (_, other) in zip(evaluation, alone, strict=True):
            assert not training and torch.equal(one, other) and one.stride() == other.stride()


# ---- an epoch ----


def test_an_epoch_beside_its_steps_is_what_comes_between_them(tmp_path, monkeypatch):
    clock = [0.0]

    def takes(seconds, owner, name):
        real = getattr(owner, name)

        def function(*given, **options):
            clock[0] += seconds
            return real(*given, **options)

        monkeypatch.setattr(owner, name, function)

    monkeypatch.setattr(estimates, "now", lambda device: clock[0])
    takes(1, MemoryLoader, "choices")
    takes(2, engine.Trainer, "weights")
    takes(4, RunFiles, "log_epoch")
    takes(30, engine.Trainer, "save")
    takes(50, engine.Trainer, "train_step")
    takes(1000, engine.Trainer, "evaluate")
    found = overheads.epoch_overhead(tiny(batch_size=10), CPU, tmp_path, images=30)
    epoch, outside, checkpoint = 3 * 50, 1 + 2 + 4, 30 * 3 * 50 / 300
    percent = 100 * (outside + checkpoint) / epoch
    wanted = {"epoch_seconds": epoch, "outside_ms": 1e3 * outside, "checkpoint_ms": 1e3 * checkpoint}
    assert found == pytest.approx(wanted | {"percent": percent})
    assert not list(tmp_path.iterdir())
    found = overheads.epoch_overhead(tiny(batch_size=10), CPU, tmp_path, images=30, epoch_seconds=300)
    assert found == pytest.approx({"epoch_seconds": 300, "outside_ms": 7e3, "checkpoint_ms": 30e3, "percent": 37 / 3})


def test_overheads_on_the_command_line(tmp_path, capsys, monkeypatch):
    given = {}

    def epoch_overhead(recipe, device, folder, epoch_seconds):
        given.update(recipe=recipe, folder=folder)
        return {"epoch_seconds": epoch_seconds, "outside_ms": 3.0, "checkpoint_ms": 1.8, "percent": 0.4}

    found = {"evaluation": 980.0, "forward": 1000.0, "ratio": 0.98}
    monkeypatch.setattr(overheads, "evaluation_ratio", lambda recipe, device: found)
    monkeypatch.setattr(overheads, "epoch_overhead", epoch_overhead)
    flags = ["--amp", "bf16", "--device", "cpu", "--out", str(tmp_path / "new")]
    assert overheads.main([*flags, "--epoch-seconds", "1.2"]) == 0
    assert capsys.readouterr().out == (
        "evaluation: 980 images a second, its forward passes alone 1,000: ratio 0.980\n"
        "an epoch of 1.2 s: 3.0 ms outside steps and validation, 1.8 ms for its share of checkpoints: 0.40 %\n"
    )
    assert given["recipe"].amp == "bf16" and given["folder"].is_dir()
    assert overheads.main([*flags, "--epoch-seconds", "0"]) == 2
    assert capsys.readouterr().err.endswith(": --epoch-seconds must be above 0, not 0.0\n")
