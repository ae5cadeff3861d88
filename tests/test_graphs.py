"""Graphed steps on the CPU: all that a graph would read lies in tensors, where they were when it was recorded."""

import contextlib
import copy

import pytest
import torch

import recipes
import train
from engine import graphs
from engine.files import BadInput
from engine.runs import RunFiles
from engine.signals import StopSignals
from tests.trainers import random_trainer


class Frozen:
    """Stands in for graphs.Recorder: replays a function with the regularizer's attributes as they were at recording.

    As a graph does, it sees later draws only where they were written into the tensors that it was recorded with.
    """

    def __init__(self, regularizer):
        self.regularizer, self.recorded, self.replayed = regularizer, 0, 0

    def warm_up(self):
        return contextlib.nullcontext()

    def __call__(self, function):
        self.recorded += 1
        then = {name: self.frozen(name, value) for name, value in vars(self.regularizer).items()}

        def replay():
            self.replayed += 1
            vars(self.regularizer).update(then)
            return function()

        return replay

    @staticmethod
    def frozen(name, value):
        """Host state as a copy, tensors and the generators, which graphs know, as they are."""
        shared = isinstance(value, torch.Tensor) or name == "generators"
        return value if shared else copy.deepcopy(value)


def trained(method, graphed, steps=24, **options):
    """The weights after some steps of tiny batches, one of them smaller, and the stand-in for the recorder."""
    recipe = recipes.resolve("cifar100", "preactresnet18", method, batch_size=4, width=4, lr=0.01, **options)
    trainer, losses = random_trainer(recipe, recorder=Frozen if graphed else None), []
    for epoch in range(steps // 3):
        trainer.epoch, trainer.step = epoch, 0
        for x, y in trainer.datasets.train.batches(4, "cpu", epoch=epoch):
            short = slice(2 if epoch % 4 == 3 else 4)
            trainer.train_step(x[short], y[short])
            losses.append(trainer.losses[:, trainer.step].tolist())
            trainer.step += 1
    return losses, trainer.net.state_dict(), trainer.graphed and trainer.graphed.record


GRAPHED = {
    "none": 1,
    "mixup": 1,
    "manifold_mixup": 3,
    "cutout": 1,
    "dropblock": 1,
    "cutmix": 2,
    "puzzlemix": 2,
    "patchup_soft": 3,
    "patchup_hard": 4,
}


@pytest.mark.parametrize("method, least", GRAPHED.items())
def test_graphed_steps_train_as_others_bit_for_bit(method, least):
    options = {"patchup_hard": {"prob": 0.7}, "cutmix": {"prob": 0.5}}.get(method, {})
    options["steps"] = 24 + 9 * least
    losses, wanted, _ = trained(method, graphed=False, **options)
    graphed_losses, graphed, recorder = trained(method, graphed=True, **options)
    assert recorder.recorded >= least and recorder.replayed > 10 * least / 2
    assert graphed_losses == losses
    assert all(torch.equal(graphed[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    "method, options",
    [
        ("patchup_soft", {"layers": (0,), "input_mask": "patchup"}),
        ("patchup_soft", {"mask_per": "sample"}),
        ("patchup_hard", {"loss_terms": "official_second"}),
        ("cutout", {"mask_per": "sample"}),
        ("puzzlemix", {"transport": False}),
    ],
)
def test_so_do_the_methods_other_ways(method, options):
    losses, _, _ = trained(method, graphed=False, **options)
    graphed, _, recorder = trained(method, graphed=True, **options)
    assert recorder.replayed > 0 and graphed == losses


@pytest.mark.parametrize("method, options", [("feature_cutmix", {}), ("puzzlemix", {"clean_lam": 1.0})])
def test_what_cannot_be_recorded_is_run_from_python(method, options):
    losses, _, _ = trained(method, graphed=False, **options)
    graphed, _, recorder = trained(method, graphed=True, **options)
    assert recorder.recorded == 0 and graphed == losses


def test_the_stand_in_would_notice_a_draw_that_stays_on_the_host():
    class Leaky(type(recipes.regularizer(recipes.resolve("cifar100", "preactresnet18", "mixup"), 100))):
        name = "leaky"

        def draw(self, x, y, net):
            super().draw(x, y, net)
            self.lam = self.lam.item()

    regularizer = Leaky(100)
    step = graphs.GraphedStep(regularizer, Frozen(regularizer))
    x, y = torch.randn(4, 3, 8, 8), torch.arange(4)
    equal = []
    for number in range(8):
        regularizer.seed(number)
        graphed = step(x, y, lambda x, y: regularizer.draw(x, y, None), lambda x: regularizer.mix(0, x))
        plain = Leaky(100)
        plain.seed(number)
        plain.draw(x, y, None)
        equal.append(torch.equal(graphed, plain.mix(0, x)))
    assert equal[: graphs.WARM_UP] == [True] * graphs.WARM_UP
    assert not all(equal)


def test_graphs_need_a_gpu(tmp_path):
    recipe = recipes.resolve("digits", "preactresnet18", "none", width=4)
    with pytest.raises(BadInput, match="--graphs is for one process on a CUDA device"):
        train.run(recipe, data_dir=tmp_path, out=tmp_path, device="cpu", graphs=True, quiet=True)


def stopped_and_continued(tmp_path, first, then):
    """The weights after two epochs, stopped after one; first, then: whether the parts are graphed."""
    recipe = recipes.resolve("digits", "preactresnet18", "patchup_soft", width=4, epochs=2, batch_size=4)
    files = RunFiles(tmp_path, recipe)
    files.stem.parent.mkdir(parents=True, exist_ok=True)
    for graphed in (first, then):
        trainer = random_trainer(recipe, 10, files, Frozen if graphed else None)
        trainer.resume()
        trainer.signals = StopSignals()
        trainer.bar = trainer.progress()
        trainer.train_epoch()
        rates = {id(group["lr"]) for group in trainer.optimizer.param_groups}
        trainer.finish_epoch()
        trainer.save()
        assert isinstance(trainer.optimizer.param_groups[0]["lr"], torch.Tensor) == graphed
        trainer.set_learning_rate(0.125)
        if graphed:
            assert rates == {id(group["lr"]) for group in trainer.optimizer.param_groups}
    return trainer.net.state_dict()


@pytest.mark.parametrize("first, then", [(True, True), (True, False), (False, True)])
def test_a_run_goes_on_with_graphs_and_without(tmp_path, first, then):
    plain = stopped_and_continued(tmp_path / "plain", False, False)
    graphed = stopped_and_continued(tmp_path / "graphed", first, then)
    assert all(torch.equal(graphed[name], plain[name]) for name in plain)


def test_a_graph_is_not_taken_apart(tmp_path, capsys):
    run = ["--dataset", "digits", "--model", "preactresnet18", "--method", "none", "--profile", str(tmp_path)]
    assert train.main([*run, "--graphs"]) == 2
    assert capsys.readouterr().err.count("--profile takes steps apart, which a graph has not: leave out --graphs") == 1
    assert not list(tmp_path.iterdir())
