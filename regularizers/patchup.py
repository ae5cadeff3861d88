"""Soft and Hard PatchUp (Faramarzi et al., AAAI 2022), equations 2 to 8.

For a batch of samples x_i, each with a partner x_j from one permutation of the batch, at a stage k drawn from `layers`:

    gamma_adj = gamma H W / (b^2 (H - b + 1)(W - b + 1))                        (2)   b: block_size, H x W: feature map
    M         = 1 except in b x b blocks around seeds ~ Bernoulli(gamma_adj)          one seed per channel and position
    phi_hard  = M g_k(x_i) + (1 - M) g_k(x_j)                                   (3)
    Mix_l(a, b) = l a + (1 - l) b                                               (4)
    phi_soft  = M g_k(x_i) + Mix_l[(1 - M) g_k(x_i), (1 - M) g_k(x_j)]          (5)   l = lambda ~ Beta(alpha, alpha)
    L         = Mix_pu[l(f, y_i), l(f, Y)] + l(f, W)                            (6)   f = f_k(phi), l: the criterion
    W         = Mix_pu(y_i, Y)                                                (7, 8)   p_u: mean of M

with Y = y_j for Hard and Y = Mix_l(y_i, y_j) for Soft. Hard is Soft with lambda = 0.

As in the official code M is [1, C, H, W], shared by the samples of a batch, blocks are truncated at the borders, and
p_u is the realised unchanged fraction, not 1 - gamma. At k = 0 the mask is one CutMix box and Soft swaps too (section
PatchUp in Input Space). Both criteria are linear in the target, so the two terms of (6) are equal and L = 2 l(f, W).
"""

import torch
import torch.nn.functional as F

from .base import Regularizer, check_choice, check_count, check_layers, check_positive, check_probability
from .cutmix import box_mask, draw_box


def check_block(block_size, height, width, where=""):
    """Raise ValueError where a block exceeds its feature map; where: appended to the message."""
    if block_size > min(height, width):
        raise ValueError(f"block_size {block_size} does not fit a feature map of {height}x{width}{where}")


def adjusted_gamma(gamma, block_size, height, width):
    """Probability of a seed, equation 2, generalised to maps of any height and width >= block_size.

    Raises ValueError where the block does not fit the map.
    """
    check_block(block_size, height, width)
    return gamma * height * width / (block_size**2 * (height - block_size + 1) * (width - block_size + 1))


def block_mask(seeds, block_size):
    """The mask M, bool, True where a feature stays: False in a block around every seed, truncated at the borders.

    seeds: bool [..., C, H, W]. A block of even size reaches one feature further up and left than down and right.
    """
    before, after = (block_size - 1) // 2, block_size // 2
    blocks = F.pad(seeds, (before, after, before, after))
    for axis in (-1, -2):
        blocks = spread(blocks, block_size, axis)
    return ~blocks


def spread(seeds, length, axis):
    """seeds, bool, or-ed over every `length` neighbours along the axis, which becomes shorter by length - 1.

    Runs of True double with every step, which takes far less than a max-pooling.
    """
    done = 1
    while done < length:
        step = min(done, length - done)
        size = seeds.shape[axis] - step
        seeds = seeds.narrow(axis, 0, size) | seeds.narrow(axis, step, size)
        done += step
    return seeds


class PatchUp(Regularizer):
    """What Soft and Hard PatchUp share.

    Args:
        num_classes, criterion: see Regularizer.
        prob: probability that a batch is mixed, in [0, 1] (the paper's patchup_prob).
        gamma: share of features to alter, in [0, 1], before the blocks overlap and meet the borders.
        block_size: side of a block in features: one number, or one for each stage k = 1, 2, ... (k = 0 uses the first).
        layers: stage indices k to draw from, uniformly; 0 is the image.
        mask_per: `batch`, one mask for all samples, as the official code; or `sample`.
        input_mask: at k = 0 a CutMix `box`, or a `patchup` mask (Table 7).
        loss_terms: of equation 6, `both`, the `first` or the `second` (Table 6); or `official_second`, what the
            official code computes where it is asked for the second alone: (1 - p_u) l(f, Y) + l(f, W).
        input_target: W at k = 0: `mixed`, equations 7 and 8; or the sample's `own` label, as in the official WRN,
            where the two terms then differ.

    Raises ValueError for an impossible value.
    """

    def __init__(
        self,
        num_classes,
        criterion="bce",
        *,
        prob,
        gamma,
        block_size=7,
        layers=(0, 1, 2),
        mask_per="batch",
        input_mask="box",
        loss_terms="both",
        input_target="mixed",
    ):
        super().__init__(num_classes, criterion)
        check_probability("prob", prob)
        check_probability("gamma", gamma)
        check_layers(layers)
        check_choice("mask_per", mask_per, ("batch", "sample"))
        check_choice("input_mask", input_mask, ("box", "patchup"))
        check_choice("loss_terms", loss_terms, ("both", "first", "second", "official_second"))
        check_choice("input_target", input_target, ("mixed", "own"))
        self.block_sizes = tuple(block_size) if isinstance(block_size, (tuple, list)) else (block_size,)
        for size in self.block_sizes:
            check_count("block_size", size)
        self.prob = prob
        self.gamma = gamma
        self.layers = tuple(layers)
        self.mask_per = mask_per
        self.input_mask = input_mask
        self.loss_terms = loss_terms
        self.input_target = input_target

    def block_size_at(self, k):
        """The block's side at stage k; the last one given holds for all stages after it."""
        return self.block_sizes[min(max(k - 1, 0), len(self.block_sizes) - 1)]

    def check(self, shapes):
        """Raise ValueError where a layer does not exist or its block exceeds its feature map; shapes [C, H, W]."""
        check_layers(self.layers, shapes)
        for k in self.layers:
            if k > 0 or self.input_mask == "patchup":
                check_block(self.block_size_at(k), *shapes[k][1:], f" (layer {k})")

    def draw_lam(self):
        """lambda of this batch: the partner's features enter with 1 - lambda."""
        raise NotImplementedError

    def draw_mask(self, k, h):
        """The mask M of stage k's input h, bool [1 or B, C or 1, H, W]."""
        if k == 0 and self.input_mask == "box":
            return self.box
        size = self.block_size_at(k)
        shape = (len(h) if self.mask_per == "sample" else 1, *h.shape[1:])
        uniform = torch.rand(shape, device=h.device, generator=self.generator(h.device))
        return block_mask(uniform < adjusted_gamma(self.gamma, size, *h.shape[2:]), size)

    def draw(self, x, y, net):
        """Choose whether to mix, the stage k, lambda and the partners; see Regularizer.draw."""
        super().draw(x, y, net)
        self.y_i = self.target
        self.k = None
        if self.rng.random() < self.prob:
            self.k = int(self.rng.choice(self.layers))
            self.lam = self.on_device(0.0 if self.k == 0 else self.draw_lam(), x)
            self.partner = self.permutation(x)
            if self.k == 0 and self.input_mask == "box":
                self.box = box_mask(draw_box(self.rng, *x.shape[2:]), *x.shape[2:], x.device)

    def branch(self):
        """The stage k, or none; see Regularizer.branch."""
        return () if self.k is None else self.k

    def mix(self, k, h):
        """phi_k where k is the drawn stage, else h itself; fixes p_u, Y and W."""
        if k != self.k:
            return h
        M = self.once(k, lambda: self.draw_mask(k, h))
        self.p_u = M.float().mean(dim=(1, 2, 3))[:, None]  # [1 or B, 1]
        self.Y = self.lam * self.y_i + (1 - self.lam) * self.y_i[self.partner]
        if k > 0 or self.input_target == "mixed":
            self.target = self.p_u * self.y_i + (1 - self.p_u) * self.Y  # W
        return self.blend(h, (1 - self.lam) * (~M).to(h.dtype))

    def terms(self):
        """2 for both terms of equation 6, whose weights sum to 1 each; see Regularizer.terms."""
        if self.k is None or self.loss_terms in ("first", "second"):
            return 1
        return 2 if self.loss_terms == "both" else 2 - self.p_u.mean()

    def loss(self, logits):
        """Equation 6, or the terms of it named by loss_terms; the plain loss for a batch that was not mixed."""
        if self.k is None or self.loss_terms == "second":
            return super().loss(logits)
        if self.loss_terms == "both" and (self.k > 0 or self.input_target == "mixed"):
            return 2 * super().loss(logits)
        p_u = self.p_u[:, 0]
        others = (1 - p_u) * self.criterion(logits, self.Y)
        if self.loss_terms == "official_second":
            return (others + self.criterion(logits, self.target)).mean()
        first = p_u * self.criterion(logits, self.y_i) + others
        return (first if self.loss_terms == "first" else first + self.criterion(logits, self.target)).mean()


class HardPatchUp(PatchUp):
    """Hard PatchUp: blocks are swapped. Defaults: the paper's."""

    name = "patchup_hard"

    def __init__(self, num_classes, criterion="bce", *, prob=0.7, gamma=0.5, **options):
        super().__init__(num_classes, criterion, prob=prob, gamma=gamma, **options)

    def draw_lam(self):
        return 0.0


class SoftPatchUp(PatchUp):
    """Soft PatchUp: blocks are mixed, lambda ~ Beta(alpha, alpha) once per batch, alpha > 0. Defaults: the paper's."""

    name = "patchup_soft"

    def __init__(self, num_classes, criterion="bce", *, prob=1.0, gamma=0.75, alpha=2.0, **options):
        super().__init__(num_classes, criterion, prob=prob, gamma=gamma, **options)
        check_positive("alpha", alpha)
        self.alpha = alpha

    def draw_lam(self):
        return self.rng.beta(self.alpha, self.alpha)
