"""How long runs will take: from their logs, or from a few training steps timed on this device.

Estimates of the training alone, without evaluations; Puzzle Mix is timed, all other methods are taken to be as fast as
`none` (they cost at most a few percent more).
"""

import dataclasses
import functools
import heapq
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import data
import recipes
from data.splits import split
from engine.device import best_amp, environment, set_up_backends
from engine.files import NUMBER, make_folder, read_json, write_json
from scripts.bench.timing import Case, timed

TIMED_STEPS = 2
GRAPHED_STEPS = 40  # before graphed ones are timed: every branch of a method is recorded in them
CPU_BATCH = 10  # images of a first timed step
SLOW = 3  # seconds of a step with all images that is not timed


# ---- images ----


@functools.cache
def images_of(dataset, folder):
    """(training images of every class, whether some of them validate), of the full set, or of a folder of images.

    Raises data.DataError for a folder that does not exist.
    """
    facts = data.FACTS[dataset]
    if facts.train_images:
        return facts.train_images, True
    parts = facts.reader(Path(folder)).parts
    return tuple(np.bincount(parts["train"].labels).tolist()), "val" not in parts


def training_images(recipe):
    """The number of images that an epoch trains on."""
    counts, held_out = images_of(recipe.dataset, recipe.images)
    return _training_images(counts, recipe.val_per_class if held_out else 0, recipe.train_per_class)


@functools.cache
def _training_images(counts, val_per_class, train_per_class):
    labels = np.repeat(np.arange(len(counts)), counts)
    return len(split(labels, range(len(counts)), 0, val_per_class, train_per_class)[0])


# ---- speed ----


class Speeds:
    """Images a second of training steps on a device, with graphs or without, measured once and kept in a file.

    {device, torch and threads: {setting: images a second, or null where a step does not fit in memory}}.
    """

    def __init__(self, path, device, graphs=False):
        self.path, self.device, self.graphs = Path(path), device, graphs and device.type == "cuda"
        facts = environment(device)
        place = ", ".join(f"{name} {facts[name]}" for name in ("device", "torch", "threads")) + ", graphs" * self.graphs
        self.kept, shape = {}, {...: {...: (*NUMBER, type(None))}}
        if self.path.exists():
            self.kept = read_json(path, "a dry run", "; remove it to measure again", fields=shape)
        self.speeds = self.kept.setdefault(place, {})

    def measure(self, wanted):
        """Measure what is missing for the recipes in wanted. Raises RunFailed where it cannot be kept."""
        missing = {name: recipe for recipe in wanted if (name := setting(recipe)) not in self.speeds}
        for name, recipe in tqdm(missing.items(), "measuring", unit="setting", dynamic_ncols=True, disable=not missing):
            self.speeds[name] = images_per_second(recipe, self.device, self.graphs)
            make_folder(self.path.parent)
            write_json(self.path, self.kept)

    def of(self, recipe):
        """Images a second of a recipe that was measured, or None."""
        return self.speeds[setting(recipe)]


def setting(recipe):
    """What of a recipe decides its speed, in words."""
    names = ("model", "width", "stem", "stem_stride", "image_size", "batch_size", "amp", "channels_last")
    values = recipes.used(recipe)
    words = [f"{name} {values[name]}" for name in names if name in values]
    kind = "puzzlemix" if recipe.method == "puzzlemix" else "none"
    return ", ".join([*words, f"classes {len(images_of(recipe.dataset, recipe.images)[0])}", kind])


def images_per_second(recipe, device, graphs=False):
    """Images a second of the recipe's training steps on random images, or None where the memory does not suffice.

    On a CPU, where a step can take a minute, by a step of a few images, and by a whole one if that is quick. With
    --compile it is the speed without.
    """
    method = "puzzlemix" if recipe.method == "puzzlemix" else "none"
    recipe = dataclasses.replace(recipe, method=method, compile=False)
    try:
        if device.type == "cpu":
            speed = _speed(recipe, device, min(recipe.batch_size, CPU_BATCH), graphs)
            if recipe.batch_size / speed > SLOW:
                return speed
        return _speed(recipe, device, recipe.batch_size, graphs)
    except torch.OutOfMemoryError:
        return None


def _speed(recipe, device, size, graphs):
    """Images a second of steps of so many images."""
    classes = len(images_of(recipe.dataset, recipe.images)[0])
    case = Case(dataclasses.replace(recipe, batch_size=size), device, classes, graphs)
    for _ in range(GRAPHED_STEPS if graphs else 1):
        case.step()
    return round(size / timed(case.step, device, TIMED_STEPS), 2)


# ---- hours ----


def hours_left(states, path, device, graphs):
    """{job: hours of training left, or None where a step does not fit in memory}.

    states: {job: State of its files}; path: the file of the Speeds. A begun run goes on at its logged speed.
    """
    speeds = Speeds(path, device, graphs)
    set_up_backends(device, deterministic=False)
    speeds.measure(job.recipe for job, state in states.items() if not state.epoch)
    hours = {}
    for job, state in states.items():
        if state.epoch:
            hours[job] = (state.epochs - state.epoch) * (state.seconds or 0) / state.epoch / 3600
        else:
            hours[job] = _hours(job.recipe, speeds.of(job.recipe))
    return hours


def _hours(recipe, speed):
    return recipe.epochs * training_images(recipe) / speed / 3600 if speed else None


def gain_of_amp(states, path, device, graphs):
    """What --amp auto would choose on the device and save of the runs not begun, a line; None where it is no choice."""
    amp = best_amp(device)
    plain = [job.recipe for job, state in states.items() if not state.epoch and job.recipe.amp == "off"]
    if amp == "off" or not plain:
        return None
    speeds = Speeds(path, device, graphs)
    faster = [dataclasses.replace(recipe, amp=amp) for recipe in plain]
    speeds.measure(plain + faster)
    slow, fast = (sum(_hours(recipe, speeds.of(recipe)) or 0 for recipe in group) for group in (plain, faster))
    return f"--amp auto would choose {amp} here: {fast:,.1f} instead of {slow:,.1f} hours for the runs not begun"


def in_words(hours):
    """`12.3 hours`; below an hour `2 minutes`, at least 1."""
    if hours >= 1:
        return f"{hours:,.1f} hours"
    minutes = max(1, round(60 * hours)) if hours else 0
    return f"{minutes} minute{'s' * (minutes != 1)}"


def wall_time(hours, at_once):
    """The hours until all is done where so many are done at once, each begun when a place is free."""
    ends = [0.0] * at_once
    for duration in hours:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)
