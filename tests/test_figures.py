"""scripts/figures/charts.py: what is drawn is what was given, and can be read in print."""

import itertools
import math
import os
import re
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

import recipes
from data.corruptions import SCORED
from engine.files import ROOT, BadInput, RunFailed
from scripts.figures import charts, contact_sheet, demo_figures

METHODS = list(charts.STYLES)
RUN = ["dataset", "model", "method", "seed"]
WRN = ("cifar100", "wrn28_10")
RESNETS = [("tiny_imagenet", "resnet101"), ("tiny_imagenet", "resnet152")]
EPS = (0.2, 0.0, 0.05, 0.1)  # in any order
STAGES = {"conv1": 4, "layer1": 8, "layer2": 12, "layer3": 16}


def table(networks, methods, seeds, points, columns, value, low=10.0, high=90.0):
    """A number for every network, method, seed and point (a tuple); another one each."""
    runs = itertools.product(networks, methods, range(seeds), points)
    rows = [(*network, method, seed, *point) for network, method, seed, point in runs]
    values = np.random.default_rng(len(rows)).uniform(low, high, len(rows))
    return pd.DataFrame(rows, columns=RUN + columns).assign(**{value: values})


def corruptions(networks=RESNETS, methods=METHODS, seeds=2, names=tuple(SCORED)):
    return table(networks, methods, seeds, zip(names), ["corruption"], "sum_error", 100, 450)


def attacks(networks=(WRN,), methods=METHODS, seeds=2):
    return table(networks, methods, seeds, zip(EPS), ["eps"], "error")


def activations(networks=(WRN,), methods=METHODS, seeds=2, stages=STAGES):
    points = [(stage, rank) for stage, channels in stages.items() for rank in range(1, channels + 1)]
    rows = table(networks, methods, seeds, points, ["stage", "channel_rank"], "magnitude", 0, 2)
    falling = rows.groupby([*RUN, "stage"]).magnitude.transform(lambda values: np.sort(values)[::-1])
    return rows.assign(magnitude=falling)


def over_seeds(rows, point, value):
    """{((dataset, model), method, *point): (mean, sample standard deviation) of the values of the seeds}."""
    cells = {}
    for row in rows.to_dict("records"):
        key = (row["dataset"], row["model"]), row["method"], *(row[name] for name in point)
        cells.setdefault(key, []).append(row[value])
    assert {len(values) for values in cells.values()} == {3}
    return {key: (np.mean(values), np.std(values, ddof=1)) for key, values in cells.items()}


# ---- styles ----


def test_every_method_has_a_style_of_its_own():
    assert [method for method in recipes.LABELS if method in METHODS] == METHODS and len(METHODS) == 9
    everything = [*charts.STYLES.values(), *charts.SPARE]
    for attribute in ("color", "marker", "hatch"):
        assert len({getattr(style, attribute) for style in everything}) == len(everything), attribute
    greys = sorted(charts.grey(style.color) for style in charts.STYLES.values())
    assert min(np.diff(greys)) > 0.07, "printed without colour"
    assert greys[-1] < 0.85, "on white paper"


DICHROMATS = {  # linear RGB as a protanope, deuteranope and tritanope sees it (Machado et al., 2009)
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


@pytest.mark.parametrize("eyes", DICHROMATS)
def test_colours_stay_apart_for_colour_blind_readers(eyes):
    srgb = np.array([to_rgb(style.color) for style in charts.STYLES.values()])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ @ (linear @ np.array(DICHROMATS[eyes]).T).clip(0, 1).T / XYZ.sum(1)[:, None])
    lab = np.stack([116 * y, 500 * (x - y), 200 * (y - z)])
    distances = [np.linalg.norm(first - second) for first, second in itertools.combinations(lab.T, 2)]
    assert min(distances) > 15  # CIELAB; 2.3 is just noticeable


def test_unknown_methods_come_last_each_with_a_style_of_its_own():
    looks = charts.styles(["mine", "patchup_hard", "another", "none"])
    assert list(looks) == ["none", "patchup_hard", "another", "mine"]
    assert len(set(looks.values())) == 4
    assert len(charts.styles(str(i) for i in range(20))) == 20


def test_the_demos_curves_have_the_same_styles(tmp_path, drawn):
    logs = {}
    for method, seed in itertools.product(("none", "patchup_soft"), (0, 1)):
        recipe = recipes.resolve("digits", "preactresnet18", method, seed, width=4)
        logs[recipe] = [{"val_error": error + seed} for error in (9, 5, 4)]
    demo_figures.error_curves(logs, tmp_path / "curves.png")
    lines = drawn[0].axes[0].lines
    assert [line.get_label() for line in lines] == ["No Mixup (2)", "Soft PatchUp (2)"]
    for line, look in zip(lines, (charts.STYLES["none"], charts.STYLES["patchup_soft"])):
        assert (line.get_color(), line.get_marker()) == (look.color, look.marker)
        assert list(line.get_ydata()) == [9.5, 5.5, 4.5]


def test_the_demos_labels_say_which_share_of_which_class_they_are_the_largest_first():
    assert demo_figures.shares(torch.tensor([0.0, 0.375, 0.0, 0.625]), "abcd") == "62 % d + 38 % b"


def test_below_the_demos_mixed_pictures_stand_the_shares_that_beside_them_are_white(tmp_path, drawn):
    recipe = recipes.resolve("digits", "preactresnet18", "none", width=4)
    demo_figures.mixed_batch(recipe, *recipes.objects(recipe, tmp_path), tmp_path / "batch.png")
    axes = np.reshape(drawn[0].axes, (len(demo_figures.PICTURES) + 1, 2, demo_figures.SHOWN))
    labels = [axis.get_xlabel() for axis in axes[0, 0]]
    assert all(label in "0123456789" for label in labels)
    for (method, _), (mixed, kept) in zip(demo_figures.PICTURES, axes[1:]):
        texts = [axis.get_xlabel() for axis in mixed]
        if method in ("cutout", "dropblock"):
            assert texts == labels, "a label that is whole has no share"
        elif method in ("mixup", "cutmix", "manifold_mixup"):
            assert any("+" in text for text in texts)
            for text, label, axis in zip(texts, labels, kept):
                shares = {name: float(share) for share, name in re.findall(r"(\d+) % (\d)", text)}
                if shares:  # else the other sample has the same label
                    assert shares[label] == pytest.approx(100 * axis.images[0].get_array().mean(), abs=0.6)


# ---- how pictures are written ----


def test_a_picture_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    def half(figure, file, **options):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(charts.plt.Figure, "savefig", half)
    for path, write in (
        (tmp_path / "a.png", lambda path: demo_figures.finish(charts.plt.figure(), path)),
        (tmp_path / "b.pdf", lambda path: charts.write(charts.plt.figure(), path.with_suffix(""), "A caption.")),
    ):
        path.write_text("old")
        with pytest.raises(RunFailed, match=f"cannot write {path}"):
            write(path)
        assert path.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.pdf"]
    charts.plt.close("all")


def test_all_that_draws_does_so_where_a_notebooks_settings_are_inherited():
    """matplotlib cannot even be imported with the backend of a notebook that it does not find."""
    code = """if True:
        import importlib, pkgutil, sys
        import scripts
        for module in pkgutil.walk_packages(scripts.__path__, "scripts."):
            importlib.import_module(module.name)
        from matplotlib import pyplot
        pyplot.figure().savefig(sys.stdout.buffer)
    """
    environment = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    process = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True)
    assert process.stdout.startswith(b"\x89PNG"), process.stderr.decode()


# ---- what is drawn is what was given ----


def test_bars_are_the_means_and_their_lines_the_deviations(tmp_path, drawn):
    rows = corruptions(methods=("mine", "patchup_hard", "none"), seeds=3, names=(*reversed(SCORED), "spatter"))
    charts.corruption_bars(rows, tmp_path / "bars")
    expected, axes = over_seeds(rows, ["corruption"], "sum_error"), drawn[0].axes
    parts = [list(SCORED)[:7], list(SCORED)[7:], ["spatter"]]
    assert len(axes) == 6
    titles = ["(a) ResNet101 on Tiny-ImageNet", "(b) ResNet152 on Tiny-ImageNet"]
    assert [axis.get_title("left") for axis in axes][::3] == titles
    headings = [[text.get_text() for text in axis.texts] for axis in axes[:3]]
    assert headings == [["noise", "blur"], ["weather", "digital"], ["held out"]]
    for axis, (network, part) in zip(axes, itertools.product(RESNETS, parts)):
        assert [text.get_text().replace("\n", "_") for text in axis.get_xticklabels()] == part
        assert [bars.get_label() for bars in axis.containers] == ["none", "patchup_hard", "mine"]
        deviations = [lines for lines in axis.collections if len(lines.get_segments()) == len(part)]
        for bars, lines in zip(axis.containers, deviations, strict=True):
            for place, (bar, line, name) in enumerate(zip(bars, lines.get_segments(), part, strict=True)):
                mean, std = expected[network, bars.get_label(), name]
                assert bar.get_height() == pytest.approx(mean) and bar.get_y() == 0
                assert line[:, 1] == pytest.approx([mean - std, mean + std])
                middle = bar.get_x() + bar.get_width() / 2
                assert abs(middle - place) < 0.5 and line[:, 0] == pytest.approx([middle, middle])
                assert axis.get_ylim()[0] == 0 and axis.get_ylim()[1] > mean + std
        edges = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bars in axis.containers for bar in bars)
        assert all(right <= left for (_, right), (left, _) in itertools.pairwise(edges)), "no bar hides another"


def test_accuracy_lines_are_the_means_and_bands_the_deviations(tmp_path, drawn):
    networks = [WRN, ("svhn", "preactresnet18")]
    rows = attacks(networks, ("mine", "cutmix", "mixup"), seeds=3)
    charts.accuracy_curves(rows, tmp_path / "curves", strength="ε (normalised input)")
    expected, axes = over_seeds(rows, ["eps"], "error"), drawn[0].axes
    assert [axis.get_title() for axis in axes] == ["(a) WRN-28-10 on CIFAR-100", "(b) PreActResNet18 on SVHN"]
    assert {axis.get_xlabel() for axis in axes} == {"ε (normalised input)"}
    for axis, network in zip(axes, networks):
        assert [line.get_label() for line in axis.lines] == ["mixup", "cutmix", "mine"]
        for line, band in zip(axis.lines, axis.collections, strict=True):
            assert band.get_label() == line.get_label() and list(line.get_xdata()) == sorted(EPS)
            vertices = band.get_paths()[0].vertices
            for eps, accuracy in line.get_xydata():
                error, std = expected[network, line.get_label(), eps]
                assert accuracy == pytest.approx(100 - error)
                edges = vertices[vertices[:, 0] == eps][:, 1]
                assert [edges.min(), edges.max()] == pytest.approx([accuracy - std, accuracy + std])


def test_activation_lines_are_the_means_of_every_rank(tmp_path, drawn):
    rows = activations(methods=("patchup_soft", "mine", "cutout"), seeds=3)
    charts.activation_curves(rows, tmp_path / "curves")
    expected, axes = over_seeds(rows, ["stage", "channel_rank"], "magnitude"), drawn[0].axes
    assert [axis.get_title() for axis in axes] == ["(a) conv1", "(b) layer1", "(c) layer2", "(d) layer3"]
    for axis, (stage, channels) in zip(axes, STAGES.items()):
        assert [line.get_label() for line in axis.lines] == ["cutout", "patchup_soft", "mine"]
        for line in axis.lines:
            assert list(line.get_xdata()) == list(range(1, channels + 1))
            means = [expected[WRN, line.get_label(), stage, rank][0] for rank in line.get_xdata()]
            assert line.get_ydata() == pytest.approx(means)
        assert axis.get_ylim()[0] == 0


def test_networks_may_have_different_stages(tmp_path, drawn):
    other = activations([("svhn", "preactresnet18")], ("none",), stages={"layer4": 20})
    charts.activation_curves(pd.concat([activations(methods=("none",)), other]), tmp_path / "curves")
    axes = drawn[0].axes[:5]
    assert axes[0].get_title() == "(a) WRN-28-10 on CIFAR-100, conv1"
    assert axes[4].get_title() == "(e) PreActResNet18 on SVHN, layer4"
    assert [len(axis.lines[0].get_xdata()) for axis in axes] == [4, 8, 12, 16, 20]


def test_a_sheet_holds_every_pixel_as_a_square(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (2, 12, 3, 8, 6), np.uint8)
    charts.write(contact_sheet.contact_sheet(images, ("fog", "snow"), range(12)), tmp_path / "sheet", "")
    with Image.open(tmp_path / "sheet.png") as picture:
        sheet = np.asarray(picture.convert("RGB"))
    left = charts.DPI  # an inch for the names of rows
    times = (sheet.shape[1] - left) // (12 * 7)
    top = sheet.shape[0] - 2 * 9 * times
    assert times > 1
    for row, column in np.ndindex(2, 12):
        y, x = top + row * 9 * times, left + column * 7 * times
        tile = sheet[y : y + 8 * times, x : x + 6 * times]
        assert (tile == images[row, column].transpose(1, 2, 0).repeat(times, 0).repeat(times, 1)).all()
        assert (sheet[y : y + 8 * times, x + 6 * times : x + 7 * times] == 255).all()


# ---- files and captions ----

TWO = [WRN, ("tiny_imagenet", "wrn28_10")]
SIX = list(itertools.product(("cifar10", "svhn"), ("preactresnet18", "preactresnet34", "wrn28_10")))
ALL = {
    "figure4": (charts.corruption_bars, corruptions([("tiny_imagenet", "wrn28_10")]), charts.PAGE),
    "figure15": (charts.corruption_bars, corruptions(), charts.PAGE),
    "figure5": (charts.accuracy_curves, attacks(TWO), charts.PAGE),
    "one-panel": (charts.accuracy_curves, attacks(), charts.COLUMN),
    "figure13": (charts.accuracy_curves, attacks(SIX), charts.PAGE),
    "figure6": (charts.activation_curves, activations(stages={"layer1": 160, "layer2": 320}), charts.PAGE),
    "figure14": (charts.activation_curves, activations(), charts.PAGE),
    "five-stages": (charts.activation_curves, activations(stages=STAGES | {"layer4": 20}), charts.PAGE),
}


def texts(figure):
    """The texts that are seen in a figure."""
    seen = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        seen += axes.get_legend().get_texts() if axes.get_legend() else []
        seen += [*axes.texts, axes.title, axes._left_title] if axes.axison else []
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            low, high = sorted(axis.get_view_interval())
            ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels())
            seen += [axis.label, *(text for place, text in ticks if low <= place <= high)]
    return [text for text in seen if text.get_text()]


@pytest.mark.parametrize("name", ALL)
def test_a_figure_can_be_read_in_print(name, tmp_path, drawn):
    draw, rows, width = ALL[name]
    path = tmp_path / "new" / f"{name}-lr0.05"
    text = draw(rows, path)
    assert {file.name for file in path.parent.iterdir()} == {f"{path.name}.{end}" for end in ("png", "pdf", "txt")}
    assert path.with_name(f"{path.name}.txt").read_text() == f"{text}\n"
    assert path.with_name(f"{path.name}.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(path.with_name(f"{path.name}.png")) as picture:
        assert picture.info["dpi"][0] >= 200 and picture.width / charts.DPI == pytest.approx(width, abs=0.01)
        assert picture.height / charts.DPI < charts.TALL
    seen = texts(drawn[0])
    assert {recipes.printed(method) for method in METHODS} <= {text.get_text() for text in seen}
    assert min(text.get_fontsize() for text in seen) >= 7
    boxes = [text.get_window_extent() for text in seen]
    for box in boxes:
        assert drawn[0].bbox.x0 <= box.x0 and box.x1 <= drawn[0].bbox.x1
        assert drawn[0].bbox.y0 <= box.y0 and box.y1 <= drawn[0].bbox.y1
    for (first, a), (second, b) in itertools.combinations(zip(seen, boxes), 2):
        assert not a.overlaps(b), f"{first.get_text()!r} and {second.get_text()!r} overlap"


def test_the_same_data_gives_the_same_files(tmp_path):
    rows = attacks(methods=("none", "mine"))
    for order in (1, 2):
        charts.accuracy_curves(rows.sample(frac=1, random_state=order), tmp_path / f"{order}")
    for end in ("png", "pdf", "txt"):
        assert (tmp_path / f"1.{end}").read_bytes() == (tmp_path / f"2.{end}").read_bytes(), end


def test_captions_name_seeds_spread_and_what_is_missing(tmp_path):
    rows = attacks([WRN], ("none", "cutmix", "puzzlemix", "mine"), seeds=5)
    rows = rows[~((rows.method == "puzzlemix") & (rows.seed > 2)) & ~((rows.method == "mine") & (rows.seed > 0))]
    wanted = ("none", "cutmix", "dropblock", "mixup")
    text = charts.accuracy_curves(rows, tmp_path / "curves", wanted, "On 1000 images.", strength="ε of FGSM")
    assert text == (
        "Test accuracy (%) against ε of FGSM: WRN-28-10 on CIFAR-100. Mean over 5 seeds (1 of mine; 3 of Puzzle Mix), "
        "bands: sample standard deviation over seeds. No runs of Input Mixup, DropBlock. On 1000 images."
    )


def test_captions_say_which_network_lacks_a_method(tmp_path):
    rows = corruptions(methods=("none", "cutmix"), seeds=3, names=("fog",))
    rows = rows[(rows.method == "none") | ((rows.model == "resnet152") & (rows.seed < 2))]
    text = charts.corruption_bars(rows, tmp_path / "bars")
    assert text == (
        "E_c, the test error (%) summed over the five severities of each corruption (0 to 500, lower is better): "
        "(a) ResNet101 on Tiny-ImageNet, (b) ResNet152 on Tiny-ImageNet. Mean over 3 seeds "
        "(2 of CutMix (ResNet152 on Tiny-ImageNet)), error bars: sample standard deviation over seeds. "
        "No runs of CutMix (ResNet101 on Tiny-ImageNet)."
    )


FIGURES = (  # a table, its picture, its last point
    pytest.param(corruptions, charts.corruption_bars, "jpeg_compression", id="bars"),
    pytest.param(attacks, charts.accuracy_curves, "0.1", id="accuracy"),
    pytest.param(activations, charts.activation_curves, "layer3 16", id="activation"),
)


@pytest.mark.parametrize("make, draw, point", FIGURES)
def test_one_seed_has_no_spread_and_no_warning(make, draw, point, tmp_path, drawn):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = draw(make(methods=("none", "mine"), seeds=1), tmp_path / "figure")
    assert "One seed." in text and "deviation" not in text
    for axis in drawn[0].axes:
        for spread in axis.collections:
            vertices = np.concatenate([path.vertices for path in spread.get_paths()] or [np.empty((0, 2))])
            assert not np.isfinite(vertices).all(axis=1).any()
        assert all(np.isfinite(line.get_ydata()).all() for line in axis.lines)
        assert all(math.isfinite(bar.get_height()) for bars in axis.containers for bar in bars)


@pytest.mark.parametrize("make, draw, point", FIGURES)
def test_what_cannot_be_drawn_is_refused(make, draw, point, tmp_path):
    rows = make(methods=("none", "mixup"))
    for table, words in (
        (rows[:0], "nothing to draw: no finished evaluation"),
        (rows[:-1], rf"\w+/\w+/mixup/seed1 lacks {point}, which others have"),
        (pd.concat([rows, rows[-1:]]), rf"\w+/\w+/mixup/seed1 has \w+ {point.split()[-1]} twice"),
    ):
        with pytest.raises(BadInput, match=f"^{words}$"):
            draw(table, tmp_path / "figure")
    assert not list(tmp_path.iterdir())


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    before = dict(matplotlib.rcParams)
    charts.accuracy_curves(attacks(methods=("none",)), tmp_path / "curves")
    assert dict(matplotlib.rcParams) == before and not charts.plt.get_fignums()
