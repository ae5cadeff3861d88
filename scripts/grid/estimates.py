"""How long runs will take: from their own logs, or from a few training steps timed on this device.

Estimates of the training alone, without evaluations; Puzzle Mix is timed, all other methods are taken to be as fast as
`none` (they cost at most a few percent more).
"""

import dataclasses
import functools
import heapq
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from tqdm import tqdm

import data
import recipes
import regularizers
from data.loaders import TRAIN, MemoryLoader, Pool
from data.splits import split
from engine.device import best_amp, environment, set_up_backends
from engine.files import make_folder, read_json, write_json
from engine.trainer import Trainer

TIMED_STEPS = 2
CPU_BATCH = 10  # images a timed step, at most


# ---- images ----


@functools.cache
def pool(dataset, folder):
    """(training images of every class, whether some of them validate), of the full set, or of a folder of images.

    Raises data.DataError for a folder that is not there.
    """
    facts = data.FACTS[dataset]
    if facts.train_images:
        return facts.train_images, True
    parts = facts.reader(Path(folder)).parts
    return tuple(np.bincount(parts["train"].labels).tolist()), "val" not in parts


def training_images(recipe):
    """The number of images that an epoch trains on."""
    counts, held_out = pool(recipe.dataset, recipe.images)
    return _training_images(counts, recipe.val_per_class if held_out else 0, recipe.train_per_class)


@functools.cache
def _training_images(counts, val_per_class, train_per_class):
    labels = np.repeat(np.arange(len(counts)), counts)
    return len(split(labels, range(len(counts)), 0, val_per_class, train_per_class)[0])


# ---- speed ----


class Speeds:
    """Images a second of training steps on a device, measured once and kept in a file.

    {device, torch and threads: {setting: images a second, or null where a step takes more memory than there is}}.
    """

    def __init__(self, path, device):
        self.path, self.device = Path(path), device
        place = environment(device)
        self.place = ", ".join(f"{name} {place[name]}" for name in ("device", "torch", "threads"))
        self.kept = read_json(path, "a dry run", "; remove it to measure again") if self.path.exists() else {}

    def measure(self, wanted):
        """Measure what is missing for the recipes in wanted. Raises RunFailed where it cannot be kept."""
        here = self.kept.setdefault(self.place, {})
        missing = {name: recipe for recipe in wanted if (name := setting(recipe)) not in here}
        for name, recipe in tqdm(missing.items(), "measuring", unit="setting", dynamic_ncols=True, disable=not missing):
            here[name] = images_per_second(recipe, self.device)
            make_folder(self.path.parent)
            write_json(self.path, self.kept)

    def of(self, recipe):
        """Images a second of a recipe that was measured, or None."""
        return self.kept[self.place][setting(recipe)]


def setting(recipe):
    """What of a recipe decides its speed, in words."""
    names = ("model", "width", "stem", "stem_stride", "image_size", "batch_size", "amp", "channels_last")
    values = recipes.used(recipe)
    words = [f"{name} {values[name]}" for name in names if name in values]
    kind = "puzzlemix" if recipe.method == "puzzlemix" else "none"
    return ", ".join([*words, f"classes {len(pool(recipe.dataset, recipe.images)[0])}", kind])


def images_per_second(recipe, device):
    """Images a second of the recipe's training steps on random images, or None where the memory does not suffice.

    On a CPU a step has 10 images at most. With --compile it is the speed without.
    """
    size, classes = recipe.batch_size, len(pool(recipe.dataset, recipe.images)[0])
    recipe = dataclasses.replace(recipe, batch_size=size if device.type == "cuda" else min(size, CPU_BATCH))
    method = recipes.regularizer(recipe, classes)
    if recipe.method != "puzzlemix":
        method = regularizers.build("none", classes, recipe.criterion)
    images = random_images(recipe, classes)
    try:
        trainer = Trainer(recipe, images, recipes.network(recipe, classes), method, device, files=None)
        return _timed(trainer, images.train, device)
    except torch.OutOfMemoryError:
        return None


def random_images(recipe, classes, count=None):
    """A data set of so many random images (None: enough for the warm-up and the timed steps)."""
    rng, count = np.random.default_rng(0), count or (1 + TIMED_STEPS) * recipe.batch_size
    images = rng.integers(0, 256, (count, 3, recipe.image_size, recipe.image_size), dtype=np.uint8)
    labelled, facts = Pool(images, rng.integers(0, classes, count)), data.FACTS[recipe.dataset]
    options = {"mean": facts.mean, "std": facts.std, "padding": recipe.padding or 0, "flip": bool(recipe.flip)}
    loader = MemoryLoader(labelled, np.arange(count), seed=0, augment=TRAIN, **options)
    return SimpleNamespace(train=loader, val=loader, test=loader, digest="")


def _timed(trainer, loader, device):
    trainer.net.train()
    for x, y in loader.batches(trainer.recipe.batch_size, device, epoch=0):
        if trainer.step == 1:  # the first one warms up
            start = now(device)
        trainer.train_step(x, y)
        trainer.step += 1
    return round(TIMED_STEPS * trainer.recipe.batch_size / (now(device) - start), 2)


def now(device):
    """Seconds on a clock, once a GPU has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


# ---- hours ----


def hours_left(states, path, device):
    """{job: hours of training left, or None where a step takes more memory than there is}.

    states: {job: State of its files}; path: the file of the Speeds. A run with an epoch done goes on at its own speed.
    """
    speeds = Speeds(path, device)
    set_up_backends(device, deterministic=False)
    speeds.measure(job.recipe for job, state in states.items() if not state.epoch)
    return {job: _hours(job.recipe, state, speeds) for job, state in states.items()}


def _hours(recipe, state, speeds):
    if state.epoch:
        return (state.epochs - state.epoch) * (state.seconds or 0) / state.epoch / 3600
    speed = speeds.of(recipe)
    return speed and state.epochs * training_images(recipe) / speed / 3600


def gain_of_amp(states, path, device):
    """What --amp auto would choose on the device and save of the runs not begun, a line; None where it is no choice."""
    amp = best_amp(device)
    plain = [job.recipe for job, state in states.items() if not state.epoch and job.recipe.amp == "off"]
    if amp == "off" or not plain:
        return None
    speeds = Speeds(path, device)
    faster = [dataclasses.replace(recipe, amp=amp) for recipe in plain]
    speeds.measure(plain + faster)
    hours = [sum(_hours_at(recipe, speeds.of(recipe)) for recipe in group) for group in (plain, faster)]
    return (
        f"--amp auto would choose {amp} here: {hours[1]:,.1f} instead of {hours[0]:,.1f} hours for the runs not begun"
    )


def _hours_at(recipe, speed):
    return recipe.epochs * training_images(recipe) / speed / 3600 if speed else 0.0


def wall_time(hours, at_once):
    """The hours until all is done where so many are done at once, each begun when a place is free."""
    ends = [0.0] * at_once
    for duration in hours:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)
