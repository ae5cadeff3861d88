"""Files that are read: another shape than expected, damage, folders and links in their place are one line."""

import json
from pathlib import Path

import pytest
import torch

import recipes
import train
from engine.evaluation_files import EvaluationFiles
from engine.files import BadInput, load_checkpoint, read_json
from engine.mce import References
from engine.runs import FORMAT, RunFiles
from eval_activations import Activations
from eval_affine import Affine
from eval_corruption import GeneratedCorruption
from scripts.claims import records

RECIPE = recipes.resolve("digits", "preactresnet18", "none", width=4)


@pytest.fixture
def files(tmp_path):
    files = RunFiles(tmp_path / "runs", RECIPE)
    files.stem.parent.mkdir(parents=True)
    return files


@pytest.mark.parametrize(
    "content, reason",
    [
        ("[1]", "no JSON object"),
        ("{}", "no recipe"),
        ('{"recipe": []}', "recipe is '[]'"),
        ('{"recipe": {}, "test_error": "3"}', "test_error is '3'"),
        ('{"recipe": {}, "test_error": NaN}', "test_error is nan"),
        ('{"recipe": {}, "classes": true}', "classes is 'True'"),
        ("[" * 100_000, "recursion"),
        ("\x00", "Expecting value"),
    ],
)
def test_a_result_of_another_shape_is_named(content, reason, files):
    files.result.write_text(content)
    with pytest.raises(BadInput, match="seed0.json is not a result of train.py") as error:
        files.finished()
    assert reason in str(error.value) and "\n" not in str(error.value)


WHOLE = {"dataset": "digits", "setting": {}, "cases": {"clean": {"error": 1.0}}, "images": 1, "recipe": {}}
DRAWN = {"draws_sha256": ""}
SUMS = {"source": "released", "mean_sum": 3.0, "sums": {"fog": 3.0}}


@pytest.mark.parametrize(
    "kind, change, reason",
    [
        (Affine(), DRAWN | {"cases": []}, "no JSON object"),
        (Affine(), DRAWN | {"cases": {"clean": 1}}, "no JSON object"),
        (Affine(), DRAWN | {"cases": {"clean": {}}}, "no error"),
        (Affine(), DRAWN | {"cases": {"clean": {"error": "low"}}}, "error is 'low'"),
        (Affine(), DRAWN | {"images": None}, "images is 'None'"),
        (Affine(), {}, "no draws_sha256"),
        (Activations(), {"curves": {"conv1": [1]}}, "no JSON object"),
        (Activations(), {"curves": {"conv1": {"magnitude": 1}}}, "magnitude is '1'"),
        (GeneratedCorruption(), {}, "no source"),
        (GeneratedCorruption(), SUMS | {"sums": {"fog": "3"}}, "fog is '3'"),
        (GeneratedCorruption(), SUMS | {"sums": {"fog": float("inf")}}, "fog is inf"),
    ],
)
def test_a_record_of_another_shape_is_named(kind, change, reason, tmp_path):
    files = EvaluationFiles(tmp_path / "seed0.best.pt", kind)
    files.result.write_text(json.dumps(WHOLE | change))
    with pytest.raises(BadInput, match="seed0.best.*json is not a result of an evaluation") as error:
        files.finished()
    assert reason in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("sums, reason", [({"fog": []}, "fog is '[]'"), ({"snow": 1}, "says nothing of fog")])
def test_a_reference_of_another_shape_is_named(sums, reason, tmp_path):
    path = tmp_path / "reference.json"
    path.write_text(json.dumps(SUMS | {"images": 1, "model": "vgg", "method": "none", "sums": sums}))
    with pytest.raises(BadInput, match="reference.json") as error:
        References(path, "best", "corruption").mce(SUMS | {"images": 1})
    assert reason in str(error.value)


def test_a_finished_result_without_what_is_printed_of_it_is_named(files, capsys):
    files.result.write_text(json.dumps({"recipe": recipes.used(RECIPE), "test_error": 3.0}))
    flags = "--dataset digits --model preactresnet18 --method none --width 4 --out"
    assert train.main([*flags.split(), str(files.out)]) == 2
    assert "seed0.json is not a result of train.py (no best_epoch)" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["[1]", '{"epoch": 0}', '{"epoch": 0, "val_error": null, "seconds": 1}', "7"])
def test_a_log_of_another_shape_is_named(line, files):
    whole = json.dumps({"epoch": 0, "val_error": 5.0, "seconds": 1.5})
    files.log.write_text(f"{whole}\n{line}\n{whole}\n")
    with pytest.raises(BadInput, match="seed0.jsonl is no log of train.py"):
        files.logged()
    files.log.write_text(f'{whole}\n{{"epoch"')
    assert len(files.logged()) == 1, "a last line that is not whole yet"
    files.log.write_bytes(b"\x80 no text")
    for read in (files.logged, lambda: files.cut_log(1)):
        with pytest.raises(BadInput, match="seed0.jsonl is no log of train.py"):
            read()


def test_epochs_count_from_1_and_files_without_format_are_read_so(files):
    recipe = recipes.used(RECIPE)
    for entry in ({"best_epoch": 0}, {"format": 2, "best_epoch": 1}):
        files.result.write_text(json.dumps({"recipe": recipe} | entry))
        assert files.finished() == {"recipe": recipe, "format": 2, "best_epoch": 1}
    files.result.write_text(json.dumps({"recipe": recipe, "best_epoch": None}))
    assert files.finished()["best_epoch"] is None
    lines = [{"epoch": 0}, {"epoch": 1}, {"format": 2, "epoch": 3}]
    files.log.write_text("".join(json.dumps({"val_error": 5.0, "seconds": 1} | line) + "\n" for line in lines))
    assert [line["epoch"] for line in files.logged()] == [1, 2, 3], "a run may go on with code that counts from 1"


def test_published_records_from_before_mean_what_they_meant():
    folder = Path(__file__).parent.parent / "results/published/study/cpu"
    stored = [json.loads(line)["result"] for line in (folder / records.FILE).read_text().splitlines()]
    read = {(run.result["method"], run.result["seed"]): run.result["best_epoch"] for run in records.read(folder)}
    assert all("format" in run or read[run["method"], run["seed"]] == run["best_epoch"] + 1 for run in stored)


def test_a_later_format_is_refused(files):
    later = {"format": 3, "epoch": 1, "val_error": 5.0, "seconds": 1, "recipe": recipes.used(RECIPE)}
    files.result.write_text(json.dumps(later))
    files.log.write_text(json.dumps(later) + "\n")
    files.save_checkpoint(later | {"net": {}, "optimizer": {}})
    for read, name in ((files.finished, "json"), (files.logged, "jsonl"), (files.newest_checkpoint, "checkpoint.pt")):
        with pytest.raises(BadInput, match=f"seed0.{name} has format 3, this code reads 2 at most"):
            read()


@pytest.mark.parametrize("kind", ["folder", "dangling", "loop"])
def test_what_lies_in_a_files_place_is_named(kind, files):
    for path in (files.result, files.log, files.checkpoint):
        if kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(path if kind == "loop" else path.with_name("nowhere"))
    with pytest.raises(BadInput, match="seed0.checkpoint.pt"):
        load_checkpoint(files.checkpoint)
    if kind == "folder":
        with pytest.raises(BadInput, match="seed0.json "):
            read_json(files.result)
        for read in (files.logged, lambda: files.cut_log(1)):
            with pytest.raises(BadInput, match="seed0.jsonl is"):
                read()


def test_from_any_damage_of_the_newest_checkpoint_it_falls_back_to_the_one_before(files):
    state = {"format": FORMAT, "net": {"weight": torch.ones(3)}, "optimizer": {}, "epoch": 1}
    files.save_checkpoint(state)
    files.save_checkpoint(state | {"epoch": 2})
    whole = files.checkpoint.read_bytes()
    assert files.newest_checkpoint()["epoch"] == 2
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
        files.checkpoint.write_bytes(content)
        with pytest.warns(UserWarning, match="is damaged or no checkpoint"):
            assert files.newest_checkpoint()["epoch"] == 1
    for position in range(0, len(whole), 29):  # headers, pickle, tensors, directory
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        files.checkpoint.write_bytes(damaged)
        try:
            with pytest.warns(UserWarning, match="is damaged or no checkpoint|no checkpoint of train.py|weights alone"):
                assert files.newest_checkpoint()["epoch"] == 1
        except pytest.fail.Exception:  # a bit that nobody reads
            assert files.newest_checkpoint()["epoch"] == 2


def test_world_size_alone_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    assert train.main(["--dataset", "digits", "--model", "preactresnet18", "--method", "none"]) == 2
    assert (
        "WORLD_SIZE is set, but RANK is no number: start it by torchrun, or unset WORLD_SIZE" in capsys.readouterr().err
    )
