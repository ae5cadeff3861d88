"""Adversarial attacks on a classifier, and the audit of what they return.

A classifier maps images float32 [B, 3, H, W] in [0, 1] to logits [B, C], its normalisation inside, in evaluation mode.
An epsilon is a text, as "8/255" or "0.25", which names it in every record; strength(text) is its value.

FGSM (Figures 5 and 13) follows the paper's official code; Table 5's attacks are Foolbox's (Rauber et al., 2018), which
Table 5 names.

The strongest attack is PGD with restarts on two losses. It stands in for Auto-PGD (Croce and Hein, 2020), which no
library offers in a usable form: torchattacks 3.5 pins requests to 2.25; adv-lib 0.2 needs visdom, which does not
install on Python 3.11; pyautoattack 0.2 is an unofficial copy of 42 MB; adversarial-robustness-toolbox 1.20 draws its
starts from NumPy's global generator and keeps the last step instead of the best.
It is as strong: of 169 CIFAR-100 images that a PreActResNet18 of width 16 classifies rightly, 88 resist it at 1/255 and
49 at 2/255, as many as resist the authors' APGD on cross-entropy and on DLR, 100 steps each, together. PGD of 40 steps
on cross-entropy alone leaves 97 and 54, however often it is restarted.
"""

import contextlib
import math
import os
import warnings
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from engine.files import BadInput, RunFailed

BATCH = 100  # the authors' of FGSM; fixed for all, as Carlini and Wagner's attack stops a whole batch at once
OFFICIAL_EPSILONS = ("0", "0.05", "0.1", "0.12", "0.15", "0.18", "0.2")  # in normalised input
PIXEL_EPSILONS = ("0", "1/255", "2/255", "4/255", "8/255")
LINF_EPSILONS = ("0.5/255", "1/255", "2/255", "4/255", "8/255")
L2_EPSILONS = ("8/255", "16/255", "0.125", "0.25", "0.5")
TABLE5_EPSILON = "8/255"

START = 0xADE70001  # keeps the draws of starting points apart from other uses of the same rows
ROUNDING = 2e-7  # by which a pixel may be off after float32 arithmetic


def strength(epsilon):
    """The value of an epsilon: "8/255" -> 0.0314, "0.25" -> 0.25."""
    number, _, base = epsilon.partition("/")
    return float(number) / float(base or 1)


@contextlib.contextmanager
def frozen(classifier):
    """Within it gradients reach images but no parameter: none has a new .grad afterwards."""
    assert not any(module.training for module in classifier.modules()), "attacks need evaluation mode"
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def gradient(loss, classifier, x, y):
    """The gradient [B, 3, H, W], by the images x, of the loss [B] of their logits and labels."""
    with frozen(classifier):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(loss(classifier(x), y).sum(), x)[0]


def cross_entropy(logits, y):
    """Cross-entropy [B] in nats."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits, y):
    """By how much [B] the best other class' logit is above the label's (Carlini and Wagner, 2017).

    Its gradient does not vanish where cross-entropy's does, at images that the network is sure of.
    """
    of_label = logits.gather(1, y[:, None])[:, 0]
    return logits.scatter(1, y[:, None], -math.inf).amax(1) - of_label


def fgsm(net, x, y, epsilons, low, high):
    """Yield (epsilon, x + epsilon sign(gradient of cross-entropy), clamped to [low, high]) (Goodfellow et al., 2014).

    All steps share one gradient. x: what net takes. The paper's: normalised input, clamped to its batch's range
    (official code, utility/adversarial_attack.py).
    """
    direction = gradient(cross_entropy, net, x, y).sign()
    for epsilon in epsilons:
        yield epsilon, (x + strength(epsilon) * direction).clamp(low, high)


# ---- Foolbox ----


def library():
    """The package foolbox, which only these attacks need. Raises BadInput where it cannot be imported."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # without a git executable its import would fail
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # scipy.ndimage.filters
            import foolbox
    except ImportError as error:
        raise BadInput(
            f"these attacks need foolbox, which cannot be imported ({error}): pip install -r requirements.txt"
        ) from error
    return foolbox


@dataclass(frozen=True)
class Attack:
    """An attack of Foolbox: the name of its class, its norm (2 or inf) and options other than the defaults."""

    name: str
    norm: float
    options: dict

    @property
    def described(self):
        """The settings, as JSON can hold them."""
        return {"attack": self.name, **self.options}

    def build(self):
        """Foolbox's object."""
        return getattr(library().attacks, self.name)(**self.options)


class Nearest(Attack):
    """An attack that seeks the nearest image that is misclassified, whatever its distance."""

    def images(self, classifier, x, y, rows):
        """Yield (None, nearest images) and, as Foolbox, (epsilon, these drawn back to within epsilon of x) for each.

        An image that is misclassified as it is stays as it is, and so does one that the attack could not break: Foolbox
        returns Carlini and Wagner's failures as black images, which may well be misclassified themselves.
        """
        with model(classifier, x, rows) as attacked:
            nearest = self.build()(attacked, x, y, epsilons=None)[0]
        usable = nearest.isfinite().flatten(1).all(1) & (nearest != 0).flatten(1).any(1) & (predict(classifier, x) == y)
        nearest = torch.where(usable[:, None, None, None], nearest, x)
        yield None, audited(nearest, x)
        for epsilon in LINF_EPSILONS if self.norm == math.inf else L2_EPSILONS:
            drawn_back = self.build().distance.clip_perturbation(x, nearest, strength(epsilon))
            yield epsilon, audited(drawn_back, x, self.norm, epsilon)


class Bounded(Attack):
    """Projected gradient descent within an Linf ball (Madry et al., 2018), each image from another start."""

    def images(self, classifier, x, y, rows):
        """Yield (epsilon, attacked images) for each."""
        start = starts(rows, x.shape[1:])

        class Started(type(self.build())):
            def get_random_start(self, x0, epsilon):
                return x0 + epsilon * start

        for epsilon in LINF_EPSILONS:
            with model(classifier, x, rows) as attacked:
                images = Started(**self.options)(attacked, x, y, epsilons=strength(epsilon))[1]
            yield epsilon, audited(images, x, self.norm, epsilon)


def starts(rows, shape, restart=0):
    """A point in [-1, 1) for every pixel of images [B, *shape], float32, that follows from the image's row alone."""
    draws = (np.random.default_rng((START, restart, row)).random(shape, np.float32) for row in rows.tolist())
    return torch.from_numpy(2 * np.stack(list(draws)) - 1).to(rows.device)


@contextlib.contextmanager
def model(classifier, x, rows):
    """A classifier for Foolbox; within it torch's global generators, which Foolbox draws from, follow the rows."""
    devices = [x.device] if x.device.type == "cuda" else []
    with frozen(classifier), torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(int(rows[0]))
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(int(rows[0]))
        yield library().PyTorchModel(classifier, bounds=(0, 1), device=x.device)


AS_LABELLED = {  # Table 5: "7 steps", the rest Foolbox's defaults; its DeepFool may be either
    "deepfool": Nearest("L2DeepFoolAttack", 2, {"steps": 7}),
    "deepfool_linf": Nearest("LinfDeepFoolAttack", math.inf, {"steps": 7}),
    "ddn": Nearest("DDNAttack", 2, {"steps": 7}),
    "cw": Nearest("L2CarliniWagnerAttack", 2, {"steps": 7}),
    "pgd_linf": Bounded("LinfPGD", math.inf, {"steps": 7}),
}
CONVERGED = {
    "pgd_linf_7": Bounded("LinfPGD", math.inf, {"steps": 7, "rel_stepsize": 2.5 / 7}),
    "pgd_linf_40": Bounded("LinfPGD", math.inf, {"steps": 40, "rel_stepsize": 2.5 / 40}),
    "ddn_100": Nearest("DDNAttack", 2, {"steps": 100}),
}
CARLINI_WAGNER = {  # half Foolbox's step, which ends 13 % farther (on CIFAR-100); 500 of 0.002 end 4 % nearer
    "cw_100": Nearest("L2CarliniWagnerAttack", 2, {"steps": 100, "stepsize": 0.005, "abort_early": False}),
}


# ---- the strongest ----


@dataclass(frozen=True)
class Restarts:
    """PGD within an Linf ball, several times, with cross-entropy and margin in turn: an image counts as it fares worst.

    Steps shrink from 2 epsilon to 0 as half a cosine. Each restart goes on with the images that resist so far, and a
    larger epsilon with those that resist at the smaller ones.
    """

    steps: int
    restarts: int
    norm = math.inf

    @property
    def described(self):
        """The settings, as JSON can hold them."""
        return {"attack": "PGD", "steps": self.steps, "restarts": self.restarts, "losses": ["ce", "margin"]}

    def images(self, classifier, x, y, rows):
        """Yield (epsilon, attacked images) for rising epsilons."""
        worst = x
        for epsilon in LINF_EPSILONS:
            for restart in range(self.restarts):
                left = (predict(classifier, worst) == y).nonzero()[:, 0]
                if len(left):
                    loss = (cross_entropy, margin)[restart % 2]
                    start = starts(rows[left], x.shape[1:], 1 + restart)
                    images = self.ascend(classifier, x[left], y[left], strength(epsilon), loss, start)
                    worst = worst.index_copy(0, left, images)
            yield epsilon, audited(worst, x, math.inf, epsilon)

    def ascend(self, classifier, x, y, radius, loss, start):
        """Images within the radius of x [B, 3, H, W], up the loss from start [B, 3, H, W] in [-1, 1]."""
        z = (x + radius * start).clamp(0, 1)
        for step in range(self.steps):
            size = radius * (1 + math.cos(math.pi * step / self.steps))
            z = z + size * gradient(loss, classifier, z, y).sign()
            z = (x + (z - x).clamp(-radius, radius)).clamp(0, 1)
        return z


STRONGEST = {"pgd_restarts": Restarts(steps=40, restarts=4)}


# ---- the audit ----


@torch.no_grad()
def predict(classifier, x):
    """The classes [B] of images."""
    return classifier(x).argmax(1)


def distances(images, x, norm):
    """The norm (2 or inf) [B] of images less x, float64."""
    return torch.linalg.vector_norm((images.double() - x.double()).flatten(1), norm, dim=1)


def spread(distance):
    """What a record tells of the distances [N] of the nearest attacked images: inf where the attack failed.

    median_distance: over the images that are classified rightly as they are, which the others, at distance 0, are not;
    median_distance_all: over all; None where it is infinite. found: those that it broke, in percent of the former.
    """
    needed = distance[distance > 0]

    def median(values):
        middle = np.median(values) if len(values) else math.inf
        return float(middle) if np.isfinite(middle) else None

    broken = float(100 * np.isfinite(needed).mean()) if len(needed) else None
    return {"median_distance": median(needed), "median_distance_all": median(distance), "found": broken}


def audited(images, x, norm=math.inf, epsilon="1"):
    """The images, if they are in [0, 1] and within epsilon of x. Raises RunFailed if not: the attack is broken."""
    if not (images.isfinite().all() and images.min() >= -ROUNDING and images.max() <= 1 + ROUNDING):
        raise RunFailed("an attack returned pixels outside [0, 1]")
    farthest = distances(images, x, norm).max().item()
    if farthest > strength(epsilon) + ROUNDING * x[0].numel() ** (1 / norm):
        raise RunFailed(f"an attack for epsilon {epsilon} (L{norm}) returned images at {farthest:g}")
    return images
