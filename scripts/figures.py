"""The demo's pictures: error curves, and one batch as every method mixes it, drawn by the code that trains."""

import json

import matplotlib
import numpy as np
import torch

import recipes
import regularizers

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

SHOWN = 8  # samples of a batch
PICTURES = (  # method, layer at which it is shown
    ("mixup", 0),
    ("cutout", 0),
    ("cutmix", 0),
    ("puzzlemix", 0),
    ("patchup_hard", 0),
    ("manifold_mixup", 1),
    ("dropblock", 1),
    ("patchup_soft", 1),
    ("patchup_hard", 1),
)


def error_curves(logs, path):
    """Validation error by epoch: a line a method, mean over its seeds, shaded from the best to the worst seed.

    logs: {recipe: the run's .jsonl}; runs without one are left out.
    """
    curves = {}
    for recipe, log in logs.items():
        if log.exists():
            errors = [json.loads(line)["val_error"] for line in log.read_text().splitlines()]
            curves.setdefault(recipe.method, []).append(errors)
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for color, (method, runs) in zip(plt.get_cmap("tab10").colors, curves.items()):
        length = min(map(len, runs))
        errors = np.array([run[:length] for run in runs])
        epochs = np.arange(1, length + 1)
        axes.plot(epochs, errors.mean(axis=0), color=color, label=recipes.LABELS[method])
        axes.fill_between(epochs, errors.min(axis=0), errors.max(axis=0), color=color, alpha=0.12, linewidth=0)
    axes.set(xlabel="epoch", ylabel="validation error (%)", ylim=(0, None))
    axes.legend(ncols=2, fontsize="small")
    save(figure, path)


def mixed_batch(datasets, net, path, prob_one=("cutmix", "patchup_soft", "patchup_hard")):
    """One batch as every method mixes it: what it becomes, and beneath it the features that changed, in white.

    At layer 0 the images; at layer 1 the first channel of conv1's output, whose mask is that channel's own.
    """
    x, y = next(datasets.train.batches(4 * SHOWN, torch.device("cpu")))
    figure, axes = plt.subplots(2 * len(PICTURES) + 1, SHOWN, figsize=(SHOWN + 2, 2 * len(PICTURES) + 1))
    draw_row(axes[0], to_pixels(x[:SHOWN], datasets), "the batch")
    for row, (method, k) in enumerate(PICTURES):
        options = {"layers": (k,)} if "layers" in regularizers.hyperparameters(method) else {}
        options |= {"prob": 1.0} if method in prob_one else {}
        regularizer = regularizers.build(method, len(datasets.classes), **options)
        regularizer.seed(0)
        net.train()
        regularizer.draw(x, y, net)
        with torch.no_grad():
            h = x if k == 0 else net.stages[0](x)
            out = regularizer.mix(k, h)
        changed = (out != h)[:SHOWN]
        if k == 0:
            pictures = to_pixels(out[:SHOWN], datasets)
            changed = changed.any(dim=1, keepdim=True)
        else:
            pictures = normalised(out[:SHOWN, :1])
        label = recipes.LABELS[method] + (", input" if k == 0 else ", conv1")
        draw_row(axes[2 * row + 1], pictures, label)
        draw_row(axes[2 * row + 2], changed[:, :1].float(), "changed")
    save(figure, path)


def to_pixels(x, datasets):
    """Images [B, 3, H, W] in [0, 1] from normalised ones."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (datasets.mean, datasets.std))
    return (x * std + mean).clamp(0, 1)


def normalised(h):
    """Feature maps [B, 1, H, W] stretched to [0, 1], all alike."""
    low, high = h.min(), h.max()
    return (h - low) / (high - low)


def draw_row(axes, pictures, label):
    """A row of pictures [B, 1 or 3, H, W] in [0, 1] with its label on the left."""
    for axis, picture in zip(axes, pictures):
        axis.imshow(picture.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
    axes[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize="small")


def save(figure, path):
    """Write a picture and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)
