"""grids.py: which runs a command line asks for, with which recipes, in which folders; recipe tags."""

import pytest

import recipes
import train
from engine.files import BadInput
from scripts import tables
from scripts.grid import grids
from tests.table_grids import TABLE2, grid_of, run_of

RESULT = ("test_error", "best_epoch", "last_epoch_test_error", "test_nll", "seconds")  # what train.py prints


@pytest.mark.parametrize("name", tables.ALL)
def test_every_run_of_every_table_resolves_and_has_a_folder_of_its_own(tmp_path, name):
    grid = grid_of(tmp_path, name)
    runs = grid.runs()
    measured = [row for row in grid.rows if row.method not in grid.table.cited]
    assert len(runs) == len(grid.table.datasets) * len(grid.table.models) * len(measured) * len(grid.table.seeds)
    folders = {run.files.stem for run in runs}
    assert len(folders) == len(runs) and all(run.files.out == grid.folder(run.overrides) for run in runs)


def test_the_rows_of_table_6_are_runs_of_their_own_but_for_the_papers_recipe(tmp_path):
    six, two = grid_of(tmp_path, "table6"), grid_of(tmp_path, *TABLE2)
    assert run_of(six, "patchup_hard", 0, "loss=L1+L2").files.stem == run_of(two, "patchup_hard").files.stem
    first = run_of(six, "patchup_hard", 0, "loss=L1")
    assert first.recipe.loss_terms == "first" and first.files.out == tmp_path / "runs-loss_termsfirst"
    official = run_of(six, "patchup_hard", 0, "loss=official L2").recipe
    assert (official.loss_terms, official.input_target) == ("official_second", "own")
    assert run_of(grid_of(tmp_path, *TABLE2, "--loss-terms", "first"), "patchup_hard").files.stem == first.files.stem
    with pytest.raises(BadInput, match="--loss-terms is what the rows of table6 differ in"):
        grid_of(tmp_path, "table6", "--loss-terms", "first")
    seven = grid_of(tmp_path, "table7", "--epochs", "8")
    assert run_of(seven, "patchup_hard", 0, "k=1_only").files.out == tmp_path / "runs-epochs8-layers1"


def test_a_runs_command_line_gives_its_recipe(tmp_path):
    flags = ["--epochs", "8", "--no-flip", "--milestones", "2,4", "--lr", "3e-05", "--t-size", "-1", "--gamma", "0.3"]
    grid = grid_of(tmp_path, "table2", *flags)
    for run in grid.runs()[:81]:
        args = train.parser().parse_args(run.arguments())
        assert args.out == run.files.out
        assert recipes.resolve(*run.cell[:3], args.seed, **recipes.overrides_of(args)) == run.recipe


def test_names_of_files_fit_into_file_systems(tmp_path):
    flags = "--criterion ce --train-per-class 50 --val-per-class 10 --epochs 20 --batch-size 50 --lr 0.05 --alpha 0.123"
    more = "--weight-decay 0.0005 --schedule cosine --momentum 0.8 --padding 3 --no-flip --amp bf16 --gamma 0.123456"
    given = [*TABLE2, "puzzlemix", *flags.split(), *more.split(), "--eta"]
    chosen = [grid_of(tmp_path, *given, eta) for eta in ("0.1", "0.2")]
    folders, files = [grid.folder(grid.overrides).name for grid in chosen], [grid.file_name for grid in chosen]
    assert len(set(folders)) == len(set(files)) == 2 and max(map(len, folders + files)) < 190


def test_train_py_and_the_tables_share_one_rule_for_folders(tmp_path, monkeypatch):
    """A small run in the default folder does not block the paper's table, and a table does not train it anew."""
    started = []
    monkeypatch.setattr(train, "run", lambda recipe, out, **flags: started.append(out) or dict.fromkeys(RESULT, 0.0))
    monkeypatch.setattr(train, "ROOT", tmp_path)
    flags = ["--epochs", "8", "--gamma", "0.5"]  # gamma is the paper's

    place = ["--dataset", "cifar100", "--model", "wrn28_10", "--method", "patchup_hard", "--data-dir", str(tmp_path)]

    def command(*more):
        return train.main([*place, *more])

    results = tmp_path / "results"
    assert command() == command(*flags) == command(*flags, "--recipe-tag", "quick") == 0
    assert command("--recipe-tag", "quick") == 0
    assert started == [results / "runs", results / "runs-epochs8", *2 * [results / "runs-quick"]]
    for number, given in enumerate(([], flags, ["--recipe-tag", "quick"])):
        args = tables.parser().parse_args([*TABLE2, *given, "--out", str(results)])
        assert run_of(grids.grid_of("table2", grids.Choice.of(args)), "patchup_hard").files.out == started[number]


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
        grid_of(tmp_path, *TABLE2, "--recipe-tag", "quick")


def test_a_recipe_tag_stands_for_its_overrides(tmp_path, capsys):
    short = ("--epochs", "8", "--milestones", "2,4")
    with pytest.raises(BadInput, match="runs-quick/recipe.json does not exist: give the fields of the recipe"):
        grid_of(tmp_path, *TABLE2, "--recipe-tag", "quick")
    first = grid_of(tmp_path, *TABLE2, "--recipe-tag", "quick", *short)
    first.remember()
    later = grid_of(tmp_path, *TABLE2, "--recipe-tag", "quick")
    assert later == first and later.title.endswith("(not the paper's recipe: epochs 8, milestones 2,4)")
    assert run_of(later, "none").files.out == tmp_path / "runs-quick" and later.file_name.endswith("-quick")
    assert run_of(later, "none").recipe.milestones == (2, 4)
    variant = run_of(grid_of(tmp_path, "table6", "--recipe-tag", "quick"), "patchup_hard", 0, "loss=L1")
    assert variant.files.out == tmp_path / "runs-quick-loss_termsfirst" and variant.recipe.epochs == 8
    with pytest.raises(BadInput, match="--recipe-tag quick stands for epochs 8, milestones 2,4"):
        grid_of(tmp_path, *TABLE2, "--recipe-tag", "quick", "--epochs", "9")
    with pytest.raises(BadInput, match="--recipe-tag must be at most 60 letters"):
        grid_of(tmp_path, *TABLE2, "--recipe-tag", "../x", *short)


def test_hyperparameters_go_to_the_methods_that_have_them(tmp_path):
    runs = grid_of(tmp_path, *TABLE2, "--alpha", "0.5").runs()
    alphas = {"none": None, "mixup": 0.5, "patchup_hard": None}
    assert {run.recipe.method: run.recipe.alpha for run in runs} == alphas


def test_methods_of_ones_own_are_compared_on_any_data(tmp_path):
    where = ("--dataset", "folder", "--model", "preactresnet18", "--image-size", "40", "--epochs", "2")
    grid = grid_of(tmp_path, "compare", "--methods", "none", "feature_cutmix", *where)
    assert [run.cell.method for run in grid.runs()[:2]] == ["none", "feature_cutmix"]
    assert grid.runs()[0].recipe.images == str(tmp_path)
    beside = grid_of(tmp_path, "compare", "--methods", "none", "--dataset", "cifar100", "--model", "wrn28_10")
    paper = beside.paper()
    assert paper["cifar100", "wrn28_10", "none", "test_error"] == (22.442, 0.226)
