"""scripts/study.py: what it launches and in which order, and what it collects of a study that is not finished."""

import json

import numpy as np
import pytest
import torch

import recipes
import regularizers
from claims import evidence
from scripts import study, tables
from scripts.grid import launcher

LABELS = np.arange(40) % 4


def arguments(tmp_path, *given):
    return ["cpu", "--out", str(tmp_path / "cpu"), "--data-dir", str(tmp_path), *given]


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """(parsed arguments, plans) of two seeds of the study."""
    args = study.parser().parse_args(arguments(tmp_path_factory.mktemp("study"), "--seeds", "2"))
    return args, [tables.plan(name, args, ()) for name in recipes.STUDIES["cpu"]]


def finish(run, **numbers):
    """Write result and log of a run as train.py would."""
    run.files.stem.parent.mkdir(parents=True, exist_ok=True)
    names = {name: getattr(run.recipe, name) for name in ("dataset", "model", "method", "seed")}
    result = names | {"test_error": 80.0, "test_nll": 4.0, "test_ece": 0.1, "last_epoch_test_error": 81.0}
    result |= {"recipe": recipes.used(run.recipe), "seconds": 36.0, "classes": 100} | numbers
    result |= {"images": {"train": 1000, "val": 500, "test": 40}}
    result |= {"environment": {"torch": "2", "device": "x86_64", "threads": 1}}
    run.files.result.write_text(json.dumps(result))
    line = {"epoch": 0, "lr": 0.1, "train_loss": 4.6, "val_error": 98.0, "seconds": 1.0}
    run.files.log.write_text(json.dumps(line) + "\n")


def evaluate(one, run, labels=LABELS):
    """Write the first record of an evaluation of a run."""
    record, _ = one.evaluations(run)[0]
    names = {name: getattr(run.recipe, name) for name in ("dataset", "model", "method", "seed")}
    found = {"cases": {"clean": {"error": 75.0, "nll": 1 / 3}}, "images": 40, "seconds": 2.0}
    found |= {"evaluation": one.studies[0].kind, "setting": one.studies[0].setting, "recipe": recipes.used(run.recipe)}
    record.result.write_text(json.dumps(names | found))
    arrays = {"labels": labels, "clean/predicted": np.zeros(40, np.uint8), "clean/confidence": np.full(40, 1 / 3)}
    np.savez_compressed(record.images, **arrays)
    return record


def measure_diversity(run):
    path = study.diversity_file(run.files)
    path.parent.mkdir(parents=True)
    rows = [{"method": "patchup_hard", "measure": "dimensions", "mean": 3.5, "std": 0.1, "n": 10}]
    path.write_text(json.dumps({"rows": rows}))


# ---- launching ----


def test_methods_come_first_then_the_parts_seed_by_seed(plans):
    args, everything = plans
    jobs = study.trainings(everything, args)
    methods = [(job.recipe.method, job.recipe.seed) for job in jobs[:18]]
    assert methods == [(method, seed) for seed in (0, 1) for method in regularizers.PAPER]
    rest = [job.recipe.seed for job in jobs[18:]]
    assert rest == sorted(rest) and rest.count(0) == rest.count(1) == 27
    assert len({job.files.stem for job in jobs}) == len(jobs) == 72
    assert all(len(job.commands) == 1 and job.commands[0][0] == "train" for job in jobs)


def test_evaluations_are_of_the_methods_runs(plans):
    args, everything = plans
    jobs = study.evaluations(everything, args)
    assert len(jobs) == 18
    modules = {job.recipe.method: [module for module, _ in job.commands] for job in jobs}
    four = ["train", "eval_affine", "eval_activations", "eval_adversarial", "eval_corruption", "eval_adversarial"]
    assert modules["none"] == four and modules["patchup_soft"] == [*four, "scripts.figures.illustrations"]
    found = next(job for job in jobs if job.recipe.method == "manifold_mixup")
    assert str(found.files.best) in found.commands[-1][1]
    assert found.results[-1] == found.files.stem.with_name("seed0.diversity") / "figures/figure10.json"


def test_a_study_launches_trainings_then_evaluations_and_says_where_one_failed(tmp_path, monkeypatch, plans):
    launched = []

    def launch(jobs, args):
        launched.append(jobs)
        if len(launched) == 1:
            for run in tables.plan("study_cpu", args, ()).grid.runs():
                finish(run)
        return jobs[:1] if len(launched) == 1 else []

    monkeypatch.setattr(launcher, "launch", launch)
    assert study.main(arguments(tmp_path, "--seeds", "1")) == 1
    assert [len(jobs) for jobs in launched] == [36, 9]
    assert "(9 of 45 runs, 0.09 hours)" in (tmp_path / "cpu/claims.md").read_text()


def test_all_methods_see_the_same_images_in_the_same_order_and_start_alike(tmp_path):
    """What makes runs of one seed pairs."""
    found = {}
    for method in regularizers.PAPER:
        for seed in (0, 1):
            recipe = recipes.resolve("digits", "preactresnet18", method, seed, width=4)
            datasets, net = recipes.objects(recipe, tmp_path)
            x, y = next(datasets.train.batches(recipe.batch_size, epoch=3))
            weights = torch.cat([tensor.flatten().float() for tensor in net.state_dict().values()])
            images = [part.positions for part in (datasets.train, datasets.val, datasets.test)]
            found.setdefault(seed, []).append((x.numpy(), y.numpy(), weights.numpy(), *images))
    for runs in found.values():
        for run in runs[1:]:
            assert all(map(np.array_equal, run, runs[0]))
    assert not np.array_equal(found[0][0][3], found[1][0][3])  # another seed, another split


# ---- collecting ----


def test_all_that_is_there_is_collected_whatever_is_launched(tmp_path):
    """More seeds than the tables have, and fewer asked for now."""
    args = study.parser().parse_args(arguments(tmp_path, "--seeds", "6"))
    for run in tables.plan("study_cpu", args, ()).grid.runs():
        if run.cell.method == "none":
            finish(run)
    assert study.main(arguments(tmp_path, "--no-run", "--seeds", "6")) == 0
    text = (tmp_path / "cpu/claims.md").read_text()
    assert "Seeds: methods, size, loss, layers, official 0 to 5." in text
    assert "(6 of 54 runs, 0.06 hours)" in text
    assert study.main(arguments(tmp_path, "--no-run", "--seeds", "1", "--models", "preactresnet18")) == 0
    text = (tmp_path / "cpu/claims.md").read_text()
    assert "Seeds: methods 0 to 4; size, loss, layers, official 0 to 2." in text
    assert "(5 of 45 runs, 0.05 hours)" in text and "0.1 hours of training" in text  # a run of several parts once


def test_what_is_there_is_collected(plans, tmp_path):
    args, everything = plans
    names = ("study_cpu", "study_cpu_affine", "study_cpu_activations")
    methods, affine, activations = (one for one in everything if one.grid.name in names)
    hard, plain = (
        next(run for run in methods.grid.runs() if run.cell.method == name) for name in ("patchup_hard", "none")
    )
    loss = next(one for one in everything if one.grid.name == "study_cpu_loss")
    doubled = next(run for run in loss.grid.runs() if run.cell.variant == "2xL1")
    for run in (hard, plain, doubled):
        finish(run)
    evaluate(affine, hard, LABELS[:20])
    evaluate(activations, hard)
    measure_diversity(hard)
    study.collect(everything, args, tmp_path)
    found = evidence.read(tmp_path)
    model = "preactresnet18"
    parts = {key[:2] for key in found.runs if key[3] == "patchup_hard"}
    assert parts == {
        ("methods", ""),
        ("size", "10x100"),
        ("layers", "random_k"),
        ("official", ""),
        ("official", "k<=2"),
    }
    assert found.runs["loss", "2xL1", model, "patchup_soft", 0]["recipe"]["loss_terms"] == "first"
    assert sum(map(len, (path.read_text().splitlines() for path in [tmp_path / "runs.jsonl"]))) == 3
    record = found.evaluations["affine", model, "patchup_hard", 0]
    assert record["cases"]["clean"] == {"error": 75.0, "nll": 0.333333} and "recipe" not in record
    assert found.predictions["labels"].tolist() == LABELS.tolist()
    assert found.predictions[f"{model}/patchup_hard/0/confidence"].dtype == np.float16
    assert found.epochs.method.tolist() == ["none", "patchup_hard"]  # of the methods' runs alone
    assert found.diversity["mean"].tolist() == [3.5]


def test_without_any_run_and_with_a_damaged_one(tmp_path, capsys):
    given = arguments(tmp_path, "--no-run", "--seeds", "1")
    assert study.main(given) == 2
    assert "holds no finished run" in capsys.readouterr().err
    run = tables.plan("study_cpu", study.parser().parse_args(given), ()).grid.runs()[0]
    finish(run)
    run.files.result.write_text("{")
    assert study.main(given) == 2
    error = capsys.readouterr().err
    assert "seed0.json is not a result of train.py" in error and error.count("\n") == 1
    assert not (tmp_path / "cpu/records").exists()


def test_evaluations_of_other_images_are_refused(tmp_path, capsys):
    given = arguments(tmp_path, "--no-run", "--seeds", "1")
    args = study.parser().parse_args(given)
    activations = tables.plan("study_cpu_activations", args, ())
    runs = activations.grid.runs()[:2]
    for run in runs:
        finish(run)
        record = evaluate(activations, run, LABELS[:: 1 if run is runs[0] else -1])
    assert study.main(given) == 2
    assert f"{record.images} is of other images" in capsys.readouterr().err
    record.images.write_bytes(b"PK")
    assert study.main(given) == 2
    assert f"{record.images} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("flag", [("--epochs", "3"), ("--methods", "none"), ("--recipe-tag", "x")])
def test_a_study_is_of_its_own_recipe_and_methods(tmp_path, flag):
    with pytest.raises(SystemExit, match="2"):
        study.main(arguments(tmp_path, *flag))


def test_a_network_that_a_study_lacks_is_named(tmp_path, capsys):
    assert study.main(arguments(tmp_path, "--models", "wrn28_10", "--no-run")) == 2
    assert "study_cpu: unknown model 'wrn28_10'" in capsys.readouterr().err


def test_a_row_that_is_the_networks_own_shows_its_run():
    args = study.parser().parse_args(["gpu", "--seeds", "1"])
    runs = tables.plan("study_gpu_official", args, ()).grid.runs()
    stems = {(run.cell.model, run.cell.variant): run.files.stem for run in runs if run.cell.method == "patchup_hard"}
    for model, own, other in (("preactresnet18", "k<=2", "k<=3"), ("wrn28_10", "k<=3", "k<=2")):
        assert stems[model, own] == stems[model, ""] != stems[model, other]
