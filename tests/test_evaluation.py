"""What the evaluation scripts share: checkpoints in, records out, interrupted and continued, bad input in one line."""

import dataclasses
import json
import re
import warnings

import numpy as np
import pytest
import torch

import recipes
from engine import evaluation
from engine.evaluation import Evaluation, outcomes
from engine.evaluation_files import EvaluationFiles
from engine.files import BadInput, load_checkpoint
from engine.metrics import EVALUATION_BATCH
from engine.signals import Stopped
from engine.subject import load_subject


class Clean(Evaluation):
    """The test set twice."""

    kind = "clean"
    tasks = ("first", "second")

    def __init__(self, batch=EVALUATION_BATCH, **setting):
        super().__init__(**setting)
        self.batch = batch

    def evaluate(self, task, x, y, rows, sums):
        sums["pixels"] = sums.get("pixels", 0) + x.double().sum().cpu().numpy()
        return {task: outcomes(self.subject.logits(x), y) | {"rows": rows}}


class OtherDraws(Clean):
    """The same, of other random draws."""

    stamp = "other draws"


class Once(Clean):
    """The test set once, under the name that is compared with the training's."""

    tasks = ("clean",)


def evaluate(path, clean=None):
    """The record of a checkpoint."""
    results, errors = evaluation.run(clean or Clean(), [path], device="cpu")
    assert not errors
    return results[path]


def main(*given):
    """The exit status of a command line that asks for Clean."""
    arguments = [*map(str, given), "--device", "cpu"]
    return evaluation.main(evaluation.parser(""), lambda args: [Clean(limit=args.limit)], arguments)


def arrays_of(path, clean):
    with np.load(EvaluationFiles(path, clean).images) as stored:
        return {name: stored[name] for name in stored.files}


def test_the_clean_error_is_the_one_found_in_training(trained):
    path, result = trained
    measured = evaluate(path)
    for case in ("first", "second"):
        assert measured["cases"][case] == {name: result[f"test_{name}"] for name in ("error", "nll", "ece")} | {
            "nll": pytest.approx(result["test_nll"], rel=1e-6),
            "ece": pytest.approx(result["test_ece"], rel=1e-5),
        }
    assert measured["images"] == 797 and measured["recipe"] == result["recipe"]
    arrays = arrays_of(path, Clean())
    assert (arrays["rows"] == np.arange(797)).all() and (arrays["first/rows"] == arrays["rows"]).all()
    assert measured["cases"]["first"]["error"] == 100 * (arrays["first/predicted"] != arrays["labels"]).mean()


def test_independent_of_batch_size(trained):
    path, _ = trained
    subject = load_subject(path, device="cpu")
    whole, parts = (
        np.concatenate(
            [outcomes(subject.logits(x), y)["nll"] for x, y, _ in Clean(size).on(subject).batches("first", 0)]
        )
        for size in (797, 17)
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


def interrupt(path, clean, looks):
    """Stop an evaluation at the n-th look for signals."""
    record = EvaluationFiles(path, clean)
    record.result.unlink()
    with pytest.raises(Stopped), evaluation.progress() as bar:
        evaluation.evaluate(clean.on(load_subject(path, device="cpu")), record, bar, Signals(looks))
    assert record.partial.exists() and not record.result.exists()
    return record


@pytest.mark.parametrize("looks", [1, 3, 9, 14])
def test_interrupted_and_continued(trained, looks, monkeypatch):
    path, _ = trained
    clean = Clean(batch=100)
    whole = evaluate(path, clean)
    expected = arrays_of(path, clean)
    record = interrupt(path, clean, looks)
    starts, batches = [], Clean.batches
    monkeypatch.setattr(Clean, "batches", lambda self, task, start: starts.append(start) or batches(self, task, start))
    again = evaluate(path, clean)
    assert starts[0] == 100 * (looks % 8) or looks == 14
    assert again["cases"] == whole["cases"]
    arrays = arrays_of(path, clean)
    assert arrays.keys() == expected.keys() and all((arrays[name] == expected[name]).all() for name in arrays)
    assert arrays["pixels"] == expected["pixels"]
    assert not record.partial.exists() and not record.lock.exists()


def test_what_is_done_is_only_read(trained, monkeypatch):
    path, _ = trained
    first = evaluate(path)
    monkeypatch.setattr(Clean, "evaluate", None)  # would raise
    assert evaluate(path) == first


def test_one_evaluation_is_prepared_for_many_networks(trained):
    path, _ = trained
    clean = Clean(limit=5)
    first, second = (clean.on(load_subject(path, device="cpu", limit=limit)) for limit in (5, 9))
    assert (len(first.rows), len(second.rows)) == (5, 9) and not hasattr(clean, "rows")


def test_other_settings_have_files_of_their_own(trained):
    path, _ = trained
    clean = Clean(geometry="modern", limit=7, seed=0)
    clean.plain = {"geometry": "old", "seed": 0}
    assert EvaluationFiles(path, clean).result.name == "seed0.best.clean-geometrymodern-limit7.json"
    clean.plain = clean.setting
    assert EvaluationFiles(path, clean).result.name == "seed0.best.clean.json"


def test_weights_that_have_changed_since_are_refused(trained):
    path, _ = trained
    evaluate(path)
    state = load_checkpoint(path)
    state["net"]["stages.5.2.bias"] += 1
    torch.save(state, path)
    with pytest.raises(BadInput, match=r"seed0\.best\.clean\.json is of other weights .* remove it to evaluate these"):
        evaluate(path)


def test_a_record_of_another_setting_is_refused(trained):
    path, _ = trained
    seven, eight = Clean(steps=7), Clean(steps=8)
    seven.plain, eight.plain = {"steps": 7}, {"steps": 8}
    evaluate(path, seven)
    with pytest.raises(BadInput, match=r"clean\.json has another steps \(7, here 8\): remove it to evaluate anew"):
        evaluate(path, eight)


def test_what_an_interrupted_evaluation_is_of(trained):
    path, _ = trained
    expected = evaluate(path)["cases"]
    interrupt(path, Clean(), 3)
    with pytest.warns(UserWarning, match="belongs to other images or weights; starting anew"):
        assert evaluate(path, OtherDraws())["cases"] == expected


def test_a_record_of_another_recipe_than_expected_is_refused(trained):
    path, result = trained
    evaluate(path)
    recipe = recipes.restore(result["recipe"])
    assert EvaluationFiles(path, Clean()).finished(recipe)
    with pytest.raises(BadInput, match=r"clean\.json has another recipe \(lr .* there, 0.5 here\): give its --out"):
        EvaluationFiles(path, Clean()).finished(dataclasses.replace(recipe, lr=0.5))


def test_a_record_without_its_arrays_is_made_anew(trained):
    path, _ = trained
    evaluate(path)
    EvaluationFiles(path, Clean()).images.unlink()
    assert EvaluationFiles(path, Clean()).finished() is None


def test_the_others_go_on_where_one_checkpoint_is_damaged(trained, tmp_path, capsys):
    path, _ = trained
    (path.parent / "seed1.best.pt").write_bytes(path.read_bytes()[:1000])
    status = main(path.parent)
    printed = capsys.readouterr()
    assert status == 2 and "\nfirst " in printed.out and EvaluationFiles(path, Clean()).result.exists()
    assert "seed1.best.pt is damaged" in printed.err.splitlines()[-1] and "Traceback" not in printed.err


def test_what_is_wrong_for_all_checkpoints_is_said_once(trained, capsys):
    path, _ = trained
    (path.parent / "seed1.best.pt").write_bytes(path.read_bytes())
    given = [str(path.parent), "--device", "cuda:99"]
    assert evaluation.main(evaluation.parser(""), lambda args: [Clean()], given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--device cuda:99 cannot be used" in line


def test_a_damaged_result_of_the_training_does_not_stop_an_evaluation(trained):
    path, _ = trained
    path.with_name("seed0.json").write_text("{")
    with pytest.warns(UserWarning, match=r"seed0\.json is not a result of train\.py"):
        evaluate(path, Once())
    assert EvaluationFiles(path, Once()).result.exists()


def test_checkpoints_are_printed_a_column_each(train_tiny, tmp_path, capsys):
    errors = {f"{name}/seed0.best": train_tiny(epochs=1, method=name)["test_error"] for name in ("none", "mixup")}
    assert main(tmp_path / "runs") == 0
    title, _, head, first, second = capsys.readouterr().out.strip().splitlines()
    assert title == "clean: error (%), 797 images." and sorted(head.split()) == sorted(errors)
    expected = [f"{errors[name]:.4g}" for name in head.split()]
    assert first.split() == ["first", *expected] and second.split() == ["second", *expected]


def test_a_damaged_partial_file_is_begun_anew(trained):
    path, _ = trained
    record = EvaluationFiles(path, Clean())
    record.partial.write_bytes(b"not what it was")
    with pytest.warns(UserWarning, match=r"seed0\.best\.clean\.partial\.npz is damaged .*; starting anew"):
        evaluate(path)
    assert record.result.exists() and not record.partial.exists()


def test_another_clean_error_than_in_training_is_pointed_at(trained):
    path, result = trained
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = evaluate(path, Once())
    EvaluationFiles(path, Once()).result.unlink()
    other = result | {"test_error": result["test_error"] + 0.6}
    path.with_name("seed0.json").write_text(json.dumps(other))
    with pytest.warns(UserWarning, match=r"seed0\.best\.pt: the clean error is .* are these the same images\?"):
        evaluate(path, Once())
    assert measured["cases"]["clean"]["error"] == result["test_error"]


# ---- command lines ----


def refused(capsys, *given):
    """The one line that a command is refused with."""
    assert main(*given) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_bad_input(trained, tmp_path, capsys):
    path, _ = trained
    assert "give checkpoints of train.py, or folders that hold some" in refused(capsys)
    assert "--limit must be at least 1, not 0" in refused(capsys, path, "--limit", 0)
    assert "--workers must be at least 0, not -1" in refused(capsys, path, "--workers", -1)
    assert "--data-dir" in (line := refused(capsys, path, "--data-dir", path)) and "is a file" in line
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'} holds no *.best.pt" in refused(capsys, tmp_path / "empty")
    assert "there is no checkpoint" in refused(capsys, tmp_path / "gone" / "seed0.best.pt")
    assert not (tmp_path / "gone").exists()
    broken = tmp_path / "broken.best.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content)
    assert f"{broken} is damaged" in refused(capsys, broken)
    assert "nothing is evaluated yet: clean" in refused(capsys, path, "--no-run")


@pytest.mark.parametrize("given, words", [("", "an empty name is no checkpoint"), ("--table", "arguments: --table")])
def test_what_the_parser_refuses(capsys, given, words):
    with pytest.raises(SystemExit) as stopped:
        main(given)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and words in error and error.count("\n") == 1


def recipe_with(**fields):
    """A change of a checkpoint's recipe."""
    return lambda state: state["recipe"].update(fields)


def net_with(**weights):
    """A change of the last layer of a checkpoint."""
    return lambda state: state["net"].update({f"stages.5.2.{name}": tensor for name, tensor in weights.items()})


@pytest.mark.parametrize(
    "change, words",
    [
        (recipe_with(model="wrn28_10", layers=[0, 1]), "other.pt .*recipe"),
        (recipe_with(model="preactresnet34"), "other.pt does not hold the weights of .* recipe names, preactresnet34"),
        (recipe_with(surprise=1), "other.pt has no usable recipe: unknown field 'surprise'"),
        (lambda state: state["recipe"].pop("dataset"), "other.pt has no usable recipe"),
        (lambda state: state.update(recipe=7), "other.pt has no usable recipe"),
        (recipe_with(dataset="mnist"), "other.pt is of mnist, which is no known data set"),
        (net_with(bias=torch.tensor(1.0)), "other.pt does not hold the weights"),
        (net_with(bias=torch.full((10,), torch.nan)), "other.pt holds weights that are not finite"),
        (
            net_with(weight=torch.zeros(7, 32), bias=torch.zeros(7)),
            "other.pt tells 7 classes apart, .* has 10",
        ),
    ],
)
def test_checkpoints_of_other_networks_and_images(change, words, trained, tmp_path, capsys):
    state = load_checkpoint(trained[0])
    change(state)
    torch.save(state, tmp_path / "other.pt")
    assert re.search(words, refused(capsys, tmp_path / "other.pt"))


# ---- records ----


def test_what_is_kept_of_every_image():
    logits = torch.tensor([[3.0, 1.0], [0.0, 2.0]])
    measured = outcomes(logits, torch.tensor([0, 0]))
    assert measured["predicted"].tolist() == [0, 1] and measured["predicted"].dtype == torch.uint8
    assert measured["nll"].tolist() == pytest.approx([np.log(1 + np.exp(-2)), np.log(1 + np.exp(2))])
    assert measured["confidence"].tolist() == pytest.approx([1 / (1 + np.exp(-2))] * 2)
    assert outcomes(torch.zeros(1, 1000), torch.tensor([0]))["predicted"].dtype == torch.int16


def test_records_are_json_of_finite_numbers(trained):
    path, _ = trained
    evaluate(path)
    measured = json.loads(EvaluationFiles(path, Clean()).result.read_text())
    assert all(np.isfinite(value) for case in measured["cases"].values() for value in case.values())
