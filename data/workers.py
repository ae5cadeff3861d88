"""Work on images in parallel processes, with errors that come out as one line."""

import signal

import torch
from torch.utils.data import DataLoader, Dataset

from .errors import DataError


class _Task(Dataset):
    """task(key) as an item; a DataError is returned, because raising it would wrap it in a worker's traceback."""

    def __init__(self, task):
        self.task = task

    def __getitem__(self, key):
        try:
            return self.task(key)
        except DataError as error:
            return error


def _as_it_is(item):
    return item


def _leave_signals_to_the_parent(_):
    """A signal to the whole process group must not end the workers while the parent still finishes its step."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def parallel(task, keys, workers, pin_memory=False):
    """Yield task(key) for every key, in order, computed ahead in `workers` processes (0: in this one).

    task returns tensors, or raises DataError, which is raised again here. Global generators are not touched.
    """
    loader = DataLoader(
        _Task(task),
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals_to_the_parent,
        generator=torch.Generator(),  # without one, the loader would draw its base seed from the global generator
    )
    for item in loader:
        if isinstance(item, DataError):
            raise item
        yield item
