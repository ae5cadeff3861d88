"""Cutout (DeVries and Taylor, 2017): a square hole in the image, the target unchanged.

    x'[:, u, v] = 0 where  c_y - ceil(length / 2) <= u < c_y + floor(length / 2), and likewise v around c_x

with the centre (c_y, c_x) uniform over the image, so that holes are clipped at the borders; inside they have length x
length pixels, odd lengths included. 0 is the mean colour of a normalised image. PatchUp's official code cuts one hole
for the whole mini-batch, Cutout's official code one for every image.
"""

import torch

from .base import Regularizer, check_choice, check_count


def inside(centre, length, size, device):
    """Bool [S, size], True on the pixels of an axis of `size` pixels within length of each of S centres, int64 [S]."""
    first = torch.as_tensor(centre, device=device)[:, None] - (length + 1) // 2
    pixel = torch.arange(size, device=device)
    return (pixel >= first) & (pixel < first + length)


def cut_holes(x, centre_y, centre_x, length):
    """x [B, C, H, W] with a hole at each image's centre; centre_y, centre_x: int64 [B], or [1] for all images alike."""
    rows = inside(centre_y, length, x.shape[2], x.device)
    columns = inside(centre_x, length, x.shape[3], x.device)
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


class Cutout(Regularizer):
    """Cutout.

    Args:
        num_classes, criterion: see Regularizer.
        length: side of the hole in pixels, from 1 up (CIFAR: 16 with PreActResNet, 8 with WRN; SVHN: 20).
        mask_per: `batch`, one hole for all images, as PatchUp's official code; or `sample`.

    Raises ValueError for an impossible value.
    """

    name = "cutout"

    def __init__(self, num_classes, criterion="bce", *, length=16, mask_per="batch"):
        super().__init__(num_classes, criterion)
        check_count("length", length)
        check_choice("mask_per", mask_per, ("batch", "sample"))
        self.length = length
        self.mask_per = mask_per

    def check(self, shapes):
        """Raise ValueError where every hole would cover the whole image; shapes [C, H, W]."""
        height, width = shapes[0][1:]
        if self.length >= 2 * max(height, width):
            raise ValueError(
                f"length must be below {2 * max(height, width)}, not {self.length}: the hole always covers the whole "
                f"{height}x{width} image"
            )

    def draw(self, x, y, net):
        """Choose the holes' centres; the target stays. See Regularizer.draw."""
        super().draw(x, y, net)
        holes = len(x) if self.mask_per == "sample" else 1
        self.centre_y = self.on_device(self.rng.integers(x.shape[2], size=holes), x)
        self.centre_x = self.on_device(self.rng.integers(x.shape[3], size=holes), x)

    def branch(self):
        """One for all batches; see Regularizer.branch."""
        return ()

    def mix(self, k, h):
        """The images with their holes at k = 0, else h itself."""
        return cut_holes(h, self.centre_y, self.centre_x, self.length) if k == 0 else h
