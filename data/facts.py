"""What is fixed about every data set, once: normalisation, augmentation, sizes and split."""

from dataclasses import dataclass


class DataError(ValueError):
    """Data that cannot be used; the message is one line naming what is wrong and what is possible."""

    def __init__(self, message):
        super().__init__(" ".join(message.splitlines()))


@dataclass(frozen=True)
class Facts:
    """The defaults of one data set.

    mean, std: per channel, in units of images scaled to 0..1.
    padding: zeros around the image before the random crop, in pixels (None: image_size // 16; streamed sets have none).
    flip: whether training images are mirrored with probability 1/2.
    image_size: side in pixels (None: to be given).
    num_classes: of the full set (None: as many as there are class folders); a subset's is len(Data.classes).
    val_per_class: training images per class held out for validation (None: a tenth of each class).
    train_per_class: images per class trained on, at most (None: all the rest).
    """

    mean: tuple
    std: tuple
    padding: int | None
    flip: bool
    image_size: int | None
    num_classes: int | None
    val_per_class: int | None
    train_per_class: int | None = None


def _of_255(*values):
    return tuple(value / 255 for value in values)


_HALF = (0.5, 0.5, 0.5)

# CIFAR, SVHN and Tiny-ImageNet: normalisation, padding, flip and split of PatchUp's official code (data_loader.py and
# its README's flags: SVHN's cap of 7,325 leaves 57,158 training images); the code holds out nothing of Tiny-ImageNet,
# 50 per class is our choice, and so is ImageNet's 10. ImageNet's mean and std are the CutMix paper's code's.
FACTS = {
    "cifar10": Facts(_of_255(125.3, 123.0, 113.9), _of_255(63.0, 62.1, 66.7), 2, True, 32, 10, 500),
    "cifar100": Facts(_of_255(129.3, 124.1, 112.4), _of_255(68.2, 65.4, 70.4), 2, True, 32, 100, 50),
    "svhn": Facts(_HALF, _HALF, 2, False, 32, 10, 733, 7325),
    "tiny_imagenet": Facts(_HALF, _HALF, 4, True, 64, 200, 50),
    "imagenet": Facts((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0, True, 224, 1000, 10),
    "digits": Facts(_HALF, _HALF, 2, False, 32, 10, 10),
    "folder": Facts(_HALF, _HALF, None, True, None, None, None),
}

# The training images of every class in the full set, validation included, for what is planned before images are there.
TRAIN_IMAGES = {
    "cifar10": (5000,) * 10,
    "cifar100": (500,) * 100,
    "svhn": (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
    "tiny_imagenet": (500,) * 200,
    "imagenet": (1281,) * 833 + (1282,) * 167,  # in truth 732 to 1300
    "digits": (99, 102, 100, 104, 98, 100, 101, 99, 98, 99),
}
