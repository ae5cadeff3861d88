"""scripts/figures/illustrations.py, diversity.py: pictures show what the code that trains does; right numbers."""

import csv
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from engine.files import ROOT
from regularizers.patchup import adjusted_gamma, block_mask
from scripts.figures import diversity, illustrations, panels, scenes
from scripts.figures.draws import Draws

TINY = ("--dataset", "digits", "--model", "preactresnet18", "--width", "4")
LAYER = illustrations.LAYER


def scene_with(tmp_path, seed=0, model="preactresnet18"):
    """The Scene of a small untrained network on the digits."""
    return scenes.scene_of(seed, tmp_path, "cpu", network={"dataset": "digits", "model": model, "width": 4})


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return scene_with(tmp_path_factory.mktemp("images"))


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    """Enough to choose from here."""
    monkeypatch.setattr(illustrations, "KEYS", 100)
    monkeypatch.setattr(illustrations, "BOX_DRAWS", 800)


def shown(axis):
    """The picture in a panel."""
    return np.asarray(axis.images[0].get_array())


def draw(out, *given):
    """The exit status of a command line that draws into the folder out."""
    return illustrations.main([*given, "--out", str(out), "--data-dir", str(out), "--device", "cpu", "--workers", "0"])


# ---- draws ----


@pytest.mark.parametrize("method", ["patchup_hard", "patchup_soft"])
def test_the_mask_is_the_one_that_mixes_and_its_seeds_make_it(scene, method):
    x, y = scene.batch(2)
    h = scene.states(x, LAYER)
    draws = scene.draws(method, LAYER, x, y, h)
    key = next(draws.paired(scene.keys()))
    mask, mixed, lam = draws.mask(key), draws.mixed(key), draws.regularizer.lam
    assert 0.2 < mask.float().mean() < 0.8
    assert torch.equal(mixed[0][mask], h[0][mask])
    altered = lam * h[0] + (1 - lam) * h[1]
    assert torch.allclose(mixed[0][~mask], altered[~mask], atol=1e-5)
    seeds = scenes.seeds_of(scene, method, draws, key)
    assert torch.equal(block_mask(seeds[None], 7)[0], mask)
    wanted = adjusted_gamma(draws.regularizer.gamma, 7, *h.shape[2:])
    assert seeds.float().mean().item() == pytest.approx(wanted, rel=0.5)


def test_paired_keys_leave_nobody_alone(scene):
    draws = scene.draws("patchup_hard", LAYER, *scene.batch(4))
    keys = list(draws.paired(itertools.islice(scene.keys(), 60)))
    assert 0 < len(keys) < 60
    for key in keys:
        draws.mixed(key)
        assert (draws.regularizer.partner != torch.arange(4)).all()


def test_batches_follow_the_seed_and_hold_the_images_as_they_are(scene, tmp_path):
    x, y = scene.batch(8)
    again, _ = scene.batch(8)
    other, _ = scene.batch(8, 1)
    elsewhere, _ = scene_with(tmp_path, seed=1).batch(8)
    assert torch.equal(x, again) and not torch.equal(x, other) and not torch.equal(x, elsewhere)
    pool = scene.datasets.train.pool
    pixels = (scene.pixels(x) * 255).round().astype(np.uint8).transpose(0, 3, 1, 2)
    for image, label in zip(pixels, y):
        same = (pool.images.numpy() == image).all((1, 2, 3))
        assert same.any() and label in pool.labels[same]
    steps = len(scene.datasets.train) // 8
    late, _ = scene.batch(8, steps)
    assert len(late) == 8 and not torch.equal(late, x), "the next epoch has another order"


def test_samples_are_normalised_with_their_whole_batch(scene):
    x, y, h = scene.samples(3, LAYER, 1)
    every, labels = scene.batch(scenes.BATCH, 1)
    assert torch.equal(x, every[:3]) and torch.equal(y, labels[:3])
    assert torch.allclose(h, scene.states(every, LAYER)[:3]) and not torch.allclose(h, scene.states(x, LAYER))


# ---- Figures 1, 3, 7, 8, 9 ----


def test_figure1_shows_what_the_mask_keeps_and_what_it_takes(scene, tmp_path, drawn):
    example = illustrations.operation(scene, LAYER)
    one, other = example.maps
    soft = np.where(example.mask, one, example.lam * one + (1 - example.lam) * other)
    assert (example.hard == np.where(example.mask, one, other)).all()
    assert example.soft == pytest.approx(soft, abs=1e-5)
    assert 0.2 < 1 - example.mask.mean() < 0.5 and 0.2 < example.lam < 0.6
    assert not np.allclose(one, other)

    text = illustrations.figure1(scene, LAYER, tmp_path / "figure1")
    axes = {axis.get_title(): axis for axis in drawn[0].axes}
    hard, soft, x1, x2 = (shown(axes[name]) for name in ("Hard PatchUp", "Soft PatchUp", "$X_1$", "$X_2$"))
    assert (hard == np.where(example.mask, x1, x2)).all()
    assert (soft == x1)[example.mask].all() and not (soft == x1)[~example.mask].all()
    assert ((shown(axes["mask $M$"]) == 1) == example.mask).all()
    assert "gamma 0.5" in text and "blocks of 7" in text and "untrained, seed 0" in text
    assert len(axes["Hard PatchUp"].collections[0].get_segments()) == len(panels.edges(~example.mask))


def test_figure3_swaps_equal_boxes_over_background_and_objects(scene, tmp_path, drawn):
    example = illustrations.cutmix_boxes(scene)
    inside = []
    for (y1, y2, x1, x2), mixed, target in zip(example.boxes, example.mixed, example.targets):
        expected = example.images.copy()
        expected[:, y1:y2, x1:x2] = example.images[::-1, y1:y2, x1:x2]
        assert mixed == pytest.approx(expected, abs=1e-6)
        size = example.images.shape[1] * example.images.shape[2]
        assert example.kept == pytest.approx(1 - (y2 - y1) * (x2 - x1) / size)
        for sample, (label, partner) in enumerate((example.labels, example.labels[::-1])):
            assert target[sample, label] == pytest.approx(example.kept)
            assert target[sample, partner] == pytest.approx(1 - example.kept)
        inside.append([illustrations.standing_out(image)[y1:y2, x1:x2].sum() for image in example.images])
    assert example.labels[0] != example.labels[1] and example.boxes[0] != example.boxes[1]
    assert max(inside[0]) < 0.1 < 0.3 < min(inside[1])

    illustrations.figure3(scene, LAYER, tmp_path / "figure3")
    axes = drawn[0].axes
    assert [len(axis.patches) for axis in axes] == [2, 1, 1] * 2
    assert f"{example.kept:.2f} · {scene.names[example.labels[0]]}\n" in axes[1].get_xlabel()
    assert axes[1].get_xlabel() == axes[2].get_xlabel(), "both swaps have one target"
    assert shown(axes[2]) == pytest.approx(example.mixed[1, 0])


def test_figure7_has_the_originals_above_their_mixtures(scene, tmp_path, drawn):
    illustrations.figure7(scene, LAYER, tmp_path / "figure7")
    pictures = [shown(axis) for axis in drawn[0].axes]
    above, below = np.stack(pictures[: len(pictures) // 2]), np.stack(pictures[len(pictures) // 2 :])
    assert above == pytest.approx(scene.pixels(scene.batch(len(above))[0]))
    for number, picture in enumerate(below):
        kept = picture == above[number]
        assert 0.2 < kept.mean() < 1
        partners = [other for other in range(len(above)) if (picture == above[other])[~kept].all()]
        assert partners and number not in partners


def test_figure8_has_masks_of_boxes_and_of_blocks(scene, tmp_path, drawn):
    illustrations.figure8(scene, LAYER, tmp_path / "figure8")
    grid = np.array(drawn[0].axes).reshape(6, illustrations.SHOWN)
    for above, below in zip(grid[0, 1:], grid[1, 1:]):
        altered = shown(above) < 1
        rows, columns = np.flatnonzero(altered.any(1)), np.flatnonzero(altered.any(0))
        assert altered.sum() == len(rows) * len(columns) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert (shown(below)[~altered] == shown(grid[0, 0])[~altered]).all()
        assert (shown(below)[altered] == shown(grid[1, 0])[altered]).all()
    for above, below in zip(grid[4, 1:], grid[5, 1:]):
        altered = shown(above) < 1
        assert (shown(below) == np.where(altered, shown(grid[5, 0]), shown(grid[4, 0]))).all()
        assert above.get_title() == f"$p_u={1 - altered.mean():.2f}$"
    shares = {round(float(value), 4) for axis in grid[2, 1:] for value in np.unique(shown(axis))}
    assert shares == {0.25, 0.5, 0.75, 1.0}, "none to all of the three colours are kept"


def test_figure9_has_seeds_in_the_middle_of_blocks_at_every_layer(tmp_path, drawn):
    illustrations.figure9(scene_with(tmp_path, model="wrn28_10"), LAYER, tmp_path / "figure9")
    grid = np.array(drawn[0].axes).reshape(3, illustrations.SHOWN)
    for row, size in zip(grid, (7, 7, 5)):
        assert row[0].texts[0].get_text().endswith(f"block {size}")
        for axis in row:
            altered = shown(axis) < 1
            seeds = np.zeros_like(altered)
            for x, y in axis.collections[0].get_offsets().data.astype(int):
                seeds[y, x] = True
            assert (block_mask(torch.from_numpy(seeds)[None, None], size)[0, 0].numpy() == ~altered).all()
            assert axis.get_title() == f"{100 * altered.mean():.0f} %"
    assert shown(grid[2, 0]).shape == (16, 16)
    assert (shown(grid[0, 0]) != shown(grid[1, 0])).any(), "every layer has a draw of its own"


def test_edges_are_the_borders_of_the_altered_pixels():
    altered = np.zeros((3, 4), bool)
    altered[0, 0] = altered[1, 2] = altered[1, 3] = True
    edges = {tuple(map(tuple, edge)) for edge in panels.edges(altered)}
    assert len(edges) == 4 + 6
    assert ((-0.5, -0.5), (0.5, -0.5)) in edges and ((3.5, 0.5), (3.5, 1.5)) in edges
    assert ((2.5, 0.5), (2.5, 1.5)) not in edges


@pytest.mark.parametrize("pixels, columns", [(8, 8), (32, 3), (64, 8), (224, 8), (500, 8)])
def test_a_pixel_is_a_square_of_whole_dots(pixels, columns):
    figure, axes = panels.sheet(2, columns, pixels)
    width, height = figure.get_size_inches() * panels.DPI
    for axis in axes.flat:
        x0, y0, across, down = axis.get_position().bounds * np.array([width, height, width, height])
        assert across % pixels == pytest.approx(0, abs=1e-6) or across % pixels == pytest.approx(pixels, abs=1e-6)
        assert down == pytest.approx(across) and across > 0.9
        assert [x0, y0] == pytest.approx(np.round([x0, y0]), abs=1e-6)
    if pixels < 200:
        assert 0.6 * panels.PAGE * panels.DPI < width < panels.PAGE * panels.DPI + 1
    panels.plt.close(figure)


# ---- Figures 2 and 10 ----


def test_participation_ratio_counts_dimensions():
    line = torch.linspace(-1, 2, 7)[:, None] * torch.tensor([[3.0, 4.0, 0.0]])
    assert diversity.participation_ratio(line) == pytest.approx(1)
    assert diversity.participation_ratio(torch.eye(5)) == pytest.approx(5)
    assert diversity.participation_ratio(torch.diag(torch.tensor([2.0, 1.0]))) == pytest.approx(25 / 17)


def brute_force(point, real):
    """The distance of a point to the nearest of many points on all segments."""
    along = np.linspace(0, 1, 2001)[:, None]
    pairs = itertools.combinations(real, 2)
    return min(np.linalg.norm(point - (one + along * (other - one)), axis=1).min() for one, other in pairs)


def test_the_nearest_segment_is_that_of_a_search():
    generator = torch.Generator().manual_seed(0)
    real, points = torch.randn(5, 6, generator=generator), 2 * torch.randn(9, 6, generator=generator)
    points = torch.cat([points, real[:1] + 3 * (real[:1] - real.mean(0)), real[1:2].lerp(real[3:4], 0.3)])
    expected = [brute_force(point, real.numpy()) for point in points.numpy()]
    assert diversity.nearest_segment(points + 50, real + 50).numpy() == pytest.approx(expected, abs=2e-3)
    assert diversity.nearest_segment(real, real).numpy() == pytest.approx(np.zeros(5), abs=1e-6)


def test_manifold_mixup_stays_on_the_segments_and_patchup_does_not(scene, monkeypatch):
    for name, value in (("BATCH", 12), ("BATCHES", 3), ("DRAWS", 16)):
        monkeypatch.setattr(diversity, name, value)
    numbers = diversity.measurements(scene, LAYER)
    manifold, soft, hard = (numbers[method] for method in diversity.METHODS)
    assert all(len(values) == 3 for measures in numbers.values() for values in measures.values())
    assert max(manifold["distance"]) < 1e-5
    assert manifold["dimensions"] == pytest.approx([1] * 3, abs=1e-4)
    for other in (soft, hard):
        assert min(other["distance"]) > 0.05 and min(other["dimensions"]) > 1.3
    assert np.mean(hard["distance"]) > np.mean(soft["distance"])
    for measures in numbers.values():
        mean = {name: np.mean(values) for name, values in measures.items()}
        assert 0 < mean["displacement"] < 1 and mean["to_own"] > 0 and mean["to_partner"] < 1
    assert numbers == diversity.measurements(scene, LAYER), "the same seed, the same numbers"


def test_displacement_and_cosines_of_a_known_mixture(scene):
    """ManifoldMixup moves every state by 1 - lambda of the way."""
    x, y = scene.batch(6)
    h = scene.states(x, LAYER)
    draws, keys = scene.draws("manifold_mixup", LAYER, x, y, h), scene.keys()
    numbers = diversity.measure(draws, scene.keys())
    diversity.pair_draws(Draws(draws.regularizer, LAYER, h[:2], x[:2], y[:2]), keys, diversity.DRAWS)
    lams, cosines = [], []
    for key in itertools.islice(keys, diversity.BATCH_DRAWS):
        states = draws.mixed(key)[draws.moved].flatten(1)
        start = h[draws.moved].flatten(1)
        lams.append(draws.regularizer.lam)
        cosines.append(((states * start).sum(1) / states.norm(dim=1) / start.norm(dim=1)).mean())
    assert numbers["displacement"] == pytest.approx(1 - np.mean(lams), abs=1e-5)
    assert numbers["to_own"] == pytest.approx(np.mean(cosines), abs=1e-5)


def test_pooled_points_of_manifold_mixup_lie_on_the_lines(scene, tmp_path, drawn):
    pools = diversity.pooled(scene, LAYER)
    assert len(set(pools.channels)) == 3 and pools.real.shape == (3, 3)
    scale = np.linalg.norm(pools.real[0] - pools.real[1])
    distances = {
        method: diversity.nearest_segment(torch.tensor(points), torch.tensor(pools.real)).numpy() / scale
        for method, points in pools.interpolated.items()
    }
    assert distances["manifold_mixup"].max() < 1e-4
    for method in ("patchup_soft", "patchup_hard"):
        assert (distances[method] > 0.01).mean() > 0.8, method
    diversity.figure2(scene, LAYER, tmp_path / "figure2")
    assert [len(axis.collections[0].get_offsets()) for axis in drawn[0].axes] == list(map(len, distances.values()))


def test_figure10_writes_what_it_draws(tmp_path, monkeypatch, capsys, drawn):
    for name, value in (("BATCH", 8), ("BATCHES", 2), ("DRAWS", 4), ("SHOWN_DRAWS", 5)):
        monkeypatch.setattr(diversity, name, value)
    assert draw(tmp_path, "figure10", *TINY, "--layer", "1") == 0
    with (tmp_path / "figures/figure10.csv").open() as file:
        rows = list(csv.DictReader(file))
    stored = json.loads((tmp_path / "figures/figure10.json").read_text())
    assert len(rows) == len(diversity.METHODS) * len(diversity.MEASURES) and stored["setting"]["layer"] == 1
    for row in rows:
        values = stored["batches"][row["method"]][row["measure"]]
        assert float(row["mean"]) == pytest.approx(np.mean(values)) and int(row["n"]) == 2
        assert float(row["std"]) == pytest.approx(np.std(values, ddof=1))
    bars = [axis for axis in drawn[0].get_figure().axes if axis.get_title() in diversity.MEASURES.values()]
    assert len(bars) == len(diversity.MEASURES)
    for axis, name in zip(bars, diversity.MEASURES):
        heights = [bar.get_height() for bar in axis.patches]
        assert heights == pytest.approx([np.mean(stored["batches"][method][name]) for method in diversity.METHODS])
    printed = capsys.readouterr().out
    assert printed.startswith("| | dimensions of a pair |") and "| Hard PatchUp | " in printed
    assert "2 batches of 8 images" in (tmp_path / "figures/figure10.txt").read_text()


# ---- the command line ----


@pytest.mark.parametrize("figure", [name for name in illustrations.FIGURES if name != "figure10"])
def test_a_figure_is_written_and_the_same_again(figure, tmp_path, capsys):
    assert draw(tmp_path / "one", figure, *TINY) == 0
    caption = (tmp_path / "one/figures" / f"{figure}.txt").read_text().strip()
    assert caption in capsys.readouterr().out and len(caption) > 80
    assert Image.open(tmp_path / "one/figures" / f"{figure}.png").width > 800
    assert draw(tmp_path / "two", figure, *TINY) == 0
    for suffix in ("png", "pdf", "txt"):
        one, two = (tmp_path / folder / "figures" / f"{figure}.{suffix}" for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), suffix


def test_a_checkpoint_says_data_set_network_and_weights(tmp_path, train_tiny, capsys):
    train_tiny("mixup", seed=3, epochs=1, out=tmp_path / "runs")
    path = tmp_path / "runs/digits/preactresnet18/mixup/seed3.best.pt"
    trained = scenes.scene_of(0, tmp_path, "cpu", checkpoint=path)
    assert trained.about == "PreActResNet18 of width 4 on digits (Input Mixup, seed 3)"
    weights = torch.load(path, weights_only=True)["net"]
    assert all(torch.equal(value, weights[name]) for name, value in trained.net.state_dict().items())
    assert trained.regularizer("patchup_hard", LAYER).gamma == 0.5, "the paper's, whatever the run's method"
    assert draw(tmp_path, "figure1", "--checkpoint", str(path)) == 0
    assert "Input Mixup, seed 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given, words",
    [
        (["figure7", "--dataset", "mnist"], "unknown data set 'mnist'; known are"),
        (["figure7", "--model", "vgg"], "unknown model 'vgg'; known are"),
        (["figure1", "--layer", "0"], "--layer must be at least 1, the first hidden one, not 0"),
        (["figure1", *TINY, "--layer", "9"], "layer 9 does not exist: this network has layers 0 to 5"),
        (["figure1", *TINY, "--layer", "5"], "block_size 7 does not fit a feature map of 4x4 (layer 5)"),
        (["figure7", "--layer", "2"], "--layer means nothing to figure7"),
        (["figure1", "--seed", "-1"], "--seed must lie in 0 to 1048575, not -1"),
        (["figure1", "--image-size", "64"], "digits has images of 32 pixels"),
        (["figure1", "--dataset", "tiny_imagenet"], "tiny-imagenet-200"),
        (["figure1", "--checkpoint", "none.best.pt"], "there is no checkpoint none.best.pt"),
        (["figure1", "--checkpoint", "x.pt", "--width", "4"], "--width is what --checkpoint says: leave it out"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(given, words, tmp_path, capsys):
    assert draw(tmp_path, *given) == 2
    errors = capsys.readouterr().err
    assert words in errors and errors.count("\n") == 1
    assert not list((tmp_path / "figures").glob("figure*")) if (tmp_path / "figures").exists() else True


def test_an_out_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert draw(tmp_path / "file", "figure1", *TINY) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_classes_are_named_in_words(tmp_path):
    (tmp_path / "tiny-imagenet-200").mkdir()
    (tmp_path / "tiny-imagenet-200/words.txt").write_text("n01\tEgyptian cat\nn02\tbullfrog, Rana catesbeiana\n")
    assert scenes.class_names(["n02", "n01", "n03"], tmp_path) == ["bullfrog", "Egyptian cat", "n03"]
    assert scenes.class_names(["aquarium_fish"], tmp_path / "nowhere") == ["aquarium fish"]


@pytest.mark.parametrize("number", [1, 2, 3, 7, 8, 9, 10])
def test_every_figure_has_a_script(number):
    script = ROOT / f"scripts/figure{number}.sh"
    assert script.stat().st_mode & 0o111
    assert f'-m scripts.figures.illustrations figure{number} "$@"' in script.read_text()
