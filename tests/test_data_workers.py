"""Processes that decode: what they lack is told in one line, and nothing hangs."""

import gc
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import data
from data import DataError, corrupted, images, workers
from tests.image_files import load_folder, write_classes


@pytest.fixture(autouse=True)
def at_most_a_minute():
    """A test that hangs fails."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("hangs"))
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def blocks(key):
    return np.full((1 << 20,), key, np.uint8)


def values(count=6, processes=2):
    return [int(array[-1]) for array in workers.parallel(blocks, range(count), processes)]


@pytest.mark.filterwarnings("error:.*pin_memory")
def test_arrays_come_in_order_from_processes():
    assert values() == values(processes=0) == list(range(6))


def test_processes_are_forked_whatever_the_default():
    """A run of the launcher has forkserver as default, whose processes import torch anew: seconds for each pool."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        parent = os.getpid()
        [pid] = workers.parallel(lambda key: np.array([os.getppid()]), [0], 1)  # no lambda reaches a spawned process
        assert pid == parent
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_a_tmpdir_longer_than_a_sockets_path(tmp_path, monkeypatch):
    """Tensors from a process would need a socket there: images in memory, streamed and corrupted all do without."""
    for part in ("train", "test"):
        write_classes(tmp_path / part, ("ant", "bee"), 4)
    (tmp_path / ("x" * 120)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 120)))
    monkeypatch.delitem(multiprocessing.process.current_process()._config, "tempdir", raising=False)
    monkeypatch.setattr(images, "CHUNK", 2)
    kept = load_folder(tmp_path, workers=2, image_size=8)
    monkeypatch.setattr(data, "MEMORY_LIMIT", 0)
    streamed = load_folder(tmp_path, workers=2, image_size=8)
    assert [sum(len(y) for _, y in loaded.test.batches(3)) for loaded in (kept, streamed)] == [8, 8]
    assert sum(len(y) for _, y, _ in streamed.test.pixel_batches(3)) == 8
    for test in (kept.test, streamed.test):
        made = corrupted.Generated("folder", test, 0, None, None, 2).batches("contrast", 1, 3)
        assert sum(map(len, made)) == 8


@pytest.mark.parametrize("more", [3, 8, 11])
def test_few_open_files_are_named(more, monkeypatch):
    unraised = []  # what a half-built loader would print when it goes
    monkeypatch.setattr(sys, "unraisablehook", lambda error: unraised.append(repr(error.exc_value)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = sorted(set(range(soft)) - {int(file.name) for file in Path("/proc/self/fd").iterdir()})
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[more], hard))
    try:
        words = r"Too many open files\): --workers 0 decodes in this one; `ulimit -n` allows \d+ open files"
        with pytest.raises(DataError, match=words):
            values(processes=4)
        assert values(processes=0) == list(range(6))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    gc.collect()
    assert not unraised


def killed(key):
    if key == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return blocks(key)


def test_a_process_that_is_killed_is_one_line():
    with pytest.raises(DataError, match=r"cannot be decoded in other processes \(DataLoader worker .*(killed|exited)"):
        list(workers.parallel(killed, range(6), 1))


def full(key):
    raise MemoryError


@pytest.mark.parametrize("processes", [0, 1])
def test_lack_of_memory_is_one_line(processes):
    with pytest.raises(DataError, match="out of memory"):
        list(workers.parallel(full, range(2), processes))
