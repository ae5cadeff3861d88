"""scripts/study.py: what it launches and in which order, what it collects, and that a record stands for its run."""

import json

import numpy as np
import pytest
import study_records
import torch

import recipes
import regularizers
from scripts import study
from scripts.claims import __main__ as claims
from scripts.claims import records
from scripts.claims.records import RunRecord, StudyRecords
from scripts.grid import launcher

MODEL = "preactresnet18"


@pytest.fixture(autouse=True)
def nothing_published(tmp_path, monkeypatch):
    """The records of this repository do not count."""
    monkeypatch.setattr(claims, "PUBLISHED", tmp_path / "published")


@pytest.fixture(autouse=True)
def no_timing(monkeypatch):
    """Hours are not measured."""
    monkeypatch.setattr(study.estimates, "hours_left", lambda states, path, device, graphs: dict.fromkeys(states, 0.5))


def arguments(tmp_path, *given, scale="cpu"):
    return [scale, "--out", str(tmp_path / "out"), "--data-dir", str(tmp_path), *given]


def planned(tmp_path, *given, scale="cpu"):
    """(arguments, plans) of a command line."""
    args = study.parser().parse_args(arguments(tmp_path, *given, scale=scale))
    return args, study.plans_of(scale, args)


def finish(run, error=80.0):
    """Write the result of a run as train.py would."""
    run.files.stem.parent.mkdir(parents=True, exist_ok=True)
    run.files.result.write_text(json.dumps(study_records.result_of(recipes.used(run.recipe), error, error)))


def evaluate(plans, run, *kinds):
    """Write the records of the evaluations of a run, by default of all."""
    shown = study_records.evaluated(study_records.result_of(recipes.used(run.recipe), 80.0, 80.0))
    for plan in plans.values():
        for files, _ in plan.records(run):
            kind = files.evaluation.kind
            if kind in (kinds or records.KINDS):
                record = shown[kind] | {"dataset": "cifar100", "recipe": recipes.used(run.recipe)}
                record |= {"images": 40, "evaluation": kind, "setting": files.evaluation.setting}
                files.result.write_text(json.dumps(record))
                arrays = {"labels": np.zeros(40, np.int64), "clean/confidence": np.full(40, 0.25)}
                np.savez_compressed(files.images, **arrays)


def measure_diversity(run):
    path = study.diversity_file(run.files)
    path.parent.mkdir(parents=True)
    rows = [{"method": "patchup_hard", "measure": "dimensions", "mean": 3.5, "std": 0.1, "n": 10}]
    path.write_text(json.dumps({"rows": rows}))


def runs_of(plans, part="methods"):
    """{(method, variant): run of seed 0} of a part."""
    return {run.cell[2:]: run for run in plans[part].grid.runs() if run.recipe.seed == 0}


# ---- launching ----


def test_three_seeds_of_the_methods_come_first_then_seed_by_seed_each_with_its_evaluations(tmp_path):
    args, plans = planned(tmp_path, "--seeds", "4")
    jobs = study.jobs_of(plans, args)
    order = [(method, seed) for seed in range(3) for method in regularizers.PAPER]
    assert [(job.recipe.method, job.recipe.seed) for job in jobs[:27]] == order
    later = jobs[27:]
    assert [job.recipe.seed for job in later] == sorted(job.recipe.seed for job in later)
    fourth = [job.recipe.method for job in later if job.recipe.seed == 3]
    assert fourth[:9] == list(regularizers.PAPER), "the methods' before the parts'"
    assert len({job.files.stem for job in jobs}) == len(jobs) == 116
    commands = {job.recipe.method: [module for module, _ in job.commands] for job in jobs[:9]}
    plain = ["train", "eval_affine", "eval_activations", "eval_adversarial", "eval_corruption", "eval_adversarial"]
    assert commands["none"] == plain and commands["patchup_soft"] == [*plain, "scripts.figures.illustrations"]
    assert all([module for module, _ in job.commands] == ["train"] for job in later if job.recipe.seed < 3)
    hard = next(job for job in jobs if job.recipe.method == "patchup_hard")
    assert str(hard.files.last) in hard.commands[1][1] and str(hard.files.best) in hard.commands[-1][1]


def test_a_study_launches_what_is_missing_and_says_where_one_failed(tmp_path, monkeypatch, capsys):
    launched = []

    def launch(jobs, args):
        launched.append(jobs)
        for run in study.plans_of("cpu", args)["methods"].grid.runs():
            finish(run)
        return jobs[:1]

    monkeypatch.setattr(launcher, "launch", launch)
    assert study.main(arguments(tmp_path, "--seeds", "1")) == 1
    trained, done = launched
    assert [job.recipe for job in trained] == [job.recipe for job in done[:9]], "errors first"
    assert all(job.finished() and [module for module, _ in job.commands] == ["train"] for job in trained)
    assert len(done) == 30 and not done[0].finished()
    assert "9 of 152 runs are done" in (tmp_path / "out/claims.md").read_text()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["part", "runs", "left", "hours"]
    assert lines[1].split() == ["methods", "9", "9", "4.50"] and lines[2].split() == ["size", "10", "10", "5.00"]
    assert lines[5].split()[:3] == ["affine", "9", "9"] and lines[5].endswith("not known yet")
    assert lines[10].startswith("about 15.0 hours")


def test_all_methods_see_the_same_images_in_the_same_order_and_start_alike(tmp_path):
    """What makes runs of one seed pairs."""
    runs = {0: [], 1: []}
    for method in regularizers.PAPER:
        for seed in (0, 1):
            recipe = recipes.resolve("digits", "preactresnet18", method, seed, width=4)
            datasets, net = recipes.objects(recipe, tmp_path)
            x, y = next(datasets.train.batches(recipe.batch_size, epoch=3))
            weights = torch.cat([tensor.flatten().float() for tensor in net.state_dict().values()])
            images = [part.positions for part in (datasets.train, datasets.val, datasets.test)]
            runs[seed].append((x.numpy(), y.numpy(), weights.numpy(), *images))
    for first, *others in runs.values():
        assert all(all(map(np.array_equal, first, other)) for other in others)
    assert not np.array_equal(runs[0][0][3], runs[1][0][3])  # another seed, another split


def test_gpu_minutes_takes_its_epochs(tmp_path):
    _, plans = planned(tmp_path, "--epochs", "60", scale="gpu-minutes")
    assert list(plans) == ["methods", "affine", "fgsm"]
    runs = plans["methods"].grid.runs()
    methods = ["none", "manifold_mixup", "cutmix", "patchup_soft", "patchup_hard"]
    assert [(run.recipe.method, run.recipe.seed) for run in runs] == [(m, s) for s in (0, 1) for m in methods]
    first = runs[0].recipe
    assert (first.epochs, first.width, first.schedule, first.criterion, first.amp) == (60, 64, "cosine", "ce", "bf16")
    assert planned(tmp_path, scale="gpu-minutes")[1]["methods"].grid.runs()[0].recipe.epochs == 80


@pytest.mark.parametrize(
    "scale, given, words",
    [
        ("cpu", ["--epochs", "60"], "the epochs of the study cpu are fixed: leave out --epochs"),
        ("gpu", ["--quick"], "--quick is for cpu, gpu-minutes"),
        ("cpu", ["--models", "wrn28_10"], "study_cpu: unknown model 'wrn28_10'"),
        ("cpu", ["--seeds", "1"], "holds no finished run"),
        ("cpu", ["--lr", "3"], "unrecognized arguments: --lr 3"),  # a study is of its own recipe and methods
        ("cpu", ["--methods", "none"], "unrecognized arguments: --methods none"),
        ("cpu", ["--recipe-tag", "x"], "unrecognized arguments: --recipe-tag x"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, capsys, monkeypatch, scale, given, words):
    monkeypatch.chdir(tmp_path)
    try:
        status = study.main(arguments(tmp_path, "--no-run", *given, scale=scale))
    except SystemExit as stopped:
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2 and words in error and error.count("\n") == 1 and not (tmp_path / "out/records").exists()


def test_quick_is_small_and_has_a_folder_of_its_own(tmp_path):
    args = study.parser().parse_args(["cpu", "--quick", "--data-dir", str(tmp_path)])
    runs = study.plans_of("cpu-quick", args)["methods"].grid.runs()
    assert {run.recipe.epochs for run in runs} == {10} and {run.recipe.seed for run in runs} == {0, 1}
    assert runs[0].files.out.parent.name == "cpu-quick"


# ---- collecting ----


def test_what_is_there_is_collected(tmp_path):
    args, plans = planned(tmp_path, "--seeds", "1")
    hard, part = runs_of(plans)["patchup_hard", ""], runs_of(plans, "parts")["patchup_hard", "L1"]
    finish(hard), finish(part)
    evaluate(plans, hard, "affine", "activations")
    measure_diversity(hard)
    assert study.main(arguments(tmp_path, "--no-run")) == 0
    both, first = records.read(tmp_path / "out/records")  # in the tables' order
    assert both.evaluations["affine"]["cases"]["rotate_20"]["error"] == 85.0
    assert both.evaluations["activations"]["confidence"] == 25.0
    assert both.evaluations["activations"]["magnitude"]["conv1"] == 10.0
    assert both.diversity == [["patchup_hard", "dimensions", 3.5]]
    assert first.result["recipe"]["loss_terms"] == "first" and first.evaluations == {}
    assert (tmp_path / "out/claims.md").exists() and (tmp_path / "out/records/tables.md").exists()


def test_a_fresh_machine_goes_on_from_the_records(tmp_path, monkeypatch):
    """Records count as runs with their evaluations, in the published folder and in one that is given."""
    args, plans = planned(tmp_path / "a", "--seeds", "1")
    methods = runs_of(plans)
    for method in ("none", "cutmix", "patchup_soft", "patchup_hard"):
        finish(methods[method, ""])
        evaluate(plans, methods[method, ""])
    measure_diversity(methods["patchup_hard", ""])  # not of Soft
    methods["cutmix", ""].files.last.with_name("seed0.last.fgsm-limit5000.json").unlink()
    finish(runs_of(plans, "parts")["patchup_hard", "L1"])
    assert study.main(arguments(tmp_path / "a", "--no-run")) == 0
    kept = tmp_path / "a/out/records"

    launched = []  # trainings of the first seeds, then all that is missing, twice
    monkeypatch.setattr(launcher, "launch", lambda jobs, args: launched.append(jobs) or [])
    assert study.main(arguments(tmp_path / "b", "--seeds", "1", "--records", str(kept))) == 0
    left = {(job.recipe.method, job.recipe.epochs, job.recipe.loss_terms) for job in launched[1]}
    assert len(launched[0]) == 9 - 2 and len(launched[1]) == 30 - 3
    assert ("none", 75, None) not in left and ("patchup_hard", 75, "first") not in left
    assert ("cutmix", 75, None) in left  # an evaluation is missing, and the weights are elsewhere
    assert ("patchup_soft", 75, "both") in left  # its diversity is missing

    monkeypatch.setattr(claims, "PUBLISHED", tmp_path / "other")
    records.write(tmp_path / "other/study/cpu", records.read(kept))
    assert study.main(arguments(tmp_path / "c", "--seeds", "1")) == 0
    assert [job.recipe for job in launched[3]] == [job.recipe for job in launched[1]]
    assert study.main(arguments(tmp_path / "d", "--records", str(tmp_path / "new"), "--no-run")) == 2, "it begins anew"


def test_records_and_runs_are_merged(tmp_path):
    """A run of here replaces its record unless that has more evaluations; all others stay."""
    args, plans = planned(tmp_path, "--seeds", "1")
    methods = runs_of(plans)
    known = StudyRecords("cpu")
    for method in ("none", "mixup", "cutmix"):
        result = study_records.result_of(recipes.used(methods[method, ""].recipe), 70.0, 70.0)
        known.add(RunRecord(result, study_records.evaluations(result) if method == "mixup" else {}), "test")
    records.write(tmp_path / "kept", known)
    finish(methods["none", ""])
    finish(methods["mixup", ""])
    evaluate(plans, methods["mixup", ""], "affine")
    finish(methods["dropblock", ""])
    assert study.main(arguments(tmp_path, "--no-run", "--records", str(tmp_path / "kept"))) == 0
    errors = {r.result["method"]: r.result["last_epoch_test_error"] for r in records.read(tmp_path / "kept")}
    assert errors == {"none": 80.0, "mixup": 70.0, "cutmix": 70.0, "dropblock": 80.0}


def test_records_of_another_recipe_or_setting_do_not_count(tmp_path, capsys):
    _, plans = planned(tmp_path, "--seeds", "1")
    run = runs_of(plans)["none", ""]
    finish(run), evaluate(plans, run)
    assert study.main(arguments(tmp_path, "--no-run")) == 0
    path = tmp_path / "out/records" / records.FILE
    line = json.loads(path.read_text())
    args, plans = planned(tmp_path / "elsewhere", "--seeds", "1")
    job = next(job for job in study.jobs_of(plans, args) if job.recipe == run.recipe)
    assert study.missing([job], plans, records.read(path.parent)) == []
    line["evaluations"]["affine"]["setting"]["limit"] = 4000
    path.write_text(json.dumps(line))
    assert study.missing([job], plans, records.read(path.parent)) == [job]
    line["result"]["recipe"]["epochs"] = 74
    path.write_text(json.dumps(line))
    assert study.main(arguments(tmp_path, "--no-run")) == 2
    assert "line 1: none, seed 0, has another recipe than the study cpu (epochs 74 there, 75" in capsys.readouterr().err


def test_a_damaged_run_is_named_and_an_evaluation_without_its_images_is_made_again(tmp_path, capsys):
    _, plans = planned(tmp_path, "--seeds", "1")
    run = runs_of(plans)["none", ""]
    finish(run), evaluate(plans, run, "activations")
    run.files.last.with_name("seed0.last.activations.npz").write_bytes(b"PK")
    assert "activations" not in next(study.local_records(plans)).evaluations
    run.files.result.write_text("{")
    assert study.main(arguments(tmp_path, "--no-run", "--seeds", "1")) == 2
    error = capsys.readouterr().err
    assert "seed0.json is not a result of train.py" in error and error.count("\n") == 1
    assert not (tmp_path / "out/records").exists()
