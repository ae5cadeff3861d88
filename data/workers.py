"""Work on images in parallel processes, with errors that come out as one line."""

import multiprocessing
import os
import resource
import signal

import torch
from torch.utils.data import DataLoader, Dataset

from .errors import DataError


class Arrays:
    """Numpy arrays as a task returns them; they unpack as a tuple does.

    They come from a process through a pipe. Tensors would come through shared memory, which needs room in /dev/shm, a
    socket below TMPDIR and file descriptors; a process that lacks them cannot even report it.
    """

    def __init__(self, *arrays):
        self.arrays = arrays

    def __iter__(self):
        return iter(self.arrays)

    def pin_memory(self):
        """The same as tensors from which a copy to the GPU needs no waiting; called in a thread of the DataLoader."""
        return Arrays(*(torch.from_numpy(array).pin_memory() for array in self.arrays))


class _Task(Dataset):
    """task(key) as an item; an expected error is returned, because raising it would wrap it in a worker's traceback."""

    def __init__(self, task):
        self.task = task

    def __getitem__(self, key):
        try:
            return self.task(key)
        except DataError as error:
            return error
        except (OSError, MemoryError) as error:
            return _failure(error)


def _as_it_is(item):
    return item


def _leave_signals_to_the_parent(_):
    """A signal to the whole process group must not end the workers while the parent still finishes its step."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def parallel(task, keys, workers, pin_memory=False):
    """Yield task(key) for every key, in order, computed ahead in `workers` processes (0: in this one).

    task returns a numpy array or Arrays. Raises DataError where task does, or where processes cannot be started or
    end early. Global generators are not touched.
    """
    loader = DataLoader(
        _Task(task),
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,  # the launcher's forkserver would import torch every time
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals_to_the_parent,
        generator=torch.Generator(),  # else the loader would draw its base seed from the global generator
    )
    for item in _as_data_errors(loader, workers):
        if isinstance(item, DataError):
            raise item
        yield item


def in_chunks(task, rows, size, workers):
    """Yield task(part) for the parts of `size` rows, in order; a single part is done in this process."""
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    return parallel(task, parts, workers if len(parts) > 1 else 0)


def _as_data_errors(loader, workers):
    """The loader's items, with the errors of its processes as DataError."""
    try:
        _check_room(workers)
        yield from loader
    except OSError as error:
        raise _failure(error) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise _failure(error) from error


def _check_room(workers):
    """Raise OSError where the processes' queues would lack semaphores or open files: a half-built loader is noisy."""
    pipes = []
    try:
        for _ in range(2 * workers + 3 if workers else 0):
            pipes += os.pipe()
            multiprocessing.Lock()
    finally:
        for end in pipes:
            os.close(end)


def _failure(error):
    """The DataError of processes that could not start, lacked something or were killed."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    reason = str(error) or "out of memory"
    return DataError(
        f"images cannot be decoded in other processes ({reason}): --workers 0 decodes in this one; `ulimit -n` allows "
        f"{files} open files"
    )
