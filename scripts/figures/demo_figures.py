"""The demo's pictures: error curves, and one batch as every method mixes it, drawn by the code that trains."""

import numpy as np
import torch

import recipes
from scripts.figures.charts import plt, save, styles
from scripts.figures.draws import Draws, regularizer_at, to_pixels

SHOWN = 6  # samples of a batch
BATCH = 20
KEYS = 20  # draws to choose a telling one from
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
    """Validation error by epoch: a line a method, the mean over its seeds.

    logs: {recipe: the lines of the run's log, see RunFiles.logged}; runs without any are left out.
    """
    curves = {}
    for recipe, lines in logs.items():
        if lines:
            curves.setdefault(recipe.method, []).append([line["val_error"] for line in lines])
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for method, look in styles(curves).items():
        runs = curves[method]
        epochs = range(1, min(map(len, runs)) + 1)
        errors = np.mean([run[: len(epochs)] for run in runs], axis=0)
        axes.plot(epochs, errors, markevery=0.1, label=f"{recipes.printed(method)} ({len(runs)})", **look.line())
    axes.set(xlabel="epoch", ylabel="validation error (%), mean of (n) runs", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(ncols=2, fontsize="small")
    finish(figure, path)


def mixed_batch(recipe, datasets, net, path):
    """One batch as every method mixes it, with its labels, and which share of every feature each sample keeps.

    At layer 0 the images; at layer 1 the first channel of conv1's output, and that channel's mask. Every method has the
    hyper-parameters of the recipe's data set and network.
    """
    x, y = next(datasets.train.batches(BATCH, "cpu"))
    figure, axes = plt.subplots(len(PICTURES) + 1, 2 * SHOWN, figsize=(2.3 * SHOWN, 1.15 * (len(PICTURES) + 1)))
    draw_row(axes[0, :SHOWN], to_pixels(x[:SHOWN], datasets), [f"{datasets.classes[label]}" for label in y[:SHOWN]])
    axes[0, 0].set_ylabel("the batch", rotation=0, ha="right", va="center")
    axes[0, SHOWN].text(0, 0.5, "share of the sample itself: white 1, black 0", va="center")
    for axis in axes[0, SHOWN:]:
        axis.axis("off")
    net.train()
    for row, (method, k) in zip(axes[1:], PICTURES):
        with torch.no_grad():
            h = x if k == 0 else net.stages[0](x)
        regularizer = regularizer_at(recipe, method, k)
        mixed, kept = mixed_and_kept(Draws(regularizer, k, h, x, y, net))
        labels = [shares(target, datasets.classes) for target in regularizer.target[:SHOWN]]
        draw_row(row[:SHOWN], to_pixels(mixed, datasets) if k == 0 else stretched(mixed[:, :1]), labels)
        draw_row(row[SHOWN:], kept[:, :1])
        label = f"{recipes.printed(method)}, {'input' if k == 0 else 'conv1'}"
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
    figure.subplots_adjust(wspace=0.08, hspace=0.25)
    finish(figure, path)


def mixed_and_kept(draws):
    """The first SHOWN samples of a telling draw, mixed, and the share of each feature that they keep, in [0, 1].

    (A sample that is its own partner keeps all.)
    """

    def dullness(key):
        share = draws.share(key, 0)
        return abs(share.mean() - 0.6) - share.std()  # half and half at best, and not the same everywhere

    telling = min(range(KEYS), key=dullness)
    return draws.mixed(telling)[:SHOWN], torch.stack([draws.share(telling, i) for i in range(SHOWN)])


def stretched(h):
    """Feature maps [B, 1, H, W] stretched to [0, 1], all alike."""
    return (h - h.min()) / (h.max() - h.min())


def shares(target, classes):
    """`62 % 3 + 38 % 8` for a mixed label [C], the largest share first; `3` for one that is whole."""
    order = [i for i in target.argsort(descending=True).tolist() if target[i] > 0]
    parts = [f"{100 * target[i]:.0f} % {classes[i]}" for i in order]
    return " + ".join(parts) if len(parts) > 1 else f"{classes[order[0]]}"


def draw_row(axes, pictures, texts=()):
    """A row of pictures [B, 1 or 3, H, W] in [0, 1], each above its text."""
    for axis, text in zip(axes, texts):
        axis.set_xlabel(text, fontsize=6.5, labelpad=2)
    for axis, picture in zip(axes, pictures):
        axis.imshow(picture.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set(xticks=[], yticks=[])


def finish(figure, path):
    """Write a picture and close it."""
    save(figure, path, dpi=100, bbox_inches="tight")
    plt.close(figure)
