"""PreActResNet18 and 34 (He et al., 2016) as PatchUp's official code defines them.

A pre-activation block computes, with a = relu(bn1(x)),

    block(x) = conv2(relu(bn2(conv1(a)))) + shortcut,    shortcut = conv1x1(a) where the shape changes, else x

Convolutions have no bias, the first 3x3 convolution no BatchNorm and no ReLU, and no BatchNorm or ReLU follows the last
block. Weights keep PyTorch's default initialisation.
"""

import torch.nn.functional as F
from torch import nn

from .staged import StagedNet

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # blocks per layer, by depth


class PreActBlock(nn.Module):
    """[B, in_channels, H, W] -> [B, channels, H / stride, W / stride], rounded up; the first convolution strides."""

    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        changes = stride != 1 or in_channels != channels
        self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False) if changes else None

    def forward(self, x):
        a = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(a)
        out = self.conv2(F.relu(self.bn2(self.conv1(a)), inplace=True))
        out += shortcut
        return out


def preactresnet(depth, num_classes, width=64, stem_stride=1):
    """PreActResNet of depth 18 or 34: stages conv1, layer1 to layer4, head.

    width: channels of layer1, doubled by each further layer; stem_stride: stride of conv1.
    """
    stages = [nn.Conv2d(3, width, 3, stem_stride, padding=1, bias=False)]
    in_channels = width
    for i, blocks in enumerate(BLOCKS[depth]):
        channels = width * 2**i
        layer = [PreActBlock(in_channels, channels, stride=1 if i == 0 else 2)]
        layer += [PreActBlock(channels, channels, stride=1) for _ in range(blocks - 1)]
        stages.append(nn.Sequential(*layer))
        in_channels = channels
    stages.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes)))
    return StagedNet(stages)
