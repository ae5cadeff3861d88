"""f(x) = f_k(g_k(x)): a network is a list of stages, and the input of every stage k is open to one callback."""

import torch
from torch import nn


class StagedNet(nn.Module):
    """A classifier as a list of stages.

    Stage k maps h_k to h_{k+1}; h_0 is the image [B, 3, H, W], the last stage's output the logits [B, num_classes].
    g_k is stages[:k] and f_k is stages[k:] (paper, section PatchUp).
    """

    def __init__(self, stages):
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x, mix=None):
        """Logits [B, num_classes] of images x [B, 3, H, W]; mix(k, h) -> h may replace the input of every stage."""
        for k, stage in enumerate(self.stages):
            if mix is not None:
                x = mix(k, x)
            x = stage(x)
        return x

    @torch.no_grad()
    def shapes(self, image_size):
        """The shape [C, H, W] of every stage's input for square images of image_size pixels."""
        found = []
        was_training = self.training
        self.eval()
        first = next(self.parameters())
        self(first.new_zeros(1, 3, image_size, image_size), lambda k, h: found.append(tuple(h.shape[1:])) or h)
        self.train(was_training)
        return found
