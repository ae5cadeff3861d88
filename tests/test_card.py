"""scripts/card.py, without a GPU: what counts as a wait for it, and several runs at once on the CPU."""

import itertools
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

import engine
import recipes
from records import RunFailed
from scripts import card, timing

CPU = torch.device("cpu")


def recipe():
    return recipes.resolve("digits", "preactresnet18", "none", width=4, batch_size=2)


@pytest.fixture
def modes(monkeypatch):
    """The modes that torch.cuda.set_sync_debug_mode was set to."""
    found = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", found.append)
    return found


def test_the_peak_is_that_of_steps_alone(monkeypatch):
    events = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: events.append("reset"))
    monkeypatch.setattr(engine, "peak_memory", lambda device: events.append("read") or 70)
    monkeypatch.setattr(card, "synchronisations", lambda case: events.append("waits") or 2.0)
    case = SimpleNamespace(device=torch.device("cuda"), step=lambda: events.append("step"))
    assert card.counts(case) == {"peak_memory_mib": 70, "synchronisations": 2.0}
    assert events == ["reset", *["step"] * 20, "read", "waits"]


def test_waits_of_steps_within_an_epoch_are_counted_and_other_warnings_are_not(monkeypatch, modes):
    case, steps = timing.Case(recipe(), CPU), []

    def train_step(x, y):
        assert x.shape == (2, 3, 32, 32)
        steps.append(modes[-1] if modes else "default")
        for _ in range(2 if case.trainer.epoch % 2 else 1):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    monkeypatch.setattr(case.trainer, "train_step", train_step)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert card.synchronisations(case) == 1.5
    assert steps == ["default", "warn", "warn"] * card.EPOCHS
    assert modes == ["warn", "default"] * card.EPOCHS


def test_the_mode_is_left_when_a_step_fails(monkeypatch, modes):
    case, steps = timing.Case(recipe(), CPU), iter([None])
    monkeypatch.setattr(case.trainer, "train_step", lambda x, y: next(steps))
    with pytest.raises(StopIteration):
        card.synchronisations(case)
    assert modes == ["warn", "default"]


def test_several_runs_at_once_are_counted_together():
    assert card.images_a_second(recipe(), CPU, 2, seconds=0.2) > 0


def test_one_run_that_fails_ends_the_others_too_and_is_the_one_that_is_named(monkeypatch):
    def threads(count, mp_context, **options):
        return ThreadPoolExecutor(count, **options)

    def case(recipe, device, graphs):
        if next(started) == 1:
            raise torch.OutOfMemoryError("no more memory")
        return timing.Case(recipe, device, graphs=graphs)

    started = itertools.count()
    monkeypatch.setattr(card.concurrent.futures, "ProcessPoolExecutor", threads)
    monkeypatch.setattr(card, "Case", case)
    with pytest.raises(RunFailed, match="3 runs at once cannot be on cpu: no more memory"):
        card.images_a_second(recipe(), CPU, 3)
