"""What TensorBoard reads of a run, asked of TensorBoard itself; skipped where it is not installed."""

import importlib.util
import json

import pytest

import recipes
import train
from engine.files import BadInput
from engine.trainer import Trainer
from scripts import tables
from scripts.grid import grids, launcher
from tests.trainings import TINY

RUN = "digits/preactresnet18/patchup_soft/seed0"


def trained(folder, **fields):
    """The result of a short training into folder, shown in folder/board."""
    recipe = recipes.resolve("digits", "preactresnet18", "patchup_soft", 0, **TINY | fields)
    options = {"device": "cpu", "checkpoint_minutes": 0, "quiet": True, "tensorboard": folder / "board"}
    return train.run(recipe, data_dir=folder, out=folder / "results/runs", **options)


def shown(folder):
    """{tag: [(step, value), ...]} of the scalars that TensorBoard finds below folder/board, and its accumulator."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = event_accumulator.EventAccumulator(str(folder / "board" / RUN))
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}, accumulator


def test_tensorboard_shows_the_log_the_result_and_the_recipe_also_after_a_stop(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    real, steps = Trainer.train_step, iter(range(100))

    def train_step(self, x, y):
        if next(steps) == 7:  # in the third of four epochs of three steps
            raise KeyboardInterrupt
        real(self, x, y)

    monkeypatch.setattr(Trainer, "train_step", train_step)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, epochs=4)
    assert [step for step, _ in shown(tmp_path)[0]["val_error"]] == [1, 2]
    result = trained(tmp_path, epochs=4)
    scalars, accumulator = shown(tmp_path)
    log = (tmp_path / "results/runs" / RUN).with_suffix(".jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for tag in ("train_loss", "train_loss_per_term", "val_error", "val_nll", "lr"):
        assert scalars[tag] == [(line["epoch"], pytest.approx(line[tag])) for line in lines], "no step twice"
    seconds = [0, *(line["seconds"] for line in lines)]
    speeds = [40 / (after - before) for before, after in zip(seconds, seconds[1:])]
    assert [value for _, value in scalars["images_per_second"]] == pytest.approx(speeds, rel=1e-3)
    for tag in ("test_error", "last_epoch_test_error", "test_nll"):
        assert scalars[tag] == [(4, pytest.approx(result[tag]))]
    (text,) = accumulator.Tensors("recipe/text_summary")
    assert "| gamma | 0.75 |" in text.tensor_proto.string_val[0].decode()
    assert accumulator.PluginTagToContent("hparams").keys() >= {"_hparams_/session_start_info"}
    folders = [path.parent for path in (tmp_path / "board").rglob("*tfevents*")]
    assert {str(path.relative_to(tmp_path / "board")) for path in folders} == {RUN}, "a folder for each run"


def test_without_tensorboard_nothing_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="--tensorboard needs TensorBoard, .* pip install tensorboard"):
        trained(tmp_path)
    assert not (tmp_path / "board").exists() and not (tmp_path / "results").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    (tmp_path / "board").touch()
    with pytest.raises(BadInput, match="cannot write to .*board .*: give another --tensorboard"):
        trained(tmp_path)


def test_the_launcher_hands_the_folder_on_and_refuses_it_before_any_run(tmp_path, monkeypatch):
    given = ["demo", "--out", str(tmp_path), "--device", "cpu", "--tensorboard", str(tmp_path / "board")]
    args = tables.parser().parse_args(given)
    jobs = tables.jobs_of([tables.plan_of("demo", grids.Choice.of(args))], args)
    assert all(job.commands[0][1][-2:] == ("--tensorboard", str(tmp_path / "board")) for job in jobs)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="--tensorboard needs TensorBoard"):
        launcher.require_possible(jobs, args)
