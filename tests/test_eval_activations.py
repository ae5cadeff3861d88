"""Magnitudes of activations: against loops over single images, interrupted and continued, on all networks, drawn."""

import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import data
import eval_activations
import models
import recipes
from engine import files
from eval_activations import Activations
from scripts.figures import evaluated
from tests.table_grids import grid_of
from tests.trainings import record

STAGES = ["conv1", "layer1", "layer2", "layer3", "layer4"]
RUN = "digits/preactresnet18/none/seed0"


def evaluate(tmp_path, *given, data_dir=None):
    """The exit status of eval_activations.py."""
    arguments = [*map(str, given), "--data-dir", str(data_dir or tmp_path), "--device", "cpu", "--workers", "0"]
    return eval_activations.main(arguments)


def outputs(path, rows):
    """Of every image of digits in rows, the outputs [C, H, W] of all stages but the head, image by image."""
    state = torch.load(path, weights_only=True)
    net = recipes.network(recipes.restore(state["recipe"]), 10).eval()
    net.load_state_dict(state["net"])
    images = data.load("digits", ".", seed=0, val_per_class=10).test.images
    for row in rows:
        x, measured = images[row : row + 1].float() / 127.5 - 1, {}
        for name, stage in zip(STAGES, net.stages):
            with torch.no_grad():
                x = stage(x)
            measured[name] = x[0].double().numpy()
        yield measured


def test_means_equal_a_loop_over_single_images(tmp_path, train_tiny):
    train_tiny()
    assert evaluate(tmp_path, tmp_path / "runs", "--limit", 130) == 0
    measured, arrays = record(tmp_path, "activations-limit130")
    magnitude, relu = {}, {}
    for maps in outputs(tmp_path / "runs" / f"{RUN}.best.pt", arrays["rows"]):
        for stage, a in maps.items():
            magnitude.setdefault(stage, []).append([np.abs(channel).mean() for channel in a])
            relu.setdefault(stage, []).append([channel.clip(min=0).mean() for channel in a])
    assert list(measured["curves"]) == STAGES
    for stage in STAGES:
        for measure, values in (("magnitude", magnitude[stage]), ("relu", relu[stage])):
            expected = np.mean(values, axis=0)
            np.testing.assert_allclose(arrays[f"{stage}/{measure}"], expected, rtol=1e-5)
            assert measured["curves"][stage][measure] == sorted(arrays[f"{stage}/{measure}"], reverse=True)
    assert [len(measured["curves"][stage]["magnitude"]) for stage in STAGES] == [4, 4, 8, 16, 32]


def test_official_equals_a_restatement_of_the_script(tmp_path, train_tiny):
    train_tiny()
    assert evaluate(tmp_path, tmp_path / "runs", "--official", "--limit", 250) == 0
    measured, arrays = record(tmp_path, "activations-official-limit250")
    firsts = arrays["rows"][[0, 100, 200]]
    sums = dict.fromkeys(STAGES, 0)
    for maps in outputs(tmp_path / "runs" / f"{RUN}.best.pt", firsts):
        for stage, a in maps.items():
            sums[stage] = sums[stage] + a.sum((1, 2))
    for stage in STAGES:
        expected = sums[stage] / 250
        np.testing.assert_allclose(arrays[f"{stage}/magnitude"], expected, rtol=1e-4, atol=1e-6)
        assert f"{stage}/relu" not in arrays
    assert min(measured["curves"]["layer1"]["magnitude"]) < 0


def test_independent_of_batch_size(tmp_path, train_tiny, monkeypatch):
    train_tiny()
    assert evaluate(tmp_path, tmp_path / "runs", "--limit", 60) == 0
    whole, arrays = record(tmp_path, "activations-limit60")
    (tmp_path / "runs" / f"{RUN}.best.activations-limit60.json").unlink()
    monkeypatch.setattr(Activations, "batch", 7)
    assert evaluate(tmp_path, tmp_path / "runs", "--limit", 60) == 0
    parts, measured = record(tmp_path, "activations-limit60")
    assert measured.keys() == arrays.keys() and parts["cases"]["clean"]["error"] == whole["cases"]["clean"]["error"]
    for name in measured:
        np.testing.assert_allclose(measured[name], arrays[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("measure", [[], ["--official"]])
def test_interrupted_and_continued(measure, tmp_path, train_tiny, monkeypatch):
    train_tiny()
    given = [tmp_path / "runs", "--limit", 350, *measure]
    name = "activations-official-limit350" if measure else "activations-limit350"
    assert evaluate(tmp_path, *given) == 0
    whole, expected = record(tmp_path, name)
    (tmp_path / "runs" / f"{RUN}.best.{name}.json").unlink()
    seen = []
    plain = Activations.evaluate

    def interrupted(self, task, x, y, rows, sums):
        seen.append(len(y))
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, task, x, y, rows, sums)

    monkeypatch.setattr(Activations, "evaluate", interrupted)
    assert evaluate(tmp_path, *given) == 128 + signal.SIGTERM
    assert seen == [100, 100]
    assert evaluate(tmp_path, *given) == 0
    assert seen == [100, 100, 100, 50]
    again, measured = record(tmp_path, name)
    assert again["curves"] == whole["curves"] and again["cases"] == whole["cases"]
    assert measured.keys() == expected.keys() and all((measured[key] == expected[key]).all() for key in measured)


@pytest.mark.parametrize("measure", [[], ["--official"]])
@pytest.mark.parametrize("model", ["wrn28_10", "resnet50"])
def test_stages_of_the_other_networks(model, measure):
    options = {"width": 2} if model == "wrn28_10" else {"stem": "cifar"}
    net = models.build(model, 10, **options).eval()
    (activations,) = eval_activations.evaluations(eval_activations.parser().parse_args(["x", *measure]))
    activations.subject = SimpleNamespace(net=net, test=[0, 1], mean=(0.5,) * 3, std=(0.5,) * 3)
    x, sums = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8), {}
    activations.evaluate("clean", x, torch.zeros(2, dtype=torch.long), None, sums)
    shapes = net.shapes(32)[1:]
    magnitudes = {name: len(values) for name, values in sums.items() if name.endswith("magnitude")}
    assert magnitudes == {f"{stage}/magnitude": shape[0] for stage, shape in zip(STAGES, shapes)}


SMALL = ["--width", 4, "--epochs", 1, "--train-per-class", 4, "--batch-size", 20]


def test_a_table_is_printed_and_drawn(tmp_path, capsys, monkeypatch, evaluated_demo):
    given = ["--seeds", 2, "--methods", "none", "mixup", *SMALL, "--limit", 50]
    grid = evaluated_demo(("activations",), *given)
    printed = capsys.readouterr().out
    rows = {line.split("|")[1].strip(): line for line in printed.splitlines() if line.startswith("| conv1")}
    assert list(rows) == ["conv1 mean", "conv1 median", "conv1 maximum"]
    path = grid.folder(grid.overrides) / f"{RUN}.best.activations-limit50.json"
    curves = [
        json.loads(path.with_name(path.name.replace("seed0", f"seed{seed}")).read_text())["curves"] for seed in (0, 1)
    ]
    mean, median = (np.mean([f(stages["conv1"]["magnitude"]) for stages in curves]) for f in (np.mean, np.median))
    assert f"{mean:.3f} ± " in rows["conv1 mean"] and f"{median:.3f} ± " in rows["conv1 median"]
    pictures = sorted(path.suffix for path in (tmp_path / "figures").iterdir() if "activations" in path.name)
    assert pictures == [".pdf", ".png", ".txt"]
    (caption,) = (tmp_path / "figures").glob("*.txt")
    assert "Mean over 2 seeds" in caption.read_text() and "50 test images" in caption.read_text()


def test_drawn_are_the_channels_in_order_and_in_figure_6_two_of_the_stages(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(evaluated.charts, "activation_curves", lambda table, path, *_: drawn.update({path.name: table}))
    run = {"dataset": "cifar100", "model": "wrn28_10", "method": "none", "images": 9, "setting": {"official": False}}
    curves = {stage: {"magnitude": [3.0, -1.0]} for stage in STAGES[:4]}
    records = [run | {"seed": seed, "curves": curves} for seed in (0, 2)]
    for name in ("figure6", "figure14"):
        evaluated.draw(Activations(official=False), records, grid_of(tmp_path, name), name)
    for name, stages in (("figure6", ["layer1", "layer2"]), ("figure14", STAGES[:4])):
        rows = drawn[name][["seed", "stage", "channel_rank", "magnitude"]].values.tolist()
        assert rows == [[s, stage, *point] for s in (0, 2) for stage in stages for point in ((1, 3.0), (2, -1.0))]


@pytest.mark.slow
def test_real_images(real_checkpoint, tmp_path):
    checkpoint, images = real_checkpoint
    assert evaluate(tmp_path, checkpoint, "--limit", 100, data_dir=images) == 0
    measured = files.read_json(checkpoint.with_name("seed0.best.activations-limit100.json"))
    assert measured["images"] == 100 and all(min(measured["curves"][stage]["magnitude"]) > 0 for stage in STAGES)
