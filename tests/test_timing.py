"""scripts/bench/timing.py: what is timed, in which order, and what is counted as kept, with tiny networks."""

import functools
import itertools
import math
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import recipes
from engine.files import RunFailed
from regularizers import puzzlemix
from scripts.bench import timing

CPU = torch.device("cpu")
TINY = {"width": 4}


def case_of(method, dataset="cifar100", kind=timing.Case, **options):
    return kind(recipes.resolve(dataset, "preactresnet18", method, **TINY | options), CPU)


# ---- the clock ----


def test_a_real_clock_measures_a_positive_time_of_as_many_calls_as_asked():
    ticks = itertools.count()
    seconds = timing.timed(lambda: [math.sqrt(next(ticks)) for _ in range(1000)], CPU, calls=3)
    assert seconds > 0 and next(ticks) == 3000


@pytest.mark.parametrize("queued", [False, True])
def test_a_gpu_is_timed_by_events_around_several_calls(monkeypatch, queued):
    order = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            order.append("event")

        def elapsed_time(self, end):
            return 40.0  # ms

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: order.append("wait"))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: order.append("sleep"), raising=False)
    cuda = torch.device("cuda")
    assert timing.timed(lambda: order.append("step"), cuda, timing.CALLS["cuda"], queued) == 0.040 / 20
    assert order == ["wait", *["sleep"] * queued, "event", *["step"] * 20, "event", "wait"]


def test_rounds_on_a_gpu_tell_a_ratio_of_1_03_from_1():
    steps = timing.ROUNDS["cuda"] * timing.CALLS["cuda"]
    deviation = 0.1  # of one step, where launching is the bottleneck
    assert 2 * 1.25 * deviation * (2 / steps) ** 0.5 < 0.015  # two errors of a ratio of medians


def test_functions_take_turns_and_the_first_round_does_not_count(monkeypatch):
    seconds = {"first": iter((90.0, 1.0, 2.0, 7.0)), "other": iter((90.0, 6.0, 4.0, 5.0))}
    order = []
    monkeypatch.setattr(timing, "timed", lambda function, device, calls, queued: next(seconds[function()]))
    calls = {name: lambda name=name: order.append(name) or name for name in seconds}
    assert timing.medians(calls, CPU, 3) == {"first": 2.0, "other": 5.0}
    assert order == ["first", "other"] * 4


def test_functions_of_a_module_are_clocked_and_then_as_they_were(monkeypatch):
    before = puzzlemix.largest_divisor
    monkeypatch.setattr(timing, "timed", lambda function, device: function() or 0.25)
    with pytest.raises(ZeroDivisionError), timing.clocked(puzzlemix, ("largest_divisor",), CPU) as seconds:
        assert puzzlemix.largest_divisor(12, 5) == 4 and puzzlemix.largest_divisor(12, 7) == 6
        assert seconds == [0.25, 0.25]
        raise ZeroDivisionError
    assert puzzlemix.largest_divisor is before


# ---- memory ----


def test_what_a_product_keeps_are_its_factors():
    a, b = (torch.rand(10, 6, requires_grad=True) for _ in range(2))
    assert timing.kept_bytes(lambda: [a * b]) == timing.kept_bytes(lambda: [(a * b).sum() + 1]) == 2 * 240
    assert timing.kept_bytes(lambda: [a + b]) == 0


def test_views_keep_the_whole_alive_and_count_once():
    a, whole = torch.rand(3, requires_grad=True), torch.rand(100, 3)
    assert timing.kept_bytes(lambda: [a * whole[0], a * whole[1]]) == 1200


def test_what_a_function_of_python_keeps_on_its_context_counts_too():
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.factor = factor.clone()
            return x * factor

        @staticmethod
        def backward(ctx, gradient):
            return gradient * ctx.factor, None

    x, factor = torch.rand(5, requires_grad=True), torch.rand(5)
    assert timing.kept_bytes(lambda: [Scale.apply(x, factor).sin().exp()]) == 3 * 20


# ---- what is timed ----


def test_every_method_is_timed_at_work_and_those_that_draw_a_layer_once_for_each():
    cases = timing.at_work("wrn28_10", batch_size=7, gamma=0.3)
    assert {recipe.method for recipe in cases.values()} == set(recipes.LABELS)
    for method in ("patchup_soft", "patchup_hard", "manifold_mixup", "feature_cutmix"):
        assert [cases[f"{method} k={k}"].layers for k in range(4)] == [(0,), (1,), (2,), (3,)]
    assert cases["patchup_hard k=1"].prob == cases["cutmix"].prob == 1.0
    assert cases["dropblock"] == recipes.resolve("cifar100", "wrn28_10", "dropblock", batch_size=7)
    assert {recipe.batch_size for recipe in cases.values()} == {7}
    assert cases["patchup_soft k=0"].gamma == 0.3 and cases["none"].gamma is None
    chosen = timing.at_work("preactresnet18", ("none", "patchup_soft"), layers=(2, 4), prob=0.5)
    assert list(chosen) == ["none", "patchup_soft k=2", "patchup_soft k=4"]
    assert chosen["patchup_soft k=4"].layers == (4,) and chosen["patchup_soft k=4"].prob == 0.5


@pytest.mark.parametrize("method", recipes.LABELS)
def test_a_step_trains_the_network_on_images_of_the_data_sets_shape_with_new_draws(method):
    case = case_of(method, "tiny_imagenet", batch_size=4)
    assert case.x.shape == (4, 3, 64, 64) and case.y.max() < 200
    before = [p.clone() for p in case.net.parameters()]
    partners = []
    for _ in range(8):
        case.step()
        partners.append(tuple(getattr(case.regularizer, "partner", torch.arange(4)).tolist()))
    assert case.net.training and not any(torch.equal(a, b) for a, b in zip(before, case.net.parameters()))
    assert all(torch.isfinite(p).all() for p in case.net.parameters())
    assert method in ("none", "cutout", "dropblock") or len(set(partners)) > 1


@pytest.mark.parametrize("method, k", [("patchup_soft", 1), ("dropblock", 1), ("feature_cutmix", 2)])
def test_a_methods_own_operations_run_alone_on_the_real_shapes(method, k):
    case = case_of(method, batch_size=3, **recipes.applicable(method, {"prob": 1.0, "layers": (k,)}))
    hidden, gradients = case.hidden()
    assert [tuple(h.shape) for h in hidden.values()][:3] == [(3, 3, 32, 32), (3, 4, 32, 32), (3, 4, 32, 32)]
    assert [h.requires_grad for h in hidden.values()] == [False] + [True] * 5
    operations, backward = case.operations(hidden, gradients), []
    hidden[k].register_hook(backward.append)
    operations.draw()
    assert list(operations.mix()) == [k]
    operations.run()
    assert len(backward) == 1 and backward[0].shape == hidden[k].shape
    assert all(p.grad is None for p in case.net.parameters())


def test_hidden_states_have_the_type_and_layout_of_a_training_step():
    hidden, gradients = case_of("none", batch_size=2, channels_last=True, amp="bf16").hidden()
    for k in (1, 2, 3):
        for tensor in (hidden[k], gradients[k]):
            assert tensor.dtype == torch.bfloat16 and tensor.is_contiguous(memory_format=torch.channels_last)
    hidden, _ = case_of("none", batch_size=2, channels_last=False).hidden()
    assert all(h.dtype == torch.float32 and h.is_contiguous() for h in hidden.values())


def test_mixing_keeps_little_and_the_saliency_pass_nothing():
    for method in ("patchup_hard", "patchup_soft"):
        case = case_of(method, batch_size=50, prob=1.0, layers=(1,))
        assert 0 < case.operations(*case.hidden()).kept() < 0.1 * 50 * 4 * 32 * 32 * 4
    case = case_of("puzzlemix", batch_size=2)
    assert case.operations(*case.hidden()).kept() == 0


def test_the_cut_and_the_transport_of_puzzle_mix_are_timed_together(monkeypatch):
    seconds = {"best_mask": 0.5, "transport_plan": 2.0}
    names = []

    def timed(function, device):
        function()
        return seconds[names.pop()]

    for name in seconds:
        function = getattr(puzzlemix, name)
        monkeypatch.setattr(
            puzzlemix, name, lambda *a, name=name, function=function: names.append(name) or function(*a)
        )
    monkeypatch.setattr(timing, "timed", timed)
    case = case_of("puzzlemix", batch_size=2)
    assert timing.solver_seconds(case.operations(*case.hidden()), CPU, 3) == 2.5


class Calls(TorchDispatchMode):
    """The names of all operations within it."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(str(function))
        return function(*args, **(kwargs or {}))


def test_the_official_step_is_the_same_training_with_separate_relus():
    cases = {kind: case_of("none", batch_size=4, kind=kind) for kind in (timing.Case, timing.Official)}
    weights = cases[timing.Case].net.state_dict()
    cases[timing.Official].net.load_state_dict({name: value.clone() for name, value in weights.items()})
    called = {}
    for kind, case in cases.items():
        with Calls() as calls:
            case.step()
        called[kind] = calls.names
    for weights in zip(*(case.net.state_dict().values() for case in cases.values())):
        torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)
    assert "aten.relu_.default" in called[timing.Case] and "aten.relu_.default" not in called[timing.Official]
    assert any("fused_sgd" in name for name in called[timing.Case] - called[timing.Official])
    x = -torch.ones(2)
    F.relu(x, inplace=True)
    assert x.tolist() == [0, 0]  # as it was before


@pytest.mark.slow
def test_functions_in_processes_of_their_own_take_turns(tmp_path):
    log = tmp_path / "log"
    command = f"echo $PPID >> {log}"
    makers = dict.fromkeys(("first", "other"), (functools.partial, (os.system, command)))
    seconds = timing.medians_apart(makers, CPU, rounds=2)
    assert list(seconds) == ["first", "other"] and min(seconds.values()) > 0
    processes = log.read_text().split()
    assert processes == processes[:2] * 3 and len({*processes, str(os.getpid())}) == 3


# ---- on a GPU ----


def tiny_recipe():
    return recipes.resolve("digits", "preactresnet18", "none", width=4, batch_size=2)


@pytest.fixture
def modes(monkeypatch):
    """The modes that torch.cuda.set_sync_debug_mode was set to."""
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    return modes


def test_the_peak_is_that_of_steps_alone(monkeypatch):
    events = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: events.append("reset"))
    monkeypatch.setattr(timing, "peak_memory", lambda device: events.append("read") or 70)
    monkeypatch.setattr(timing, "synchronisations", lambda case: events.append("waits") or 2.0)
    case = SimpleNamespace(device=torch.device("cuda"), step=lambda: events.append("step"))
    assert timing.counts(case) == {"peak_memory_mib": 70, "synchronisations": 2.0}
    assert events == ["reset", *["step"] * 20, "read", "waits"]


def test_waits_of_steps_within_an_epoch_are_counted_and_other_warnings_are_not(monkeypatch, modes):
    case, steps = timing.Case(tiny_recipe(), CPU), []

    def train_step(x, y):
        assert x.shape == (2, 3, 32, 32)
        steps.append(modes[-1] if modes else "default")
        for _ in range(2 if case.trainer.epoch % 2 else 1):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("debug mode is a prototype and does not detect all synchronizing operations", stacklevel=1)

    monkeypatch.setattr(case.trainer, "train_step", train_step)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert timing.synchronisations(case) == 1.5
    assert steps == ["default", "warn", "warn"] * timing.WAIT_EPOCHS
    assert modes == ["warn", "default"] * timing.WAIT_EPOCHS


def test_the_mode_is_left_when_a_step_fails(monkeypatch, modes):
    case, steps = timing.Case(tiny_recipe(), CPU), iter([None])
    monkeypatch.setattr(case.trainer, "train_step", lambda x, y: next(steps))
    with pytest.raises(StopIteration):
        timing.synchronisations(case)
    assert modes == ["warn", "default"]


@pytest.mark.slow
def test_several_runs_at_once_are_counted_together():
    assert timing.images_a_second(tiny_recipe(), CPU, 2, seconds=0.2) > 0


def test_one_run_that_fails_ends_the_others_too_and_is_the_one_that_is_named(monkeypatch):
    def threads(count, mp_context, **options):
        return ThreadPoolExecutor(count, **options)

    def case(recipe, device, graphs):
        if next(started) == 1:
            raise torch.OutOfMemoryError("no more memory")
        return real(recipe, device, graphs=graphs)

    real, started = timing.Case, itertools.count()
    monkeypatch.setattr(timing.concurrent.futures, "ProcessPoolExecutor", threads)
    monkeypatch.setattr(timing, "Case", case)
    with pytest.raises(RunFailed, match="3 runs at once cannot be on cpu: no more memory"):
        timing.images_a_second(tiny_recipe(), CPU, 3)
