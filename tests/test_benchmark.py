"""scripts/benchmark.py: what it times and what it makes of it, on a clock of ours and with tiny networks."""

import itertools
import json
import math

import pytest
import torch

import estimates
import recipes
from scripts import benchmark

CPU = torch.device("cpu")
TINY = {"width": 4}


@pytest.fixture
def clock(monkeypatch):
    """clock(seconds): a timed call takes seconds(method, n) on the n-th of its method, from 0; it is made if real."""

    def start(seconds, real=True):
        calls = []

        def timed(function, device, *arguments):
            if real:
                function(*arguments)
            method = function.__self__.trainer.recipe.method
            calls.append(method)
            return seconds(method, calls.count(method) - 1)

        monkeypatch.setattr(benchmark, "timed", timed)
        return calls

    return start


def test_hours_are_a_step_times_the_steps_of_all_epochs(clock):
    clock(lambda method, n: {"none": 0.2, "puzzlemix": 0.46}[method])
    found = benchmark.training_hours(
        "tiny_imagenet", "wrn28_10", ("none", "puzzlemix"), CPU, 1, 2, **TINY, epochs=300, batch_size=50
    )
    assert list(found) == ["none", "puzzlemix"]
    images = 100_000 - 200 * 50  # 50 of every class validate
    for method, step, over_none in (("none", 0.2, 1.0), ("puzzlemix", 0.46, 2.3)):
        hours = step / 2 * images * 300 / 3600
        wanted = {"step_ms": 1000 * step, "hours": hours, "over_none": over_none, "timed_batch": 2}
        assert found[method] == pytest.approx(wanted)


def test_a_step_of_the_recipes_batch_is_timed_where_nothing_else_is_asked_for(clock):
    clock(lambda method, n: 0.5)
    recipe = recipes.resolve("digits", "preactresnet18", "mixup")
    found = benchmark.training_hours("digits", "preactresnet18", ("mixup",), CPU, 1, **TINY)["mixup"]
    assert found["timed_batch"] == recipe.batch_size
    assert found["hours"] == pytest.approx(0.5 * estimates.training_images(recipe) / 10 * recipe.epochs / 3600)


def test_methods_take_turns_and_the_first_round_does_not_count(clock):
    seconds = {"none": (90.0, 1.0, 2.0, 7.0), "mixup": (90.0, 6.0, 4.0, 5.0)}
    calls = clock(lambda method, n: seconds[method][n])
    found = benchmark.training_hours("digits", "preactresnet18", ("mixup",), CPU, 3, 2, **TINY)
    assert calls == ["none", "mixup"] * 4
    assert list(found) == ["mixup"]
    assert found["mixup"]["step_ms"] == 5000
    assert found["mixup"]["over_none"] == 2.5


def test_fields_of_the_recipe_reach_the_methods_that_have_them(clock, monkeypatch):
    clock(lambda method, n: 1.0)
    seen, case = [], benchmark.Case
    monkeypatch.setattr(benchmark, "Case", lambda recipe, device: seen.append(recipe) or case(recipe, device))
    benchmark.training_hours("digits", "preactresnet18", ("patchup_hard",), CPU, 1, 2, **TINY, gamma=0.3)
    wanted = [("none", None, 4), ("patchup_hard", 0.3, 4)]
    assert [(recipe.method, recipe.gamma, recipe.width) for recipe in seen] == wanted


def test_a_recipe_that_cannot_be_is_refused():
    with pytest.raises(recipes.RecipeError, match="--width must be at least 1"):
        benchmark.training_hours("digits", "preactresnet18", ("none",), CPU, 1, 2, width=0)


@pytest.mark.parametrize("method", recipes.LABELS)
def test_a_step_trains_the_network_on_images_of_the_data_sets_shape_with_new_draws(method):
    recipe = recipes.resolve("tiny_imagenet", "preactresnet18", method, batch_size=4, **TINY)
    case = benchmark.Case(recipe, CPU)
    assert case.x.shape == (4, 3, 64, 64) and case.y.max() < 200
    before = [p.clone() for p in case.net.parameters()]
    partners = []
    for _ in range(8):
        case.step()
        partners.append(tuple(getattr(case.regularizer, "partner", torch.arange(4)).tolist()))
    assert case.net.training and not any(torch.equal(a, b) for a, b in zip(before, case.net.parameters()))
    assert all(torch.isfinite(p).all() for p in case.net.parameters())
    assert method in ("none", "cutout", "dropblock") or len(set(partners)) > 1


def test_every_method_is_timed_at_work_and_those_that_draw_a_layer_once_for_each():
    found = {name: (method, options) for name, method, options in benchmark.cases("wrn28_10")}
    assert {method for method, _ in found.values()} == set(recipes.LABELS)
    for method in ("patchup_soft", "patchup_hard", "manifold_mixup"):
        assert [found[f"{method} k={k}"][1]["layers"] for k in range(4)] == [(0,), (1,), (2,), (3,)]
    assert found["patchup_hard k=1"][1]["prob"] == found["cutmix"][1]["prob"] == 1.0
    assert found["none"] == ("none", {}) and found["dropblock"] == ("dropblock", {})


@pytest.mark.parametrize("method, k", [("patchup_soft", 1), ("dropblock", 1), ("feature_cutmix", 2)])
def test_a_methods_own_operations_run_alone_on_the_real_shapes(method, k):
    always = recipes.applicable(method, {"prob": 1.0, "layers": (k,)})
    case = benchmark.Case(recipes.resolve("cifar100", "preactresnet18", method, batch_size=3, **TINY, **always), CPU)
    hidden = case.hidden()
    assert [tuple(h.shape) for h in hidden[:3]] == [(3, 3, 32, 32), (3, 4, 32, 32), (3, 4, 32, 32)]
    altered, mix = [], case.regularizer.mix
    case.regularizer.mix = lambda stage, h: (out := mix(stage, h)) is not h and altered.append(stage) or out
    case.own(hidden, [torch.randn_like(h) for h in hidden])
    assert altered == [k]
    assert all(p.grad is None for p in case.net.parameters())


def test_the_command_prints_and_writes_the_hours_of_every_method(tmp_path, capsys, clock):
    clock(lambda method, n: {"none": 0.1, "puzzlemix": 0.25}.get(method, 0.12), real=False)
    out = tmp_path / "new" / "hours.json"
    command = ["--dataset", "digits", "--model", "preactresnet18", "--batch-size", "2", "--steps", "1"]
    assert benchmark.main([*command, "--device", "cpu", "--out", str(out)]) == 0
    printed, kept = capsys.readouterr().out, json.loads(out.read_text())
    assert list(kept["methods"]) == list(recipes.LABELS)
    assert (kept["dataset"], kept["batch_size"], kept["methods"]["mixup"]["timed_batch"]) == ("digits", 10, 2)
    assert "| puzzlemix | 250.0 | 2.50 | 0.09 |" in printed  # 125 ms an image, 100 images, 25 epochs
    assert "hours of 25 epochs of 100 images" in printed
    assert "scaled by the image from steps of 2: the recipe's have 10" in printed


def test_nothing_is_said_of_scaling_where_the_batch_is_the_recipes(capsys, clock):
    clock(lambda method, n: 0.1, real=False)
    assert benchmark.main(["--dataset", "digits", "--batch-size", "10", "--rounds", "1", "--device", "cpu"]) == 0
    assert "scaled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--dataset", "digits", "--steps", "0"], "--rounds must be at least 1, not 0"),
        (["--dataset", "digits", "--batch-size", "0"], "--batch-size must be at least 1, not 0"),
        (["--dataset", "digits", "--device", "abacus"], "--device abacus cannot be used here"),
        (["--dataset", "mnist"], "invalid choice: 'mnist'"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(capsys, arguments, line):
    try:
        status = benchmark.main(arguments)
    except SystemExit as end:
        status = end.code
    error = capsys.readouterr().err.strip()
    assert status == 2 and line in error and "Traceback" not in error
    assert len(error.splitlines()) == 1


def test_a_real_clock_measures_a_positive_time():
    ticks = itertools.count()
    seconds = benchmark.timed(lambda: [math.sqrt(next(ticks)) for _ in range(1000)], CPU)
    assert seconds > 0 and next(ticks) == 1000
