"""CutMix (Yun et al., ICCV 2019): a box of the image is replaced by the partner's.

    x'_i = M x_i + (1 - M) x_j,     y'_i = lambda y_i + (1 - lambda) y_j

M is 0 in one box per batch. Its centre is uniform over the image, its sides are sqrt(1 - lambda_0) of the image's with
lambda_0 ~ Beta(alpha, alpha). The box is clipped at the borders, and lambda is the kept fraction of pixels that really
results. The partners come from one permutation of the batch. The criteria are linear in the target, so the loss is
lambda l(f, y_i) + (1 - lambda) l(f, y_j), as the official code writes it.

PatchUp's input branch takes its box from here.
"""

import torch

from .base import Regularizer, check_positive, check_probability


def cut_box(height, width, lam, centre):
    """The box (y1, y2, x1, x2), ends excluded, of about 1 - lam of the image's area around centre (y, x).

    Each side reaches floor(floor(side sqrt(1 - lam)) / 2) pixels either way, clipped at the borders; lam in [0, 1].
    """
    box = ()
    for size, middle in zip((height, width), centre):
        half = int(size * (1 - lam) ** 0.5) // 2
        box += (max(middle - half, 0), min(middle + half, size))
    return box


def draw_box(rng, height, width, alpha=1.0):
    """A random box (y1, y2, x1, x2) in an image of height x width, from the NumPy generator rng; alpha above 0."""
    lam = rng.beta(alpha, alpha)
    return cut_box(height, width, lam, (int(rng.integers(height)), int(rng.integers(width))))


def kept_fraction(box, height, width):
    """The fraction of pixels outside the box (y1, y2, x1, x2)."""
    y1, y2, x1, x2 = box
    return 1 - (y2 - y1) * (x2 - x1) / (height * width)


def box_mask(box, height, width, device=None):
    """The mask M of a box (y1, y2, x1, x2): bool [1, 1, height, width], False inside it."""
    y1, y2, x1, x2 = box
    mask = torch.ones(1, 1, height, width, dtype=torch.bool, device=device)
    mask[:, :, y1:y2, x1:x2] = False
    return mask


class CutMix(Regularizer):
    """CutMix.

    Args:
        num_classes, criterion: see Regularizer.
        prob: probability that a batch is mixed, in [0, 1] (0.4 in PatchUp's comparison).
        alpha: of the Beta distribution, above 0 (the official code's beta); 1 is uniform.

    Raises ValueError for an impossible value.
    """

    name = "cutmix"

    def __init__(self, num_classes, criterion="bce", *, prob=0.4, alpha=1.0):
        super().__init__(num_classes, criterion)
        check_probability("prob", prob)
        check_positive("alpha", alpha)
        self.prob = prob
        self.alpha = alpha

    def draw(self, x, y, net):
        """Choose whether to mix, the box and the partners; mix the targets. See Regularizer.draw."""
        super().draw(x, y, net)
        self.box = None
        if self.rng.random() < self.prob:
            height, width = x.shape[2:]
            self.box = draw_box(self.rng, height, width, self.alpha)
            self.partner = self.permutation(x)
            self.mask = box_mask(self.box, height, width, x.device)
            self.target = torch.lerp(self.target[self.partner], self.target, kept_fraction(self.box, height, width))

    def branch(self):
        """Whether this batch is mixed; see Regularizer.branch."""
        return self.box is not None

    def mix(self, k, h):
        """The images with their boxes swapped at k = 0, where this batch is mixed; else h itself."""
        return self.blend(h, ~self.mask) if k == 0 and self.box is not None else h
