"""Released sets of corrupted images, in small, for the tests."""

import numpy as np
import torch
from PIL import Image

from data import corruptions
from tests.image_files import noise

SCORED = tuple(corruptions.SCORED)


def whole(source, name="impulse_noise", severity=3, size=4, start=0):
    """All images of a case, uint8 [N, 3, H, W]."""
    return torch.cat(list(source.batches(name, severity, size, start))).numpy()


def write_cifar_c(folder):
    """A CIFAR-10-C of 20 images; its folder."""
    folder.mkdir()
    for i, name in enumerate((*SCORED, *corruptions.HELD_OUT)):
        np.save(folder / f"{name}.npy", noise(100, 32, 32, 3, seed=i))
    np.save(folder / "labels.npy", np.tile(np.arange(20) * 7 % 10, 5).astype(np.uint8))
    return folder


def write_tiny_c(folder):
    """A Tiny-ImageNet-C of three classes, nested; its folder."""
    picture = noise(64, 64, 3)
    for name in SCORED:
        for severity in range(1, 6):
            for wnid, count in (("n1", 2), ("n2", 3), ("n3", 1)):
                inside = folder / "Tiny-ImageNet-C" / name / str(severity) / wnid
                inside.mkdir(parents=True)
                for i in range(count):
                    Image.fromarray(picture + np.uint8(10 * severity + i)).save(inside / f"{i}.JPEG")
    return folder
