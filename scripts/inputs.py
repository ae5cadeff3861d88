"""Images a second of what comes before a network: training batches in memory, and corrupted test images."""

import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F

import data
import engine
from data import corrupted
from data.corruptions import SCORED, SEVERITIES
from data.loaders import TRAIN, MemoryLoader, Pool
from scripts.timing import timed

EPOCHS = 4  # of which the first warms up


def batches_a_second(device, dataset="cifar100", count=45000, batch_size=100):
    """Images a second of a data set's training batches on the device: cropped, mirrored, normalised; a median."""
    facts, rng = data.FACTS[dataset], np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 3, facts.image_size, facts.image_size), dtype=np.uint8)
    pool = Pool(images, rng.integers(0, facts.num_classes, count))
    options = {"mean": facts.mean, "std": facts.std, "padding": facts.padding, "flip": facts.flip}
    loader = MemoryLoader(pool, np.arange(count), seed=0, augment=TRAIN, **options)
    seconds = [timed(lambda: sum(1 for _ in loader.batches(batch_size, device)), device) for _ in range(EPOCHS)]
    return count / statistics.median(seconds[1:])


def corruptions_a_second(side, workers, count=1000):
    """(name of the images, {corruption: images a second, and `all`}), as eval_corruption.py makes them."""
    coarse = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8))
    images = F.interpolate(coarse, size=side, mode="bilinear").numpy()
    options = {"mean": (0,) * 3, "std": (1,) * 3, "padding": 0, "flip": False}
    test = MemoryLoader(Pool(images, np.zeros(count, np.int64)), np.arange(count), seed=0, augment=None, **options)
    source = corrupted.Generated("folder", test, 0, None, None, workers)
    seconds = {}
    for name in SCORED:
        start = time.perf_counter()
        for severity in SEVERITIES:
            for _ in source.made(name, severity, engine.EVALUATION_BATCH, 0):
                pass
        seconds[name] = time.perf_counter() - start
    speeds = {name: len(SEVERITIES) * count / found for name, found in seconds.items()}
    speeds["all"] = len(SEVERITIES) * count * len(SCORED) / sum(seconds.values())
    return source.label, speeds
