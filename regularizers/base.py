"""The contract of every method, and the method `none`.

One training step asks a regularizer for three things:

    regularizer.seed(seed, rank, epoch, step)      # every random choice of this step follows from this key
    regularizer.draw(x, y, net)                    # what happens to this batch, and its soft target
    logits = model(x, regularizer.mix)             # mix(k, h) is called with the input h of every stage k
    loss = regularizer.loss(logits)

Evaluation is `model(x)`: nothing of a method can leak into it.
"""

import math
from numbers import Real

import numpy as np
import torch
import torch.nn.functional as F


def one_hot(y, num_classes):
    """Rows of float32 one-hot targets, [B, num_classes], for class indices y, int64 [B]."""
    return F.one_hot(y, num_classes).float()


def bce_on_softmax(logits, target):
    """Per sample [B]: binary cross-entropy of the softmax, averaged over the classes (the official code's loss).

    logits [B, C] of any float type, target [B, C] in [0, 1]. The official code clamps log(1 - p) at -100 where p
    rounds to 1; here it ends at log(2^-24) = -16.6. The gradient there is zero in both.
    """
    log_p = F.log_softmax(logits.float(), dim=1)
    p = log_p.exp().clamp(max=1 - 2**-24)
    return -(target * log_p.clamp(min=-100) + (1 - target) * torch.log1p(-p)).mean(dim=1)


def cross_entropy(logits, target):
    """Per sample [B]: cross-entropy. logits [B, C] of any float type, target [B, C] with rows summing to 1."""
    return F.cross_entropy(logits.float(), target, reduction="none")


CRITERIA = {"bce": bce_on_softmax, "ce": cross_entropy}


class Regularizer:
    """The method `none`: the batch stays as it is. Every other method derives from it.

    Args:
        num_classes: number of classes C, at least 2.
        criterion: `bce` (the official loss, see bce_on_softmax) or `ce`.

    Raises ValueError for an impossible argument, naming it and what is possible.
    """

    name = "none"  # a class with a name of its own is a method

    def __init__(self, num_classes, criterion="bce"):
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, not {num_classes}")
        if criterion not in CRITERIA:
            raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, not {criterion!r}")
        self.num_classes = num_classes
        self.criterion = CRITERIA[criterion]
        self.rng = np.random.default_rng()  # host choices: lambda, partners, boxes, k
        self.generators = {}  # one torch generator a device, for masks
        self.torch_seed = None

    def seed(self, *key):
        """Make all random choices up to the next call a function of key, non-negative integers."""
        sequence = np.random.SeedSequence(key)
        self.rng = np.random.default_rng(sequence)
        self.torch_seed = int(sequence.generate_state(1, np.uint64)[0] >> 1)
        for generator in self.generators.values():
            generator.manual_seed(self.torch_seed)

    def generator(self, device):
        """The torch generator on `device` that belongs to the present key."""
        if device not in self.generators:
            generator = self.generators[device] = torch.Generator(device)
            if self.torch_seed is None:
                generator.seed()
            else:
                generator.manual_seed(self.torch_seed)
        return self.generators[device]

    def on_device(self, drawn, x):
        """Numbers drawn on the host as a tensor on the device of x, which is not waited for."""
        return torch.as_tensor(np.asarray(drawn)).to(x.device, non_blocking=True)

    def permutation(self, x):
        """A random permutation of the batch x, int64 [B] on its device."""
        return self.on_device(self.rng.permutation(len(x)), x)

    def check(self, shapes):
        """Raise ValueError where the method does not fit a network whose stage inputs have these shapes [C, H, W]."""

    def draw(self, x, y, net):
        """Choose what happens to this batch; set self.target, float32 [B, C].

        x: normalised images [B, 3, H, W]; y: int64 [B]; net: the bare StagedNet (only Puzzle Mix looks at it).
        """
        self.target = one_hot(y, self.num_classes)

    def branch(self):
        """What of the present draw decides which operations run, hashable: a captured graph serves one branch.

        Batches of one branch differ in tensors alone, which are attributes set by draw, and in what the generator
        gives. None where that is not so, for a method that cannot be captured (see graphs.py).
        """
        return () if type(self) is Regularizer else None

    def mix(self, k, h):
        """The input h of stage k, [B, C, H, W], mixed where this batch's choice says so, else h itself."""
        return h

    def loss(self, logits):
        """The scalar training loss of this batch for logits [B, C], to be called after the forward pass."""
        return self.criterion(logits, self.target).mean()


def check_probability(name, value):
    """Raise ValueError unless value lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], not {value}")


def check_positive(name, value):
    """Raise ValueError unless value is above 0 and finite."""
    if not isinstance(value, Real) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0, not {value}")


def check_choice(name, value, choices):
    """Raise ValueError unless value is one of choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def check_layers(layers, shapes=None):
    """Raise ValueError unless layers are distinct stage indices k >= 0 which a network with these shapes has."""
    if not layers or len(set(layers)) != len(layers) or min(layers) < 0:
        raise ValueError(f"layers must be distinct stage indices from 0, not {list(layers)}")
    if shapes is not None and max(layers) >= len(shapes):
        raise ValueError(f"layer {max(layers)} does not exist: this network has layers 0 to {len(shapes) - 1}")
