"""One run in several processes under torchrun, here with gloo on the CPU: it must be the run of one process.

Run by torchrun, this file is what the ranks of the fixture `pair` do, all in one launch because a launch takes seconds.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

import recipes
import regularizers
import train
from engine import distributed, files, metrics, runs
from engine.metrics import logits_of
from engine.signals import Stopped
from engine.trainer import CHECKS_TOGETHER, Trainer
from tests.trainings import STEM, assert_same_outcome, outcome

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
# 50 images: three batches of 15, shared as 7 and 8, and one of 5, as 2 and 3
SHARED = {"width": 4, "train_per_class": 5, "batch_size": 15, "epochs": 8}
METHODS = {method: {} for method in regularizers.METHODS} | {"puzzlemix with clean_lam": {"clean_lam": 1.0}}


def resolve(method, **more):
    return recipes.resolve("digits", "preactresnet18", method.partition(" ")[0], **SHARED | more)


def run(recipe, folder):
    return train.run(recipe, data_dir=folder, out=folder, device="cpu", quiet=True)


def batch_norm_frozen(patch):
    """Keep BatchNorm in evaluation mode: its statistics are those of a share, not of the batch."""
    patch.setattr(nn.BatchNorm2d, "train", lambda self, mode=True: nn.Module.train(self, False))


# ---- what two ranks do ----


def trainer_of(recipe, files=None):
    return train.build(recipe, "", torch.device("cpu"), 0, files, 5, quiet=True)


def mean_gradients(trainer, x, y):
    """The gradients of the mean loss over all ranks' images, each rank's taken on the bare network and added up."""
    net, regularizer = trainer.net, trainer.regularizer
    before = trainer.weights()
    regularizer.seed(trainer.recipe.seed, trainer.rank, trainer.epoch, trainer.step)
    regularizer.draw(x, y, net)
    (regularizer.loss(net(x, regularizer.mix)) * len(x)).backward()
    count = torch.tensor(float(len(x)))
    dist.all_reduce(count)
    results = [parameter.grad for parameter in net.parameters()]
    for gradient in results:
        dist.all_reduce(gradient)
        gradient /= count
    net.load_state_dict(before)
    net.zero_grad(set_to_none=True)
    return results


def two_steps(method):
    """Weights after the last two steps of an epoch, the gradients of both and what they should be, a random number."""
    trainer = trainer_of(resolve(method, **METHODS[method]))
    trainer.net.train()
    trainer.step, taken, wanted = 2, [], []
    parameters = list(trainer.net.parameters())
    trainer.optimizer.register_step_pre_hook(lambda *_: taken.append([p.grad.clone() for p in parameters]))
    for x, y in trainer.datasets.train.batches(15, start=2, rank=trainer.rank, world=trainer.world):
        wanted.append(mean_gradients(trainer, x, y))
        trainer.train_step(x, y)
        trainer.step += 1
    random = trainer.regularizer.rng.random()
    return {"weights": trainer.weights(), "taken": taken, "wanted": wanted, "random": random, "losses": trainer.losses}


def loss_not_finite_on_rank_1():
    trainer = trainer_of(resolve("none"), runs.RunFiles("nowhere", resolve("none")))
    if trainer.rank == 1:
        trainer.regularizer.loss = lambda logits: logits.sum() * torch.nan
    trainer.train_step(*next(trainer.datasets.train.batches(15, rank=trainer.rank, world=2)))
    trainer.step = 1
    try:
        trainer.require_finite()
    except files.RunFailed as error:
        return str(error)


def stopped_by_a_signal_to_rank_1(folder):
    """Stop a run after its sixth step by a signal that rank 1 alone gets, and go on with it."""
    real, steps = Trainer.train_step, iter(range(1, 1000))

    def train_step(self, x, y):
        real(self, x, y)
        if next(steps) == 6 and self.rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", train_step)
        try:
            run(resolve("cutmix"), folder / "parts")
        except Stopped as stopped:
            done = next(steps) - 1, stopped.args[0]
    run(resolve("cutmix"), folder / "parts")
    return done


def all_of_it(folder):
    """The work of one rank, whose findings go to folder/rank<k>.pt."""
    distributed.join()
    results = {"methods": {method: two_steps(method) for method in METHODS}}
    results["not finite"] = loss_not_finite_on_rank_1()
    net, test = trainer_of(resolve("none")).net, trainer_of(resolve("none")).datasets.test
    for count in (797, 501):  # the one image of the second's last batch leaves rank 0 without any
        results[count] = metrics.metrics(*logits_of(net, test.limited(count), torch.device("cpu")))
    with distributed.first_on_each_node():
        results["second"] = (folder / "first").exists()
        (folder / "first").touch()
    with pytest.MonkeyPatch.context() as patch:
        batch_norm_frozen(patch)
        run(resolve("none", epochs=3), folder / "frozen")
    run(resolve("cutmix"), folder / "whole")
    run(resolve("patchup_soft"), folder / "whole")
    run(resolve("patchup_soft"), folder / "ended")  # what the fixture `ended` left
    where = {"data_dir": folder, "device": "cpu", "workers": 0, "deterministic": False}
    results["profile"] = train.profile(resolve("none"), folder / "profile", **where)
    results["stopped"] = stopped_by_a_signal_to_rank_1(folder)
    torch.save(results, folder / f"rank{distributed.rank()}.pt")
    distributed.leave()


def fail_on_rank_1(arguments):
    """Train as train.py does, but rank 1 alone meets an unreadable image at the third step."""
    real = Trainer.train_step

    def train_step(self, x, y):
        if self.rank == 1 and self.step == 2:
            raise train.data.DataError("x.png cannot be read as an image")
        real(self, x, y)

    Trainer.train_step = train_step
    return train.main(arguments)


# ---- the tests ----


def torchrun(processes, *command, **options):
    """A started torchrun, its output in one pipe."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launch, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def output(process):
    """What a process printed until its end; one that hangs is killed."""
    try:
        return process.communicate(timeout=600)[0]
    finally:
        process.kill()


def said(script, text):
    """The lines that a script printed of its own, among torchrun's."""
    return [line for line in text.splitlines() if line.startswith(f"{script}: ")]


def command(method, out, *more):
    """The command line of train.py for a run of resolve(method)."""
    given = [f"--{name.replace('_', '-')}={value}" for name, value in SHARED.items()]
    where = ["--dataset=digits", "--model=preactresnet18", f"--method={method}", "--device=cpu", f"--out={out}"]
    return [ROOT / "train.py", *where, *given, *more]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """(folder, output) of a run of two ranks whose torchrun was ended by SIGTERM after two epochs."""
    folder = tmp_path_factory.mktemp("pair")
    process = torchrun(2, *command("patchup_soft", folder / "ended", "--checkpoint-minutes=0"))
    log, deadline = (folder / "ended" / STEM.format("patchup_soft", 0)).with_suffix(".jsonl"), time.monotonic() + 600
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= 2):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    return folder, output(process)


@pytest.fixture(scope="module")
def refusal(ended):
    """What train.py says, in this one process, to the run that two have begun."""
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr(distributed, "tell", said.append)
        assert train.main(list(map(str, command("patchup_soft", ended[0] / "ended")[1:]))) == 2
    return said


@pytest.fixture(scope="module")
def pair(ended, refusal):
    """(the folder where two ranks did all_of_it, what both found)."""
    folder = ended[0]
    text = output(process := torchrun(2, __file__, folder))
    assert process.returncode == 0, text
    return folder, *(torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in (0, 1))


@pytest.mark.parametrize("method", METHODS)
def test_ranks_take_the_step_of_the_whole_batch_and_keep_equal_weights(method, pair):
    first, second = (results["methods"][method] for results in pair[1:])
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
    assert len(first["taken"]) == 2
    for taken, wanted in zip(first["taken"], first["wanted"]):
        scale = max(gradient.abs().max() for gradient in wanted)
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5 * scale) for a, b in zip(taken, wanted))
    assert first["random"] != second["random"], "every rank has random numbers of its own"


def test_two_ranks_without_batch_norm_train_as_one_process(pair, tmp_path, monkeypatch):
    batch_norm_frozen(monkeypatch)
    run(resolve("none", epochs=3), tmp_path)
    alone, shared_run = outcome(tmp_path, "none"), outcome(pair[0] / "frozen", "none")
    assert len(alone[0]) == 3
    for line, shared in zip(alone[0], shared_run[0]):
        assert line == pytest.approx(shared, rel=1e-4, abs=1e-4)
    names = [name for name in alone[1] if "error" in name or "nll" in name]
    assert len(names) >= 8
    assert {n: alone[1][n] for n in names} == pytest.approx({n: shared_run[1][n] for n in names}, rel=1e-4, abs=1e-4)
    assert all(torch.allclose(alone[3][name], shared_run[3][name], rtol=1e-3, atol=1e-5) for name in alone[3])
    assert (alone[1]["processes"], shared_run[1]["processes"]) == (1, 2)


@pytest.mark.parametrize("count", [797, 501])
def test_every_rank_knows_the_metrics_of_all_images(count, pair):
    trainer = trainer_of(resolve("none"))
    alone = metrics.metrics(*logits_of(trainer.net, trainer.datasets.test.limited(count), trainer.device))
    assert pair[1][count] == pair[2][count] == pytest.approx(alone, rel=1e-6)


def test_a_loss_that_is_not_finite_on_one_rank_stops_both(pair):
    for results in pair[1:]:
        assert "the loss is not finite at step 1 of epoch 1" in results["not finite"]


def test_local_rank_0_goes_first(pair):
    assert [results["second"] for results in pair[1:]] == [False, True]


def test_a_signal_to_one_rank_stops_all_at_the_same_step_and_the_run_goes_on_exactly(pair):
    steps, number = pair[1]["stopped"]
    assert pair[2]["stopped"] == (steps, number) and number == signal.SIGUSR1
    assert 6 <= steps <= 6 + CHECKS_TOGETHER, "ranks ask each other every few checks"
    assert_same_outcome(outcome(pair[0] / "whole", "cutmix"), outcome(pair[0] / "parts", "cutmix"))


def test_of_a_profile_rank_0_writes(pair):
    folder, first, _ = pair
    summary = (folder / "profile/summary.txt").read_text()
    assert summary == first["profile"] + "\n" and ", 2 processes, " in summary
    assert sorted(path.name for path in (folder / "profile").iterdir()) == ["summary.txt", "trace.json"]


def test_torchrun_ended_by_a_signal_leaves_a_run_that_goes_on_exactly(ended, pair):
    text = ended[1]
    assert said("train.py", text) == ["train.py: stopped by SIGTERM and saved; the same command goes on from here"], (
        text
    )
    assert text.count("2 processes") == 1 and "test error" not in text
    assert_same_outcome(outcome(pair[0] / "whole", "patchup_soft"), outcome(pair[0] / "ended", "patchup_soft"))


def test_another_number_of_processes_is_refused(refusal):
    assert len(refusal) == 1
    assert (
        "seed0.checkpoint.pt is to be continued by as many processes as it was started with, 2, not 1: " in refusal[0]
    )


def test_a_bad_argument_and_what_one_rank_alone_meets_are_told_once_and_end_all(tmp_path):
    bad = torchrun(2, *command("none", tmp_path / "bad", "--gama=1"))
    failing = torchrun(2, __file__, *command("none", tmp_path / "failing")[1:])
    text = output(bad)
    assert bad.returncode != 0
    assert said("train.py", text) == ["train.py: unrecognized arguments: --gama=1; did you mean --gamma?"], text
    text = output(failing)
    assert failing.returncode != 0
    assert said("test_distributed.py", text) == ["test_distributed.py: x.png cannot be read as an image"], text
    assert "engine.py" not in text, "no rank shows a traceback of ours"


def test_the_imagenet_recipe_on_four_processes(tmp_path):
    from tests.image_files import write_classes  # which the ranks need not load

    wnids = [f"n{i:08}" for i in range(6)]
    for part, count in (("train", 7), ("val", 1)):
        write_classes(tmp_path / "imagenet" / part, wnids, count, (80, 70), "JPEG", len(part))
    given = ["--dataset=imagenet", "--model=resnet50", "--method=patchup_hard", f"--data-dir={tmp_path}"]
    given += ["--image-size=64", "--val-per-class=2", "--epochs=2", "--workers=1", f"--out={tmp_path}"]
    text = output(process := torchrun(4, ROOT / "train.py", *given))
    assert process.returncode == 0, text
    assert text.count("seed 0, 4 processes") == text.count("test error ") == 1
    stem = tmp_path / "imagenet/resnet50/patchup_hard/seed0"
    result = json.loads(Path(f"{stem}.json").read_text())
    lines = [json.loads(line) for line in Path(f"{stem}.jsonl").read_text().splitlines()]
    assert result["processes"] == 4 and result["images"] == {"train": 30, "val": 12, "test": 6}  # 7, 8, 7 and 8
    assert 0 <= result["test_top5_error"] <= result["test_error"] <= 100
    paper = recipes.used(recipes.resolve("imagenet", "resnet50", "patchup_hard"))
    assert (paper["epochs"], paper["batch_size"], paper["milestones"]) == (300, 256, [75, 150, 225])
    changed = {"epochs": 2, "milestones": [1], "image_size": 64, "val_per_class": 2}
    assert result["recipe"] == paper | changed
    assert [line["lr"] for line in lines] == pytest.approx([0.1, 0.01])
    assert all(0 < line["train_loss"] < math.inf for line in lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1].startswith("--"):
        sys.exit(fail_on_rank_1(sys.argv[1:]))
    all_of_it(Path(sys.argv[1]))
