"""scripts/streaming.py: the generated images, how a worker's time divides, and what follows on paper."""

import itertools
import json

import pytest
from PIL import Image

from data.sources import scan
from scripts import streaming, timing


@pytest.fixture
def files(tmp_path):
    streaming.write_jpegs(tmp_path, 3)
    return scan(tmp_path)[0]


def test_generated_images_have_the_size_of_imagenets(tmp_path, files):
    mean = sum(path.stat().st_size for path in (tmp_path / "0").iterdir()) / 3
    assert 100_000 < mean < 120_000
    with Image.open(files.path(0)) as image:
        assert image.format == "JPEG" and image.size == (500, 375)


def test_every_epoch_is_streamed_whole(files, monkeypatch):
    seen, seconds = [], iter((1.0, 6.0, 2.0))

    def timed(function, device):
        seen.append(function())
        return next(seconds)

    monkeypatch.setattr(streaming, "timed", timed)
    assert streaming.streamed(files, 1) == 1.5
    assert seen == [1] * 3  # batches


def test_a_workers_time_divides_into_decoding_scaling_and_the_rest(files, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks))  # a call within another's takes 1
    calls = 3  # an image: read_image, crop, resize, of two ticks each
    assert streaming.division(files) == pytest.approx(
        {"decode": 1, "resize": 2, "rest": (2 * calls * 3 + 1) / 3 - calls}
    )


def test_half_size_would_do_for_no_part_of_such_an_image(files):
    found = streaming.drafts(files)
    assert found["share_of_draws"] == 0 and found["half"] > 0 and found["full"] > 0


def test_half_size_would_do_for_parts_of_larger_images(files, monkeypatch):
    monkeypatch.setattr(streaming, "WIDTH", 2000)
    monkeypatch.setattr(streaming, "HEIGHT", 1500)
    assert 0.5 < streaming.drafts(files)["share_of_draws"] < 1


def test_what_a_gpu_needs_follows_from_its_speed():
    found = streaming.needs(2500, worker=200, mean_bytes=110_000)
    assert found["workers"] == 13 and found["jpeg_bytes_per_second"] == 275e6
    assert found["pixel_bytes_per_second"] == 2500 * 150_528
    assert found["epoch_seconds"] == pytest.approx(512.5, abs=0.1)
    found = streaming.gathers(2000)
    assert found["epoch_seconds"] == 50 and found["written_bytes_per_second"] == 4 * found["read_bytes_per_second"]
    assert found["read_bytes_per_second"] == 2000 * 12_288


def test_assumed_speeds_are_a_share_of_the_peak_over_a_steps_operations():
    found = streaming.assumed("ResNet-50 on ImageNet")
    assert found["A100, 20 % of 312 TFLOP/s"] == pytest.approx(0.2 * 312e12 / 24.6e9)


def test_the_command_measures_and_writes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(streaming, "batches_a_second", lambda *a: 30_000)
    out = tmp_path / "new"
    assert streaming.main(["--images", "3", "--gpu-images-per-second", "500", "2000.5", "--out", str(out)]) == 0
    printed, kept = capsys.readouterr().out, json.loads((out / "streaming.json").read_text())
    assert (out / "streaming.md").read_text() == printed
    assert list(kept["images_per_second"]) == ["1", "2"] and min(kept["images_per_second"].values()) > 0
    assert list(kept["on_paper"]["imagenet"]) == ["given: 500", "given: 2000.5"]
    workers = kept["on_paper"]["imagenet"]["given: 500"]["workers"]
    assert (workers - 1) * kept["images_per_second"]["1"] < 500 <= workers * kept["images_per_second"]["1"]
    assert "| given: 500 | 500 | 2,562 |" in printed and "Speeds of cards are assumed" not in printed


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--images", "0"], "--images must be at least 1, not 0"),
        (["--workers", "2", "0"], "--workers must be at least 1, not 0"),
        (["--gpu-images-per-second", "0"], "--gpu-images-per-second must be above 0, not 0"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(capsys, tmp_path, arguments, line):
    assert streaming.main([*arguments, "--out", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err.strip()
    assert line in error and len(error.splitlines()) == 1
    assert not (tmp_path / "new").exists()
