"""Images are known by their class names, file names, sizes and labels, wherever they lie."""

import shutil

import numpy as np
import pytest

import data
import eval_affine
import recipes
import train
from engine import files, runs, subject
from engine.files import BadInput
from tests.image_files import load_folder, write_image


@pytest.fixture(autouse=True)
def looked_at_anew():
    runs._digest.cache_clear()
    subject.test_images.cache_clear()


def relabelled(root):
    (root / "train/ant/0.png").rename(root / "train/bee/0a.png")
    (root / "train/bee/0.png").rename(root / "train/ant/0.png")


CHANGES = {
    "a file renamed": lambda root: (root / "test/bee/0.png").rename(root / "test/bee/zero.png"),
    "a file replaced": lambda root: write_image(root / "train/cat/3.png", (30, 30), 77),
    "a class renamed": lambda root: [(root / part / "bee").rename(root / part / "wasp") for part in ("train", "test")],
    "classes swapped": lambda root: [
        (root / "test" / old).rename(root / "test" / new) for old, new in (("ant", "x"), ("bee", "ant"), ("x", "bee"))
    ],
    "a label changed": relabelled,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_digest_tells_other_images(photos, change):
    before = load_folder(photos).digest
    assert len(before) == 16 and before == data.folder_digest("folder", photos)
    change(photos)
    write_image(photos / "test/ant/0.png", (31, 31), 78)  # files of swapped classes may have equal sizes
    assert load_folder(photos).digest == data.folder_digest("folder", photos) != before


def test_a_moved_or_linked_folder_is_the_same_streamed_or_not(photos, tmp_path_factory, monkeypatch):
    before = load_folder(photos).digest
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(photos, elsewhere / "moved")
    (elsewhere / "linked").symlink_to(photos)
    assert load_folder(elsewhere / "moved").digest == load_folder(elsewhere / "linked").digest == before
    monkeypatch.setattr(data, "MEMORY_LIMIT", 0)
    assert load_folder(photos).digest == before
    monkeypatch.setattr(data.sources, "SIZED", 4)  # sizes of a few files alone
    assert load_folder(photos).digest != before


def test_images_without_files_are_known_by_their_labels(monkeypatch):
    digits = data.FACTS["digits"].reader(None)
    arrays = digits.read()
    labels = {part: arrays[f"{part}_labels"] for part in ("train", "test")}
    digest = data.load("digits", "", seed=0, val_per_class=1).digest
    assert digest == digits.digest(list("0123456789"), labels) != digits.digest(list("9876543210"), labels)
    assert digits.digest(list("0123456789"), labels | {"test": np.roll(labels["test"], 1)}) != digest


# --- continuing, evaluating, collecting -----------------------------------------------------------------------------


def trained(root, out, **flags):
    options = {"width": 4, "epochs": 1, "batch_size": 16, "image_size": 32, "val_per_class": 3}
    recipe = recipes.resolve("folder", "preactresnet18", "none", images=str(root), **options)
    train.run(recipe, data_dir=root, out=out, device="cpu", workers=0, quiet=True, **flags)
    return out / "folder/preactresnet18/none/seed0.json"


def test_a_finished_run_counts_for_the_same_images_wherever_they_lie(photos, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    result = trained(photos, elsewhere / "runs")
    before = result.read_bytes()
    shutil.move(photos / "train", elsewhere / "images/train")
    shutil.move(photos / "test", elsewhere / "images/test")
    trained(elsewhere / "images", elsewhere / "runs")
    (elsewhere / "linked").symlink_to(elsewhere / "images")
    trained(elsewhere / "linked", elsewhere / "runs")
    assert result.read_bytes() == before
    write_image(elsewhere / "images/test/ant/0.png", (31, 31), 78)
    runs._digest.cache_clear()
    with pytest.raises(BadInput, match="seed0.json is of other images than those in .*/images: give another"):
        trained(elsewhere / "images", elsewhere / "runs")


def test_a_result_from_before_digests_counts_at_its_place(photos, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = trained(photos, elsewhere / "runs")
    files.write_json(path, {name: value for name, value in files.read_json(path).items() if name != "digest"})
    write_image(photos / "test/ant/0.png", (31, 31), 78)
    trained(photos, elsewhere / "runs")
    shutil.copytree(photos, elsewhere / "moved")
    with pytest.raises(BadInput, match="another recipe .images "):
        trained(elsewhere / "moved", elsewhere / "runs")


@pytest.mark.parametrize("change", ["a class renamed", "a file replaced"])
def test_a_stopped_run_does_not_go_on_with_other_images(photos, tmp_path_factory, monkeypatch, change):
    out = tmp_path_factory.mktemp("runs")
    with monkeypatch.context() as patch:
        patch.setattr(runs.RunFiles, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trained(photos, out, checkpoint_minutes=0)
    CHANGES[change](photos)
    runs._digest.cache_clear()
    with pytest.raises(BadInput, match="other images"):
        trained(photos, out)


def test_an_evaluation_refuses_other_images_and_an_emptied_archive_is_made_anew(photos, tmp_path_factory, capsys):
    out = tmp_path_factory.mktemp("runs")
    weights = trained(photos, out).with_name("seed0.best.pt")
    command = [str(weights), "--device", "cpu", "--workers", "0"]
    assert eval_affine.main(command) == 0
    archive = weights.with_name("seed0.best.affine.npz")
    whole = archive.read_bytes()
    for content in (b"", whole[: len(whole) // 2]):
        archive.write_bytes(content)
        assert eval_affine.main(command) == 0 and len(archive.read_bytes()) == len(whole)
    CHANGES["a class renamed"](photos)
    archive.unlink()
    subject.test_images.cache_clear()
    assert eval_affine.main(command) == 2
    assert "was trained on other images than those in" in capsys.readouterr().err
