"""engine/files.py: files appear whole or not at all, whoever else writes them, and nothing is left behind."""

import os
import time

import pytest
import torch

import recipes
import train
from engine import files
from engine.files import Locked, RunFailed
from engine.runs import RunFiles


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_two_processes_write_one_file_and_the_last_one_stays(tmp_path, monkeypatch):
    path, here = tmp_path / "table.md", os.getpid()

    def write(file):
        file.write(b"first ")
        monkeypatch.setattr(files.os, "getpid", lambda: here + 1)
        files.write_whole(path, lambda file: file.write(b"the other's"))
        assert path.read_bytes() == b"the other's"
        monkeypatch.setattr(files.os, "getpid", lambda: here)
        file.write(b"and last")

    files.write_whole(path, write)
    assert path.read_bytes() == b"first and last" and names(tmp_path) == ["table.md"]


def test_the_other_process_may_fail(tmp_path, monkeypatch):
    path, here = tmp_path / "table.md", os.getpid()

    def fail(file):
        raise OSError("no")

    def write(file):
        monkeypatch.setattr(files.os, "getpid", lambda: here + 1)
        with pytest.raises(RunFailed, match="cannot write .*table.md"):
            files.write_whole(path, fail)
        monkeypatch.setattr(files.os, "getpid", lambda: here)
        file.write(b"whole")

    files.write_whole(path, write)
    assert path.read_bytes() == b"whole" and names(tmp_path) == ["table.md"]


def test_what_a_killed_process_left_is_removed_after_a_day_and_nothing_else(tmp_path):
    left = ("seed0.json.node7-12.tmp", "seed0.checkpoint-new.pt.a.b-c.example-99.tmp")
    others = ("notes.tmp", "seed1.json.node7-13.tmp", "seed0.checkpoint.pt")
    for name in (*left, *others):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / others[1], (time.time() - files.ABANDONED / 2,) * 2)  # may be at work
    files.write_json(tmp_path / "seed0.json", {})
    assert names(tmp_path) == sorted((*others, "seed0.json"))


@pytest.mark.parametrize("length", [1, 200, 255])
def test_the_longest_names_can_be_written(tmp_path, length):
    files.write_whole(tmp_path / ("n" * length), lambda file: file.write(b"x"))
    assert names(tmp_path) == ["n" * length]


def test_a_full_disk_is_called_so_though_torch_does_not(tmp_path):
    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            raise OSError(28, "No space left on device")

        def flush(self):
            pass

    (tmp_path / "a.pt").write_text("old")
    with pytest.raises(RunFailed, match=r"No space left on device\); what was saved before is whole"):
        files.write_whole(tmp_path / "a.pt", lambda file: torch.save({"a": torch.zeros(9)}, Full(file)))
    assert names(tmp_path) == ["a.pt"] and (tmp_path / "a.pt").read_text() == "old"


def test_a_run_that_was_killed_after_its_result_is_tidied_unless_a_process_is_at_it(tmp_path, monkeypatch):
    def held(run):
        raise Locked("seed0 is being trained")

    recipe = recipes.resolve("digits", "preactresnet18", "none", width=4)
    run = RunFiles(tmp_path, recipe)
    run.stem.parent.mkdir(parents=True)
    files.write_json(run.result, {"recipe": run.recipe} | dict.fromkeys(train.PRINTED, 1))
    leftovers = [run.checkpoint, run.checkpoint_before, run.with_suffix("lock")]
    for path in leftovers:
        path.write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(RunFiles, "lock", held)
        train.run(recipe, data_dir=tmp_path, out=tmp_path, device="cpu", quiet=True)
        assert all(path.exists() for path in leftovers)
    train.run(recipe, data_dir=tmp_path, out=tmp_path, device="cpu", quiet=True)
    assert names(run.stem.parent) == ["seed0.json"]
