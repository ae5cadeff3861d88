"""f(x) = f_k(g_k(x)): a network is a list of stages, and the input of every stage k is open to a callback."""

import contextlib

import torch
from torch import nn


@contextlib.contextmanager
def evaluation_mode(net):
    """Within it net is in evaluation mode; afterwards every module has the mode that it had."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


class OpenNet(nn.Module):
    """What StagedNet and Mixable share: forward(x, mix=None), where mix(k, h) -> h sees the input of every stage k."""

    @torch.no_grad()
    def shapes(self, image_size):
        """The shape [C, H, W] of every stage's input for square images of image_size pixels."""
        shapes = {}

        def note(k, h):
            shapes[k] = tuple(h.shape[1:])
            return h

        with evaluation_mode(self):
            self(next(self.parameters()).new_zeros(1, 3, image_size, image_size), note)
        return [shapes[k] for k in sorted(shapes)]


class StagedNet(OpenNet):
    """A classifier as a list of stages.

    Stage k maps h_k to h_{k+1}; h_0 is the image [B, 3, H, W], the last stage's output the logits [B, num_classes].
    g_k is stages[:k] and f_k is stages[k:] (paper, section PatchUp).
    """

    def __init__(self, stages):
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def parts(self):
        """The modules that can be compiled each for itself."""
        return list(self.stages)

    def place(self, k):
        """Where the input of stage k >= 1 comes from."""
        return "conv1" if k == 1 else f"layer{k - 1}"

    def forward(self, x, mix=None):
        """Logits [B, num_classes] of images x [B, 3, H, W]; mix(k, h) -> h may replace the input of every stage."""
        for k, stage in enumerate(self.stages):
            if mix is not None:
                x = mix(k, x)
            x = stage(x)
        return x
