"""Figures 1, 2, 3, 7, 8, 9 and 10: what PatchUp, CutMix and ManifoldMixup do to images and hidden states.

python -m scripts.figures.illustrations figure1
python -m scripts.figures.illustrations figure7 --dataset cifar100 --model wrn28_10
python -m scripts.figures.illustrations figure10 --checkpoint results/runs/cifar100/wrn28_10/none/seed0.best.pt

Everything is drawn by the code that trains, with the paper's hyper-parameters for the data set and network. The network
is a checkpoint's, or an untrained one. Images are training images as they are, neither cropped nor mirrored (ImageNet's
are); draws are chosen so that a picture shows what it is about. Written are <out>/figures/<figure>.png, .pdf and the
caption .txt; for Figure 10 also the numbers, .csv and .json.

The paper's appendix was not available: Figures 8 and 9 show what the text refers to them for (masks of CutMix in input
space and of PatchUp, and how PatchUp's are made), Figure 10 measures what the text concludes from it.
"""

import itertools
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.patches import Rectangle

import data
import models
import recipes
from engine import cli
from engine.files import ROOT, BadInput, make_folder
from regularizers.cutmix import kept_fraction
from scripts.figures import diversity
from scripts.figures.charts import PRINT, Line2D, in_words, plt, write
from scripts.figures.panels import HALO, MARK, arrow, outline, sheet, show, show_mask
from scripts.figures.scenes import clearest, scene_of, seeds_of

KEYS = 400  # draws to choose a telling one from


# ---- Figure 1 ----


class Operation(NamedTuple):
    """PatchUp of one feature map: images [2, H, W, 3], maps [2, H', W'], mask [H', W'], and the first's results."""

    images: np.ndarray
    maps: np.ndarray
    mask: np.ndarray
    hard: np.ndarray
    soft: np.ndarray
    lam: float
    channel: int
    gamma: float
    block_size: int


def operation(scene, k):
    """An Operation at layer k by a draw that shows it well. Both variants have the mask of Hard PatchUp's gamma."""
    x, y, h = scene.samples(2, k)
    hard = scene.draws("patchup_hard", k, x, y, h)
    gamma, block_size = hard.regularizer.gamma, hard.regularizer.block_size_at(k)
    soft = scene.draws("patchup_soft", k, x, y, h, gamma=gamma)
    channel = clearest(h)

    def dullness(key):
        altered = 1 - hard.mask(key)[channel].float().mean().item()
        return abs(altered - 0.35) + abs(soft.regularizer.lam.item() - 0.4)

    keys = soft.paired(hard.paired(itertools.islice(scene.keys(), KEYS)))
    key = min(keys, key=dullness)
    mask = hard.mask(key)[channel].numpy()
    results = [variant.mixed(key)[0, channel].numpy() for variant in (hard, soft)]
    lam = soft.regularizer.lam.item()
    return Operation(scene.pixels(x), h[:, channel].numpy(), mask, *results, lam, channel, gamma, block_size)


def figure1(scene, k, path):
    """The PatchUp operation on a feature map of two samples; altered blocks are outlined."""
    shown = operation(scene, k)
    low, high = np.percentile(shown.maps, (1, 99))
    pixels = max(shown.images.shape[1], len(shown.mask))
    figure, axes = sheet(2, 4, pixels, gap=0.44, gap_down=0.5, top=0.22, bottom=0.34)
    first, last = (axis.get_position() for axis in axes[:, 2])
    middle = figure.add_axes([first.x0, (first.y0 + last.y0) / 2, first.width, first.height], xticks=[], yticks=[])
    for axis in axes[:, 2]:
        axis.remove()
    for axis, image, name in zip(axes[:, 0], shown.images, "ab"):
        show(axis, image, f"sample ${name}$")
    names = ("$X_1$", "$X_2$", "Hard PatchUp", "Soft PatchUp")
    for axis, values, name in zip((*axes[:, 1], *axes[:, 3]), (*shown.maps, shown.hard, shown.soft), names):
        show(axis, (values - low) / (high - low), name)
        outline(axis, ~shown.mask)
    show_mask(middle, shown.mask, "mask $M$")
    middle.set_xlabel("white 1: kept\ndark 0: altered", labelpad=3)
    axes[0, 3].set_xlabel("altered: $X_2$", labelpad=3)
    axes[1, 3].set_xlabel(r"altered: $\lambda X_1+(1-\lambda)X_2$" + f"\n$\\lambda={shown.lam:.2f}$", labelpad=3)
    for image, features, result in zip(axes[:, 0], axes[:, 1], axes[:, 3]):
        arrow(image, features, f"$g_{k}^{{({shown.channel})}}$")
        arrow(features, middle)
        arrow(middle, result)
    return write(
        figure,
        path,
        f"The PatchUp operation on feature map {shown.channel} of two samples at layer k = {k} of {scene.about}. "
        f"Outlined: the altered blocks, {100 * (1 - shown.mask.mean()):.0f} % of this map of {in_size(shown.mask)} "
        f"features. One mask for both variants, of gamma {shown.gamma:g} (Hard PatchUp's) and blocks of "
        f"{shown.block_size}; all maps share one scale of grey.",
    )


# ---- Figure 3 ----

CANDIDATES = 400  # images
BOX_DRAWS = 3000
STANDING_OUT = 24  # of them
BOX = (0.08, 0.35)  # share of the image
WIDE = 4.5  # inches, for the names of classes below the pictures


class Boxes(NamedTuple):
    """Two CutMix boxes of one size, and what they make of two samples.

    images [2, H, W, 3]; boxes: two (y1, y2, x1, x2); mixed [box, sample, H, W, 3]; targets [box, sample, classes];
    labels: two class indices; kept: lambda of both boxes.
    """

    images: np.ndarray
    boxes: list
    mixed: np.ndarray
    targets: np.ndarray
    labels: list
    kept: float


def cutmix_boxes(scene):
    """The Boxes, of many images and draws, one of which holds most of both objects and the other like backgrounds."""
    x, y = scene.batch(CANDIDATES)
    best = np.argsort([-crowded(image) for image in scene.pixels(x)], kind="stable")[:STANDING_OUT]
    x, y = x[best], y[best]
    pixels, cutmix = scene.pixels(x), scene.draws("cutmix", 0, x[:2], y[:2])
    keys = {}  # of boxes
    for key in cutmix.paired(itertools.islice(scene.keys(), BOX_DRAWS)):
        if BOX[0] < 1 - kept_fraction(cutmix.regularizer.box, *x.shape[2:]) < BOX[1]:
            keys[cutmix.regularizer.box] = key
    if not keys:
        raise BadInput("no draw of CutMix shows a box of the wanted size: give another --seed")
    sizes = np.array([(y2 - y1) * (x2 - x1) for y1, y2, x1, x2 in keys])

    def in_boxes(values):
        return np.array([values[y1:y2, x1:x2].sum() for y1, y2, x1, x2 in keys])

    inside = np.stack([in_boxes(standing_out(image)) for image in pixels])
    best = -np.inf
    for i, j in itertools.combinations(range(len(x)), 2):
        if y[i] != y[j]:
            holds, shows = np.minimum(inside[i], inside[j]), np.maximum(inside[i], inside[j])
            shows = 3 * shows + 4 * in_boxes(np.abs(pixels[i] - pixels[j]).mean(2)) / sizes
            score = np.where(sizes[:, None] == sizes, holds - shows[:, None], -np.inf)
            if score.max() > best:
                best, pair, chosen = score.max(), [i, j], np.unravel_index(score.argmax(), score.shape)
    if best == -np.inf:
        raise BadInput(f"the {CANDIDATES} images of this seed show one class: give another --seed")
    x, y, boxes = x[pair], y[pair], [list(keys)[number] for number in chosen]
    cutmix, results, targets = scene.draws("cutmix", 0, x, y), [], []
    for box in boxes:
        results.append(scene.pixels(cutmix.mixed(keys[box])))
        targets.append(cutmix.regularizer.target.numpy())
    kept = kept_fraction(boxes[0], *x.shape[2:])
    return Boxes(scene.pixels(x), boxes, np.stack(results), np.stack(targets), y.tolist(), kept)


def standing_out(image):
    """How far each pixel of an image [H, W, 3] is from the median colour of its border, summing to 1: [H, W]."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    differs = np.abs(image - np.median(border, axis=0)).sum(2) + 1e-6
    return differs / differs.sum()


def crowded(image):
    """The share of what stands out in an image [H, W, 3] that its foremost quarter of pixels has."""
    return np.sort(standing_out(image), axis=None)[-image[..., 0].size // 4 :].sum()


def draw_box(axis, box, look):
    """The edge of a box (y1, y2, x1, x2) of pixels; look: keyword arguments of its line."""
    y1, y2, x1, x2 = box
    line = {"fill": False, "linewidth": 1.1, "path_effects": HALO, "clip_on": False}
    axis.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, **line, **look))


def figure3(scene, k, path):
    """Two CutMix boxes of one size on two images: over the background, and over the objects."""
    drawn = cutmix_boxes(scene)
    looks = ({"color": "white", "linestyle": (0, (3, 2))}, {"color": MARK, "linestyle": "-"})
    figure, axes = sheet(2, 3, drawn.images.shape[1], WIDE, gap=0.06, gap_down=0.36, top=0.2, bottom=0.33)
    for sample, row in enumerate(axes):
        label, partner = (drawn.labels[i] for i in (sample, 1 - sample))
        show(row[0], drawn.images[sample])
        row[0].set_xlabel(scene.names[label], labelpad=3, fontsize=6.5)
        for axis, box, look, picture, target in zip(row[1:], drawn.boxes, looks, drawn.mixed, drawn.targets):
            show(axis, picture[sample])
            draw_box(row[0], box, look)
            draw_box(axis, box, look)
            parts = [f"{target[sample, name]:.2f} · {scene.names[name]}" for name in (label, partner)]
            axis.set_xlabel("\n+ ".join(parts), labelpad=3, fontsize=6.5)
    for axis in axes.flat:
        axis.spines[:].set(visible=True, linewidth=0.3, color="0.6")  # images may be white
    for axis, head in zip(axes[0], ("two boxes", "background", "object")):
        axis.set_title(head, pad=3)
    return write(
        figure,
        path,
        f"Two boxes of one size that CutMix can draw for two samples of {recipes.printed(scene.recipe.dataset)}: over "
        "like backgrounds (dashed) and over both objects (solid). Lambda is the kept fraction of pixels, "
        f"{drawn.kept:.2f} for both, and so are the targets (below the pictures), though the one swap leaves what the "
        "labels say and the other exchanges it.",
    )


# ---- Figures 7, 8 and 9 ----

SHOWN = 8  # pictures in a row


def figure7(scene, k, path):
    """Images above, and below them Hard PatchUp by its own mask in input space."""
    x, y = scene.batch(SHOWN)
    draws = scene.draws("patchup_hard", 0, x, y, input_mask="patchup")
    hard, key = draws.regularizer, next(draws.paired(scene.keys()))
    figure, axes = sheet(2, len(x), x.shape[2], left=0.2)
    for row, images, name in zip(axes, (x, draws.mixed(key)), ("original", "PatchUp")):
        row[0].set_ylabel(name, labelpad=3)
        for axis, image in zip(row, scene.pixels(images)):
            show(axis, image)
    altered = 1 - draws.mask(key).float().mean().item()
    return write(
        figure,
        path,
        f"Top: samples of {recipes.printed(scene.recipe.dataset)}. Bottom: Hard PatchUp by its own binary mask on the "
        f"input images (gamma {hard.gamma:g}, blocks of {hard.block_size_at(0)}, one mask for each of the three "
        f"colours), which alters {100 * altered:.0f} % of the values: there each sample has another one's.",
    )


def figure8(scene, k, path):
    """Masks of CutMix and PatchUp in input space and of PatchUp in hidden space, and what they make of two samples."""
    groups = (
        ("CutMix, images", "cutmix", 0, {}),
        ("PatchUp, images", "patchup_hard", 0, {"input_mask": "patchup"}),
        (f"PatchUp, $k={k}$", "patchup_hard", k, {}),
    )
    pixels = max(scene.datasets.image_size, scene.shapes[k][1])
    figure, axes = sheet(2 * len(groups), SHOWN, pixels, left=0.3, top=0.2, gap_down=0.16)
    for number, (name, method, layer, options) in enumerate(groups):
        draws = scene.draws(method, layer, *scene.samples(2, layer, number), **options)
        rows = axes[2 * number : 2 * number + 2]
        draw_masks(rows, scene, draws)
        above, below = (axis.get_position() for axis in rows[:, 0])
        middle = (above.y1 + below.y0) / 2
        figure.text(above.x0 - 0.12 / figure.get_figwidth(), middle, name, rotation=90, ha="center", va="center")
    hard = draws.regularizer
    return write(
        figure,
        path,
        "Masks (upper rows; dark: altered) and what they make of the first of two samples (lower rows), for "
        f"{SHOWN - 1} draws each, with the share p_u that is kept. CutMix alters one box of the image; PatchUp's mask "
        "has a plane for each of the three colours (the darker, the more of them are altered) and in hidden space one "
        f"for each channel, of which one is shown, at layer k = {k} of {scene.about}. Hard PatchUp, gamma "
        f"{hard.gamma:g}, blocks of {hard.block_size_at(0)} and {hard.block_size_at(k)}.",
    )


def draw_masks(axes, scene, draws):
    """Two rows [2, n]: both samples, then n - 1 draws, each with its mask above and its result below."""
    h, images = draws.h, draws.k == 0
    channel = clearest(h)
    low, high = np.percentile(h[:, channel], (1, 99))

    def shown(values):
        return scene.pixels(values) if images else (values[:, channel].numpy() - low) / (high - low)

    for axis, picture, name in zip(axes[:, 0], shown(h), "ij"):
        show(axis, picture, f"$x_{name}$" if images else f"$h_{name}$")
    for (above, below), key in zip(axes.T[1:], draws.paired(scene.keys())):
        mask = draws.mask(key)
        mask = (mask.float().mean(0) if images else mask[channel]).numpy()  # CutMix has one for the three colours
        show_mask(above, mask, f"$p_u={mask.mean():.2f}$")
        show(below, shown(draws.mixed(key))[0])


def figure9(scene, k, path):
    """How PatchUp's masks are made: seeds and their blocks in several channels, at each hidden layer of the recipe."""
    methods = ("patchup_hard", "patchup_soft")
    layers = [layer for layer in recipes.sites(scene.recipe.dataset, scene.recipe.model)["layers"] if layer > 0]
    each = SHOWN // len(methods)
    x, y = scene.batch(2)
    pixels = max(scene.shapes[layer][1] for layer in layers)
    figure, axes = sheet(len(layers), SHOWN, pixels, left=0.47, top=0.36, gap=0.08, gap_down=0.17)
    for row, layer in zip(axes, layers):
        h = x.new_zeros(2, *scene.shapes[layer])
        for method, part in zip(methods, np.split(row, len(methods))):
            draws = scene.draws(method, layer, x, y, h)
            key = next(draws.paired(scene.keys(layer)))
            mask, seeds = draws.mask(key), seeds_of(scene, method, draws, key)
            for channel, axis in enumerate(part):
                show_mask(axis, mask[channel].numpy(), f"{100 * (1 - mask[channel].float().mean()):.0f} %")
                axis.scatter(*np.nonzero(seeds[channel].numpy())[::-1], s=3.5, color=MARK, linewidths=0)
        words = f"$k={layer}$\n{in_size(mask[0])}\nblock {draws.regularizer.block_size_at(layer)}"
        row[0].text(-0.06, 0.5, words, ha="right", va="center", transform=row[0].transAxes)
    for method, axis in zip(methods, axes[0, ::each]):
        gamma = scene.regularizer(method, layers[0]).gamma
        words = rf"{recipes.printed(method)}, $\gamma={gamma:g}$"
        axis.annotate(words, (0, 1), (0, 14), "axes fraction", textcoords="offset points")
    between = (axes[0, each - 1].get_position().x1 + axes[0, each].get_position().x0) / 2
    figure.add_artist(Line2D([between] * 2, [0.01, 0.99], color="black", linewidth=0.5))
    return write(
        figure,
        path,
        f"PatchUp's masks in hidden space of {in_words((scene.recipe.dataset, scene.recipe.model))}: {each} channels "
        "of one draw at each layer, for each variant. Dots: features drawn by equation 2's probability; dark: the "
        "blocks around them, which are altered, and their share in percent. Blocks overlap and end at the borders.",
    )


def in_size(mask):
    """`32x32` for a [32, 32]."""
    return "x".join(map(str, mask.shape))


# ---- the command line ----

FIGURES = {
    "figure1": figure1,
    "figure2": diversity.figure2,
    "figure3": figure3,
    "figure7": figure7,
    "figure8": figure8,
    "figure9": figure9,
    "figure10": diversity.figure10,
}
LAYERED = ("figure1", "figure2", "figure8", "figure10")
LAYER = 2  # layer1's output: one of PatchUp's layers in every network
NETWORK = ("dataset", "model", "width", "image_size")  # flags of what a checkpoint says


def parser():
    """The command line."""
    parser = cli.Parser(description=__doc__)
    add = parser.add_argument
    add("figure", choices=FIGURES)
    add("--checkpoint", type=Path, help="weights of train.py, as seed0.best.pt; says data set and network")
    add("--dataset", help=f"{', '.join(data.FACTS)} (default digits)")
    add("--model", help=f"{', '.join(models.MODELS)} (default preactresnet18)")
    for name in ("width", "image_size"):
        add(recipes.flag(name), type=int, help=recipes.OPTIONS[name]["help"])
    add("--layer", type=int, help=f"k, the stage whose input is shown, in {', '.join(LAYERED)} (default {LAYER})")
    add("--seed", type=int, default=0, help="decides images, draws and untrained weights (default 0)")
    add("--data-dir", type=Path, help="holds the images (default $PATCHUP_DATA, else datasets)")
    add("--out", type=Path, default=ROOT / "results", help="gets the picture, in figures/ (default results)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (default auto)")
    add("--workers", type=int, default=4, help="processes that prepare images (default 4)")
    return parser


def make(args):
    """Draw what a command line asks for."""
    if args.layer is not None and args.figure not in LAYERED:
        raise BadInput(f"--layer means nothing to {args.figure}; it is for {', '.join(LAYERED)}")
    k = LAYER if args.layer is None else args.layer
    if k < 1:
        raise BadInput(f"--layer must be at least 1, the first hidden one, not {k}")
    make_folder(args.out / "figures")
    network = {name: getattr(args, name) for name in NETWORK if getattr(args, name) is not None}
    scene = scene_of(args.seed, args.data_dir, args.device, args.workers, args.checkpoint, network)
    with plt.rc_context(PRINT):
        print(FIGURES[args.figure](scene, k, args.out / "figures" / args.figure))
    print(f"written to {args.out / 'figures'}")
    return 0


def main(arguments=None):
    """Draw the figure that a command line says; the exit status (see cli.explain)."""
    args = parser().parse_args(arguments)
    return cli.explain(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
