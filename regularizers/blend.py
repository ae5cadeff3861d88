"""Samples blended with their partners, as every mixing method does: h'_i = (1 - w_i) h_i + w_i h_j, j = partner(i).

The gradient of a sample m comes from h'_m and from h'_i, whose partner it is:

    dh_m = (1 - w_m) dh'_m + w_i dh'_i,     i = partner^-1(m)

Autograd would scatter the second term; the inverse permutation gathers it. Where all samples share one weight, the
backward pass is the forward pass with the inverse permutation. Only weights and partners are kept for it.
"""

import torch


def blended(h, partner, weight):
    """(1 - weight) h + weight h[partner], exactly h where weight is 0 and exactly h[partner] where it is 1."""
    out = h[partner]  # in h's memory layout, which index_select would not keep
    return torch.lerp(h, out, weight, out=out)


class Blend(torch.autograd.Function):
    """See blend."""

    @staticmethod
    def forward(ctx, h, partner, weight, kernel):
        ctx.save_for_backward(partner, weight)
        ctx.kernel = kernel
        return kernel(h, partner, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        partner, weight = ctx.saved_tensors
        inverse = torch.argsort(partner)
        if weight.dim() == 0 or len(weight) == 1:
            return ctx.kernel(gradient, inverse, weight), None, None, None
        moved = weight * gradient
        return (gradient - moved).add_(moved[inverse]), None, None, None


def blend(h, partner, weight, kernel=blended):
    """h [B, C, H, W], each sample blended with its partner: (1 - weight) h + weight h[partner].

    partner: a permutation, int64 [B]. weight: a number in [0, 1], or a tensor of such, or bool for a swap, of shape
    [1 or B, 1 or C, 1 or H, 1 or W]; it gets no gradient. kernel: `blended`, or what it was compiled to. Raises
    ValueError for h of another batch size than partner.
    """
    if len(h) != len(partner):
        raise ValueError(f"mix was given {len(h)} samples, draw {len(partner)}: both must be of one batch")
    if isinstance(weight, torch.Tensor):
        weight = weight.to(h.device, h.dtype)
    else:
        weight = torch.full((), weight, dtype=h.dtype, device=h.device)
    if weight.dim() == 4 and h.is_contiguous(memory_format=torch.channels_last):
        weight = weight.contiguous(memory_format=torch.channels_last)
    return Blend.apply(h, partner, weight, kernel)
