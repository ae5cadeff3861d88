"""Wide ResNet (Zagoruyko and Komodakis, 2016), WRN-28-10, as PatchUp's official code defines it.

    block(x) = conv2(relu(bn2(conv1(relu(bn1(x)))))) + shortcut,   shortcut = conv1x1(x) where the shape changes, else x

It differs from the usual WRN: convolutions have biases, a block that halves the map strides in its second 3x3
convolution (5.95 instead of 5.2 GMAC at 32x32), the shortcut starts from x before bn1, there is no dropout, and the
last BatchNorm has momentum 0.9: its running statistics are nearly those of the last batch. Weights keep PyTorch's
default initialisation.
"""

import torch.nn.functional as F
from torch import nn

from .staged import StagedNet

BLOCKS = 4  # blocks per layer: depth 28 = 6 x 4 + 4
STEM_CHANNELS = 16


class WideBlock(nn.Module):
    """[B, in_channels, H, W] -> [B, channels, H / stride, W / stride], rounded up; the second convolution strides."""

    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1)
        changes = stride != 1 or in_channels != channels
        self.shortcut = nn.Conv2d(in_channels, channels, 1, stride) if changes else None

    def forward(self, x):
        shortcut = x if self.shortcut is None else self.shortcut(x)
        out = self.conv1(F.relu(self.bn1(x), inplace=True))
        out = self.conv2(F.relu(self.bn2(out), inplace=True))
        out += shortcut
        return out


def wrn28(num_classes, width=160, stem_stride=1):
    """WRN-28: stages conv1, layer1 to layer3, head.

    width: channels of layer1, 16 times the widening factor (160 for WRN-28-10), doubled by each further layer; conv1
    has 16 whatever the width. stem_stride: stride of conv1.
    """
    stages = [nn.Conv2d(3, STEM_CHANNELS, 3, stem_stride, padding=1)]
    in_channels = STEM_CHANNELS
    for i in range(3):
        channels = width * 2**i
        layer = [WideBlock(in_channels, channels, stride=1 if i == 0 else 2)]
        layer += [WideBlock(channels, channels, stride=1) for _ in range(BLOCKS - 1)]
        stages.append(nn.Sequential(*layer))
        in_channels = channels
    last_norm = nn.BatchNorm2d(in_channels, momentum=0.9)
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    stages.append(nn.Sequential(last_norm, nn.ReLU(inplace=True), *pool, nn.Linear(in_channels, num_classes)))
    return StagedNet(stages)
