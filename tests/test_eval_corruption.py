"""Corrupted test sets, generated and released; E_c and mCE; what is kept; what is refused."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_data_sources import NAMES, write_tiny

import data
import eval_corruption
import recipes
from data import corrupted, corruptions
from engine.files import BadInput
from engine.mce import References
from engine.subject import load_subject
from eval_corruption import GeneratedCorruption
from scripts.figures import contact_sheet
from tests.corrupted_sets import SCORED, whole, write_cifar_c, write_tiny_c
from tests.image_files import write_classes

TWO = {"brightness": "weather", "impulse_noise": "noise"}  # one draws random numbers, one does not
pytestmark = pytest.mark.usefixtures("plain_frost")


@pytest.fixture
def two(monkeypatch):
    """Two corruptions as if there were no others."""
    monkeypatch.setattr(eval_corruption, "SCORED", TWO)


def save_checkpoint(path, recipe, classes):
    """An untrained network as train.py would save it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        net = recipes.network(recipe, classes)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"recipe": recipes.used(recipe), "net": net.state_dict()}, path)
    return path


def untrained(folder, dataset="digits", classes=10, name="seed0", **overrides):
    recipe = recipes.resolve(dataset, "preactresnet18", "none", 0, width=4, **overrides)
    return save_checkpoint(folder / f"{name}.best.pt", recipe, classes)


def run(path, root, *flags):
    """The record of a checkpoint evaluated by command line, and its arrays."""
    before = set(path.parent.glob("*.json"))
    given = [str(path), "--data-dir", str(root), "--workers", "0", "--device", "cpu", *map(str, flags)]
    assert eval_corruption.main(given) == 0
    (result,) = set(path.parent.glob("*.json")) - before
    return json.loads(result.read_text()), np.load(result.with_suffix(".npz"))


def subject_of(path, root):
    return load_subject(path, root, "cpu")


def refused(capsys, *given):
    """The one line of a command that must exit with status 2."""
    try:
        status = eval_corruption.main([str(part) for part in given])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    errors = capsys.readouterr().err
    line = errors.split("\r")[-1].strip()  # what progress bars leave before it is overwritten on a screen
    assert "\n" not in line and "Traceback" not in errors, errors
    return line


# --- arithmetic -----------------------------------------------------------------------------------------------------


def record(error, source="a", images=10, method="none", **changes):
    """A record whose E_c are error, error + 1, ..."""
    sums = {name: error + i for i, name in enumerate(SCORED)}
    return {
        "dataset": "digits",
        "model": "preactresnet18",
        "method": method,
        "seed": 0,
        "source": source,
        "images": images,
        "sums": sums,
        "mean_sum": error + 7.0,
    } | changes


def test_sums_are_plain_sums_over_severities():
    cases = {f"{name}-{s}": {"error": 10.0 * i + s} for i, name in enumerate(SCORED) for s in range(1, 6)}
    cases |= {f"{name}-{s}": {"error": 99.0} for name in corruptions.HELD_OUT for s in range(1, 6)}
    sums = eval_corruption.sums_of(cases, SCORED)
    assert sums == {name: 50.0 * i + 15 for i, name in enumerate(SCORED)}
    assert eval_corruption.sums_of(cases, corruptions.HELD_OUT) == dict.fromkeys(corruptions.HELD_OUT, 495.0)


def references(tmp_path, *records):
    """The References of records."""
    for i, made in enumerate(records):
        (tmp_path / f"seed{i}.best.corruption.json").write_text(json.dumps(made))
    return References(tmp_path, "best", "corruption")


def test_mce_is_the_mean_of_ratios_to_the_mean_reference(tmp_path):
    two = references(tmp_path, record(100.0), record(300.0))
    expected = np.mean([100 * (50 + i) / (200 + i) for i in range(15)])
    assert two.mce(record(50.0)) == pytest.approx(expected, rel=1e-12)
    assert two.in_words() == "preactresnet18 No Mixup, 2 runs"
    (tmp_path / "same").mkdir()
    assert references(tmp_path / "same", record(50.0)).mce(record(50.0)) == pytest.approx(100, rel=1e-12)


@pytest.mark.parametrize(
    "reference, words",
    [
        (record(1.0, source="b"), "seed0.*json is of b, 10 images; the records to show are of a, 10 images"),
        (record(1.0, images=9), "seed0.*json is of a, 9 images"),
        (record(0.0), "makes no error under gaussian_noise, so mCE cannot be computed"),
    ],
)
def test_references_that_do_not_fit(tmp_path, reference, words):
    with pytest.raises(BadInput, match=words):
        references(tmp_path, reference).mce(record(5.0))


def test_two_sources_do_not_go_into_one_row():
    remark = GeneratedCorruption().remark
    records = [record(1.0), record(2.0), record(3.0, "b", dataset="cifar10")]
    assert remark(records) == "Images: a; b."
    with pytest.raises(BadInput, match="records of a and of b do not go into one row"):
        remark([record(1.0), record(2.0, "b")])


# --- generated ------------------------------------------------------------------------------------------------------


def test_clean_is_the_clean_error_and_every_image_is_corrupted_by_its_row(tmp_path, train_tiny, monkeypatch):
    monkeypatch.setattr(eval_corruption, "SCORED", {"impulse_noise": "noise"})
    result = train_tiny(epochs=1)
    path = tmp_path / "runs/digits/preactresnet18/none/seed0.best.pt"
    measured, arrays = run(path, tmp_path, "--no-keep")
    assert measured["cases"]["clean"]["error"] == result["test_error"]
    cases = ["clean", *(f"impulse_noise-{s}" for s in range(1, 6))]
    assert list(measured["cases"]) == cases and not (tmp_path / ".cache").exists()
    assert measured["sums"]["impulse_noise"] == pytest.approx(
        sum(measured["cases"][case]["error"] for case in cases[1:])
    )
    assert measured["source"] == "digits-c-like (generated from the test set, 32 px table, png, seed 0)"
    setting = {"storage": "png", "seed": 0, "held_out": False, "limit": None, "source": "generated", "table": 32}
    assert measured["setting"] == setting

    subject = subject_of(path, tmp_path)
    for row in (796, 3):  # one by one, in another order
        image = corruptions.corrupt(subject.test.images[[row]].numpy(), np.array([row]), "impulse_noise", 5, 0)
        nll = -subject.logits(torch.from_numpy(image)).log_softmax(1)[0, arrays["labels"][row]]
        assert arrays["impulse_noise-5/nll"][row] == pytest.approx(nll.item(), abs=1e-4)

    part, some = run(path, tmp_path, "--no-keep", "--limit", 50)
    assert part["images"] == 50 and part["setting"]["limit"] == 50
    for name in ("clean/nll", "impulse_noise-2/nll"):
        assert some[name] == pytest.approx(arrays[name][some["rows"]], abs=1e-4)
    other, different = run(path, tmp_path, "--no-keep", "--limit", 50, "--corruption-seed", 3)
    assert "seed 3" in other["source"] and (path.parent / "seed0.best.corruption-seed3-limit50.json").exists()
    assert (different["clean/nll"] == some["clean/nll"]).all()
    assert (different["impulse_noise-2/nll"] != some["impulse_noise-2/nll"]).mean() > 0.9


def test_a_stop_in_the_middle_of_a_case_changes_nothing(tmp_path, monkeypatch, two):
    monkeypatch.setattr(eval_corruption.Corruption, "batch", 4)
    first, second = untrained(tmp_path / "a"), untrained(tmp_path / "b")
    measured, arrays = run(first, tmp_path / "images", "--limit", 10)
    corrupt, calls = corruptions.corrupt, []

    def stopping(*given):
        calls.append(given)
        if len(calls) == 6:  # the case's preparation and three batches, the second's preparation and its first batch
            os.kill(os.getpid(), signal.SIGTERM)
        return corrupt(*given)

    with monkeypatch.context() as patch:
        patch.setattr(corruptions, "corrupt", stopping)
        given = [str(second), "--data-dir", str(tmp_path / "others"), "--workers", "0", "--limit", "10"]
        assert eval_corruption.main(given) == 128 + signal.SIGTERM
    assert len(list((tmp_path / "others/.cache/corrupted").iterdir())) == 1
    again, same = run(second, tmp_path / "others", "--limit", 10)
    assert again["cases"] == measured["cases"]
    assert all((arrays[name] == same[name]).all() for name in (*arrays.files, *same.files))
    assert len(list((tmp_path / "others/.cache/corrupted").iterdir())) == 9  # all but the one that was begun


def test_every_corruption_end_to_end_with_the_held_out_apart(tmp_path, capsys):
    path = untrained(tmp_path)
    measured, arrays = run(path, tmp_path, "--limit", 5, "--held-out")
    assert len(measured["cases"]) == 1 + 19 * 5 and len(arrays.files) == 2 + 3 * 96
    assert tuple(measured["sums"]) == SCORED and tuple(measured["held_out_sums"]) == corruptions.HELD_OUT
    errors = [measured["cases"][f"{name}-{s}"]["error"] for name in SCORED for s in range(1, 6)]
    assert measured["mean_error"] == pytest.approx(np.mean(errors), rel=1e-12)
    printed = capsys.readouterr().out
    assert "corruption-held_out-limit5" in printed and "\nspatter (held out) " in printed
    assert "Images: digits-c-like (generated from the test set, 32 px table, png, seed 0)." in printed
    kept = list((tmp_path / ".cache" / "corrupted").iterdir())
    assert len(kept) == 95 and all("5images" in file.name for file in kept)
    run(path, tmp_path, "--limit", 5)  # without the held-out: a record of its own
    assert sorted(file.name for file in tmp_path.glob("*.json")) == [
        "seed0.best.corruption-held_out-limit5.json",
        "seed0.best.corruption-limit5.json",
    ]


# --- released -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cifar(tmp_path):
    """A checkpoint of CIFAR-10, its images, and a CIFAR-10-C: (checkpoint, images, folder)."""
    for part in ("train", "test"):
        write_classes(tmp_path / "images/cifar10" / part, NAMES["cifar10"], 2, (32, 32))
    folder = write_cifar_c(tmp_path / "CIFAR-10-C")
    return untrained(tmp_path, "cifar10", val_per_class=1), tmp_path / "images", folder


def test_released_cifar(cifar, capsys):
    path, images, folder = cifar
    measured, arrays = run(path, images, "--released", folder)
    assert (path.parent / "seed0.best.corruption-released.json").exists()
    assert measured["source"] == "cifar10-c (released, zenodo 2535967, 20 images)"
    assert measured["setting"] == {"held_out": False, "limit": None, "source": "released", "folder": str(folder)}
    assert "clean" not in measured["cases"] and len(measured["cases"]) == 75
    assert arrays["labels"].tolist() == [i * 7 % 10 for i in range(20)]
    subject = subject_of(path, images)
    fog = np.load(folder / "fog.npy")[40:60].transpose(0, 3, 1, 2).copy()  # severity 3
    nll = -subject.logits(torch.from_numpy(fog)).log_softmax(1)[torch.arange(20), arrays["labels"]]
    assert arrays["fog-3/nll"] == pytest.approx(nll.numpy(), abs=1e-4)
    part, some = run(path, images, "--released", folder, "--limit", 6, "--held-out")
    assert part["images"] == 6 and "spatter" in part["held_out_sums"] and part["source"] == measured["source"]
    assert some["fog-3/nll"] == pytest.approx(arrays["fog-3/nll"][some["rows"]], abs=1e-4)
    assert not (images / ".cache" / "corrupted").exists()


def test_a_released_set_that_is_missing_is_refused_in_one_line(cifar, capsys):
    path, images, folder = cifar
    shutil.rmtree(folder)
    line = refused(capsys, path, "--data-dir", images, "--workers", 0, "--released", folder)
    assert "CIFAR-10-C is missing: get cifar10-c from https://zenodo.org/records/2535967" in line
    assert not list(path.parent.glob("*corruption*"))


def test_released_tiny_imagenet(tmp_path):
    """Of a checkpoint of two classes, and a set of three."""
    write_tiny(images := tmp_path / "images")
    path, folder = untrained(tmp_path, "tiny_imagenet", 2, val_per_class=1), write_tiny_c(tmp_path / "Tiny-ImageNet-C")
    measured, arrays = run(path, images, "--released", folder)
    assert measured["source"] == "tiny-imagenet-c (released, zenodo 2536630, 5 images)"
    assert arrays["labels"].tolist() == [0, 0, 1, 1, 1] and len(measured["cases"]) == 75
    source = corrupted.released(folder, "tiny_imagenet", ("n1", "n2"), 64, SCORED, None, 0)
    stored = Image.open(folder / "Tiny-ImageNet-C/snow/4/n2/1.JPEG")
    assert np.array_equal(whole(source, "snow", 4, size=2)[3], np.asarray(stored).transpose(2, 0, 1))
    limited = corrupted.released(folder, "tiny_imagenet", ("n1", "n2"), 64, SCORED, 3, 0)
    assert len(limited.rows) == 3
    assert np.array_equal(whole(limited, "snow", 4), whole(source, "snow", 4)[limited.rows])


# --- the command line -----------------------------------------------------------------------------------------------


def test_mce_is_printed_and_not_recorded(tmp_path, capsys, two):
    path, other = untrained(tmp_path / "a"), untrained(tmp_path / "b", stem_stride=2)
    flags = ["--limit", 7]
    reference_record, _ = run(path, tmp_path, *flags)
    two, _ = run(other, tmp_path, *flags)
    capsys.readouterr()
    record = tmp_path / "b" / "seed0.best.corruption-limit7.json"
    before = record.read_bytes()
    for reference in (tmp_path / "a", tmp_path / "a" / "seed0.best.corruption-limit7.json"):
        given = [str(other), "--no-run", "--limit", "7", "--reference", str(reference)]
        assert eval_corruption.main(given) == 0
        printed = capsys.readouterr().out
        value = np.mean([100 * two["sums"][name] / reference_record["sums"][name] for name in TWO])
        assert re.search(rf"^mCE \(of preactresnet18 No Mixup, 1 run\) +{value:.4g}$", printed, re.MULTILINE)
    assert record.read_bytes() == before


def test_references_that_are_none(tmp_path, capsys, two):
    path = untrained(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "train.json").write_text('{"test_error": 3}')
    given = [path, "--data-dir", tmp_path, "--workers", 0, "--limit", 3, "--no-keep", "--reference"]
    assert "--reference" in (line := refused(capsys, *given, tmp_path / "none")) and "none is missing" in line
    assert not list((tmp_path / "a").glob("*.json"))
    assert "empty holds no *.best.corruption-limit3.json" in refused(capsys, *given, tmp_path / "empty")
    assert "train.json is not a result of eval_corruption.py" in refused(capsys, *given, tmp_path / "train.json")
    other, _ = run(path, tmp_path, "--limit", 3, "--storage", "jpeg85")
    assert other["setting"]["storage"] == "jpeg85"
    jpeg = tmp_path / "a" / "seed0.best.corruption-storagejpeg85-limit3.json"
    path = untrained(tmp_path / "c")
    given[0] = path
    assert "jpeg85, seed 0), 3 images; the records to show are of digits-c-like" in refused(capsys, *given, jpeg)
    assert not list((tmp_path / "c").glob("*.json")), "refused before the first image"


@pytest.mark.parametrize(
    "given, words",
    [
        ("--storage bmp", "argument --storage: invalid choice: 'bmp'"),
        ("--corruption-seed one", "argument --corruption-seed: invalid int value: 'one'"),
        ("--corruption-seed -1", "--corruption-seed must be at least 0, not -1"),
        ("--released there --storage png", "--storage is about generated images and means nothing with --released"),
        ("--released there --corruption-seed 2", "--corruption-seed is about generated images"),
        ("--released there --no-keep", "--no-keep is about generated images"),
        ("--released there", "digits has no released corrupted set, cifar10, cifar100, tiny_imagenet, imagenet have"),
    ],
)
def test_flags_that_are_refused(tmp_path, capsys, given, words):
    path = untrained(tmp_path)
    assert words in refused(capsys, path, "--data-dir", tmp_path, *given.split())
    assert not list(tmp_path.glob("*.json"))


def test_a_table_is_written_and_drawn(tmp_path, two, evaluated_demo):
    few = ["--epochs", "1", "--width", "4", "--train-per-class", "4", "--batch-size", "20"]
    given = ["--methods", "none", "mixup", "--seeds", "1", *few, "--limit", "4"]
    evaluated_demo(("corruption",), *given)
    (table,) = (tmp_path / "tables").glob("*-corruption-limit4.md")
    text = table.read_text()
    assert "| PreActResNet18, digits | No Mixup | Input Mixup |" in text and "\n| brightness | " in text
    assert "digits-c-like (generated from the test set, 32 px table, png, seed 0)" in text
    figure = tmp_path / "figures" / table.stem
    assert figure.with_suffix(".png").stat().st_size > 10000
    assert "digits-c-like (generated" in figure.with_suffix(".txt").read_text()
    kept = list((tmp_path / "images" / ".cache" / "corrupted").iterdir())
    assert len(kept) == 10
    reference = next(tmp_path.rglob("none/seed0.best.corruption-limit4.json"))
    evaluated_demo(("corruption",), *given, "--reference", reference)
    assert "| mCE (of preactresnet18 No Mixup, 1 run) |" in table.read_text()


def test_contact_sheet(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(contact_sheet, "SCORED", TWO)
    assert contact_sheet.main(["digits", "--out", str(tmp_path), "--workers", "0"]) == 0
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {
        f"corruptions-digits.{suffix}" for suffix in ("png", "pdf", "txt")
    }
    assert "Images: digits-c-like (generated" in capsys.readouterr().out
    assert contact_sheet.main(["digits", "--corruption-seed", "-1"]) == 2
    with pytest.raises(SystemExit) as stopped:
        contact_sheet.main(["mnist"])
    assert stopped.value.code == 2


IMAGES = os.environ.get("PATCHUP_DATA")


@pytest.mark.slow
@pytest.mark.skipif(not IMAGES, reason="PATCHUP_DATA does not say where the real images are")
@pytest.mark.parametrize("dataset, table, storage", [("cifar100", 32, "png"), ("tiny_imagenet", 64, "jpeg85")])
def test_real_images(tmp_path, dataset, table, storage):
    loaded = data.load(dataset, Path(IMAGES), seed=0, val_per_class=5)
    path = untrained(tmp_path, dataset, len(loaded.classes))
    measured, arrays = run(path, IMAGES, "--limit", 4, "--no-keep")
    assert measured["setting"]["table"] == table and measured["setting"]["storage"] == storage
    assert len(measured["cases"]) == 76 and arrays["labels"].shape == (4,)
