"""scripts/bench/hours.py: what it makes of timed steps, on a clock of ours and with tiny networks."""

import pytest
import torch

import recipes
from scripts.bench import hours, timing
from scripts.grid import estimates

CPU = torch.device("cpu")
TINY = {"width": 4}


@pytest.fixture
def clock(monkeypatch):
    """clock(seconds): the n-th step of a method, from 0, takes seconds(method, n)."""

    def start(seconds):
        calls = []

        def timed(step, device, repeated, queued):
            step()
            method = step.__self__.recipe.method
            calls.append(method)
            return seconds(method, calls.count(method) - 1)

        monkeypatch.setattr(timing, "timed", timed)
        return calls

    return start


def test_hours_are_a_step_times_the_steps_of_all_epochs(clock):
    clock(lambda method, n: {"none": 0.2, "puzzlemix": 0.46}[method])
    methods = "none", "puzzlemix"
    measured = hours.training_hours("tiny_imagenet", "wrn28_10", methods, CPU, 1, 2, **TINY, epochs=300, batch_size=50)
    assert tuple(measured) == methods
    images = 100_000 - 200 * 50  # 50 of every class validate
    for method, step, over_none in (("none", 0.2, 1.0), ("puzzlemix", 0.46, 2.3)):
        wanted = {"step_ms": 1000 * step, "hours": step / 2 * images * 300 / 3600, "over_none": over_none}
        assert measured[method] == pytest.approx(wanted | {"timed_batch": 2})


def test_a_step_of_the_recipes_batch_is_timed_where_nothing_else_is_asked_for(clock):
    clock(lambda method, n: 0.5)
    recipe = recipes.resolve("digits", "preactresnet18", "mixup")
    measured = hours.training_hours("digits", "preactresnet18", ("mixup",), CPU, 1, **TINY)
    assert list(measured) == ["mixup"] and measured["mixup"]["timed_batch"] == recipe.batch_size
    epoch = 0.5 * estimates.training_images(recipe) / recipe.batch_size
    assert measured["mixup"]["hours"] == pytest.approx(epoch * recipe.epochs / 3600)


def test_fields_of_the_recipe_reach_the_methods_that_have_them(clock, monkeypatch):
    clock(lambda method, n: 1.0)
    seen, case = [], hours.Case
    monkeypatch.setattr(hours, "Case", lambda recipe, device: seen.append(recipe) or case(recipe, device))
    hours.training_hours("digits", "preactresnet18", ("patchup_hard",), CPU, 1, 2, **TINY, gamma=0.3)
    wanted = [("none", None, 4), ("patchup_hard", 0.3, 4)]
    assert [(recipe.method, recipe.gamma, recipe.width) for recipe in seen] == wanted
