"""ResNet50, 101 and 152: torchvision's networks and initialisation, regrouped into stages."""

from torch import nn

from .staged import StagedNet

STEMS = ("cifar", "imagenet")


def resnet(depth, num_classes, stem="imagenet", stem_stride=1):
    """ResNet of depth 50, 101 or 152: stages stem, layer1 to layer4, head.

    stem: `imagenet`, 7x7 convolution of stride 2 and 3x3 max-pooling of stride 2, which leaves a quarter of the image's
    side; or `cifar`, a 3x3 convolution of stride stem_stride alone. Raises ValueError for another stem, and for a
    stem_stride with the `imagenet` stem.
    """
    import torchvision  # takes longer than torch itself

    if stem not in STEMS:
        raise ValueError(f"stem must be one of {', '.join(STEMS)}, not {stem!r}")
    if stem == "imagenet" and stem_stride != 1:
        raise ValueError("stem_stride cannot be chosen for the imagenet stem; for the cifar stem it can")
    net = getattr(torchvision.models, f"resnet{depth}")(weights=None, num_classes=num_classes)
    first = [net.conv1, net.bn1, net.relu, net.maxpool]
    if stem == "cifar":
        conv1 = nn.Conv2d(3, net.conv1.out_channels, 3, stem_stride, padding=1, bias=False)
        nn.init.kaiming_normal_(conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's convolutions
        first = [conv1, net.bn1, net.relu]
    head = nn.Sequential(net.avgpool, nn.Flatten(), net.fc)
    return StagedNet([nn.Sequential(*first), net.layer1, net.layer2, net.layer3, net.layer4, head])
