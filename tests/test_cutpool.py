"""Cuts shared among processes: the same labels, whatever becomes of the processes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from regularizers import cutpool, graphcut
from regularizers.cutpool import CutPool


def costs(grids=7, side=4, labels=3):
    return np.random.default_rng(side).random((grids, labels + 2, side, side), dtype=np.float32)


@pytest.fixture(autouse=True)
def small_shares(monkeypatch):
    monkeypatch.setattr(cutpool, "SHARE", 16)


def test_shares_solved_by_several_processes_are_the_whole_in_order():
    pool = CutPool(3)
    for grids in (7, 2, 1, 8):
        np.testing.assert_array_equal(pool.solve(costs(grids)), graphcut.solve(costs(grids)))
    assert len(pool.workers) == 2, "this process is the third"


@pytest.mark.parametrize(("cores", "share"), [(1, 16), (8, 7 * 16 + 1)])
def test_no_process_starts_for_one_core_or_little_work(monkeypatch, cores, share):
    monkeypatch.setattr(cutpool, "SHARE", share)
    pool = CutPool(cores)
    np.testing.assert_array_equal(pool.solve(costs()), graphcut.solve(costs()))
    assert not pool.workers


def test_shares_have_a_least_size(monkeypatch):
    monkeypatch.setattr(cutpool, "SHARE", 3 * 16)
    pool = CutPool(8)
    pool.solve(costs(7))
    assert len(pool.workers) == 1


def test_a_process_that_is_killed_costs_no_answer():
    pool = CutPool(3)
    pool.solve(costs())
    processes = [worker.process for worker in pool.workers]
    processes[0].kill()
    processes[0].wait()
    for _ in range(2):
        np.testing.assert_array_equal(pool.solve(costs()), graphcut.solve(costs()))
    assert not pool.workers and all(process.poll() is not None for process in processes), "the other one ended"


def test_processes_that_cannot_start_cost_no_answer(monkeypatch):
    def refuse(*args, **options):
        raise OSError("too many open files")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    np.testing.assert_array_equal(CutPool(3).solve(costs()), graphcut.solve(costs()))


def interrupted(share):
    raise KeyboardInterrupt


def test_an_answer_that_was_not_waited_for_is_not_taken_for_the_next(monkeypatch):
    pool = CutPool(2)
    pool.solve(costs())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(graphcut, "solve", interrupted)
        pool.solve(costs(8))
    np.testing.assert_array_equal(pool.solve(costs()), graphcut.solve(costs()))


def test_signals_for_the_parent_stop_no_answer():
    pool = CutPool(2)
    pool.solve(costs())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        pool.workers[0].process.send_signal(number)
    np.testing.assert_array_equal(pool.solve(costs()), graphcut.solve(costs()))
    assert len(pool.workers) == 1


PARENT = """
import sys
from regularizers import cutpool
from tests.test_cutpool import costs
cutpool.SHARE = 16
pool = cutpool.CutPool(2)
pool.solve(costs())
print(pool.workers[0].process.pid, flush=True)
sys.stdin.read()
"""


def runs(process):
    """Whether a process of this number runs, other than as a zombie that nobody waits for."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_processes_end_with_a_parent_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        worker = int(parent.stdout.readline())
        assert runs(worker)
        parent.kill()
    deadline = time.monotonic() + 30
    while runs(worker) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not runs(worker)
