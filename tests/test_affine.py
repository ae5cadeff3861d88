"""The affine test sets: pixels equal to Pillow's and torchvision's, the authors' geometry, the draws; the script."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as TF

import eval_affine
from data import affine
from engine import files
from engine.subject import load_subject
from tests.trainings import record


def random_images(rng, count, height, width):
    """Images without black pixels, uint8 [count, 3, height, width]."""
    return rng.integers(1, 256, (count, 3, height, width), dtype=np.uint8)


def to_pil(image):
    return Image.fromarray(image.transpose(1, 2, 0))


def by_pillow(image, matrix):
    """One image [3, H, W] by PIL.Image.transform."""
    image = to_pil(image)
    nearest = Image.Resampling.NEAREST
    out = image.transform(image.size, Image.Transform.AFFINE, matrix.flatten().tolist(), nearest, fillcolor=(0, 0, 0))
    return np.asarray(out).transpose(2, 0, 1)


def assert_as_pillow(images, matrices):
    """warp of the whole batch equals Pillow's transform of every image, pixel by pixel."""
    warped = affine.warp(torch.from_numpy(images), torch.as_tensor(matrices)).numpy()
    for image, matrix, deformed in zip(images, np.asarray(matrices), warped):
        np.testing.assert_array_equal(deformed, by_pillow(image, matrix), str(matrix))


KINDS = {  # what random matrices [B, 2, 3] are made into
    "any": lambda m, rng: m,
    "far": lambda m, rng: m * rng.choice([1, 30], (len(m), 1, 3)),
    "scaling": lambda m, rng: m * [[1, 0, 10], [0, 1, 10]],
    "on the edge of pixels": lambda m, rng: np.round(4 * m) / 4,
    "beyond fixed point": lambda m, rng: m * [[3000, 3000, 3000], [1, 1, 1]],
    "of all magnitudes": lambda m, rng: m * np.exp(rng.normal(0, 4, (len(m), 1, 1))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_warp_equals_pillow_pixel_by_pixel(kind):
    rng = np.random.default_rng(len(kind))
    for _ in range(25):
        height, width = rng.integers(1, 50, 2)
        matrices = KINDS[kind](rng.normal(size=(12, 2, 3)), rng)
        assert_as_pillow(random_images(rng, 12, height, width), matrices)


def test_warp_takes_all_of_pillows_ways_in_one_batch():
    rng = np.random.default_rng(0)
    matrices = np.concatenate([change(rng.normal(size=(5, 2, 3)), rng) for change in KINDS.values()])
    floating = affine.in_floating_point(torch.from_numpy(matrices), 31, 17)
    assert 0 < floating.sum() < len(matrices)
    at_the_limit = torch.tensor([[[1, 0.5, 2.0**15 - 32.5], [0, 1, 0]], [[1, 0.5, 2.0**15 - 33], [0, 1, 0]]]).double()
    assert affine.in_floating_point(at_the_limit, 31, 17).tolist() == [True, False]
    assert_as_pillow(random_images(rng, len(matrices), 31, 17), matrices)


def test_modern_is_todays_torchvision_bit_for_bit():
    rng = np.random.default_rng(2)
    for _ in range(100):
        height, width = (int(v) for v in rng.integers(2, 40, 2))
        angle, shear, scale = (float(v) for v in (rng.uniform(-180, 180), rng.uniform(-60, 60), rng.uniform(0.5, 2)))
        image = random_images(rng, 1, height, width)
        matrix = affine.modern(angle, shear, scale, width, height)
        expected = TF.affine(to_pil(image[0]), angle, [0, 0], scale, [shear, 0.0], fill=0)
        warped = affine.warp(torch.from_numpy(image), torch.tensor(matrix, dtype=torch.float64).view(1, 2, 3))
        np.testing.assert_array_equal(warped[0].permute(1, 2, 0), np.asarray(expected))


def test_the_authors_geometry_inverts_their_forward_map():
    """Their shear also squeezes, and their centre lies half a pixel off."""
    angle, shear, scale, center = 0.4, -0.7, 1.3, (16.5, 10.5)
    forward = np.eye(3)
    forward[:2, 0] = scale * math.cos(angle), scale * math.sin(angle)
    forward[:2, 1] = -scale * math.sin(angle + shear), scale * math.cos(angle + shear)
    shift = np.array([[1, 0, center[0]], [0, 1, center[1]], [0, 0, 1]])
    expected = np.linalg.inv(shift @ forward @ np.linalg.inv(shift))[:2]
    matrix = affine.torchvision04(math.degrees(angle), math.degrees(shear), scale, 32, 20)
    np.testing.assert_allclose(np.reshape(matrix, (2, 3)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("geometry, function", affine.GEOMETRIES.items())
def test_a_set_changes_what_is_drawn_and_nothing_else(geometry, function):
    for name, (parameter, low, high) in affine.SETS.items():
        values = affine.draw(3, seed=0)[name]
        for value, matrix in zip(values, affine.matrices(name, values, 25, 32, geometry)):
            drawn = {"angle": 0.0, "shear": 0.0, "scale": 1.0} | {parameter: value}
            assert low <= value <= high and matrix.flatten().tolist() == list(function(**drawn, width=25, height=32))
        images = torch.from_numpy(random_images(np.random.default_rng(4), 3, 32, 25))
        undeformed = [{"angle": 0.0, "shear": 0.0, "scale": 1.0}[parameter]] * 3
        assert torch.equal(affine.warp(images, affine.matrices(name, undeformed, 25, 32, geometry)), images)


def test_the_draws_lie_in_their_range_and_fill_it():
    for name, values in affine.draw(5000, seed=0).items():
        parameter, low, high = affine.SETS[name]
        assert values.min() >= low and values.max() <= high
        if parameter == "scale":
            assert set(values) == {low}
        else:  # mean and standard deviation of a uniform distribution
            assert abs(values.mean()) < 0.05 * high and abs(values.std() - high / 3**0.5) < 0.02 * high


def test_the_draws_follow_from_seed_set_and_image_alone():
    first = {name: values[0] for name, values in affine.draw(1, seed=7).items()}
    assert (first["rotate_20"], first["shear_57.3"]) == pytest.approx(
        (-3.8102352257483645, -44.21128168403355)
    )  # those of all records
    many, few, other = affine.draw(100, seed=0), affine.draw(10, seed=0), affine.draw(100, seed=1)
    for name in affine.SETS:
        np.testing.assert_array_equal(many[name][:10], few[name])
    assert not np.isin(many["rotate_20"], other["rotate_20"]).any()
    assert not np.isclose(2 * many["rotate_20"], many["rotate_40"]).any()


# ---- the script, on small checkpoints ----


def evaluate(tmp_path, *given, data_dir=None):
    """The exit status of eval_affine.py."""
    arguments = [*map(str, given), "--data-dir", str(data_dir or tmp_path), "--device", "cpu", "--workers", "0"]
    return eval_affine.main(arguments)


def test_every_image_is_deformed_by_its_draw_before_it_is_normalised(tmp_path, train_tiny):
    train_tiny(epochs=1)
    assert evaluate(tmp_path, tmp_path / "runs", "--limit", 15, "--draw-seed", 5) == 0
    result, arrays = record(tmp_path, "affine-draw_seed5-limit15")
    subject = load_subject(tmp_path / "runs/digits/preactresnet18/none/seed0.best.pt", tmp_path, "cpu")
    net, test, draws = subject.net, subject.test, affine.draw(797, seed=5)
    for name in affine.SETS:
        for i, row in enumerate(arrays["rows"]):
            matrix = affine.matrices(name, draws[name][row : row + 1], 32, 32)[0]
            pixels = by_pillow(test.images[row].numpy(), matrix.numpy())
            with torch.no_grad():
                logits = net(torch.from_numpy(pixels / 127.5 - 1).float()[None])
            expected = torch.nn.functional.cross_entropy(logits, test.labels[row : row + 1])
            assert arrays[f"{name}/nll"][i] == pytest.approx(expected.item(), abs=1e-5)
    assert list(result["cases"]) == ["clean", *affine.SETS]
    assert len({case["nll"] for case in result["cases"].values()}) == 9


def test_one_draw_for_all_checkpoints_batches_and_limits(tmp_path, train_tiny, monkeypatch):
    train_tiny(epochs=1)
    train_tiny(method="patchup_hard", seed=1, epochs=1)
    assert evaluate(tmp_path, tmp_path / "runs", "--limit", 150) == 0
    monkeypatch.setattr(eval_affine.Affine, "batch", 7)
    assert evaluate(tmp_path, tmp_path / "runs", "--limit", 40) == 0
    (more, arrays), (few, limited) = record(tmp_path, "affine-limit150"), record(tmp_path, "affine-limit40")
    other, _ = record(tmp_path, "affine-limit150", "patchup_hard", 1)
    assert (more["images"], few["images"], other["images"]) == (150, 40, 150)
    assert more["draws_sha256"] == few["draws_sha256"] == other["draws_sha256"]
    both = np.isin(arrays["rows"], limited["rows"])
    assert both.sum() == 40
    for name in affine.SETS:
        np.testing.assert_allclose(limited[f"{name}/nll"], arrays[f"{name}/nll"][both], atol=1e-5)


def test_zero_degrees_and_scale_one_give_the_clean_error_exactly(tmp_path, train_tiny):
    train_tiny(epochs=1)
    undeformed = {name: affine.UNDEFORMED[parameter] for name, (parameter, *_) in affine.SETS.items()}
    values = {name: np.full(797, value) for name, value in undeformed.items()}
    eval_affine.save_draws(tmp_path / "affine" / "digits-seed0.npz", values)
    assert evaluate(tmp_path, tmp_path / "runs") == 0
    assert evaluate(tmp_path, tmp_path / "runs", "--geometry", "modern", "--limit", 100) == 0
    for name in ("affine", "affine-geometrymodern-limit100"):
        result, _ = record(tmp_path, name)
        assert len(result["cases"]) == 9 and all(case == result["cases"]["clean"] for case in result["cases"].values())
        assert result["draws_sha256"] == eval_affine.checksum(values)


def test_draws_are_kept_and_read_again(tmp_path):
    path = tmp_path / "affine" / "digits-seed0.npz"
    made, before = eval_affine.fixed_draws(path, 30, seed=0)
    content = path.read_bytes()
    again, after = eval_affine.fixed_draws(path, 30, seed=0)
    assert before == after and path.read_bytes() == content and [f.name for f in path.parent.iterdir()] == [path.name]
    for name in affine.SETS:
        np.testing.assert_array_equal(made[name], again[name])


def altered(path):
    values = affine.draw(797, seed=0)
    np.savez(path, sha256=eval_affine.checksum(values), **values | {"rotate_20": values["rotate_20"] + 1})


def compressed_and_damaged(path):
    np.savez_compressed(path, **dict.fromkeys((*affine.SETS, "sha256"), np.zeros(797)))
    content = bytearray(path.read_bytes())
    content[60:90] = b"x" * 30
    path.write_bytes(content)


UNUSABLE = {
    "altered": (altered, "does not match its checksum"),
    "of other images": (
        lambda path: eval_affine.save_draws(path, affine.draw(500, seed=0)),
        "is for 500 test images, here are 797",
    ),
    "single numbers": (
        lambda path: eval_affine.save_draws(path, dict.fromkeys(affine.SETS, np.array(0.5))),
        "is for 1 test images, here are 797",
    ),
    "half": (lambda path: path.write_bytes(b"PK\x03\x04"), "is damaged or holds no draws"),
    "compressed and damaged": (compressed_and_damaged, "is damaged or holds no draws"),
    "incomplete": (lambda path: np.savez(path, rotate_20=np.zeros(797)), "holds no draws ("),
    "words": (lambda path: np.savez(path, **dict.fromkeys((*affine.SETS, "sha256"), "x")), "holds no draws ("),
    "no archive": (lambda path: np.save(path.open("wb"), np.zeros(797)), "holds no draws ("),
    "a folder": (lambda path: path.mkdir(), "is damaged or holds no draws"),
}


@pytest.mark.parametrize("make, message", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_draws_are_one_line(make, message, tmp_path):
    path = tmp_path / "digits-seed0.npz"
    make(path)
    with pytest.raises(files.BadInput) as refused:
        eval_affine.fixed_draws(path, 797, seed=0)
    line = str(refused.value)
    assert message in line and str(path) in line and "remove it" in line and "\n" not in line


def test_records_of_different_draws_do_not_go_together(tmp_path, train_tiny, capsys):
    train_tiny(epochs=1)
    assert evaluate(tmp_path, tmp_path / "runs", "--limit", 20) == 0
    train_tiny(epochs=1, seed=1)
    path = tmp_path / "affine" / "digits-seed0.npz"
    eval_affine.save_draws(path, affine.draw(797, seed=9))
    assert evaluate(tmp_path, tmp_path / "runs", "--limit", 20) == 2
    assert "records on digits are of different draws" in capsys.readouterr().err.splitlines()[-1]


def test_draws_that_cannot_be_kept_are_used_all_the_same(tmp_path):
    (tmp_path / "affine").write_text("no folder")
    with pytest.warns(UserWarning, match="cannot be kept"):
        values, _ = eval_affine.fixed_draws(tmp_path / "affine" / "digits-seed3.npz", 20, seed=3)
    np.testing.assert_array_equal(values["rotate_40"], affine.draw(20, seed=3)["rotate_40"])


def test_impossible_seed_is_one_line(tmp_path, train_tiny, capsys):
    train_tiny(epochs=1)
    assert evaluate(tmp_path, tmp_path / "runs", "--draw-seed", -1) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("--draw-seed must be at least 0, not -1")
    assert evaluate(tmp_path, tmp_path / "runs", "--draw-seed", 10**30) == 2
    assert "--draw-seed must be at most" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_real_images(real_checkpoint, tmp_path):
    checkpoint, images = real_checkpoint
    assert evaluate(tmp_path, checkpoint, "--limit", 100, data_dir=images) == 0
    result = files.read_json(checkpoint.with_name("seed0.best.affine-limit100.json"))
    assert result["images"] == 100 and len({case["nll"] for case in result["cases"].values()}) == 9
