"""scripts/tables.py: launching what is missing, collecting, rendering ours beside the paper's."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import data
import grids
import recipes
from records import BadInput, RunFiles
from scripts import demo_figures, tables

ROOT = Path(__file__).resolve().parent.parent


def grid(tmp_path, *given):
    """The Grid of a command line."""
    return grids.grid_of(tables.parser().parse_args([*given, "--out", str(tmp_path), "--data-dir", str(tmp_path)]))


def finish(grid, cell, seed, **numbers):
    """Write the result of a run as train.py would."""
    recipe = grid.recipe(*cell, seed)
    files = RunFiles(grid.runs, recipe)
    files.stem.parent.mkdir(parents=True, exist_ok=True)
    result = dict(zip(("dataset", "model", "method"), cell), seed=seed, recipe=recipes.used(recipe), **numbers)
    result.setdefault("classes", data.FACTS[cell[0]].num_classes)
    files.result.write_text(json.dumps(result))
    return files


TABLE2 = ("table2", "--datasets", "cifar100", "--models", "wrn28_10", "--methods", "none", "patchup_hard", "mixup")


def test_table2_ours_beside_the_papers(tmp_path, capsys):
    found = grid(tmp_path, *TABLE2, "--no-run")
    for seed, error in enumerate((22.0, 23.0, 24.0)):
        finish(found, ("cifar100", "wrn28_10", "none"), seed, test_error=error)
    finish(found, ("cifar100", "wrn28_10", "patchup_hard"), 4, test_error=16.0)
    assert tables.main([*TABLE2, "--no-run", "--out", str(tmp_path)]) == 0
    written = tmp_path / "tables/table2-cifar100-wrn28_10-none-mixup-patchup_hard.md"
    assert written.read_text() == (
        "### Table 2: test error on CIFAR-10, CIFAR-100 and SVHN\n"
        "\n"
        "Ours: mean ± sample standard deviation (number of runs). Difference: ours minus the paper.\n"
        "\n"
        "| wrn28_10 | test error (%) | paper | difference |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| No Mixup | 23.00 ± 1.00 (3) | 22.44 ± 0.23 | +0.56 |\n"
        "| Input Mixup | missing | 18.73 ± 0.15 |  |\n"
        "| Hard PatchUp | 16.00 (1) | 16.13 ± 0.20 | -0.13 |\n"
    )
    rows = {row["method"]: row for row in csv.DictReader(written.with_suffix(".csv").open())}
    assert rows["none"]["n"] == "3" and float(rows["none"]["difference"]) == pytest.approx(23 - 22.442)
    assert rows["mixup"]["n"] == "0" and rows["mixup"]["mean"] == ""
    assert "| No Mixup | 23.00 ± 1.00 (3) |" in capsys.readouterr().out


def test_the_papers_numbers_are_all_there():
    paper = grids.paper_numbers("table2")
    cells = recipes.TABLES["table2"].cells()
    found = [paper[dataset, model, method, "test_error"] for dataset, model, method in cells]
    assert len(found) == 81 and all(0 < mean < 30 and 0 < std < 1 for mean, std in found)


def test_names_of_files_fit_into_file_systems(tmp_path):
    flags = "--criterion ce --train-per-class 50 --val-per-class 10 --epochs 20 --batch-size 50 --lr 0.05 --alpha 0.123"
    more = "--weight-decay 0.0005 --schedule cosine --momentum 0.8 --padding 3 --no-flip --amp bf16 --gamma 0.123456"
    one, other = (
        grid(tmp_path, *TABLE2, "puzzlemix", *flags.split(), *more.split(), "--eta", eta) for eta in ("0.1", "0.2")
    )
    for name in (one.runs.name, one.file_name):
        assert len(name) < 190
    assert one.runs != other.runs and one.file_name != other.file_name


def test_runs_with_overrides_never_enter_the_papers_table(tmp_path):
    plain, short = grid(tmp_path, *TABLE2), grid(tmp_path, *TABLE2, "--epochs", "8")
    assert plain.runs == tmp_path / "runs" and short.runs == tmp_path / "runs-epochs8"
    assert short.title.endswith("(not the paper's recipe: epochs 8)")
    finish(short, ("cifar100", "wrn28_10", "none"), 0, test_error=50.0)
    assert tables.collect(plain, plain.recipes()).empty
    assert len(tables.collect(short, short.recipes())) == 1
    short.runs.rename(plain.runs)
    with pytest.raises(BadInput, match="has another recipe"):
        tables.collect(plain, plain.recipes())


def test_runs_on_a_part_of_the_classes_do_not_enter(tmp_path):
    found = grid(tmp_path, *TABLE2)
    finish(found, ("cifar100", "wrn28_10", "none"), 0, test_error=5.0, classes=10)
    with pytest.raises(BadInput, match="seed0.json saw 10 of the 100 classes of cifar100"):
        tables.collect(found, found.recipes())


def test_hyperparameters_go_to_the_methods_that_have_them(tmp_path):
    found = grid(tmp_path, *TABLE2, "--alpha", "0.5")
    assert {r.method: r.alpha for r in found.recipes()} == {"none": None, "mixup": 0.5, "patchup_hard": None}


DEMO = ("demo", "--methods", "none", "cutout", "--width", "4", "--epochs", "3")


def demo(out, *more):
    """The process of a small demo."""
    command = [sys.executable, str(ROOT / "scripts/tables.py"), *DEMO, "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_demo_is_interrupted_goes_on_and_is_not_repeated(tmp_path):
    runs = tmp_path / "runs-width4-epochs3/digits/preactresnet18"
    process = demo(tmp_path, "--seeds", "2", "--checkpoint-minutes", "0", "--jobs", "1")
    deadline = time.monotonic() + 120
    while not (runs / "none/seed0.jsonl").exists() or not (runs / "none/seed0.jsonl").read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert (
        "tables.py: stopped by SIGINT and saved; the same command goes on from here" in errors
        and "Traceback" not in errors
    )
    assert not (runs / "none/seed0.json").exists() and (runs / "none/seed0.checkpoint.pt").exists()

    process = demo(tmp_path, "--seeds", "2")
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "6/6" not in errors and "12/12" in errors, "the bar counts the epochs of all four runs"
    results = {path: path.stat().st_mtime_ns for path in runs.rglob("seed*.json")}
    assert len(results) == 4 and printed.count("(2)") == 6
    for name in (
        "tables/demo-none-cutout-seeds2-width4-epochs3.md",
        "tables/demo-none-cutout-seeds2-width4-epochs3.csv",
    ):
        assert (tmp_path / name).stat().st_size > 100
    for name in (
        "demo-none-cutout-seeds2-width4-epochs3_curves.png",
        "demo-none-cutout-seeds2-width4-epochs3_batch.png",
    ):
        assert (tmp_path / "figures" / name).read_bytes()[:4] == b"\x89PNG"

    process = demo(tmp_path, "--seeds", "2")
    assert process.communicate(timeout=120)[0] == printed
    assert results == {path: path.stat().st_mtime_ns for path in runs.rglob("seed*.json")}


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path):
    broken = tmp_path / "runs-width4-epochs3/digits/preactresnet18/cutout/seed0.checkpoint.pt"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no checkpoint")
    process = demo(tmp_path, "--seeds", "1")
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "tables.py: failed: cutout with preactresnet18 on digits, seed 0" in errors
    assert "seed0.checkpoint.pt is damaged or no checkpoint of train.py" in errors and "Traceback" not in errors
    assert "| Cutout | missing |" in printed and "| No Mixup | missing" not in printed


# ---- the demo's picture ----


@pytest.mark.parametrize("method, k", demo_figures.PICTURES)
def test_own_shares_are_what_the_mixing_kept(method, k, tmp_path):
    """own h + (1 - own) h[partner], for methods that have partners, is the mixed batch itself."""
    datasets = data.load("digits", tmp_path, seed=0, val_per_class=10, train_per_class=10)
    recipe = recipes.resolve("digits", "preactresnet18", method, width=4)
    net = recipes.network(recipe, 10)
    x, y = next(datasets.train.batches(demo_figures.BATCH))
    with torch.no_grad():
        h = x if k == 0 else net.stages[0](x)
    regularizer = demo_figures.regularizer_at(recipe, method, k)
    mixed, own = demo_figures.mixed_and_own(regularizer, k, h, x, y, net)
    assert mixed.shape == own.shape == (demo_figures.SHOWN, *h.shape[1:])
    assert 0 < own.mean() < 1
    if method in ("cutout", "dropblock"):
        assert torch.equal(mixed == 0, (own == 0) | (mixed == 0)) and set(np.unique(own)) == {0, 1}
    elif method != "puzzlemix":  # it moves blocks too
        partner = h[regularizer.partner][: demo_figures.SHOWN]
        moved = regularizer.partner[: demo_figures.SHOWN] != torch.arange(demo_figures.SHOWN)
        expected = own * h[: demo_figures.SHOWN] + (1 - own) * partner
        assert moved.any() and torch.allclose(mixed[moved], expected[moved], atol=1e-5)
