"""Which images of the training pool validate and which train, per class, from the seed."""

import numpy as np

from .errors import DataError

SPLIT = 0xDA7A0001  # keeps this choice apart from all others of the same seed


def split(labels, classes, seed, val_per_class, train_per_class):
    """The positions of the training and of the validation images, two sorted int64 arrays without common elements.

    The pool is shuffled by the seed; of every class the first val_per_class images validate (None: a tenth, at least
    one) and at most train_per_class of the rest train (None: all the rest), as in the official code.
    labels: int64 [N]. Raises DataError where a class keeps no image to train on.
    """
    order = np.random.default_rng((seed, SPLIT)).permutation(len(labels))
    grouped = order[np.argsort(labels[order], kind="stable")]
    ends = np.cumsum(np.bincount(labels, minlength=len(classes)))
    train, val = [], []
    for name, members in zip(classes, np.split(grouped, ends[:-1])):
        held_out = max(1, len(members) // 10) if val_per_class is None else val_per_class
        if len(members) <= held_out:
            raise DataError(
                f"class {name} has {len(members)} training images: val_per_class {held_out} leaves none to train on"
            )
        stop = None if train_per_class is None else held_out + train_per_class
        val.append(members[:held_out])
        train.append(members[held_out:stop])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(val))
