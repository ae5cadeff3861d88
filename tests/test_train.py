"""Training as a whole: what it measures, what decides it, precision and memory formats."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import recipes
import train
from engine import metrics
from engine.trainer import compile_stages, learning_rate
from models.staged import StagedNet
from regularizers.mixup import ManifoldMixup
from tests.trainings import TINY, assert_same_outcome, outcome

# ---- what is measured ----


def test_metrics_equal_loops():
    logits = torch.randn(200, 4, generator=torch.Generator().manual_seed(0)) * 2
    labels = torch.randint(4, (200,), generator=torch.Generator().manual_seed(1))
    p = logits.double().softmax(dim=1).numpy()
    wrong, nll, brier, bins = 0, 0.0, 0.0, {}
    for row, label in zip(p, labels.tolist()):
        wrong += row.argmax() != label
        nll -= math.log(row[label])
        brier += sum((row[c] - (c == label)) ** 2 for c in range(4))
        index = min(math.ceil(row.max() * 15), 15)
        bins.setdefault(index, []).append((row.max(), row.argmax() == label))
    ece = sum(len(b) / 200 * abs(np.mean([c for c, _ in b]) - np.mean([r for _, r in b])) for b in bins.values())
    measured = metrics.metrics(logits, labels)
    assert measured == pytest.approx({"error": wrong / 2, "nll": nll / 200, "ece": ece, "brier": brier / 200})


def test_top5_error_counts_labels_behind_five_others():
    logits = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(8, (100,), generator=torch.Generator().manual_seed(1))
    behind = sum(sum(value > row[label] for value in row) >= 5 for row, label in zip(logits.tolist(), labels.tolist()))
    assert 0 < behind < 100
    assert metrics.metrics(logits, labels)["top5_error"] == pytest.approx(behind)
    assert "top5_error" not in metrics.metrics(logits[:, :5], labels % 5)


def test_learning_rate_follows_the_schedule():
    step = recipes.resolve("cifar10", "wrn28_10", "none")
    rates = [learning_rate(step, epoch + 0.5) for epoch in range(400)]
    assert rates == pytest.approx([0.1] * 200 + [0.01] * 100 + [0.001] * 100)
    cosine = recipes.resolve("cifar10", "wrn28_10", "none", schedule="cosine", epochs=10)
    assert learning_rate(cosine, 0) == pytest.approx(0.1)
    assert learning_rate(cosine, 2.5) == pytest.approx(0.05 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(cosine, 10) == pytest.approx(0)


def test_result_says_what_was_run_and_measured(train_anew, tmp_path):
    result = train_anew("patchup_soft")
    stored = json.loads((tmp_path / "runs/digits/preactresnet18/patchup_soft/seed0.json").read_text())
    assert stored == result
    for metric in ("error", "nll", "ece", "brier", "top5_error"):
        assert f"test_{metric}" in stored and f"last_epoch_test_{metric}" in stored
    assert stored["recipe"]["gamma"] == 0.75 and stored["recipe"]["layers"] == [0, 1, 2]
    assert "keep_prob" not in stored["recipe"], "fields of other methods are not part of it"
    assert stored["images"] == {"train": 40, "val": 100, "test": 797}
    assert stored["parameters"] > 1000 and stored["peak_memory_mib"] > 50
    assert stored["environment"]["torch"] == torch.__version__


def test_best_epoch_is_chosen_on_validation_and_tested(train_anew, tmp_path):
    result = train_anew(epochs=4)
    lines, _, best, last = outcome(tmp_path / "runs")
    errors = [line["val_error"] for line in lines]
    assert result["best_epoch"] == errors.index(min(errors)) + 1 and result["val_error"] == min(errors)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    recipe = recipes.resolve("digits", "preactresnet18", "none", **TINY | {"epochs": 4})
    datasets, net = recipes.objects(recipe, tmp_path)
    for weights, name in ((best, "test"), (last, "last_epoch_test")):
        net.load_state_dict(weights)
        measured = metrics.metrics(*metrics.logits_of(net, datasets.test, torch.device("cpu")))
        assert measured["error"] == result[f"{name}_error"]
        assert measured["nll"] == pytest.approx(result[f"{name}_nll"], rel=1e-6)
    net.load_state_dict(best)
    augmented = metrics.logits_of(net, datasets.val.augmented(), torch.device("cpu"), epoch=result["best_epoch"] - 1)
    assert metrics.metrics(*augmented)["error"] == result["augmented_val_error"]


def test_augmented_val_error_is_val_error_where_validation_is_augmented(train_anew, tmp_path):
    clean = train_anew(out=tmp_path / "clean", epochs=4, padding=8)
    augmented = train_anew(out=tmp_path / "augmented", epochs=4, padding=8, augment_val=True)
    assert augmented["augmented_val_error"] == augmented["val_error"]
    assert clean["augmented_val_error"] != clean["val_error"]


def test_training_learns(train_anew):
    assert train_anew(epochs=8, width=8, train_per_class=20, val_per_class=2)["test_error"] < 40  # chance is 90


def test_global_generators_do_not_matter(train_anew, tmp_path):
    for noise in (1, 2):
        torch.manual_seed(noise)
        np.random.seed(noise)
        train_anew("patchup_hard", out=tmp_path / str(noise))
    assert_same_outcome(outcome(tmp_path / "1", "patchup_hard"), outcome(tmp_path / "2", "patchup_hard"))


def test_seeds_differ(train_anew):
    assert train_anew(seed=0)["test_nll"] != train_anew(seed=1)["test_nll"]


# ---- precision and memory formats ----


def test_bf16_and_channels_last_runs_come_close(train_anew, tmp_path):
    options = {"epochs": 5, "width": 8, "train_per_class": 20, "val_per_class": 2}
    plain = train_anew(out=tmp_path / "plain", **options)["test_nll"]
    for name, change in {"bf16": {"amp": "bf16"}, "last": {"channels_last": True}}.items():
        assert train_anew(out=tmp_path / name, **options, **change)["test_nll"] == pytest.approx(plain, abs=0.35)


def test_compiled_stages_equal_eager_ones_and_keep_their_names():
    net = StagedNet(
        [nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))]
    )
    x, names = torch.randn(3, 3, 8, 8), list(net.state_dict())
    mix = ManifoldMixup(5, layers=(1,))
    mix.draw(x, torch.tensor([0, 1, 2]), net)
    plain, mixed = net(x), net(x, mix.mix)
    compile_stages(net)
    mix.compile()
    assert list(net.state_dict()) == names
    assert torch.allclose(net(x), plain, atol=1e-5) and torch.allclose(net(x, mix.mix), mixed, atol=1e-5)


@pytest.mark.parametrize(
    "steps, batch_size, end",
    [
        (1, 100, "1 step an epoch: a lower --batch-size gives more"),
        (1, 66, "1 step an epoch"),
        (7, 10, "7 steps an epoch"),
    ],
)
def test_images_and_steps_are_told(steps, batch_size, end):
    images = {"train": 66, "val": 6, "test": 18}
    recipe = SimpleNamespace(batch_size=batch_size)
    trainer = SimpleNamespace(image_counts=lambda: images, steps=steps, recipe=recipe)
    assert train.counts(trainer) == f"images: 66 train, 6 val, 18 test; {end}"
