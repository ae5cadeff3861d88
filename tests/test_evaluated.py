"""Records of evaluations as tables and pictures: ours beside the paper's, methods of one's choice, several at once."""

import json

import pytest

import eval_corruption
from engine.files import BadInput
from eval_affine import Affine
from scripts import tables
from scripts.grid import evaluated, grids
from tests.table_grids import grid_of


def test_runs_of_different_recipes_are_not_averaged():
    record = {"dataset": "digits", "model": "m", "method": "none", "recipe": {"seed": 0, "width": 4}}
    evaluated.require_one_recipe([record, record | {"recipe": {"seed": 1, "width": 4}}])
    with pytest.raises(BadInput, match="seed 0 twice"):
        evaluated.require_one_recipe([record, record])
    with pytest.raises(BadInput, match=r"do not belong in one column \(width 4 there, 8 here\)"):
        evaluated.require_one_recipe([record, record | {"recipe": {"seed": 1, "width": 8}}])


def test_ours_beside_the_papers(tmp_path):
    def result(method, seed, error):
        where = {"dataset": "cifar100", "model": "preactresnet34", "method": method, "seed": seed, "images": 10000}
        where |= {"classes": 100}
        return where | {
            "cases": {"clean": {"error": error / 2}, "rotate_20": {"error": error}},
            "recipe": {"seed": seed},
            "draws_sha256": "",
        }

    results = [result("cutout", 0, 37.0), result("cutout", 1, 39.0)]
    results += [result("patchup_hard", 0, 29.0), result("patchup_hard", 1, 31.0)]
    chosen = ("--methods", "cutout", "cutmix", "patchup_hard", "--seeds", "2")
    name = evaluated.publish(Affine(), results, grid_of(tmp_path, "table4", *chosen), "best")
    assert name == "table4-cutout-cutmix-patchup_hard-seeds2-affine"
    text = (tmp_path / f"tables/{name}.md").read_text().splitlines()
    assert text[0] == "### Table 4: test error under affine deformations: affine"
    assert text[2].endswith("Error (%), 10000 images.")
    assert text[4:8] == [
        "| PreActResNet34, CIFAR-100 | Cutout | CutMix | Hard PatchUp |",
        "| --- | ---: | ---: | ---: |",
        "| clean | <ins>19.00 ± 0.71 (2)</ins> | missing | **15.00 ± 0.71 (2)** |",
        "| rotate_20 | <ins>38.00 ± 1.41 (2)</ins> / 37.45 ± 0.53 | missing / 35.42 ± 0.33 "
        "| **30.00 ± 1.41 (2)** / **30.41 ± 0.52** |",
    ]


@pytest.mark.parametrize(("table", "metric", "count"), [("table4", "test_error@", 48), ("table5", "@", 36)])
def test_the_papers_numbers_are_all_there(tmp_path, table, metric, count):
    paper = grids.paper_numbers([table])
    cells = {cell[:3] for cell in grid_of(tmp_path, table).cells()}
    assert len([key for key in paper if key[:3] in cells and metric in key[3]]) == count


SMALL = ["--width", "4", "--epochs", "1", "--train-per-class", "4", "--batch-size", "20", "--seeds", "1"]


def test_a_new_method_is_compared_and_evaluated_four_ways(tmp_path, monkeypatch, capsys, launched_here):
    monkeypatch.setattr(eval_corruption, "SCORED", {"brightness": "weather", "impulse_noise": "noise"})
    kinds = ["affine", "fgsm", "corruption", "activations"]
    given = ["compare", "--methods", "none", "feature_cutmix", "--dataset", "digits", "--model", "preactresnet18"]
    where = [*SMALL, "--out", str(tmp_path), "--data-dir", str(tmp_path), "--device", "cpu", "--workers", "0"]
    assert tables.main([*given, *where, "--evaluate", *kinds, "--limit", "4"]) == 0
    printed = capsys.readouterr().out
    for name in ("none", "feature_cutmix"):
        (folder,) = tmp_path.glob(f"runs-*/digits/preactresnet18/{name}")
        for kind in kinds:
            assert json.loads((folder / f"seed0.best.{kind}-limit4.json").read_text())["images"] == 4
    for kind in kinds:
        assert f": {kind}-limit4\n" in printed and list((tmp_path / "tables").glob(f"compare-*-{kind}-limit4.md"))
    assert printed.count("| No Mixup | feature_cutmix |") + printed.count("| No Mixup | Feature CutMix |") >= 4
    assert len(list(tmp_path.glob("figures/*.png"))) == 4  # of FGSM two


@pytest.mark.parametrize("name", ["table4", "table5", "figure4", "figure5", "figure6", "figure14"])
def test_methods_of_ones_choice_beside_the_papers_selection(tmp_path, name):
    chosen = grid_of(tmp_path, name, "--methods", "feature_cutmix", "patchup_hard", "none")
    assert {run.recipe.method for run in chosen.runs()} == {"none", "patchup_hard", "feature_cutmix"}
    assert [cell.method for cell in chosen.cells()][:3] == ["none", "patchup_hard", "feature_cutmix"]
    assert "feature_cutmix" in chosen.file_name and grid_of(tmp_path, name).file_name == name


@pytest.mark.parametrize(
    "given, words",
    [
        (["table4", "--evaluate", "affine"], "--evaluate is for tables with a run a method and seed"),
        (["table6", "--evaluate", "affine"], "not for table6"),
        (["table4", "--methods", "nonsense"], "nonsense"),
        (["figure4", "--reference", "gone.json"], "--reference gone.json is missing"),
        (["figure4", "--limit", "5", "x.best.pt"], "x.best.pt"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, capsys, given, words):
    try:
        status = tables.main([*given, "--out", str(tmp_path), "--no-run"])
    except SystemExit as stopped:
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2 and words in error and error.count("\n") == 1
