"""DropBlock (Ghiasi et al., NeurIPS 2018) as PatchUp's official code runs it.

    gamma = (1 - keep_prob) H W / (b^2 (H - b + 1)(W - b + 1))         b: block_size, H x W: feature map
    seeds ~ Bernoulli(gamma) at every position of every sample and channel
    M     = 0 in a b x b block around every seed, truncated at the borders, else 1
    h'    = h M numel(M) / sum(M)                                      over the whole batch

at every stage of `layers` in the same pass. Blocks overlap and meet the borders, so less than 1 - keep_prob is dropped:
12.7 % of a 32x32 map for b = 7 and keep_prob = 0.9, 14.1 % away from its borders. The DropBlock paper instead anneals
keep_prob from 1 and allows seeds only where the whole block fits.

Seeds are rare (0.3 %), so they are not drawn position by position: the gaps between the successes of a Bernoulli
process are geometric, and these are drawn, which is the same law. All shapes follow from those of h alone.
"""

import math

import torch

from .base import Regularizer, check_count, check_layers
from .patchup import adjusted_gamma, check_block, spread


def draws_needed(count, prob):
    """How many gaps reach past `count` positions, but for a probability of 1e-12 (Bernstein's inequality)."""
    mean, log = count * prob, 12 * math.log(10)
    return min(count, math.ceil(mean + log / 3 + math.sqrt(log**2 / 9 + 2 * mean * log)))


def seed_positions(uniform, prob, count):
    """Successes of a Bernoulli(prob) process, ascending int64 [n]; those from `count` on are surplus.

    uniform: float64 [n] in [0, 1), one draw for each gap; prob in (0, 1].
    """
    failures = torch.log1p(-uniform) / (math.log1p(-prob) if prob < 1 else -math.inf)  # geometric, once rounded down
    return (failures.clamp(max=count).long() + 1).cumsum(0) - 1


def block_mask_from_seeds(positions, shape, block_size):
    """1 - M: bool of shape [B, C, H, W], True in the blocks around seeds.

    positions: int64 [n], places in the flattened shape; those past its end are ignored. A block of even size reaches
    one feature further up and left than down and right.
    """
    *maps, height, width = shape
    before, after = block_size // 2, (block_size - 1) // 2
    rows, columns = height + block_size - 1, width + block_size - 1  # a padded map holds every block whole
    size = math.prod(maps) * rows * columns
    index, within = positions // (height * width), positions % (height * width)
    start = (index * rows + within // width + after) * columns + within % width  # of a block's row on the padded map
    strips = torch.zeros(size + block_size, dtype=torch.bool, device=positions.device)  # the end is a bin
    strip = start.clamp(max=size)[:, None] + torch.arange(block_size, device=positions.device)
    strips.index_fill_(0, strip.flatten(), True)
    dropped = spread(strips[:size].view(*maps, rows, columns), block_size, -2)
    return dropped[..., before : before + width]


def drop(h, dropped):
    """h [B, C, H, W], 0 where dropped (bool, same shape) and elsewhere scaled by numel / number kept."""
    kept = h.numel() - dropped.sum(dtype=torch.int32)
    return torch.where(dropped, 0, h * (h.numel() / kept.clamp(min=1)))


class DropBlock(Regularizer):
    """DropBlock.

    Args:
        num_classes, criterion: see Regularizer.
        keep_prob: share of features to keep, in (0, 1], before the blocks overlap and meet the borders; 1 drops none.
        block_size: side of a block in features, from 1 up.
        layers: stage indices k where it acts, all of them in every pass (1, 2: the outputs of conv1 and layer1).

    Raises ValueError for an impossible value.
    """

    name = "dropblock"

    def __init__(self, num_classes, criterion="bce", *, keep_prob=0.9, block_size=7, layers=(1, 2)):
        super().__init__(num_classes, criterion)
        if not 0 < keep_prob <= 1:
            raise ValueError(f"keep_prob must lie in (0, 1], not {keep_prob}")
        check_count("block_size", block_size)
        check_layers(layers)
        self.keep_prob = keep_prob
        self.block_size = block_size
        self.layers = tuple(layers)

    def check(self, shapes):
        """Raise ValueError where a layer does not exist or the block exceeds its feature map; shapes [C, H, W]."""
        check_layers(self.layers, shapes)
        for k in self.layers:
            check_block(self.block_size, *shapes[k][1:], f" (layer {k})")

    def draw_mask(self, h):
        """1 - M for h [B, C, H, W]: bool of its shape, True where features are dropped."""
        prob = adjusted_gamma(1 - self.keep_prob, self.block_size, *h.shape[2:])
        draws = draws_needed(h.numel(), prob)
        uniform = torch.rand(draws, dtype=torch.float64, device=h.device, generator=self.generator(h.device))
        dropped = block_mask_from_seeds(seed_positions(uniform, prob, h.numel()), h.shape, self.block_size)
        return torch.empty_like(h, dtype=torch.bool).copy_(dropped)  # in h's memory layout

    def branch(self):
        """One for all batches; see Regularizer.branch."""
        return ()

    def mix(self, k, h):
        """h with blocks dropped where k is one of layers, else h itself."""
        if k not in self.layers or self.keep_prob == 1:
            return h
        return drop(h, self.once(k, lambda: self.draw_mask(h)))
