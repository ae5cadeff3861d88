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
import train
from engine.files import BadInput
from scripts import tables
from scripts.bench import benchmark
from scripts.figures import demo_figures
from scripts.grid import grids, launcher
from scripts.grid.job import perform

ROOT = Path(__file__).resolve().parent.parent


def grid(tmp_path, name, *given):
    """The Grid of a command line."""
    args = tables.parser().parse_args([name, *given, "--out", str(tmp_path), "--data-dir", str(tmp_path)])
    return grids.grid_of(args, name)


def finish(run, **numbers):
    """Write the result of a run as train.py would."""
    run.files.stem.parent.mkdir(parents=True, exist_ok=True)
    result = dict(zip(("dataset", "model", "method"), run.cell), seed=run.recipe.seed, recipe=recipes.used(run.recipe))
    result |= {"classes": data.FACTS[run.cell.dataset].num_classes} | numbers
    run.files.result.write_text(json.dumps(result))


def run_of(grid, method, seed=0, variant=""):
    """The grid's run of a method, of its first data set and network."""
    return grid.run(grids.Cell(grid.table.datasets[0], grid.table.models[0], method, variant), seed)


RESULT = ("test_error", "best_epoch", "last_epoch_test_error", "test_nll", "seconds")  # what train.py prints
TABLE2 = ("table2", "--datasets", "cifar100", "--models", "wrn28_10", "--methods", "none", "patchup_hard", "mixup")


def test_table2_ours_beside_the_papers(tmp_path, capsys):
    found = grid(tmp_path, *TABLE2)
    for seed, error in enumerate((22.0, 23.0, 24.0)):
        finish(run_of(found, "none", seed), test_error=error)
    finish(run_of(found, "patchup_hard", 2), test_error=16.0)
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
    found = grid(tmp_path, name)
    _, frame, _ = tables.compared(found)
    assert frame.paper_mean.notna().sum() == count
    assert {metric.paper or metric.name for metric in found.table.metrics} >= set(metrics)


@pytest.mark.parametrize("name", tables.ALL)
def test_every_run_of_every_table_resolves_and_has_a_folder_of_its_own(tmp_path, name):
    found = grid(tmp_path, name)
    runs = found.runs()
    measured = [row for row in found.rows if row.method not in found.table.cited]
    assert len(runs) == len(found.table.datasets) * len(found.table.models) * len(measured) * len(found.table.seeds)
    folders = {run.files.stem for run in runs}
    assert len(folders) == len(runs) and all(run.files.out == found.folder(run.overrides) for run in runs)


def test_the_rows_of_table_6_are_runs_of_their_own_but_for_the_papers_recipe(tmp_path):
    six, two = grid(tmp_path, "table6"), grid(tmp_path, *TABLE2)
    assert run_of(six, "patchup_hard", 0, "loss=L1+L2").files.stem == run_of(two, "patchup_hard").files.stem
    first = run_of(six, "patchup_hard", 0, "loss=L1")
    assert first.recipe.loss_terms == "first" and first.files.out == tmp_path / "runs-loss_termsfirst"
    official = run_of(six, "patchup_hard", 0, "loss=official L2").recipe
    assert (official.loss_terms, official.input_target) == ("official_second", "own")
    assert run_of(grid(tmp_path, *TABLE2, "--loss-terms", "first"), "patchup_hard").files.stem == first.files.stem
    with pytest.raises(BadInput, match="--loss-terms is what the rows of table6 differ in"):
        grid(tmp_path, "table6", "--loss-terms", "first")
    seven = grid(tmp_path, "table7", "--epochs", "8")
    assert run_of(seven, "patchup_hard", 0, "k=1_only").files.out == tmp_path / "runs-epochs8-layers1"


def test_a_runs_command_line_gives_its_recipe(tmp_path):
    flags = ["--epochs", "8", "--no-flip", "--milestones", "2,4", "--lr", "3e-05", "--t-size", "-1", "--gamma", "0.3"]
    found = grid(tmp_path, "table2", *flags)
    for run in found.runs()[:81]:
        args = train.parser().parse_args(run.arguments())
        assert args.out == run.files.out
        assert recipes.resolve(*run.cell[:3], args.seed, **recipes.overrides_of(args)) == run.recipe


def test_shared_runs_are_one_job_with_all_evaluations(tmp_path):
    names = ["table2", "table10", "figure14", "figure5"]
    args = tables.parser().parse_args([*names, "--out", str(tmp_path), "--data-dir", str(tmp_path), "--device", "cpu"])
    jobs = tables.jobs_of([tables.plan(name, args, []) for name in names], args)
    assert len(jobs) == 405 + 35  # Figure 5 shows Tiny-ImageNet too
    by_name = {job.name: job for job in jobs}
    hard = by_name["cifar100/wrn28_10/patchup_hard/seed0"]
    assert [command[0] for command in hard.commands] == [
        "train", "eval_affine", "eval_activations", "eval_adversarial"
    ]  # fmt: skip
    assert hard.commands[3][1][:3] == (str(hard.files.best), "--attacks", "fgsm")
    assert [command[0] for command in by_name["cifar10/wrn28_10/none/seed0"].commands] == ["train"]
    assert {path.name for path in hard.results} >= {"seed0.json", "seed0.best.affine.json", "seed0.best.fgsm.npz"}


def test_names_of_files_fit_into_file_systems(tmp_path):
    flags = "--criterion ce --train-per-class 50 --val-per-class 10 --epochs 20 --batch-size 50 --lr 0.05 --alpha 0.123"
    more = "--weight-decay 0.0005 --schedule cosine --momentum 0.8 --padding 3 --no-flip --amp bf16 --gamma 0.123456"
    one, other = (
        grid(tmp_path, *TABLE2, "puzzlemix", *flags.split(), *more.split(), "--eta", eta) for eta in ("0.1", "0.2")
    )
    for name in (one.folder(one.overrides).name, one.file_name):
        assert len(name) < 190
    assert one.folder(one.overrides) != other.folder(other.overrides) and one.file_name != other.file_name


def test_train_py_and_the_tables_share_one_rule_for_folders(tmp_path, monkeypatch):
    """A small run in the default folder does not block the paper's table, and a table does not train it anew."""
    started = []
    monkeypatch.setattr(train, "run", lambda recipe, out, **flags: started.append(out) or dict.fromkeys(RESULT, 0.0))
    monkeypatch.setattr(train, "ROOT", tmp_path)
    flags = ["--epochs", "8", "--gamma", "0.5"]  # gamma is the paper's

    def command(*more):
        names = (
            "--dataset",
            "cifar100",
            "--model",
            "wrn28_10",
            "--method",
            "patchup_hard",
            "--data-dir",
            str(tmp_path),
        )
        return train.main([*names, *more])

    results = tmp_path / "results"
    assert command() == command(*flags) == command(*flags, "--recipe-tag", "quick") == 0
    assert command("--recipe-tag", "quick") == 0
    assert started == [results / "runs", results / "runs-epochs8", *2 * [results / "runs-quick"]]
    for number, given in enumerate(([], flags, ["--recipe-tag", "quick"])):
        args = tables.parser().parse_args([*TABLE2, *given, "--out", str(results)])
        assert run_of(grids.grid_of(args, "table2"), "patchup_hard").files.out == started[number]


@pytest.mark.parametrize(
    "content, words",
    [
        ('{"overrides": {"epochs": 1.5}}', "epochs 1.5, which --epochs does not take"),
        ('{"overrides": {"flip": "yes"}}', "flip 'yes', which --flip does not take"),
        ('{"overrides": {"width": true}}', "width True, which --width does not take"),
        ('{"overrides": {"milestones": ["a"]}}', r"milestones \('a',\), which --milestones does not take"),
        ('{"overrides": {"speed": 1}}', "speed, which is no field of a recipe"),
        ('{"overrides": [1]}', r"is not a result of scripts/tables.py \(overrides is '\[1\]'\)"),
    ],
)
def test_a_tags_file_is_checked_as_a_command_line_is(content, words, tmp_path):
    (tmp_path / "runs-quick").mkdir()
    (tmp_path / "runs-quick/recipe.json").write_text(content)
    with pytest.raises(BadInput, match=f"recipe.json (has |){words}: take another --recipe-tag"):
        grid(tmp_path, *TABLE2, "--recipe-tag", "quick")


def test_lists_are_separated_by_spaces_or_commas_and_help_is_the_tables_own(tmp_path, capsys):
    named = grid(tmp_path, "table2", "--methods", "none,mixup", "cutmix", "--dataset", "svhn,")
    assert named.table.methods == ("none", "mixup", "cutmix") and named.table.datasets == ("svhn",)
    with pytest.raises(SystemExit):
        tables.main(["table2", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "cifar10, cifar100, svhn; preactresnet18, preactresnet34, wrn28_10): 405 runs" in text
    assert "study" not in text and "table5" not in text


def test_runs_with_overrides_never_enter_the_papers_table(tmp_path):
    plain, short = grid(tmp_path, *TABLE2), grid(tmp_path, *TABLE2, "--epochs", "8")
    assert run_of(plain, "none").files.out == tmp_path / "runs"
    assert run_of(short, "none").files.out == tmp_path / "runs-epochs8"
    assert short.title.endswith("(not the paper's recipe: epochs 8)")
    finish(run_of(short, "none"), test_error=50.0)
    assert tables.collect(plain).empty and len(tables.collect(short)) == 1
    (tmp_path / "runs-epochs8").rename(tmp_path / "runs")
    with pytest.raises(BadInput, match="has another recipe"):
        tables.collect(plain)


def test_a_recipe_tag_stands_for_its_overrides(tmp_path, capsys):
    short = ("--epochs", "8", "--milestones", "2,4")
    with pytest.raises(BadInput, match="runs-quick/recipe.json does not exist: give the fields of the recipe"):
        grid(tmp_path, *TABLE2, "--recipe-tag", "quick")
    first = grid(tmp_path, *TABLE2, "--recipe-tag", "quick", *short)
    first.remember()
    later = grid(tmp_path, *TABLE2, "--recipe-tag", "quick")
    assert later == first and later.title.endswith("(not the paper's recipe: epochs 8, milestones 2,4)")
    assert run_of(later, "none").files.out == tmp_path / "runs-quick" and later.file_name.endswith("-quick")
    assert run_of(later, "none").recipe.milestones == (2, 4)
    variant = run_of(grid(tmp_path, "table6", "--recipe-tag", "quick"), "patchup_hard", 0, "loss=L1")
    assert variant.files.out == tmp_path / "runs-quick-loss_termsfirst" and variant.recipe.epochs == 8
    with pytest.raises(BadInput, match="--recipe-tag quick stands for epochs 8, milestones 2,4"):
        grid(tmp_path, *TABLE2, "--recipe-tag", "quick", "--epochs", "9")
    with pytest.raises(BadInput, match="--recipe-tag must be at most 60 letters"):
        grid(tmp_path, *TABLE2, "--recipe-tag", "../x", *short)


@pytest.mark.parametrize(
    "given, words",
    [
        (["compare", "--methods", "none"], "say which --datasets to compare"),
        (["table2", "--limit", "3"], "unrecognized arguments for table2: --limit 3"),
        (["all", "--limit", "3"], "unrecognized arguments for all tables together: --limit 3"),
        (["table2", "--datasets", "mnist"], "table2: unknown dataset 'mnist'; there are cifar10, cifar100, svhn"),
        (["table2", "--seeds", "0"], "--seeds must be at least 1, not 0"),
        (["table2", "--methods", "none", "--gamma", "0.3"], "--gamma means nothing to any of the methods none"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, capsys, given, words):
    assert tables.main([*given, "--no-run", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_runs_on_a_part_of_the_classes_are_called_so_and_never_stand_beside_the_papers_numbers(tmp_path):
    plan = tables.Plan(grid(tmp_path, *TABLE2))
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


@pytest.mark.parametrize("odd", [{"classes": 10}, {"digest": "other"}])
def test_one_table_never_shows_runs_on_different_images(tmp_path, odd):
    found = grid(tmp_path, *TABLE2)
    finish(run_of(found, "none"), test_error=5.0, classes=100, digest="this")
    finish(run_of(found, "mixup"), test_error=5.0, **{"classes": 100, "digest": "this"} | odd)
    with pytest.raises(BadInput, match="seed0.json and .*seed0.json are of other images: no table can show both"):
        tables.collect(found)


def test_hyperparameters_go_to_the_methods_that_have_them(tmp_path):
    found = grid(tmp_path, *TABLE2, "--alpha", "0.5")
    assert {run.recipe.method: run.recipe.alpha for run in found.runs()} == {
        "none": None, "mixup": 0.5, "patchup_hard": None
    }  # fmt: skip


def test_methods_of_ones_own_are_compared_on_any_data(tmp_path):
    where = ("--dataset", "folder", "--model", "preactresnet18", "--image-size", "40", "--epochs", "2")
    found = grid(tmp_path, "compare", "--methods", "none", "feature_cutmix", *where)
    assert [run.cell.method for run in found.runs()[:2]] == ["none", "feature_cutmix"]
    assert found.runs()[0].recipe.images == str(tmp_path)
    beside = grid(tmp_path, "compare", "--methods", "none", "--dataset", "cifar100", "--model", "wrn28_10")
    paper = beside.paper()
    assert paper["cifar100", "wrn28_10", "none", "test_error"] == (22.442, 0.226)


def test_table_8_is_timed_once_on_this_device(tmp_path, capsys, monkeypatch):
    calls = []

    def measured(dataset, model, methods, device, rounds, batch, **overrides):
        calls.append((dataset, model, tuple(methods), batch, overrides))
        return {method: {"hours": 10.0 + len(method)} for method in methods}

    monkeypatch.setattr(benchmark, "training_hours", measured)
    given = ["table8", "--methods", "none", "puzzlemix", "--device", "cpu", "--out", str(tmp_path)]
    for _ in range(2):
        assert tables.main(given) == 0
    assert calls == [("tiny_imagenet", "wrn28_10", ("none", "puzzlemix"), tables.CPU_BATCH, {})]
    assert "| Puzzle Mix | 19.00 (1) |  | 53.00 | -34.00 | +5.00 |" in capsys.readouterr().out
    (tmp_path / "hours.json").write_text('{"none": 3}')
    assert tables.main(given) == 2
    assert "hours.json holds no hours of trainings; remove it to measure anew" in capsys.readouterr().err


def test_a_table_with_overrides_has_a_folder_so_that_the_papers_runs_stay_apart():
    with pytest.raises(ValueError, match="^Mine: a table with overrides needs a folder"):
        recipes.Table("Mine", ("digits",), ("preactresnet18",), overrides={"width": 16})


def test_a_table_of_an_evaluation_is_trained_evaluated_and_rendered(tmp_path, monkeypatch, capsys):
    table = recipes.Table("Affine", ("digits",), ("preactresnet18",), methods=("none",), evaluation=("affine",))
    monkeypatch.setitem(recipes.TABLES, "table4", table)
    given = ["table4", "--width", "4", "--epochs", "1", "--seeds", "1", "--geometry", "modern", "--limit", "50"]
    given += ["--out", str(tmp_path), "--data-dir", str(tmp_path), "--device", "cpu"]
    started = []

    def here(jobs, args):
        for job in jobs:
            started.append(job.name)
            assert perform(job.commands) == 0

    monkeypatch.setattr(launcher, "launch", here)
    for _ in range(2):
        assert tables.main(given) == 0
    assert started == ["runs-width4-epochs1/digits/preactresnet18/none/seed0"]
    printed = capsys.readouterr().out
    assert "### Affine (not the paper's recipe: width 4, epochs 1): affine-geometrymodern-limit50" in printed
    assert "| scale_1.4 |" in printed
    assert (tmp_path / "tables/table4-seeds1-width4-epochs1-affine-geometrymodern-limit50.json").exists()
    next((tmp_path / "runs-width4-epochs1").rglob("*.affine-*.npz")).unlink()
    assert tables.main(given) == 0 and len(started) == 2, "what is lost of an evaluation is done again"
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
    assert len(results) == 4 and printed.count("(2)") >= 6
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


@pytest.mark.slow
def test_a_failed_run_is_named_and_the_others_go_on(tmp_path):
    broken = tmp_path / "runs-width4-epochs3/digits/preactresnet18/cutout/seed0.checkpoint.pt"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no checkpoint")
    process = demo(tmp_path, "--seeds", "1")
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "failed: runs-width4-epochs3/digits/preactresnet18/cutout/seed0" in errors
    assert "seed0.checkpoint.pt is damaged or no checkpoint of train.py" in errors and "Traceback" not in errors
    assert "| Cutout | missing |" in printed and "| No Mixup | missing" not in printed


def test_the_demo_says_no_seconds_to_be_the_best():
    assert {metric.name: metric.better for metric in recipes.TABLES["demo"].metrics} == {
        "test_error": "lower", "test_nll": "lower", "seconds": ""
    }  # fmt: skip


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
    for job in tables.jobs_of([tables.plan("demo", args, more)], args):
        ((script, arguments),) = job.commands
        assert script == "train"
        assert [one for one in arguments if one in ("--deterministic", "--graphs")] == list(given)
