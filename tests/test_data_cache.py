"""Decoded images on disk: used as long as their source stays what it was, and never trusted."""

import io
import os
import pickle
import time

import numpy as np
import pytest
import torch

from data import cache, corrupted
from data.loaders import MemoryLoader, Pool
from tests.image_files import load_folder, noise, write_image

ARRAYS = {"a": np.arange(3)}


def no_check(arrays):
    """Any arrays will do."""


def test_the_cache_is_used_until_the_source_changes(photos, monkeypatch):
    before = load_folder(photos).train.images.clone()
    (stored,) = (photos / ".cache").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("data.sources.decode", lambda *a: pytest.fail("decoded again"))
        assert torch.equal(load_folder(photos).train.images, before)
    write_image(photos / "train" / "bee" / "3.png", seed=77)
    after = load_folder(photos).train.images
    assert (after != before).flatten(1).any(1).nonzero().tolist() == [[17]]  # sorted as text: 3.png is the 6th of 12
    (photos / "train" / "ant" / "11.png").rename(photos / "train" / "cat" / "12.png")
    assert np.bincount(load_folder(photos).train.labels).tolist() == [11, 12, 13]
    assert [stored.exists(), len(list((photos / ".cache").iterdir()))] == [False, 1]
    load_folder(photos, image_size=6)
    assert len(list((photos / ".cache").iterdir())) == 2


class Code:
    """What runs code where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def numpy_file(save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def resaved(**changes):
    """The content of the same .npz with other arrays in it."""

    def change(content):
        with np.load(io.BytesIO(content)) as file:
            return numpy_file(np.savez, **{name: changes.get(name, file[name]) for name in file})

    return change


FOREIGN = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "garbage": lambda content: b"x" * 5000,
    "one bit": flipped,
    "no archive": lambda content: numpy_file(np.save, np.zeros(3)),
    "of nothing": lambda content: numpy_file(np.savez),
    "of something else": lambda content: numpy_file(np.savez, a=np.zeros(3)),
    "a pickle": lambda content: pickle.dumps(Code()),
    "pickles inside": lambda content: numpy_file(np.savez, images=np.array([Code()]), classes=np.array([Code()])),
}
FOREIGN_IMAGES = FOREIGN | {
    "other classes": resaved(classes=np.array(["ant", "bee", "cow"])),
    "classes without names": resaved(classes=np.arange(3)),
    "no classes": resaved(classes=np.array("ant")),
    "fewer images": resaved(train_images=noise(35, 3, 8, 8)),
    "larger images": resaved(train_images=noise(36, 3, 9, 9)),
    "float images": resaved(test_images=np.zeros((6, 3, 8, 8))),
    "short labels": resaved(test_labels=np.zeros(6, np.int32)),
    "labels outside": resaved(test_labels=np.full(6, 3)),
    "other labels": resaved(test_labels=np.zeros(6, np.int64)),
}


@pytest.mark.parametrize("change", FOREIGN_IMAGES.values(), ids=FOREIGN_IMAGES)
def test_a_damaged_or_foreign_file_is_made_anew(photos, capsys, monkeypatch, change):
    monkeypatch.chdir(photos)
    before = load_folder(photos)
    (stored,) = (photos / ".cache").iterdir()
    stored.write_bytes(change(stored.read_bytes()))
    capsys.readouterr()
    after = load_folder(photos)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert line.startswith(f"warning: the cache file {stored} is damaged and will be made anew (")
    for part in ("train", "test"):
        assert torch.equal(getattr(after, part).images, getattr(before, part).images)
        assert torch.equal(getattr(after, part).labels, getattr(before, part).labels)
    assert after.classes == before.classes and not (photos / "executed").exists()
    load_folder(photos)
    assert "warning" not in capsys.readouterr().err


FOREIGN_CASES = FOREIGN | {
    "fewer images": resaved(images=noise(8, 3, 32, 32)),
    "float images": resaved(images=np.zeros((9, 3, 32, 32))),
}


@pytest.mark.parametrize("change", FOREIGN_CASES.values(), ids=FOREIGN_CASES)
def test_a_damaged_or_foreign_file_of_corrupted_images_is_made_anew(tmp_path, capsys, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    pool = Pool(noise(9, 3, 32, 32), np.arange(9))
    options = {"padding": 0, "flip": False, "seed": 0, "augment": None, "mean": (0,) * 3, "std": (1,) * 3}
    source = corrupted.Generated("digits", MemoryLoader(pool, np.arange(9), **options), 0, None, tmp_path / "kept", 0)
    expected = torch.cat(list(source.batches("impulse_noise", 3, 4)))
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_bytes(change(kept.read_bytes()))
    for warnings in (1, 0):
        assert torch.equal(torch.cat(list(source.batches("impulse_noise", 3, 4))), expected)
        assert capsys.readouterr().err.count("is damaged and will be made anew") == warnings
    assert not (tmp_path / "executed").exists()


def test_links_and_folders_in_a_files_place(tmp_path, capsys):
    path = tmp_path / "x-abc.npz"
    for target, warnings in (("nowhere", 0), (path.name, 1)):  # a dangling link and a loop
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        assert cache.load(tmp_path, "x", "abc", lambda: ARRAYS, no_check) is ARRAYS and not path.is_symlink()
        assert capsys.readouterr().err.count("\n") == warnings
    path.rename(tmp_path / "x-old.npz")
    path.mkdir()
    assert cache.load(tmp_path, "x", "abc", lambda: ARRAYS, no_check) is ARRAYS
    damaged, unkept = capsys.readouterr().err.splitlines()
    assert f"{path} is damaged" in damaged and f"cannot be kept in {tmp_path} (Is a directory)" in unkept
    path.rename(tmp_path / "x-older.npz")
    assert cache.keep(tmp_path, "x", "abc", ARRAYS) and capsys.readouterr().err == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-abc.npz", "x-older.npz"]


def test_what_cannot_be_written_is_done_without(photos, capsys):
    (photos / ".cache").write_text("a file in its place")
    assert len(load_folder(photos).train) == 27
    warning = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warning) in (1, 2) and "cannot be kept" in warning[-1]


def test_files_are_stored_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    def full(file, **arrays):
        file.write(b"part of it")
        raise OSError(28, "No space left on device")

    folder = tmp_path / "deep" / "down"  # is made
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        assert cache.load(folder, "x-1", "abc", lambda: ARRAYS, no_check) is ARRAYS
        assert not cache.keep(folder, "x-1", "abc", ARRAYS) and not list(folder.iterdir())
    words = f"images cannot be kept in {folder} (No space left on device); they will be made again"
    assert capsys.readouterr().err == 2 * f"warning: {words}\n"
    cache.load(folder, "x-1", "abc", lambda: ARRAYS, no_check)
    assert cache.stored(folder, "x-1", "abc", no_check)["a"].tolist() == [0, 1, 2]


def test_files_of_other_states_go_and_those_that_are_being_written_stay(tmp_path):
    names = "x-1-old.npz", "x-1-old.npz.host-1.tmp", "x-1-abc.npz.host-2.tmp", "x-12-old.npz"
    for name in names:
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / names[1], (0, time.time() - 2 * cache.ABANDONED))
    cache.keep(tmp_path, "x-1", "abc", ARRAYS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-1-abc.npz", names[2], names[3]]
