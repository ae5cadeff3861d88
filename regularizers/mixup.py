"""Mixup (Zhang et al., ICLR 2018) and Manifold Mixup (Verma et al., ICML 2019).

For a batch of samples with hidden states h_i = g_k(x_i), each with a partner j from one permutation of the batch:

    h'_i = lambda h_i + (1 - lambda) h_j
    y'_i = lambda y_i + (1 - lambda) y_j,     lambda ~ Beta(alpha, alpha), one per batch

Mixup mixes the images, k = 0. Manifold Mixup draws k uniformly from `layers`, one for each batch; PatchUp's official
code takes input, conv1 and layer1 (0, 1, 2), Manifold Mixup's official code takes one layer later.
"""

from .base import Regularizer, check_layers, check_positive


class ManifoldMixup(Regularizer):
    """Manifold Mixup.

    Args:
        num_classes, criterion: see Regularizer.
        alpha: of the Beta distribution, above 0 (1.5 for CIFAR and SVHN).
        layers: stage indices k to draw from; 0 is the image.

    Raises ValueError for an impossible value.
    """

    name = "manifold_mixup"

    def __init__(self, num_classes, criterion="bce", *, alpha=1.5, layers=(0, 1, 2)):
        super().__init__(num_classes, criterion)
        check_positive("alpha", alpha)
        check_layers(layers)
        self.alpha = alpha
        self.layers = tuple(layers)

    def check(self, shapes):
        """Raise ValueError where the network has not all layers; see Regularizer.check."""
        check_layers(self.layers, shapes)

    def draw(self, x, y, net):
        """Choose the stage k, lambda and the partners; mix the targets. See Regularizer.draw."""
        super().draw(x, y, net)
        self.k = int(self.rng.choice(self.layers))
        self.lam = self.on_device(self.rng.beta(self.alpha, self.alpha), x)
        self.partner = self.permutation(x)
        self.target = self.blend(self.target, 1 - self.lam)

    def branch(self):
        """The stage k; see Regularizer.branch."""
        return self.k

    def mix(self, k, h):
        """h mixed with its partners where k is the drawn stage, else h itself."""
        return self.blend(h, 1 - self.lam) if k == self.k else h


class Mixup(ManifoldMixup):
    """Mixup: Manifold Mixup of the images alone. alpha above 0 (1.0 for CIFAR and SVHN)."""

    name = "mixup"

    def __init__(self, num_classes, criterion="bce", *, alpha=1.0):
        super().__init__(num_classes, criterion, alpha=alpha, layers=(0,))
