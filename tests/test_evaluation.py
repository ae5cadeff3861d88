"""What the evaluation scripts share: checkpoints in, records out, interrupted and continued, bad input in one line."""

import json
import warnings

import numpy as np
import pytest
import torch

import data
from engine import evaluation
from engine.evaluation import EvaluationFiles, Study, outcomes
from engine.files import BadInput, load_checkpoint
from engine.metrics import EVALUATION_BATCH
from engine.signals import Stopped
from scripts.grid import grids


class Clean(Study):
    """The test set twice; a signal after `stop_after` batches."""

    kind = "clean"
    tasks = ("first", "second")

    def __init__(self, batch=EVALUATION_BATCH, **setting):
        super().__init__(**setting)
        self.batch = batch

    def evaluate(self, task, subject, x, y, rows):
        self.totals["pixels"] = self.totals.get("pixels", 0) + x.double().sum().cpu().numpy()
        return {task: outcomes(subject.logits(x), y) | {"rows": rows}}


def command(path, *given):
    """The parsed command line of an evaluation."""
    return evaluation.parser("").parse_args([str(path), *given, "--device", "cpu"])


@pytest.fixture
def trained(train_tiny, tmp_path):
    """(checkpoint, result) of a tiny run."""
    result = train_tiny(val_per_class=2, epochs=1)
    return tmp_path / "runs/digits/preactresnet18/none/seed0.best.pt", result


def arrays_of(path, study):
    with np.load(EvaluationFiles(path, study).images) as stored:
        return {name: stored[name] for name in stored.files}


def test_the_clean_error_is_the_one_found_in_training(trained):
    path, result = trained
    ((found,), _) = evaluation.run(Clean(), [(path, None)], command(path))
    for case in ("first", "second"):
        assert found["cases"][case] == {name: result[f"test_{name}"] for name in ("error", "nll", "ece")} | {
            "nll": pytest.approx(result["test_nll"], rel=1e-6),
            "ece": pytest.approx(result["test_ece"], rel=1e-5),
        }
    assert found["images"] == 797 and found["recipe"] == result["recipe"]
    arrays = arrays_of(path, Clean())
    assert (arrays["rows"] == np.arange(797)).all() and (arrays["first/rows"] == arrays["rows"]).all()
    assert found["cases"]["first"]["error"] == 100 * (arrays["first/predicted"] != arrays["labels"]).mean()


def test_independent_of_batch_size(trained):
    path, _ = trained
    subject = evaluation.load_subject(path, command(path))
    whole, parts = (
        np.concatenate([outcomes(subject.logits(x), y)["nll"] for x, y, _ in Clean(batch).batches("first", subject, 0)])
        for batch in (797, 17)
    )
    assert np.allclose(whole, parts, atol=1e-5)


class Signals:
    """Asks to stop at the n-th look."""

    def __init__(self, looks):
        self.looks = looks

    @property
    def received(self):
        self.looks -= 1
        return 15 if self.looks == 0 else None


@pytest.mark.parametrize("looks", [1, 3, 9, 14])
def test_interrupted_and_continued(trained, looks):
    path, _ = trained
    args, study = command(path), Clean(batch=100)
    whole = evaluation.run(study, [(path, None)], args)[0][0]
    expected = arrays_of(path, study)
    record = EvaluationFiles(path, study)
    record.result.unlink()
    with pytest.raises(Stopped), evaluation.progress() as bar:
        evaluation.evaluate(study, evaluation.load_subject(path, args), record, bar, Signals(looks))
    assert record.partial.exists() and not record.result.exists()
    seen = []
    study.batches = lambda task, subject, start: seen.append(start) or Study.batches(study, task, subject, start)
    again = evaluation.run(study, [(path, None)], args)[0][0]
    assert seen[0] == 100 * (looks % 8) or looks == 14
    assert again["cases"] == whole["cases"]
    found = arrays_of(path, study)
    assert found.keys() == expected.keys() and all((found[name] == expected[name]).all() for name in found)
    assert found["pixels"] == expected["pixels"]
    assert not record.partial.exists() and not record.lock.exists()


def test_what_is_done_is_only_read(trained):
    path, _ = trained
    first = evaluation.run(Clean(), [(path, None)], command(path))
    study = Clean()
    study.evaluate = None  # would raise
    assert evaluation.run(study, [(path, None)], command(path)) == first


def test_other_settings_have_files_of_their_own(trained):
    path, _ = trained
    study = Clean(geometry="modern", limit=None, seed=0)
    study.plain = {"geometry": "old", "limit": None, "seed": 0}
    assert EvaluationFiles(path, study).result.name == "seed0.best.clean-geometrymodern.json"
    study.plain = study.setting
    assert EvaluationFiles(path, study).result.name == "seed0.best.clean.json"


def test_weights_that_have_changed_since_are_refused(trained):
    path, _ = trained
    evaluation.run(Clean(), [(path, None)], command(path))
    state = load_checkpoint(path)
    state["net"]["stages.5.2.bias"] += 1
    torch.save(state, path)
    with pytest.raises(BadInput, match=r"seed0\.best\.clean\.json is of other weights .* remove it to evaluate these"):
        evaluation.run(Clean(), [(path, None)], command(path))


def test_a_record_of_another_setting_is_refused(trained):
    path, _ = trained
    study = Clean(steps=7)
    study.plain = {"steps": 7}
    evaluation.run(study, [(path, None)], command(path))
    study.setting = study.plain = {"steps": 8}
    with pytest.raises(BadInput, match=r"clean\.json has another steps \(7, here 8\): remove it to evaluate anew"):
        evaluation.run(study, [(path, None)], command(path))


def test_what_an_interrupted_evaluation_is_of(trained):
    path, _ = trained
    args, study = command(path), Clean()
    expected = evaluation.run(study, [(path, None)], args)[0][0]["cases"]
    record = EvaluationFiles(path, study)
    record.result.unlink()
    with pytest.raises(Stopped), evaluation.progress() as bar:
        evaluation.evaluate(study, evaluation.load_subject(path, args), record, bar, Signals(3))
    study.stamp = lambda: "other draws"
    with pytest.warns(UserWarning, match="belongs to other images or weights; starting anew"):
        ((found,), _) = evaluation.run(study, [(path, None)], args)
    assert found["cases"] == expected


def test_a_record_without_its_arrays_is_made_anew(trained):
    path, _ = trained
    evaluation.run(Clean(), [(path, None)], command(path))
    EvaluationFiles(path, Clean()).images.unlink()
    assert EvaluationFiles(path, Clean()).finished() is None


def test_the_others_go_on_where_one_checkpoint_is_damaged(trained, tmp_path, capsys):
    path, _ = trained
    (path.parent / "seed1.best.pt").write_bytes(path.read_bytes()[:1000])
    status = evaluation.main(evaluation.parser(""), lambda args: [Clean()], [str(path.parent), "--device", "cpu"])
    printed = capsys.readouterr()
    assert status == 2 and "| first |" in printed.out and EvaluationFiles(path, Clean()).result.exists()
    assert "seed1.best.pt is damaged" in printed.err.splitlines()[-1] and "Traceback" not in printed.err


def test_what_is_wrong_for_all_checkpoints_is_said_once(trained, capsys):
    path, _ = trained
    (path.parent / "seed1.best.pt").write_bytes(path.read_bytes())
    given = [str(path.parent), "--device", "cuda:99"]
    assert evaluation.main(evaluation.parser(""), lambda args: [Clean()], given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--device cuda:99 cannot be used here" in line


def test_a_damaged_result_of_the_training_does_not_stop_an_evaluation(trained):
    path, _ = trained
    path.with_name("seed0.json").write_text("{")
    study = Clean()
    study.tasks = ("clean",)
    with pytest.warns(UserWarning, match=r"seed0\.json is not a result of train\.py"):
        evaluation.run(study, [(path, None)], command(path))
    assert EvaluationFiles(path, study).result.exists()


def test_runs_of_different_recipes_are_not_averaged(train_tiny, tmp_path, capsys):
    for name, width in (("one", 4), ("two", 8)):
        train_tiny(epochs=1, out=tmp_path / name, width=width, seed=width)
    line = refused(capsys, tmp_path / "one", tmp_path / "two")
    assert "do not belong into one column (width 4 there, 8 here)" in line
    record = {"dataset": "digits", "model": "m", "method": "none", "recipe": {"seed": 0}}
    with pytest.raises(BadInput, match="seed 0 twice"):
        evaluation.require_one_recipe([record, record])


def test_a_damaged_partial_file_is_begun_anew(trained):
    path, _ = trained
    record = EvaluationFiles(path, Clean())
    record.partial.write_bytes(b"not what it was")
    with pytest.warns(UserWarning, match=r"seed0\.best\.clean\.partial\.npz is damaged .*; starting anew"):
        evaluation.run(Clean(), [(path, None)], command(path))
    assert record.result.exists() and not record.partial.exists()


def test_another_clean_error_than_in_training_is_pointed_at(trained):
    path, result = trained
    study = Clean()
    study.tasks = ("clean",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ((found,), _) = evaluation.run(study, [(path, None)], command(path))
    EvaluationFiles(path, study).result.unlink()
    other = result | {"test_error": result["test_error"] + 0.6}
    path.with_name("seed0.json").write_text(json.dumps(other))
    with pytest.warns(UserWarning, match=r"seed0\.best\.pt: the clean error is .* are these the same images\?"):
        evaluation.run(study, [(path, None)], command(path))
    assert found["cases"]["clean"]["error"] == result["test_error"]


def test_an_evaluation_must_not_change_the_network(trained):
    path, _ = trained
    subject = evaluation.load_subject(path, command(path))
    with pytest.raises(AssertionError, match="changed the network"), evaluation.unchanged(subject.net):
        subject.net.train()
    with pytest.raises(AssertionError, match="changed the network"), evaluation.unchanged(subject.net.train()):
        subject.net(torch.zeros(2, 3, 32, 32))
        subject.net.eval()


def test_the_classifier_takes_pixels_in_0_1(trained):
    path, _ = trained
    subject = evaluation.load_subject(path, command(path, "--limit", "20"))
    x, _, _ = next(subject.test.pixel_batches(20))
    assert torch.allclose(subject.classifier(x / 255), subject.logits(x), atol=1e-5)
    assert not subject.classifier.training


# ---- the images ----


def test_limited_is_the_same_part_for_everyone_and_of_all_classes(trained):
    path, _ = trained
    subject = evaluation.load_subject(path, command(path, "--limit", "200"))
    rows = subject.test.positions
    assert len(rows) == 200 == len(set(rows)) and list(rows) == sorted(rows)
    few = evaluation.load_subject(path, command(path, "--limit", "50")).test.positions
    assert set(few) <= set(rows)
    assert np.bincount(subject.test.labels[rows]).min() >= 8  # 20 on average
    whole = evaluation.load_subject(path, command(path, "--limit", "5000"))
    assert len(whole.test) == 797
    x, y, here = next(subject.test.pixel_batches(7, start=3))
    assert (here.numpy() == rows[3:10]).all()
    assert (x == whole.test.images[here]).all() and (y == whole.test.labels[here]).all()


def test_streamed_images_are_those_of_testing(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for part, name in ((p, n) for p in ("train", "val") for n in ("n1", "n2")):
        (tmp_path / "imagenet" / part / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (40, 30 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "imagenet" / part / name / f"{i}.png")
    test = data.load("imagenet", tmp_path, seed=0, val_per_class=1, image_size=16, workers=0).test
    expected = torch.cat([x for x, _ in test.batches(4)])
    batches = list(test.pixel_batches(2, start=1))
    mean, std = test.mean, test.std
    assert torch.cat([rows for _, _, rows in batches]).tolist() == [1, 2, 3, 4, 5]
    assert torch.cat([y for _, y, _ in batches]).tolist() == [0, 0, 1, 1, 1]
    assert torch.allclose(data.normalise(torch.cat([x for x, _, _ in batches]), mean, std), expected[1:], atol=1e-5)


# ---- command lines ----


def refused(capsys, *given):
    """The one line that a command is refused with."""
    assert evaluation.main(evaluation.parser(""), lambda args: [Clean()], [*map(str, given), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_bad_input(trained, tmp_path, capsys):
    path, _ = trained
    assert "give either checkpoints of train.py, or --table" in refused(capsys)
    assert "give either checkpoints of train.py, or --table" in refused(capsys, path, "--table", "table4")
    assert "--limit must be at least 1, not 0" in refused(capsys, path, "--limit", 0)
    assert "--width chooses among a table's runs" in refused(capsys, path, "--width", 8)
    assert "--seeds chooses among a table's runs" in refused(capsys, path, "--seeds", 2)
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'} holds no *.best.pt" in refused(capsys, tmp_path / "empty")
    assert "gone.pt" in refused(capsys, tmp_path / "gone.pt")
    broken = tmp_path / "broken.best.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content)
    assert f"{broken} is damaged" in refused(capsys, broken)
    assert "nothing is evaluated yet: clean" in refused(capsys, path, "--no-run")


def change(path, out, change):
    """A copy of a checkpoint with something changed."""
    state = load_checkpoint(path)
    change(state)
    torch.save(state, out)
    return out


def test_checkpoints_of_other_networks_and_images(trained, tmp_path, capsys):
    path, _ = trained
    out = tmp_path / "other.pt"
    line = refused(capsys, change(path, out, lambda s: s["recipe"].update(model="wrn28_10", layers=[0, 1])))
    assert f"{out}" in line and "recipe" in line
    line = refused(capsys, change(path, out, lambda s: s["recipe"].update(model="preactresnet34")))
    assert "does not hold the weights of the network that its recipe names, preactresnet34" in line
    line = refused(capsys, change(path, out, lambda s: s["recipe"].update(surprise=1)))
    assert "has no usable recipe: unknown field 'surprise'" in line
    line = refused(capsys, change(path, out, lambda s: s["recipe"].pop("dataset")))
    assert "has no usable recipe" in line
    line = refused(capsys, change(path, out, lambda s: s.update(recipe=7)))
    assert f"{out} has no usable recipe" in line
    line = refused(capsys, change(path, out, lambda s: s["recipe"].update(dataset="mnist")))
    assert f"{out} is of preactresnet18 on mnist, which do not exist here" in line
    line = refused(capsys, change(path, out, lambda s: s["net"].update({"stages.5.2.bias": torch.tensor(1.0)})))
    assert f"{out} does not hold the weights" in line
    line = refused(capsys, change(path, out, lambda s: s["net"]["stages.1.0.bn1.running_mean"].fill_(torch.nan)))
    assert f"{out} holds weights that are not finite" in line
    head = {"stages.5.2.weight": torch.zeros(7, 32), "stages.5.2.bias": torch.zeros(7)}
    line = refused(capsys, change(path, out, lambda s: s["net"].update(head)))
    assert f"{out} tells 7 classes apart, digits in" in line and "has 10" in line


# ---- tables ----

DEMO = ("--table", "demo", "--methods", "none", "mixup", "--seeds", "1", "--width", "4", "--epochs", "1")


def demo_runs(train_tiny, tmp_path, **options):
    grid = grids.grid_of(evaluation.parser("").parse_args([*DEMO, "--out", str(tmp_path)]))
    plain = {"train_per_class": None, "batch_size": None}
    return grid, train_tiny(out=grid.folder(grid.overrides), **plain | options)


def test_a_tables_checkpoints(train_tiny, tmp_path, capsys):
    grid, result = demo_runs(train_tiny, tmp_path, epochs=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        status = evaluation.main(evaluation.parser(""), lambda args: [Clean()], [*DEMO, "--out", str(tmp_path)])
    assert status == 0
    assert [str(w.message) for w in caught if "not trained" in str(w.message)] == [
        f"1 of the 2 runs of demo are not trained (in {grid.folder(grid.overrides)}): "
        "scripts/tables.py demo with the same flags trains them"
    ]
    text = (tmp_path / "tables" / f"{grid.file_name}-clean.md").read_text()
    error = f"{result['test_error']:.2f} (1)"
    table = [
        "| PreActResNet18, digits | No Mixup | Input Mixup |",
        "| --- | ---: | ---: |",
        f"| first | {error} | missing |",
        f"| second | {error} | missing |",
    ]
    assert text.splitlines()[4:8] == table and "\n".join(table) in capsys.readouterr().out
    assert "(not the paper's recipe: width 4, epochs 1)" in text


def test_a_tables_checkpoint_with_another_recipe(train_tiny, tmp_path, capsys):
    demo_runs(train_tiny, tmp_path, epochs=1, lr=0.5)
    for _ in range(2):  # the second time with a record of it
        line = refused(capsys, *DEMO, "--out", tmp_path)
        assert "lr 0.5 there, 0.02 here" in line.splitlines()[-1]
        evaluation.main(evaluation.parser(""), lambda args: [Clean()], [str(tmp_path), "--device", "cpu"])
        capsys.readouterr()


def test_a_table_of_which_nothing_is_trained(tmp_path, capsys):
    line = refused(capsys, "--table", "table4", "--out", tmp_path)
    assert (
        "30 of the 30 runs of table4 are not trained" in line
        and "scripts/tables.py table4 with the same flags trains them" in line
    )


def test_ours_beside_the_papers(tmp_path):
    def result(method, seed, error):
        where = {"dataset": "cifar100", "model": "preactresnet34", "method": method, "seed": seed, "images": 10000}
        return where | {
            "cases": {"clean": {"error": error / 2}, "rotate_20": {"error": error}},
            "recipe": {"seed": seed},
        }

    results = [result("cutout", 0, 37.0), result("cutout", 1, 39.0), result("patchup_hard", 0, 30.0)]
    methods = ("--methods", "cutout", "cutmix", "patchup_hard")
    given = evaluation.parser("").parse_args(["--table", "table4", *methods, "--out", str(tmp_path)])
    evaluation.show(Clean(), results, grids.grid_of(given), "best")
    text = (tmp_path / "tables/table4-cutout-cutmix-patchup_hard-clean.md").read_text().splitlines()
    assert text[0] == "### Table 4: test error under affine deformations: clean"
    assert text[2].endswith("Error (%), 10000 images.")
    assert text[4:8] == [
        "| PreActResNet34, CIFAR-100 | Cutout | CutMix | Hard PatchUp |",
        "| --- | ---: | ---: | ---: |",
        "| clean | <ins>19.00 ± 0.71 (2 of 5)</ins> | missing | **15.00 (1 of 5)** |",
        "| rotate_20 | <ins>38.00 ± 1.41 (2 of 5)</ins> / 37.45 ± 0.53 | missing / <ins>35.42 ± 0.33</ins> "
        "| **30.00 (1 of 5)** / **30.41 ± 0.52** |",
    ]


@pytest.mark.parametrize(("table", "metric", "count"), [("table4", "test_error@", 48), ("table5", "@", 36)])
def test_the_papers_numbers_are_all_there(table, metric, count):
    paper = grids.paper_numbers([table])
    cells = {cell[:3] for cell in grids.grid_of(evaluation.parser("").parse_args(["--table", table])).cells()}
    assert len([key for key in paper if key[:3] in cells and metric in key[3]]) == count


def test_what_is_kept_of_every_image():
    logits = torch.tensor([[3.0, 1.0], [0.0, 2.0]])
    found = outcomes(logits, torch.tensor([0, 0]))
    assert found["predicted"].tolist() == [0, 1] and found["predicted"].dtype == torch.uint8
    assert found["nll"].tolist() == pytest.approx([np.log(1 + np.exp(-2)), np.log(1 + np.exp(2))])
    assert found["confidence"].tolist() == pytest.approx([1 / (1 + np.exp(-2))] * 2)
    assert outcomes(torch.zeros(1, 1000), torch.tensor([0]))["predicted"].dtype == torch.int16


def test_records_are_json_of_finite_numbers(trained):
    path, _ = trained
    evaluation.run(Clean(), [(path, None)], command(path))
    found = json.loads(EvaluationFiles(path, Clean()).result.read_text())
    assert all(np.isfinite(value) for case in found["cases"].values() for value in case.values())
