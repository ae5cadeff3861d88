"""What only a GPU shows: where a training step waits for it, and what several runs that share it achieve together."""

import concurrent.futures
import multiprocessing
import time
import warnings
from threading import BrokenBarrierError as Unmet

import torch

import engine
import train
from records import RunFailed
from scripts.timing import CALLS, Case, synchronize

EPOCHS = 10  # of estimates.random_images, over which the waits are counted
START_MINUTES = 10  # to wait for the slowest run's first steps, compilation included


def counts(case):
    """{"peak_memory_mib": of training steps, "synchronisations": of one} of a Case that has done its first steps."""
    torch.cuda.reset_peak_memory_stats(case.device)  # choosing algorithms takes more
    for _ in range(CALLS["cuda"]):
        case.step()
    return {"peak_memory_mib": engine.peak_memory(case.device), "synchronisations": synchronisations(case)}


def synchronisations(case):
    """How often one step of the training loop, with the batch that it takes, makes the host wait for the GPU: a mean.

    What an epoch begins with, and the look at the loss every engine.CUDA_CHECK_STEPS steps, are not among them.
    """
    waits = steps = 0
    for _ in range(EPOCHS):
        case.trainer.epoch += 1
        batches = case.images.train.batches(case.recipe.batch_size, case.device, epoch=case.trainer.epoch)
        case.trainer.train_step(*next(batches))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                for batch in batches:
                    case.trainer.train_step(*batch)
                    steps += 1
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits += sum("synchronizing" in str(warning.message) for warning in seen)
    return waits / steps


def images_a_second(recipe, device, count, seconds=10, graphs=False):
    """Images a second of `count` processes together that train by the recipe at the same time, for so many seconds.

    Raises RunFailed where they do not fit.
    """
    context = multiprocessing.get_context("spawn")
    options = {"mp_context": context, "initializer": _meet, "initargs": (context.Barrier(count),)}
    with concurrent.futures.ProcessPoolExecutor(count, **options) as pool:
        runs = [pool.submit(_train, recipe, device, seconds, graphs) for _ in range(count)]
    errors = sorted(filter(None, (run.exception() for run in runs)), key=lambda error: isinstance(error, Unmet))
    if errors:
        raise RunFailed(f"{count} runs at once cannot be on {device}: {errors[0]}") from errors[0]
    return sum(run.result() for run in runs)


def _meet(barrier):
    global _barrier
    _barrier = barrier


def _train(recipe, device, seconds, graphs):
    """Images a second of one of the processes, from when all of them have done their first steps."""
    try:
        train.set_up_backends(device, deterministic=False)
        case, steps = Case(recipe, device, graphs=graphs), 0
        for _ in range(CALLS[device.type]):
            case.step()
        synchronize(device)
    except BaseException:
        _barrier.abort()  # the others need not wait
        raise
    _barrier.wait(60 * START_MINUTES)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(CALLS[device.type]):
            case.step()
        synchronize(device)
        steps += CALLS[device.type]
    return steps * recipe.batch_size / (time.perf_counter() - start)
