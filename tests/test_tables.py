"""scripts/tables.py and grids.py: a table's runs, launching what is missing, collecting, rendering."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import data
import recipes
from engine.files import BadInput
from scripts import tables
from scripts.figures import demo_figures
from scripts.grid import grids, launcher
from tests.table_grids import TABLE2, grid_of, run_of

ROOT = Path(__file__).resolve().parent.parent


def finish(run, **numbers):
    """Write the result of a run as train.py would."""
    run.files.stem.parent.mkdir(parents=True, exist_ok=True)
    result = dict(zip(("dataset", "model", "method"), run.cell), seed=run.recipe.seed, recipe=recipes.used(run.recipe))
    result |= {"classes": data.FACTS[run.cell.dataset].num_classes} | numbers
    run.files.result.write_text(json.dumps(result))


def test_table2_ours_beside_the_papers(tmp_path, capsys):
    grid = grid_of(tmp_path, *TABLE2)
    for seed, error in enumerate((22.0, 23.0, 24.0)):
        finish(run_of(grid, "none", seed), test_error=error)
    finish(run_of(grid, "patchup_hard", 2), test_error=16.0)
    assert tables.main([*TABLE2, "--no-run", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    written = tmp_path / "tables/table2-cifar100-wrn28_10-none-mixup-patchup_hard.md"
    rows = {row["method"]: row for row in csv.DictReader(written.with_suffix(".csv").open())}
    assert [row["label"] for row in rows.values()] == ["No Mixup", "Input Mixup", "Hard PatchUp"]
    assert rows["none"]["n"] == "3" and float(rows["none"]["difference"]) == pytest.approx(23 - 22.442)
    assert rows["mixup"]["n"] == "0" and rows["mixup"]["mean"] == ""
    line = "| Hard PatchUp | 16.00 (1 of 5) |  | **16.13 ± 0.20** | -0.13 | -8.00 |  |"
    assert line in printed and line in written.read_text()
    runs = list(csv.DictReader(written.with_name(written.stem + "-runs.csv").open()))
    assert [(row["method"], row["seed"], row["value"]) for row in runs] == [
        ("none", "0", "22.0"), ("none", "1", "23.0"), ("none", "2", "24.0"), ("patchup_hard", "2", "16.0")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name, metrics, count",
    [
        ("table1", ("test_error", "test_loss_nll"), 54),
        ("table2", ("test_error",), 81),
        ("table3", ("val_top1_error", "val_top5_error"), 18),
        ("table6", ("val_error",), 7),
        ("table7", ("val_error", "test_error", "test_nll"), 16),
        ("table8", ("hours",), 9),
    ],
)
def test_all_of_the_papers_numbers_are_shown(tmp_path, name, metrics, count):
    grid = grid_of(tmp_path, name)
    _, frame, _ = tables.compared(grid)
    assert frame.paper_mean.notna().sum() == count
    assert {metric.paper or metric.name for metric in grid.table.metrics} >= set(metrics)


def test_shared_runs_are_one_job_with_all_evaluations(tmp_path):
    names = ["table2", "table10", "figure14", "figure5"]
    args = tables.parser().parse_args([*names, "--out", str(tmp_path), "--data-dir", str(tmp_path), "--device", "cpu"])
    jobs = tables.jobs_of([tables.plan_of(name, grids.Choice.of(args)) for name in names], args)
    assert len(jobs) == 405 + 35  # Figure 5 shows Tiny-ImageNet too
    by_name = {job.name: job for job in jobs}
    hard = by_name["cifar100/wrn28_10/patchup_hard/seed0"]
    modules = [module for module, _ in hard.commands]
    assert modules == ["train", "eval_affine", "eval_activations", "eval_adversarial"]
    assert hard.commands[3][1][:3] == (str(hard.files.best), "--attacks", "fgsm")
    assert [command[0] for command in by_name["cifar10/wrn28_10/none/seed0"].commands] == ["train"]
    assert {path.name for path in hard.results} >= {"seed0.json", "seed0.best.affine.json", "seed0.best.fgsm.npz"}


def test_lists_are_separated_by_spaces_or_commas_and_help_is_the_tables_own(tmp_path, capsys):
    named = grid_of(tmp_path, "table2", "--methods", "none,mixup", "cutmix", "--dataset", "svhn,")
    assert named.table.methods == ("none", "mixup", "cutmix") and named.table.datasets == ("svhn",)
    with pytest.raises(SystemExit):
        tables.main(["table2", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "cifar10, cifar100, svhn; preactresnet18, preactresnet34, wrn28_10): 405 runs" in text
    assert "study" not in text and "table5" not in text and "also taken" not in text
    with pytest.raises(SystemExit):
        tables.main(["table4", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("usage: table4.sh ")
    assert "also taken: the flags of eval_affine.py, as --limit N (see eval_affine.py --help)" in text
    assert "for other networks: scripts/compare.sh --evaluate affine" in text


def test_runs_with_overrides_never_enter_the_papers_table(tmp_path):
    plain, short = grid_of(tmp_path, *TABLE2), grid_of(tmp_path, *TABLE2, "--epochs", "8")
    assert run_of(plain, "none").files.out == tmp_path / "runs"
    assert run_of(short, "none").files.out == tmp_path / "runs-epochs8"
    assert short.title.endswith("(not the paper's recipe: epochs 8)")
    finish(run_of(short, "none"), test_error=50.0)
    assert tables.collect(plain).empty and len(tables.collect(short)) == 1
    (tmp_path / "runs-epochs8").rename(tmp_path / "runs")
    with pytest.raises(BadInput, match="has another recipe"):
        tables.collect(plain)


@pytest.mark.parametrize(
    "given, words",
    [
        (["compare", "--methods", "none"], "say which --datasets to compare"),
        (["table2", "--limit", "3"], "unrecognized arguments for table2: --limit 3"),
        (["all", "--limit", "3"], "unrecognized arguments for all tables together: --limit 3"),
        (["table2", "--datasets", "mnist"], "table2: unknown dataset 'mnist'; known are cifar10, cifar100, svhn"),
        (["table2", "--seeds", "0"], "--seeds must be at least 1, not 0"),
        (["table2", "--methods", "none", "--gamma", "0.3"], "--gamma means nothing to any of the methods none"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, capsys, given, words):
    assert tables.main([*given, "--no-run", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_runs_on_a_part_of_the_classes_are_called_so_and_never_stand_beside_the_papers_numbers(tmp_path):
    plan = tables.Plan(grid_of(tmp_path, *TABLE2))
    finish(run_of(plan.grid, "none"), test_error=5.0, classes=100)
    whole = tables.compared(plan.grid)
    assert whole[1].paper_mean.notna().all() and "classes" not in whole[0].title
    finish(run_of(plan.grid, "none"), test_error=5.0, classes=10)
    header, frame, _ = tables.compared(plan.grid)
    assert frame.paper_mean.isna().all() and frame.paper_rank.isna().all() and frame["mean"].notna().any()
    assert header.title.endswith("(CIFAR-100: 10 of its 100 classes)") and header.note in header.title
    tables.render(plan, None)
    files = {path.name: path.read_text() for path in (tmp_path / "tables").iterdir()}
    assert len(files) == 5 and all("-10classes" in name for name in files)
    assert all("10 of its 100 classes" in text for name, text in files.items() if not name.endswith("csv"))


def test_a_result_without_classes_is_named(tmp_path, capsys):
    finish(run_of(grid_of(tmp_path, *TABLE2), "none"), test_error=5.0, classes=None)
    assert tables.main([*TABLE2, "--no-run", "--out", str(tmp_path)]) == 2
    assert "seed0.json is not a result of train.py (classes is 'None')" in capsys.readouterr().err


@pytest.mark.parametrize("odd", [{"classes": 10}, {"digest": "other"}])
def test_one_table_never_shows_runs_on_different_images(tmp_path, odd):
    grid = grid_of(tmp_path, *TABLE2)
    finish(run_of(grid, "none"), test_error=5.0, classes=100, digest="this")
    finish(run_of(grid, "mixup"), test_error=5.0, **{"classes": 100, "digest": "this"} | odd)
    with pytest.raises(BadInput, match="seed0.json and .*seed0.json are of other images: no table can show both"):
        tables.collect(grid)


def test_table_8_is_timed_once_on_this_device(tmp_path, capsys, monkeypatch):
    calls = []

    def measured(dataset, model, methods, device, rounds, batch, **overrides):
        calls.append((dataset, model, tuple(methods), batch, overrides))
        return {method: {"hours": 10.0 + len(method)} for method in methods}

    monkeypatch.setattr(tables, "training_hours", measured)
    given = ["table8", "--methods", "none", "puzzlemix", "--device", "cpu", "--out", str(tmp_path)]
    for _ in range(2):
        assert tables.main(given) == 0
    assert calls == [("tiny_imagenet", "wrn28_10", ("none", "puzzlemix"), tables.CPU_BATCH, {})]
    assert "| Puzzle Mix | 19.00 (1) |  | 53.00 | -34.00 | +5.00 |" in capsys.readouterr().out


def test_a_table_with_overrides_has_a_folder_so_that_the_papers_runs_stay_apart():
    with pytest.raises(ValueError, match="^Mine: a table with overrides needs a folder"):
        recipes.Table("Mine", ("digits",), ("preactresnet18",), overrides={"width": 16})


def test_a_table_of_an_evaluation_is_trained_evaluated_and_rendered(tmp_path, monkeypatch, capsys, launched_here):
    table = recipes.Table("Affine", ("digits",), ("preactresnet18",), methods=("none",), evaluation=("affine",))
    monkeypatch.setitem(recipes.TABLES, "table4", table)
    given = ["table4", "--width", "4", "--epochs", "1", "--seeds", "1", "--geometry", "modern", "--limit", "50"]
    given += ["--out", str(tmp_path), "--data-dir", str(tmp_path), "--device", "cpu"]
    for _ in range(2):
        assert tables.main(given) == 0
    assert launched_here == ["runs-width4-epochs1/digits/preactresnet18/none/seed0"]
    printed = capsys.readouterr().out
    assert "### Affine (not the paper's recipe: width 4, epochs 1): affine-geometrymodern-limit50" in printed
    assert "| scale_1.4 |" in printed
    assert (tmp_path / "tables/table4-seeds1-width4-epochs1-affine-geometrymodern-limit50.json").exists()
    next((tmp_path / "runs-width4-epochs1").rglob("*.affine-*.npz")).unlink()
    assert tables.main(given) == 0 and len(launched_here) == 2, "what is lost of an evaluation is done again"
    shutil.rmtree(tmp_path / "runs-width4-epochs1")
    assert tables.main([*given, "--no-run"]) == 0 and "nothing is evaluated yet" in capsys.readouterr().out


def test_a_dry_run_launches_nothing(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(launcher, "dry_run", lambda jobs, args, out: seen.append((len(jobs), out)))
    monkeypatch.setattr(launcher, "launch", None)
    given = ["all", "--dry-run", "--recipe-tag", "quick", "--epochs", "4", "--out", str(tmp_path)]
    assert tables.main(given) == 0
    assert seen == [(135 + 405 + 2 + 30 + 20, tmp_path)]
    assert not (tmp_path / "runs-quick").exists()


DEMO = ("demo", "--methods", "none", "cutout", "--width", "4", "--epochs", "3")


def demo(out, *more):
    """The process of a small demo."""
    command = [sys.executable, "-m", "scripts.tables", *DEMO, "--out", str(out), *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
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
    assert "demo.sh: stopped by SIGINT and saved; the same command goes on from here" in errors
    assert "Traceback" not in errors
    assert not (runs / "none/seed0.json").exists() and (runs / "none/seed0.checkpoint.pt").exists()

    process = demo(tmp_path, "--seeds", "2")
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "6/6" not in errors and "12/12" in errors, "the bar counts the epochs of all four runs"
    results = {path: path.stat().st_mtime_ns for path in runs.rglob("seed*.json")}
    assert len(results) == 4 and printed.count("(2)") >= 6
    name = "demo-none-cutout-seeds2-width4-epochs3"
    assert all((tmp_path / f"tables/{name}.{suffix}").stat().st_size > 100 for suffix in ("md", "csv"))
    for picture in ("curves", "batch"):
        assert (tmp_path / f"figures/{name}_{picture}.png").read_bytes()[:4] == b"\x89PNG"

    process = demo(tmp_path, "--seeds", "2")
    assert process.communicate(timeout=120)[0] == printed
    assert results == {path: path.stat().st_mtime_ns for path in runs.rglob("seed*.json")}


def test_a_run_that_failed_is_missing_in_the_table_and_the_exit_status_says_so(tmp_path, monkeypatch, capsys):
    def launch(jobs, args):
        finish(run_of(grid_of(tmp_path, *DEMO, "--seeds", "1"), "none"), test_error=5.0)
        return [job for job in jobs if not job.finished()]

    monkeypatch.setattr(launcher, "launch", launch)
    monkeypatch.setattr(tables, "draw_demo", lambda grid, data_dir: None)
    assert tables.main([*DEMO, "--seeds", "1", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "| Cutout | missing |" in printed and "| No Mixup | 5.00 (1)" in printed


def test_the_demo_says_no_seconds_to_be_the_best():
    better = {metric.name: metric.better for metric in recipes.TABLES["demo"].metrics}
    assert better == {"test_error": "lower", "test_nll": "lower", "seconds": ""}


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
    mixed, own = demo_figures.mixed_and_kept(demo_figures.Draws(regularizer, k, h, x, y, net))
    assert mixed.shape == own.shape == (demo_figures.SHOWN, *h.shape[1:])
    assert 0 < own.mean() < 1
    if method in ("cutout", "dropblock"):
        assert torch.equal(mixed == 0, (own == 0) | (mixed == 0)) and set(np.unique(own)) == {0, 1}
    elif method != "puzzlemix":  # it moves blocks too
        partner = h[regularizer.partner][: demo_figures.SHOWN]
        moved = regularizer.partner[: demo_figures.SHOWN] != torch.arange(demo_figures.SHOWN)
        expected = own * h[: demo_figures.SHOWN] + (1 - own) * partner
        assert moved.any() and torch.allclose(mixed[moved], expected[moved], atol=1e-5)


@pytest.mark.parametrize("given", [(), ("--graphs",), ("--deterministic", "--graphs")])
def test_flags_that_change_no_result_reach_the_trainings(tmp_path, given):
    args, more = tables.parser().parse_known_args([*DEMO, "--out", str(tmp_path), *given])
    for job in tables.jobs_of([tables.plan_of("demo", grids.Choice.of(args), more)], args):
        ((script, arguments),) = job.commands
        assert script == "train"
        assert [word for word in arguments if word in ("--deterministic", "--graphs")] == list(given)
