"""Feature CutMix (Yun et al., ICCV 2019, section 4.1.1): CutMix at a stage drawn for every mini-batch.

    h'_i = M h_i + (1 - M) h_j,     y'_i = lambda y_i + (1 - lambda) y_j     at the input h = g_k(x) of stage k

The box is drawn on stage k's map as CutMix draws it on the image, for all channels alike; lambda is the part of the map
that is kept. The paper draws the layer as ManifoldMixup does and has alpha = 1. It does not say which layers it draws
from, nor whether every batch is mixed: 0, 1, 2 and yes are our choice.
"""

import torch

from .base import Regularizer, check_layers, check_positive, check_probability
from .cutmix import box_mask, draw_box, kept_fraction


class FeatureCutMix(Regularizer):
    """Feature CutMix. prob, alpha: see CutMix; layers: stage indices k to draw from, 0 the image."""

    name = "feature_cutmix"

    def __init__(self, num_classes, criterion="bce", *, prob=1.0, alpha=1.0, layers=(0, 1, 2)):
        super().__init__(num_classes, criterion)
        check_probability("prob", prob)
        check_positive("alpha", alpha)
        check_layers(layers)
        self.prob, self.alpha, self.layers = prob, alpha, tuple(layers)

    def check(self, shapes):
        """Raise ValueError where the network has not all layers; see Regularizer.check."""
        check_layers(self.layers, shapes)

    def draw(self, x, y, net):
        """Choose whether to mix, the stage k and the partners; see Regularizer.draw."""
        super().draw(x, y, net)
        self.y_i = self.target
        self.k = int(self.rng.choice(self.layers)) if self.rng.random() < self.prob else None
        self.partner = self.permutation(x)

    def mix(self, k, h):
        """h with a box swapped where k is the drawn stage, else h itself; mixes the targets by the box's area."""
        if k != self.k:
            return h
        size = h.shape[2:]
        box = self.once(k, lambda: draw_box(self.rng, *size, self.alpha))
        self.target = torch.lerp(self.y_i[self.partner], self.y_i, kept_fraction(box, *size))
        return self.blend(h, ~box_mask(box, *size, h.device))
