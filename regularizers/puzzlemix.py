"""Puzzle Mix (Kim, Choo, Song: Puzzle Mix, ICML 2020), as its official code computes it.

The image is cut into b x b blocks, b drawn from 2, 4, 8, 16 for every batch; x1 is an image, x2 its partner, s1 and s2
are their saliencies: the gradient of the clean loss with respect to the image, L2 over channels, averaged in blocks,
summing to 1 over the image. Block p takes the part m_p in {0, 1/(n-1), ..., 1} from x1 and 1 - m_p from x2.

Mask. m minimises exactly, by a minimum cut (see graphcut.py),

    sum_p [m_p s2_p + (1 - m_p) s1_p + prior(m_p)]           saliency lost, and lambda
      + sum_pq [beta' (m_p - m_q)^2 + beta' gamma w_pq(m_p, m_q)]  label smoothness, data-local smoothness
    prior(l / (n-1)) = -eta / b^2 log(Binomial(l; n-1, lambda) + 1e-8),   beta' = beta / (16 b)

with lambda ~ Beta(alpha, alpha), one per batch. For m in {0, 1}, w_pq(m_p, m_q) is the mean absolute difference, over
channels and along the common border, between the pixels (in [0, 1], averaged in cells of neigh_size) of the images
that p and q show. Any such table is a constant + f(m_p) + g(m_q) + d_pq (m_p - m_q)^2, which is also its
continuation to the labels between 0 and 1. |d_pq| <= 1, so with gamma <= 1 the pair term beta' (1 + gamma d_pq) is
never negative, and the whole convex in m_p - m_q.

Transport. Blocks of t_size pixels move within an image towards the places P = {j: m_j > 0} where it is seen. Block i in
place j gains s_i - t_eps |i - j|^2 / (w - 1)^2 on a w x w grid. In each of w rounds every block asks for the seen place
that gains most among those that have not refused it, and every place keeps the block that gains most; blocks do not
move where nothing is gained. x2 moves likewise with 1 - m.
"""

import contextlib
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from . import graphcut
from .base import Regularizer, bce_on_softmax, check_count, check_positive, check_probability
from .cutpool import CutPool

BLOCK_COUNTS = (2, 4, 8, 16)
SALIENCY_SCALE = 1024  # of the clean loss, whose gradient vanishes in half precision; a power of 2 rounds nothing off


def block_counts(height, width):
    """The block counts that divide images of this size; ValueError where no count does or the image is not square."""
    if height != width:
        raise ValueError(f"puzzlemix needs square images, not {height} x {width}")
    counts = [count for count in BLOCK_COUNTS if width % count == 0]
    if not counts:
        raise ValueError(f"puzzlemix needs images whose side is divisible by {BLOCK_COUNTS[0]}, not {width} x {width}")
    return counts


def largest_divisor(size, limit):
    """The largest divisor of size that is at most limit, both integers from 1."""
    return max(d for d in range(1, min(size, limit) + 1) if size % d == 0)


def block_saliency(saliency, blocks):
    """Saliency [B, H, H] averaged in blocks x blocks blocks, [B, blocks, blocks], summing to 1 over each image."""
    pooled = F.avg_pool2d(saliency, saliency.shape[-1] // blocks)
    pooled = pooled + torch.finfo(pooled.dtype).tiny  # an image without any gradient is salient everywhere alike
    return pooled / pooled.sum((1, 2), keepdim=True)


def border_costs(cells, partner, k):
    """w_pq(a, b) of every block p and the block q below it, for a = 1 (x1 at p) or 0 (x2), b likewise at q.

    cells [B, 3, bk, bk], k cells a block's side. Returns w[a][b], each [B, b-1, b].
    """
    above, below = cells[:, :, k - 1 : -1 : k], cells[:, :, k::k]  # p's last row of cells, q's first
    at_p, at_q = (above[partner], above), (below[partner], below)
    return [[F.avg_pool2d((p - q).abs().mean(1), (1, k)) for q in at_q] for p in at_p]


def cut_costs(saliency, pixels, partner, blocks, lam, *, n_labels, eta, beta, gamma, neigh_size):
    """The costs of the mask's energy, [B, n_labels + 2, b, b] with b = blocks.

    Channel l < n_labels is the unary cost of m = l / (n_labels - 1); the last two are the weights of (m_p - m_q)^2
    towards the block below and to the right, 0 at the border.

    saliency: [B, H, H]. pixels: [B, 3, H, H] in units where white - black = 1. partner: int64 [B]. lam: in [0, 1].
    """
    block = pixels.shape[-1] // blocks
    cell = largest_divisor(block, neigh_size)
    cells = F.avg_pool2d(pixels, cell)
    beta = beta / blocks / 16
    cost_of_0 = block_saliency(saliency, blocks)  # m = 0 loses s1
    cost_of_1 = cost_of_0[partner]  # m = 1 loses s2
    down, right = torch.zeros_like(cost_of_0), torch.zeros_like(cost_of_0)
    below = cost_of_0, cost_of_1, down, cells
    beside = cost_of_0.mT, cost_of_1.mT, right.mT, cells.mT  # transposed, the block to the right is the block below
    for of_0, of_1, weight, shown in (below, beside):
        w = border_costs(shown, partner, block // cell)
        (w00, w01), (w10, w11) = [[beta * gamma * w_ab for w_ab in w_a] for w_a in w]
        of_0[:, :-1] += (w00 + w01) / 2  # f(m_p)
        of_1[:, :-1] += (w10 + w11) / 2
        of_0[:, 1:] += (w00 + w10) / 2  # g(m_q)
        of_1[:, 1:] += (w01 + w11) / 2
        weight[:, :-1] = (beta + (w10 + w01 - w11 - w00) / 2).clamp(min=0)  # below 0 only for pixels out of [0, 1]
    last, unary = n_labels - 1, []
    for label in range(n_labels):
        m, chance = label / last, math.comb(last, label) * lam**label * (1 - lam) ** (last - label)
        unary.append(m * cost_of_1 + (1 - m) * cost_of_0 - eta / blocks**2 * math.log(chance + 1e-8))
    return torch.stack([*unary, down, right], dim=1)


def best_mask(costs, solve=graphcut.solve):
    """The mask [B, b, b] in [0, 1], float32, with the least energy for these costs of `cut_costs`.

    The host solves for it, so this waits for the device once. solve: graphcut.solve, or a CutPool's.
    """
    labels = torch.as_tensor(solve(costs.cpu().numpy()))
    return labels.to(costs.device, non_blocking=True).float() / (costs.shape[1] - 3)


def offsets(width, device):
    """All (dy, dx) between places of a width x width grid, nearest first, then row by row: dy, dx, squared length."""
    d = torch.arange(1 - width, width, device=device)
    dy, dx = torch.meshgrid(d, d, indexing="ij")
    length, order = torch.sort((dy**2 + dx**2).flatten(), stable=True)
    return dy.flatten()[order], dx.flatten()[order], length


def wishes(salient, seen, eps):
    """What every block would gain where: triples (block, place, gain), by block and then by falling gain.

    salient [B, w, w], seen bool [B, w, w]. Blocks and places are numbered through the batch, int64; gain > 0, float32.
    Their number is known on the device alone: this waits for it twice.
    """
    width = salient.shape[-1]
    dy, dx, length = offsets(width, salient.device)
    cost = eps * (length.float() / (width - 1) ** 2)
    salient = salient.float().flatten()
    reach = torch.searchsorted(cost, salient)  # how many offsets cost less than the block's saliency
    end = reach.cumsum(0)
    block = torch.repeat_interleave(reach, output_size=int(end[-1]))  # without the size it would wait twice
    offset = torch.arange(len(block), device=block.device) - (end - reach)[block]
    y, x = block // width % width + dy[offset], block % width + dx[offset]
    place = block + dy[offset] * width + dx[offset]
    inside = (y >= 0) & (y < width) & (x >= 0) & (x < width)
    kept = (inside & seen.flatten()[place.clamp(0, seen.numel() - 1)]).nonzero()[:, 0]
    block, place, offset = block[kept], place[kept], offset[kept]
    return block, place, salient[block] - cost[offset]


def transport_plan(salient, seen, eps):
    """Which block comes to every place, int64 [B, w*w], a number from 0 to w*w - 1; unseen places keep their own.

    salient: block saliency [B, w, w]; seen: bool [B, w, w]; eps: price of a move over the grid's side, above 0.
    """
    batch, width = salient.shape[:2]
    block, place, gain = wishes(salient, seen, eps)
    # One integer that orders by gain, then by lower block: a positive float's bits order as the float does.
    bid = (gain.view(torch.int32).long() << 32) - block
    place, bid = F.pad(place, (0, 1)), F.pad(bid, (0, 1))  # the last is no wish: a bid of 0
    blocks = torch.arange(salient.numel(), device=salient.device)
    wish = torch.searchsorted(block, blocks)  # the first of each block, its place of most gain
    end = torch.searchsorted(block, blocks, right=True)
    for _ in range(width):
        wish = torch.where(wish < end, wish, len(block))
        asked, offered = place[wish], bid[wish]
        best = torch.zeros_like(blocks).scatter_reduce(0, asked, offered, "amax")  # bid for every place
        won = (offered > 0) & (offered == best[asked])
        wish = wish + ~won  # the refused ask for their next place
    plan = F.pad(blocks, (0, 1))  # the last takes those who won nothing
    plan[torch.where(won, asked, len(blocks))] = blocks
    return plan[:-1].view(batch, -1) % width**2


def move_blocks(x, plan):
    """x [B, C, H, H] with block plan[b, j] of image b at place j, plan int64 [B, w*w]."""
    width, size = math.isqrt(plan.shape[1]), x.shape[-1]
    side = size // width
    pixel = torch.arange(size**2, device=x.device).view(width, side, width, side)
    corner = pixel[:, 0, :, 0].flatten()
    shift = (corner[plan] - corner).view(-1, width, 1, width, 1)
    index = (pixel + shift).flatten(1)[:, None].expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, index).view_as(x)


def without_float16(device):
    """A context in which autocast to float16 does not hold; one to bfloat16 does."""
    kind = device.type
    is_float16 = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    return torch.autocast(kind, enabled=False) if is_float16 else contextlib.nullcontext()


class KnownGradient(torch.autograd.Function):
    """A scalar value whose gradients with respect to some parameters were computed before.

    So the clean loss needs one backward pass for saliency and parameters together, and holds no graph.
    """

    @staticmethod
    def forward(ctx, value, gradients, *parameters):
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx, factor):
        return None, None, *(factor * gradient for gradient in ctx.gradients)


class PuzzleMix(Regularizer):
    """Puzzle Mix, applied to every batch.

    Args:
        num_classes, criterion: see Regularizer.
        alpha: of the Beta distribution of lambda, above 0 (1.0 for CIFAR).
        n_labels: values a mask can have, 2 to 16 (3: 0, 1/2, 1).
        eta: weight of lambda's prior, at least 0.
        beta: label smoothness, at least 0.
        gamma: data-local smoothness relative to beta, in [0, 1].
        neigh_size: side in pixels of the cells that the data-local smoothness compares, at least 1.
        transport: whether blocks move to where they are seen.
        t_size: side in pixels of the blocks that move, at least 1; -1 for the mask's own blocks. A size that does not
            divide the mask's blocks is lowered to the next size that does (as neigh_size is).
        t_eps: price of a move over the grid's side, in units of the image's whole saliency, above 0; memory grows as
            1 / t_eps.
        clean_lam: weight of the loss of the unmixed images, at least 0. At 0 the saliency is taken in evaluation mode;
            above, in training mode, and clean_lam * 2 CE / C joins the loss (clean_lam * CE with criterion `ce`:
            2 / C is what separates the gradients of the two criteria).
        std: what the pixels in [0, 1] were divided by, one number or one per channel (CIFAR-100's by default).

    Raises ValueError for an impossible value, and for images that are not square or that no block count divides.
    """

    name = "puzzlemix"

    def __init__(
        self,
        num_classes,
        criterion="bce",
        *,
        alpha=1.0,
        n_labels=3,
        eta=0.2,
        beta=1.2,
        gamma=0.5,
        neigh_size=4,
        transport=True,
        t_size=4,
        t_eps=0.8,
        clean_lam=0.0,
        std=(0.267, 0.256, 0.276),
    ):
        super().__init__(num_classes, criterion)
        check_positive("alpha", alpha)
        check_positive("t_eps", t_eps)
        if not isinstance(n_labels, int) or not 2 <= n_labels <= 16:
            raise ValueError(f"n_labels must be an integer from 2 to 16, not {n_labels}")
        for name, value in {"eta": eta, "beta": beta, "clean_lam": clean_lam}.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, not {value}")
        check_probability("gamma", gamma)
        check_count("neigh_size", neigh_size)
        if not isinstance(t_size, int) or (t_size < 1 and t_size != -1):
            raise ValueError(f"t_size must be an integer from 1, or -1 for the mask's own blocks, not {t_size}")
        self.std = np.reshape(std, (-1, 1, 1)).astype(np.float32)
        if not (self.std > 0).all():
            raise ValueError(f"std must be above 0, not {std}")
        self.alpha, self.transport, self.t_size, self.t_eps = alpha, transport, t_size, t_eps
        self.clean_lam = clean_lam
        self.cuts = CutPool(torch.get_num_threads())
        self.energy = {"n_labels": n_labels, "eta": eta, "beta": beta, "gamma": gamma, "neigh_size": neigh_size}

    def check(self, shapes):
        """Raise ValueError for images that are not square or that no block count divides; see Regularizer.check."""
        block_counts(*shapes[0][-2:])

    def draw(self, x, y, net):
        """Take the saliency on the bare net; choose block count, lambda, partners; find mask and moves.

        Leaves x, the parameters' gradients, BatchNorm's running statistics and the modules' modes as they are. Where
        an image's saliency is not finite, its target is NaN, and so is the loss: its mask would mean nothing, and an
        error would need to wait for the device. There are three such waits, see best_mask and wishes, and one without
        transport. See Regularizer.draw.
        """
        super().draw(x, y, net)
        if not isinstance(net, nn.Module):
            raise ValueError(f"puzzlemix looks at the network: draw(x, y, net) needs it, not {type(net).__name__}")
        counts = block_counts(*x.shape[-2:])
        saliency = self.saliency(x, y.long(), net)
        blocks = counts[self.rng.integers(len(counts))]
        lam = self.rng.beta(self.alpha, self.alpha)
        self.partner = self.permutation(x)
        finite = saliency.isfinite().all(2).all(1)[:, None]
        saliency = saliency.where(finite[..., None], 1)
        costs = cut_costs(saliency, x.float() * self.on_device(self.std, x), self.partner, blocks, lam, **self.energy)
        mask = best_mask(costs, self.cuts.solve)
        self.moves = self.plan(saliency, mask) if self.transport else None
        self.mask = F.interpolate(mask[:, None], size=x.shape[-1])  # [B, 1, H, H]: the part of the image itself
        target = torch.lerp(self.target[self.partner], self.target, mask.mean((1, 2))[:, None])
        self.target = target.where(finite, math.nan)

    def saliency(self, x, y, net):
        """Euclidean norm over channels of the clean loss' gradient with respect to x [B, 3, H, W], float32 [B, H, W].

        The pass runs on stand-ins: without clean_lam on parameters that need no gradient, so that none is computed,
        with it on copies of the running statistics, so that these move once a step. With it autocast to float16 is
        left, where the parameters' gradients, summed over the images and scaled, end at 65504.
        """
        parameters = {name: p for name, p in net.named_parameters() if p.requires_grad} if self.clean_lam else {}
        stand_ins = {name: b.clone() for name, b in net.named_buffers()}
        stand_ins |= {name: p.detach() for name, p in net.named_parameters() if name not in parameters}
        x = x.detach().requires_grad_()
        modes = [(module, module.training) for module in net.modules()]
        net.train(bool(self.clean_lam))
        try:
            with torch.enable_grad(), without_float16(x.device) if self.clean_lam else contextlib.nullcontext():
                logits = functional_call(net, stand_ins, (x,))
                loss = SALIENCY_SCALE * F.cross_entropy(logits.float(), y, reduction="sum")
            gradient, *clean = torch.autograd.grad(loss, [x, *parameters.values()])
        finally:
            for module, mode in modes:
                module.training = mode
        weight = self.clean_lam / len(x) / SALIENCY_SCALE
        weight *= 2 / self.num_classes if self.criterion is bce_on_softmax else 1
        self.clean = weight * loss.detach(), [weight * g for g in clean], list(parameters.values())
        return gradient.float().norm(dim=1) / SALIENCY_SCALE

    def plan(self, saliency, mask):
        """The moves of the images and of their partners, int64 [2B, w*w], for a mask [B, b, b]."""
        size, blocks = saliency.shape[-1], mask.shape[-1]
        block = size // blocks
        side = block if self.t_size == -1 else largest_divisor(block, self.t_size)
        mask = F.interpolate(mask[:, None], size=size // side)[:, 0]
        salient = block_saliency(saliency, size // side)
        seen = torch.cat([mask > 0, mask < 1])
        return transport_plan(torch.cat([salient, salient[self.partner]]), seen, self.t_eps)

    def branch(self):
        """The places of the grid on which blocks move; see Regularizer.branch."""
        if self.clean_lam:  # its gradients stand in a list, which a graph does not read
            return None
        return 0 if self.moves is None else self.moves.shape[1]

    def mix(self, k, h):
        """At k = 0 the images, their blocks moved, put together by the mask; else h itself."""
        if k != 0:
            return h
        images, partners = h, h[self.partner]
        if self.moves is not None:
            moves = self.moves.chunk(2)
            images, partners = move_blocks(images, moves[0]), move_blocks(partners, moves[1])
        return torch.lerp(partners, images, self.mask.to(h.dtype))

    def terms(self):
        """1 for the mixed images and clean_lam for the clean ones; see Regularizer.terms."""
        return 1 + self.clean_lam

    def loss(self, logits):
        """Criterion on the mixed targets, plus the weighted clean loss of `draw`; see Regularizer.loss."""
        loss = super().loss(logits)
        if not self.clean_lam:
            return loss
        value, gradients, parameters = self.clean
        return loss + KnownGradient.apply(value, gradients, *parameters)
