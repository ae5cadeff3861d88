"""train.py --profile: the parts of a step add up to it, the trace shows them, and no run is touched."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import data
import regularizers
import train
from engine import profiling

ROOT = Path(__file__).resolve().parent.parent
RUN = ["--dataset", "digits", "--model", "preactresnet18", "--width", "4", "--device", "cpu"]
SMALL = ["--train-per-class", "4", "--batch-size", "16"]  # 3 steps an epoch, of 16, 16 and 8 images


def table(folder):
    """{part: (milliseconds, percent)} of a summary."""
    lines = (folder / "summary.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line.split()[:1] and line.split()[0] in (*profiling.PARTS, "step")]
    return {name: (float(milliseconds), float(percent)) for name, milliseconds, percent, _ in rows}


def regions(folder, part):
    """(start, end) of a part's regions in a trace, in microseconds."""
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    annotations = [e for e in events if e.get("cat") == "user_annotation" and e["name"] == part]
    return [(e["ts"], e["ts"] + e["dur"]) for e in annotations]


def operators_within(folder, part):
    """The number of operators in each of a part's regions."""
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    starts = [e["ts"] for e in events if e.get("cat") == "cpu_op"]
    return [sum(start <= ts <= end for ts in starts) for start, end in regions(folder, part)]


@pytest.mark.parametrize("method", regularizers.METHODS)
def test_parts_add_up_to_the_step_and_are_in_the_trace(method, tmp_path, capsys):
    folder = tmp_path / "new" / "profile"
    assert train.main([*RUN, *SMALL, "--method", method, "--profile", str(folder)]) == 0
    assert (folder / "summary.txt").read_text() == capsys.readouterr().out
    parts = table(folder)
    step, percent = parts.pop("step")
    assert list(parts) == list(profiling.PARTS) and percent == 100
    assert all(parts[name][0] > 0 for name in parts if name != "mix")  # most methods mix at few stages, or at none
    assert sum(milliseconds for milliseconds, _ in parts.values()) == pytest.approx(step, abs=0.05)
    assert sum(share for _, share in parts.values()) == pytest.approx(100, abs=0.5)
    for part, times in {"input": 1, "draw": 2, "forward": 2, "mix": 6, "backward": 1, "optimizer": 3}.items():
        assert len(regions(folder, part)) == times * profiling.TRACED, part


def test_dropblock_acts_within_the_regions_of_its_two_stages(tmp_path):
    train.main([*RUN, *SMALL, "--method", "dropblock", "--profile", str(tmp_path)])
    at_work = [count > 0 for count in operators_within(tmp_path, "mix")]
    assert at_work == [False, True, True, False, False, False] * profiling.TRACED


def test_the_time_within_is_not_the_outer_parts_as_well(monkeypatch):
    clock = iter((0, 1, 3, 6, 10, 15))
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: next(clock))
    timeline = profiling.Timeline(torch.device("cpu"))
    timeline.mark()
    with timeline.region("forward"), timeline.region("mix"):
        pass
    timeline.mark()
    nothing = dict.fromkeys(profiling.PARTS, 0)
    assert timeline.milliseconds() == nothing | {"other": 1000 + 5000, "forward": 2000 + 4000, "mix": 3000}


def test_it_leaves_runs_and_the_steps_of_others_alone(train_tiny, tmp_path):
    train_tiny("mixup")
    runs = tmp_path / "runs"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in runs.rglob("*.*")}
    backward = torch.Tensor.backward
    for method in ("mixup", "cutmix"):  # a finished run, of another recipe, and none
        options = ["--out", str(runs), "--profile", str(tmp_path / method)]
        assert train.main([*RUN, *SMALL, "--method", method, *options]) == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in runs.rglob("*.*")} == before
    assert torch.Tensor.backward is backward


@pytest.mark.parametrize("flags", ["--amp bf16", "--channels-last", "--compile"])
def test_it_works_with_what_is_to_speed_up(flags, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))  # without a compiler
    train.main([*RUN, *SMALL, "--method", "patchup_hard", "--profile", str(tmp_path), *flags.split()])
    text = (tmp_path / "summary.txt").read_text()
    name, *value = flags.removeprefix("--").replace("-", "_").split()
    assert f"{name} {value[0] if value else True}," in text
    assert len(regions(tmp_path, "mix")) == 6 * profiling.TRACED


@pytest.mark.parametrize("workers", ["0", "1"])
def test_streamed_images(workers, tmp_path, monkeypatch):
    for i in range(12):
        path = tmp_path / "images" / ("test" if i < 2 else "train") / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 36, 3), 20 * i, np.uint8)).save(path)
    monkeypatch.setattr(data, "MEMORY_LIMIT", 0)
    given = ["--dataset", "folder", "--data-dir", str(tmp_path / "images"), "--image-size", "32", "--batch-size", "4"]
    given += ["--workers", workers, "--method", "cutout", "--length", "16", "--profile", str(tmp_path)]
    assert train.main([*RUN, *given]) == 0
    assert table(tmp_path)["input"][0] > 0


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_is_refused_in_one_line(place, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(train, "build", None)  # before images are read
    assert train.main([*RUN, "--method", "none", "--profile", str(tmp_path / place)]) == 2
    out, errors = capsys.readouterr()
    assert out == "" and errors.count("\n") == 1
    assert f"cannot write to {tmp_path / place} (" in errors and errors.endswith(": give another --profile\n")
    assert (tmp_path / "file").read_text() == "mine" and list(tmp_path.iterdir()) == [tmp_path / "file"]
