"""Batches of normalised images. Every random choice is a function of (seed, epoch), so that any step can come first."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageStat

from . import augment
from .errors import DataError
from .images import fit, pixels, read_image
from .workers import Arrays, parallel

# Keep the draws for training and for validation images apart from each other and from other uses of the same seed.
TRAIN, VAL = 0xDA7A0002, 0xDA7A0003
SUBSET = 0xDA7A0004


def normalise(x, mean, std):
    """uint8 images [..., 3, H, W] as float32, normalised per channel; mean and std [3] belong to values in 0..1."""
    mean, std = (torch.as_tensor(v, dtype=torch.float32, device=x.device).view(3, 1, 1) for v in (mean, std))
    return x.float().sub_(255 * mean).div_(255 * std)


def crop_flip(x, offsets, flips, padding):
    """Mirror and shift images [B, 3, H, W] by the choice made for each: a crop out of the image with black borders.

    flips: int64 [B], 1 to mirror left and right; offsets: int64 [B, 2], the crop's top and left in 0..2 * padding.
    """
    batch, _, height, width = x.shape
    bordered = F.pad(torch.cat((x, x.flip(3))), (padding,) * 4)
    windows = bordered.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(batch, device=x.device) + batch * flips, :, offsets[:, 0], offsets[:, 1]]


class Pool:
    """Decoded images, uint8 [N, 3, H, W], and their labels, int64 [N], shared by the splits that are made of them."""

    def __init__(self, images, labels):
        self.images = torch.from_numpy(images)
        self.labels = torch.from_numpy(labels)

    def to(self, device):
        """Move both to the device, once."""
        self.images, self.labels = self.images.to(device), self.labels.to(device)


class Loader:
    """What all splits have in common.

    positions: the split's images in its pool, int64 [n]; labels: the whole pool's. augment: None, TRAIN (augmented, in
    an order drawn for every epoch) or VAL (augmented, in fixed order); mean, std: per channel, of values in 0..1.
    """

    def __init__(self, positions, *, seed, augment, mean, std):
        self.positions = positions
        self.seed = seed
        self.augment = augment
        self.mean = mean
        self.std = std

    def __len__(self):
        return len(self.positions)

    def limited(self, count):
        """This split with `count` of its images, always the same, in the split's order (None: all)."""
        part = copy.copy(self)
        if count is not None:
            part.positions = np.sort(np.random.default_rng(SUBSET).permutation(self.positions)[:count])
        return part

    def augmented(self):
        """This split with every image augmented as the official code does for validation, in fixed order."""
        part = copy.copy(self)
        part.augment = VAL
        return part

    def size(self, batch_size, step):
        """Images of the step-th batch, of all ranks together."""
        return min(batch_size, len(self) - step * batch_size)

    def steps(self, batch_size, world=1):
        """Batches an epoch. batch_size counts the images of all `world` ranks together.

        The last batch may be smaller, but a training batch with fewer images than ranks is left out.
        """
        if not 1 <= world <= batch_size:
            raise DataError(f"batch_size must be at least 1 and the number of processes ({world}), not {batch_size}")
        full, rest = divmod(len(self), batch_size)
        needed = world if self.augment == TRAIN else 1
        return full + (rest >= needed)

    def generator(self, epoch, *key):
        """The numpy generator of an epoch, or of what else the key names in it."""
        return np.random.default_rng((self.seed, epoch, self.augment, *key))

    def order(self, epoch):
        """The order of an epoch's images, int64 [n], each 0..n - 1 once."""
        return self.generator(epoch).permutation(len(self)) if self.augment == TRAIN else np.arange(len(self))

    def shares(self, batch_size, start, rank, world):
        """Yield the slice of the epoch's order that is the rank's share of every batch from step `start` on.

        Shares of one batch differ by at most one image.
        """
        for step in range(start, self.steps(batch_size, world)):
            first, size = step * batch_size, self.size(batch_size, step)
            mine = slice(first + size * rank // world, first + size * (rank + 1) // world)
            if mine.start < mine.stop:
                yield mine


class MemoryLoader(Loader):
    """A split of a decoded pool; whole batches are cropped, mirrored and normalised on the device.

    images, labels: the pool's (uint8 [N, 3, H, W], int64 [N]), on the device of the latest batches.
    """

    def __init__(self, pool, positions, *, padding, flip, **common):
        super().__init__(positions, **common)
        self.pool = pool
        self.padding = padding
        self.flip = flip

    @property
    def images(self):
        return self.pool.images

    @property
    def labels(self):
        return self.pool.labels

    def choices(self, epoch):
        """An epoch's draws in its order: rows of the pool [n], crop offsets [n, 2], mirrored or not [n]; all int64."""
        n = len(self)
        if self.augment is None:
            return self.positions, None, None
        rng = self.generator(epoch)
        order = rng.permutation(n) if self.augment == TRAIN else np.arange(n)
        offsets = rng.integers(0, 2 * self.padding + 1, (n, 2))
        flips = rng.integers(0, 2, n) * self.flip
        return self.positions[order], offsets.take(order, axis=0), flips[order]

    def batches(self, batch_size, device="cpu", epoch=0, start=0, rank=0, world=1):
        """Yield an epoch's batches from step `start` on: x float32 [B, 3, H, W], y int64 [B], on the device.

        Of every batch of batch_size images, rank's share among `world` processes.
        """
        self.pool.to(device)
        rows, offsets, flips = (None if v is None else torch.from_numpy(v).to(device) for v in self.choices(epoch))
        mean, std = (torch.tensor(v, dtype=torch.float32, device=device) for v in (self.mean, self.std))
        for mine in self.shares(batch_size, start, rank, world):
            x = self.images.index_select(0, rows[mine])
            if self.augment is not None:
                x = crop_flip(x, offsets[mine], flips[mine], self.padding)
            yield normalise(x, mean, std), self.labels.index_select(0, rows[mine])

    def pixel_batches(self, batch_size, device="cpu", start=0):
        """Yield the images as they are, from the start-th on, in the split's order.

        x uint8 [B, 3, H, W], y int64 [B] and their rows in the pool, int64 [B], on the device.
        """
        self.pool.to(device)
        for rows in torch.from_numpy(self.positions[start:]).to(device).split(batch_size):
            yield self.images.index_select(0, rows), self.labels.index_select(0, rows), rows


class StreamLoader(Loader):
    """A split of image files too many to keep decoded: ImageNet's augmentation in worker processes.

    Training: a random part of the image scaled to image_size, mirrored, colours jittered (augment.py). Otherwise the
    shorter side scaled to 8/7 of image_size (256 for 224) and the centre cropped.
    """

    def __init__(self, files, positions, *, image_size, flip, workers, **common):
        super().__init__(positions, **common)
        self.files = files
        self.image_size = image_size
        self.flip = flip
        self.workers = workers

    @property
    def labels(self):
        return torch.from_numpy(self.files.labels)

    def batches(self, batch_size, device="cpu", epoch=0, start=0, rank=0, world=1):
        """As MemoryLoader.batches. Raises DataError naming an image that cannot be read."""
        rows = self.positions[self.order(epoch)]
        keys = ((epoch, rows[mine]) for mine in self.shares(batch_size, start, rank, world))
        pin = torch.device(device).type == "cuda"
        for batch in parallel(self.prepare, keys, self.workers, pin_memory=pin):
            x, colour, y = (torch.as_tensor(v).to(device, non_blocking=True) for v in batch)
            yield augment.recolour(x, colour), y

    def pixel_batches(self, batch_size, device="cpu", start=0):
        """As MemoryLoader.pixel_batches: the images scaled and cropped as for testing, whatever `augment` is."""
        plain, rows = copy.copy(self), self.positions[start:]
        plain.augment = None
        keys = ((0, rows[i : i + batch_size]) for i in range(0, len(rows), batch_size))
        parts = torch.from_numpy(rows).split(batch_size)
        for part, (x, _, y) in zip(parts, parallel(plain.prepare, keys, self.workers)):
            yield torch.from_numpy(x).to(device), torch.from_numpy(y).to(device), part.to(device)

    def prepare(self, key):
        """For key = (epoch, rows of the pool [B]), as numpy: x uint8 [B, 3, S, S], colour matrices [B, 3, 4], y [B]."""
        epoch, rows = key
        x = np.empty((len(rows), 3, self.image_size, self.image_size), np.uint8)
        colour = np.empty((len(rows), 3, 4), np.float32)
        for i, row in enumerate(rows):
            image, change = self.prepared(epoch, int(row))
            x[i] = pixels(image)
            colour[i] = augment.normalising(change, self.mean, self.std)
        return Arrays(x, colour, self.files.labels[rows])

    def prepared(self, epoch, row):
        """One square PIL image of image_size pixels, and the matrix [3, 4] to apply to its colours in 0..1."""
        image = read_image(self.files.path(row))
        side = self.image_size
        if self.augment is None:
            return fit(image, round(side * 8 / 7), side), np.eye(3, 4)
        rng = self.generator(epoch, 1 + row)
        image = image.crop(augment.random_box(rng, *image.size)).resize((side, side), Image.Resampling.BILINEAR)
        if rng.random() < 0.5 and self.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return image, augment.jitter(rng, np.array(ImageStat.Stat(image).mean) / 255)  # numpy's mean is far slower
