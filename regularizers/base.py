"""The contract of every method.

One training step asks a regularizer for three things:

    regularizer.seed(seed, rank, epoch, step)      # every random choice of this step follows from this key
    regularizer.draw(x, y, net)                    # what happens to this batch, and its soft target
    logits = model(x, regularizer.mix)             # mix(k, h) is called with the input h of every stage k
    loss = regularizer.loss(logits)

mix is a function of the draw: a second pass after it, of gradient checkpointing or a two-pass optimizer, is mixed
alike. Evaluation is `model(x)`: nothing of a method can leak into it.
"""

import difflib
import math
from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F

from .blend import blend, blended

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def class_indices(x, y, num_classes):
    """The labels y of images x as int64 [B].

    Raises ValueError for what is not a batch of images [B, C, H, W] with an integer in [0, num_classes) for each. The
    labels' values are looked at on a CPU alone: a GPU would have to be waited for, and stops at such a label by itself.
    """
    if not isinstance(x, torch.Tensor) or x.dim() != 4 or not x.is_floating_point():
        raise ValueError(f"x must be images [B, C, H, W] of a float type, not {described(x)}")
    if not isinstance(y, torch.Tensor) or y.dtype not in INTEGERS or y.shape != x.shape[:1]:
        raise ValueError(f"y must be {len(x)} class indices, integers [{len(x)}], not {described(y)}")
    if y.device != x.device:
        raise ValueError(f"x is on {x.device}, y on {y.device}: both must be on one device")
    if y.device.type == "cpu" and len(y) and not 0 <= y.min() <= y.max() < num_classes:
        wrong = int(y.min() if y.min() < 0 else y.max())
        raise ValueError(f"y must hold class indices from 0 to {num_classes - 1}, not {wrong}")
    return y.long()


def described(value):
    """What a value is, for a message: its type and, if it is a tensor, its shape."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__


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
    """What every method derives from; it changes nothing itself. A derived class that sets `name` is a method.

    Args:
        num_classes: number of classes C, at least 2.
        criterion: `bce` (the official loss, see bce_on_softmax) or `ce`.

    Raises ValueError for an impossible argument, naming it and what is possible.
    """

    def __init__(self, num_classes, criterion="bce"):
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, not {num_classes}")
        if criterion not in CRITERIA:
            raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, not {criterion!r}")
        self.num_classes = num_classes
        self.criterion = CRITERIA[criterion]
        self.kernel = blended  # or what it was compiled to
        self.generators = {}  # {device: torch generator}, for masks
        self.seed(np.random.SeedSequence().entropy)  # at random, until the user does

    def __getattr__(self, name):
        raise AttributeError(f"{type(self).__name__} has no {name!r}: call draw(x, y, net) before mix and loss")

    def compile(self):
        """Compile what mix does between a network's stages."""
        self.kernel = torch.compile(blended, dynamic=False)

    def seed(self, *key):
        """Make all random choices up to the next call a function of key, non-negative integers."""
        sequence = np.random.SeedSequence(key)
        self.rng = np.random.default_rng(sequence)  # host choices: lambda, partners, boxes, k
        self.torch_seed = int(sequence.generate_state(1, np.uint64)[0] >> 1)
        for generator in self.generators.values():
            generator.manual_seed(self.torch_seed)

    def generator(self, device):
        """The torch generator on `device` that belongs to the present key."""
        if device not in self.generators:
            self.generators[device] = torch.Generator(device).manual_seed(self.torch_seed)
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

        x: normalised images [B, 3, H, W]; y: class indices, integers [B]; net: the network itself, without a wrapper
        such as DistributedDataParallel (only Puzzle Mix looks at it). Raises ValueError for other images or labels.
        """
        self.target = one_hot(class_indices(x, y, self.num_classes), self.num_classes)
        self.choices = {}

    def once(self, k, choose):
        """What choose() returned at stage k in the first pass after the present draw; it is not called again."""
        if k not in self.choices:
            self.choices = self.choices | {k: choose()}
        return self.choices[k]

    def blend(self, h, weight):
        """h [B, C, H, W] blended with its partners: (1 - weight) h + weight h[self.partner]; see blend.blend."""
        return blend(h, self.partner, weight, self.kernel)

    def branch(self):
        """What of the present draw decides which operations run, hashable: a captured graph serves one branch.

        Batches of one branch differ in tensors alone, which are attributes set by draw, and in what the generator
        gives. None where that is not so, for a method that cannot be captured (see engine/graphs.py).
        """

    def mix(self, k, h):
        """The input h of stage k, [B, C, H, W], mixed where this batch's choice says so, else h itself."""
        return h

    def terms(self):
        """How often the criterion counts in this batch's loss: the sum of its terms' weights, a number or a scalar.

        The loss divided by it is a weighted mean of the criterion, so that logs of methods with one, two or more terms
        compare; a mixed target still has an entropy below which cross-entropy cannot fall.
        """
        return 1

    def loss(self, logits):
        """The scalar training loss of this batch for logits [B, C], to be called after the forward pass.

        Raises ValueError for logits of another shape than the draw's targets.
        """
        if logits.shape != self.target.shape:
            raise ValueError(f"logits must be {list(self.target.shape)} as in draw, not {list(logits.shape)}")
        return self.criterion(logits, self.target).mean()


def check_probability(name, value):
    """Raise ValueError unless value lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], not {value}")


def check_positive(name, value):
    """Raise ValueError unless value is above 0 and finite."""
    if not isinstance(value, Real) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0, not {value}")


def check_count(name, value):
    """Raise ValueError unless value is an integer from 1."""
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be an integer from 1, not {value}")


def unknown_name(kind, name, known):
    """The message for an unknown name: the nearest known name, if any is near, and all of them."""
    near = difflib.get_close_matches(name, known, 1)
    return f"unknown {kind} {name!r}; {f'did you mean {near[0]}? Known' if near else 'known'} are {', '.join(known)}"


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
