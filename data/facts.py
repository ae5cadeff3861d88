"""All that is known of every data set, once: where its images come from, normalisation, augmentation, sizes and split.

A new data set is one reader in sources.py and one entry of FACTS.
"""

from collections.abc import Callable
from dataclasses import dataclass

from . import sources


@dataclass(frozen=True, kw_only=True)
class CorruptedSet:
    """A released corrupted test set: its record at zenodo.org, the images of a case, .npy files or class folders."""

    record: int
    images: int
    arrays: bool


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of one data set.

    title: its name in print.
    reader: from the data directory to the Source of its images; raises DataError where they are missing or wrong.
    custom: the user's images, so that a recipe names their folder; their number, classes and size are free.
    free_size: whether the user chooses the side of the images; the files may then have any size.
    streamed: whether image files are decoded in every epoch, with ImageNet's augmentation (None: where the decoded
        images would take too much memory).
    mean, std: per channel, in units of images scaled to 0..1.
    padding: zeros around the image before the random crop, in pixels (None: image_size // 16; streamed sets have none).
    flip: whether training images are mirrored with probability 1/2.
    image_size: side in pixels (None: to be given).
    num_classes: of the full set (None: the number of class folders); a subset's is len(Data.classes).
    val_per_class: training images per class held out for validation (None: a tenth of each class).
    train_per_class: images per class trained on, at most (None: all the rest).
    train_images: the training images of every class in the full set, validation included, to plan with before the
        images are on disk (None: the folder is looked through).
    test_part: what the test images are called.
    corrupted: the released corrupted test set, if any.
    """

    title: str
    reader: Callable
    custom: bool = False
    free_size: bool = False
    streamed: bool | None = False
    mean: tuple
    std: tuple
    padding: int | None
    flip: bool
    image_size: int | None
    num_classes: int | None
    val_per_class: int | None
    train_per_class: int | None = None
    train_images: tuple | None
    test_part: str = "the test set"
    corrupted: CorruptedSet | None = None


def _of_255(*values):
    return tuple(value / 255 for value in values)


_HALF = (0.5, 0.5, 0.5)

# CIFAR, SVHN and Tiny-ImageNet: normalisation, padding, flip and split of PatchUp's official code (data_loader.py and
# its README's flags: SVHN's cap of 7,325 leaves 57,158 training images); the code holds out nothing of Tiny-ImageNet,
# 50 per class is our choice, and so is ImageNet's 10. ImageNet's mean and std are the CutMix paper's code's.
FACTS = {
    "cifar10": Facts(
        title="CIFAR-10",
        reader=sources.cifar10,
        mean=_of_255(125.3, 123.0, 113.9),
        std=_of_255(63.0, 62.1, 66.7),
        padding=2,
        flip=True,
        image_size=32,
        num_classes=10,
        val_per_class=500,
        train_images=(5000,) * 10,
        corrupted=CorruptedSet(record=2535967, images=10000, arrays=True),
    ),
    "cifar100": Facts(
        title="CIFAR-100",
        reader=sources.cifar100,
        mean=_of_255(129.3, 124.1, 112.4),
        std=_of_255(68.2, 65.4, 70.4),
        padding=2,
        flip=True,
        image_size=32,
        num_classes=100,
        val_per_class=50,
        train_images=(500,) * 100,
        corrupted=CorruptedSet(record=3555552, images=10000, arrays=True),
    ),
    "svhn": Facts(
        title="SVHN",
        reader=sources.svhn,
        mean=_HALF,
        std=_HALF,
        padding=2,
        flip=False,
        image_size=32,
        num_classes=10,
        val_per_class=733,
        train_per_class=7325,
        train_images=(4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
    ),
    "tiny_imagenet": Facts(
        title="Tiny-ImageNet",
        reader=sources.tiny_imagenet,
        mean=_HALF,
        std=_HALF,
        padding=4,
        flip=True,
        image_size=64,
        num_classes=200,
        val_per_class=50,
        train_images=(500,) * 200,
        test_part="val",
        corrupted=CorruptedSet(record=2536630, images=10000, arrays=False),
    ),
    "imagenet": Facts(
        title="ImageNet",
        reader=sources.imagenet,
        free_size=True,
        streamed=True,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        padding=0,
        flip=True,
        image_size=224,
        num_classes=1000,
        val_per_class=10,
        train_images=(1281,) * 833 + (1282,) * 167,  # in truth 732 to 1300
        test_part="val",
        corrupted=CorruptedSet(record=2235448, images=50000, arrays=False),
    ),
    "digits": Facts(
        title="digits",
        reader=sources.digits,
        mean=_HALF,
        std=_HALF,
        padding=2,
        flip=False,
        image_size=32,
        num_classes=10,
        val_per_class=10,
        train_images=(99, 102, 100, 104, 98, 100, 101, 99, 98, 99),
    ),
    "folder": Facts(
        title="folder",
        reader=sources.folder,
        custom=True,
        free_size=True,
        streamed=None,
        mean=_HALF,
        std=_HALF,
        padding=None,
        flip=True,
        image_size=None,
        num_classes=None,
        val_per_class=None,
        train_images=None,
    ),
}


def part_of(name, classes):
    """`Tiny-ImageNet: 10 of its 200 classes` where images have fewer classes than their data set, else nothing."""
    title, whole = FACTS[name].title, FACTS[name].num_classes
    return "" if whole in (None, classes) else f"{title}: {classes} of its {whole} classes"
