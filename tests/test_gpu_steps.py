"""What training steps do on a GPU alone, as far as a CPU shows it."""

import contextlib
import gc
import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import recipes
from engine import distributed, graphs, trainer
from engine.files import RunFailed
from tests.trainers import random_trainer


def trainer_of(method="none", recorder=None, **options):
    """A Trainer of a tiny network on random images, and its first batch."""
    options = {"width": 4, "batch_size": 4, "lr": 0.01} | options
    recipe = recipes.resolve("cifar100", "preactresnet18", method, **options)
    training = random_trainer(recipe, recorder=recorder)
    return training, next(training.datasets.train.batches(4, "cpu"))


# ---- fp16 ----


def test_fp16_steps_are_fused_and_their_first_is_that_of_others():
    plain, batch = trainer_of(amp="off")
    scaled, _ = trainer_of(amp="fp16")
    assert scaled.optimizer.defaults["fused"]
    gradients = [torch.randn_like(parameter) for parameter in plain.net.parameters()]
    for trained in (plain, scaled):
        for _ in range(2):
            for parameter, gradient in zip(trained.net.parameters(), gradients):
                parameter.grad = gradient.clone()
            trained.optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(plain.net.parameters(), scaled.net.parameters()))


def test_a_first_fp16_step_that_overflows_is_skipped_and_leaves_no_garbage():
    training, batch = trainer_of(amp="fp16")
    before = training.weights()
    training.scaler = torch.amp.GradScaler("cpu", init_scale=1e30)
    training.train_step(*batch)
    assert training.scaler.get_scale() < 1e30
    moments = [training.optimizer.state[parameter]["momentum_buffer"] for parameter in training.net.parameters()]
    assert not any(moment.any() for moment in moments)
    parameters = dict(training.net.named_parameters())
    assert all(torch.equal(parameters[name], before[name]) for name in parameters)


def test_an_fp16_overflow_in_the_forward_pass_is_skipped_and_training_goes_on():
    training, (x, y) = trainer_of(amp="fp16")
    before = training.weights()
    training.train_step(x * 1e6, y)  # beyond 65504 after the first convolution
    training.step = 1
    assert not training.losses[:, 0].isfinite().any()
    after = training.weights()
    assert all(torch.equal(after[name], before[name]) for name in before if "num_batches_tracked" not in name)
    training.train_step(x, y)
    training.step = 2
    training.require_finite()
    assert training.losses[:, 1].isfinite().all() and min(training.mean_losses().values()) > 0


@pytest.mark.parametrize("amp, overflows, fails", [("fp16", 7, False), ("fp16", 8, True), ("off", 1, True)])
def test_a_run_fails_after_several_overflows_in_a_row_with_fp16_after_one_without(amp, overflows, fails, tmp_path):
    training, _ = trainer_of(amp=amp)
    training.files = type("Files", (), {"checkpoint": tmp_path / "none"})
    training.losses = torch.ones(2, 20)
    training.losses[:, 3] = training.losses[:, 5 : 5 + overflows] = torch.nan if amp == "fp16" else 1
    if amp == "off":
        training.losses[:, 5] = torch.inf
    training.step = 20
    refusal = pytest.raises(RunFailed, match="the loss is not finite at step 6 of epoch 1")
    with refusal if fails else contextlib.nullcontext():
        training.require_finite()


def test_a_run_fails_whose_gradients_overflow_however_little_the_loss_is_scaled(tmp_path):
    training, batch = trainer_of(amp="fp16")
    training.files = type("Files", (), {"checkpoint": tmp_path / "none"})
    training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    next(training.net.parameters()).register_hook(lambda gradient: gradient * torch.inf)
    training.train_step(*batch)
    training.require_finite()
    training.train_step(*batch)
    training.step = 2
    with pytest.raises(RunFailed, match="the gradients are not finite at step 2 of epoch 1 .* or --amp bf16"):
        training.require_finite()


# ---- graphs ----


@pytest.mark.parametrize("graphed", [False, True])
def test_on_a_gpu_the_rate_is_a_float32_with_graphs_and_without(graphed):
    training, _ = trainer_of(recorder=Replayed if graphed else None)
    training.device = torch.device("cuda", 0)
    wanted = float(np.float32(1 / 3))
    if graphed:
        training.optimizer.param_groups[0]["lr"] = torch.tensor(0.0)
    training.set_learning_rate(1 / 3)
    assert float(training.optimizer.param_groups[0]["lr"]) == wanted != 1 / 3


def test_on_a_cpu_the_rate_stays_as_it_is():
    training, _ = trainer_of()
    training.set_learning_rate(1 / 3)
    assert training.optimizer.param_groups[0]["lr"] == 1 / 3


class Replayed:
    """Stands in for a graphs.Recorder, which keeps a graph but not the function that it recorded."""

    def __init__(self, regularizer):
        pass

    def warm_up(self):
        return contextlib.nullcontext()

    def __call__(self, function):
        loss = function()
        return lambda: loss


def test_a_graphed_trainer_is_gone_as_soon_as_nobody_needs_it():
    training, batch = trainer_of(recorder=Replayed)
    for _ in range(graphs.WARM_UP + 2):
        training.train_step(*batch)
    alive = weakref.ref(training.net)
    gc.collect()
    gc.disable()
    try:
        del training
        assert alive() is None
    finally:
        gc.enable()


def test_other_threads_may_allocate_pinned_memory_while_a_step_is_recorded(monkeypatch):
    given = {}

    @contextlib.contextmanager
    def graph(graph, **options):
        given.update(options)
        yield

    for name, stand_in in {"CUDAGraph": object, "Stream": object, "graph_pool_handle": object, "graph": graph}.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    graphs.Recorder({})(lambda: None)
    assert given["capture_error_mode"] == "thread_local"


# ---- compiled stages ----


def test_no_compiled_stage_is_of_unknown_sizes(monkeypatch):
    dynamic = []

    def backend(module, inputs):
        sizes = [size for tensor in inputs if isinstance(tensor, torch.Tensor) for size in tensor.shape]
        dynamic.append(any(isinstance(value, torch.SymInt) for value in (*inputs, *sizes)))
        return module.forward

    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: compiled(function, backend=backend, **options))
    torch._dynamo.reset()
    recipe = recipes.resolve("cifar100", "preactresnet18", "none", width=4)
    net = recipes.network(recipe, 10)
    trainer.compile_stages(net)
    for size in (4, 3, 2):
        net(torch.randn(size, 3, 32, 32))
    torch._dynamo.reset()
    assert len(dynamic) == 3 * len(net.stages) and not any(dynamic)


# ---- several processes ----


def test_ranks_ask_each_other_for_signals_at_some_steps_alone(monkeypatch):
    training, _ = trainer_of()
    training.world, asked = 2, []
    training.signals = type("Signals", (), {"received": None})
    monkeypatch.setattr(distributed, "highest", lambda number: asked.append(number) or 0)
    for _ in range(30):
        training.check()
    assert len(asked) == 3
    training.world = 1
    training.check()
    assert len(asked) == 4


class Launches(TorchDispatchMode):
    """Counts the operations that copy."""

    def __init__(self):
        super().__init__()
        self.copies = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.copies += "copy" in str(function)
        return function(*arguments, **(options or {}))


def test_statistics_come_from_rank_0_in_one_go(monkeypatch):
    net = recipes.network(recipes.resolve("cifar100", "preactresnet18", "none", width=4), 100)
    wanted = [torch.randn_like(tensor) for tensor in distributed.statistics(net)]
    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "broadcast", lambda flat, src: flat.copy_(distributed.flat(wanted)))
    with Launches() as launches:
        distributed.follow_rank_0(net)
    assert launches.copies == 2  # the broadcast's here, and one into all of them
    assert all(torch.equal(tensor, value) for tensor, value in zip(distributed.statistics(net), wanted))
