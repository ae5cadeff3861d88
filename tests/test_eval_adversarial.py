"""The script end to end on a tiny checkpoint: records, what they say of clean images, remarks, skipping, bad input."""

import math
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import eval_adversarial
from engine import attacks, evaluation, files
from engine.attacks import spread, strength
from engine.subject import load_subject
from eval_adversarial import Benchmark, Fgsm
from scripts.figures import evaluated
from scripts.grid import grids
from scripts.grid.evaluated import paper_metric
from tests.table_grids import grid_of
from tests.trainings import record

RUN = "digits/preactresnet18/none/seed0"
LIMIT = 20
LEARNT = {"epochs": 10, "train_per_class": 20, "val_per_class": 2}  # 20 % error


def evaluate(tmp_path, *given):
    """The exit status of eval_adversarial.py."""
    arguments = [str(tmp_path / "runs"), *map(str, given), "--data-dir", str(tmp_path), "--device", "cpu"]
    return eval_adversarial.main(arguments)


def errors(measured, attack):
    """[error] of an attack, by rising epsilon."""
    return [case["error"] for case in measured["cases"].values() if case["attack"] == attack and "eps" in case]


# ---- the script ----


def test_fgsm_starts_at_the_clean_error_of_training(tmp_path, train_tiny, capsys):
    trained = train_tiny(**LEARNT)
    assert evaluate(tmp_path, "--attacks", "fgsm") == 0
    measured, arrays = record(tmp_path, "fgsm")
    for attack, epsilons in (("official", attacks.OFFICIAL_EPSILONS), ("pixel", attacks.PIXEL_EPSILONS)):
        cases = [measured["cases"][f"{attack}@{epsilon}"] for epsilon in epsilons]
        assert [case["eps"] for case in cases] == [strength(epsilon) for epsilon in epsilons]
        assert cases[0]["error"] == trained["test_error"] and cases[0]["nll"] == pytest.approx(trained["test_nll"])
        assert cases[0]["nll"] < cases[1]["nll"] < cases[-1]["nll"] and cases[0]["error"] < cases[-1]["error"]
        error = 100 * (arrays[f"{attack}@{epsilons[-1]}/predicted"] != arrays["labels"]).mean()
        assert error == pytest.approx(cases[-1]["error"])
    assert re.search(rf"^official@0 +{100 - trained['test_error']:.4g}$", capsys.readouterr().out, re.MULTILINE)


def test_official_fgsm_is_the_authors_on_a_batch_of_one_hundred(tmp_path, train_tiny):
    train_tiny()
    assert evaluate(tmp_path, "--attacks", "fgsm", "--limit", 150) == 0
    measured, arrays = record(tmp_path, "fgsm-limit150")
    subject = load_subject(tmp_path / f"runs/{RUN}.best.pt", tmp_path, "cpu")
    rows = torch.from_numpy(arrays["rows"])
    x, y = subject.test.images[rows].float() / 127.5 - 1, subject.test.labels[rows]
    for batch in (slice(0, 100), slice(100, 150)):
        z = x[batch].clone().requires_grad_()
        nn.CrossEntropyLoss()(subject.net(z), y[batch]).backward()
        z = torch.clamp(x[batch] + 0.12 * z.grad.sign(), x[batch].min(), x[batch].max())
        with torch.no_grad():
            nll = nn.CrossEntropyLoss(reduction="none")(subject.net(z), y[batch])
        np.testing.assert_allclose(arrays["official@0.12/nll"][batch], nll, rtol=1e-3, atol=1e-4)


def test_all_attacks_end_to_end(tmp_path, train_tiny, monkeypatch, capsys):
    for option, value in (("binary_search_steps", 1), ("initial_const", 100.0), ("stepsize", 0.02)):  # faster
        monkeypatch.setitem(attacks.CARLINI_WAGNER["cw_100"].options, option, value)
    for name, steps in (("pgd_linf_40", 12), ("ddn_100", 30)):
        monkeypatch.setitem(attacks.CONVERGED[name].options, "steps", steps)
    monkeypatch.setitem(attacks.STRONGEST, "pgd_restarts", attacks.Restarts(steps=10, restarts=2))
    train_tiny(**LEARNT, channels_last=False)  # a network that so short a search of Carlini-Wagner breaks everywhere
    assert evaluate(tmp_path, "--limit", LIMIT, "--attacks", *eval_adversarial.SUITES) == 0
    printed = capsys.readouterr().out
    kinds = ("fgsm", "table5", "unnormalised", "converged", "cw", "strongest")
    measured = {kind: record(tmp_path, f"{kind}-limit{LIMIT}")[0] for kind in kinds}
    clean = measured["fgsm"]["cases"]["pixel@0"]["error"]
    assert 0 < clean < 100
    for kind in ("table5", "converged", "cw", "strongest"):
        assert measured[kind]["cases"]["clean"]["error"] == clean and measured[kind]["images"] == LIMIT
        for epsilon in ("1/255", "8/255"):
            assert (
                measured[kind]["cases"][f"fgsm@{epsilon}"]["error"]
                == measured["fgsm"]["cases"][f"pixel@{epsilon}"]["error"]
            )
        for name in set(measured[kind]["setting"]) - {"limit"}:
            rising = errors(measured[kind], name)
            assert len(rising) == 5 and rising == sorted(rising) and clean <= rising[0] <= rising[-1]
    assert (
        "clean" not in measured["unnormalised"]["cases"] and measured["unnormalised"]["cases"]["unattacked"]["nll"] > 0
    )
    assert measured["table5"]["setting"]["cw"] == {"attack": "L2CarliniWagnerAttack", "steps": 7}
    for few, many in (("ddn", "ddn_100"), ("cw", "cw_100")):
        kind = "converged" if few == "ddn" else "cw"
        near, far = measured[kind]["cases"][many], measured["table5"]["cases"][few]
        assert near["found"] == 100 and 0 < near["median_distance"] <= (far["median_distance"] or math.inf)
        assert re.search(rf"^{many}: median distance +{near['median_distance']:.4g}$", printed, re.MULTILINE)
    assert sum(errors(measured["table5"], "pgd_linf")) < sum(errors(measured["strongest"], "pgd_restarts"))


def test_what_is_done_is_only_read_and_another_suite_is_added(tmp_path, train_tiny, monkeypatch):
    train_tiny()
    assert evaluate(tmp_path, "--attacks", "fgsm", "--limit", LIMIT) == 0
    before = record(tmp_path, f"fgsm-limit{LIMIT}")[0]
    monkeypatch.setattr(Fgsm, "evaluate", None)
    monkeypatch.setitem(attacks.STRONGEST, "pgd_restarts", attacks.Restarts(steps=1, restarts=1))
    assert evaluate(tmp_path, "--attacks", "strongest", "fgsm", "--limit", LIMIT) == 0
    assert record(tmp_path, f"fgsm-limit{LIMIT}")[0] == before
    assert record(tmp_path, f"strongest-limit{LIMIT}")[0]["images"] == LIMIT


def test_the_pictures_of_fgsm(tmp_path, train_tiny):
    train_tiny()
    assert evaluate(tmp_path, "--attacks", "fgsm", "--limit", LIMIT) == 0
    grid = grid_of(tmp_path, "figure5", "--methods", "mixup")
    assert evaluated.draw(Fgsm(LIMIT), [record(tmp_path, f"fgsm-limit{LIMIT}")[0]], grid, "figure5-fgsm")
    for suffix, words in (("", "normalised input"), ("-pixel", "on pixels, in 1/255")):
        caption = (tmp_path / f"figures/figure5-fgsm{suffix}.txt").read_text()
        assert words in caption and f"{LIMIT} test images" in caption and "No runs of Input Mixup" in caption
        assert (tmp_path / f"figures/figure5-fgsm{suffix}.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("given", "message"),
    [(["--attacks", "pgd"], "'pgd'"), (["--limit", 0], "--limit must be at least 1, not 0")],
)
def test_impossible_options_are_one_line(given, message, tmp_path, train_tiny, capsys):
    train_tiny(epochs=1)
    try:
        status = evaluate(tmp_path, *given)
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2 and message in error and len(error.splitlines()) == 1


def test_missing_foolbox_is_one_line_before_any_work(tmp_path, train_tiny, monkeypatch, capsys):
    train_tiny(epochs=1)
    monkeypatch.setitem(sys.modules, "foolbox", None)
    assert evaluate(tmp_path, "--limit", LIMIT) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and "need foolbox" in error[0] and not list((tmp_path / "runs").rglob("*fgsm*"))
    assert evaluate(tmp_path, "--limit", LIMIT, "--attacks", "fgsm") == 0  # which does without


# ---- what a record tells ----


def linear_subject():
    """A subject whose classifier is linear, with 12 uint8 images in the middle of the range, and their labels."""
    generator = torch.Generator().manual_seed(2)
    layer = nn.Linear(48, 2)
    layer.weight.data = torch.randn(2, 48, generator=generator)
    x = torch.randint(110, 146, (12, 3, 4, 4), generator=generator, dtype=torch.uint8)
    layer.bias.data = -(x / 255).flatten(1).mean(0) @ layer.weight.data.T
    net = nn.Sequential(nn.Flatten(), layer).eval()
    labels = attacks.predict(net, x / 255)
    test = SimpleNamespace(positions=np.arange(12), labels=labels)
    return SimpleNamespace(classifier=net, net=net, test=test), x, labels


def concluded(benchmark, subject, x, y):
    """The cases of a record of these images."""
    arrays, prepared = {}, benchmark.on(subject)
    for task in prepared.tasks:
        for case, tensors in prepared.evaluate(task, x, y, torch.arange(len(y)), {}).items():
            arrays |= {f"{case}/{name}": values.cpu().numpy() for name, values in tensors.items()}
    cases = evaluation.summarise(arrays, y.numpy())
    prepared.conclude(cases, arrays, {})
    return cases, arrays


def test_what_is_printed_says_so_where_pgd_is_weaker_than_fgsm():
    subject, x, y = linear_subject()
    weak, _ = concluded(Benchmark("table5", {"pgd_linf": attacks.AS_LABELLED["pgd_linf"]}), subject, x, y)
    study = Benchmark("converged", {"pgd_linf": attacks.CONVERGED["pgd_linf_7"]})
    strong, _ = concluded(study, subject, x, y)
    weaker = [e for e in attacks.LINF_EPSILONS if weak[f"pgd_linf@{e}"]["error"] < weak[f"fgsm@{e}"]["error"]]
    assert weaker and not any("remark" in case for case in strong.values())
    assert [case for case, measured in weak.items() if "remark" in measured] == [f"pgd_linf@{e}" for e in weaker]
    case = weak[f"pgd_linf@{weaker[0]}"]
    assert case["remark"] == f"weaker than FGSM, whose error is {weak[f'fgsm@{weaker[0]}']['error']:.2f} %"
    results = [{"cases": cases} for cases in (weak, strong)]
    assert f"Weaker than FGSM: pgd_linf@{weaker[0]} (1 of 2 runs)" in study.remark(results)
    assert "Weaker" not in study.remark([{"cases": strong}])


def test_misclassified_images_have_distance_zero_and_failures_none():
    subject, x, y = linear_subject()
    y[:3] = 1 - y[:3]
    study = Benchmark("table5", {"ddn": attacks.CONVERGED["ddn_100"]})
    cases, arrays = concluded(study, subject, x, y)
    assert (arrays["ddn/distance"][:3] == 0).all() and (arrays["ddn/distance"][3:] > 0).all()
    assert cases["ddn"]["median_distance"] == pytest.approx(np.median(arrays["ddn/distance"][3:]))
    assert cases["ddn"]["found"] == 100 and cases["ddn"]["error"] == 100
    assert study.shown({"cases": cases})["clean"] == pytest.approx(1 - 3 / 12)


def test_spread_of_distances():
    assert spread(np.array([0, 0, 1.0, 3.0, 2.0])) == {"median_distance": 2, "median_distance_all": 1, "found": 100}
    failed = {"median_distance": None, "median_distance_all": 0, "found": pytest.approx(100 / 3)}
    assert spread(np.array([0, 0, 0, 2.0, np.inf, np.inf])) == failed | {"median_distance_all": 1}
    nothing = {"median_distance": None, "median_distance_all": 0, "found": None}
    assert spread(np.zeros(4)) == nothing


def test_the_paper_stands_beside_table_5_alone():
    paper = grids.paper_numbers(["table5"])
    for name in ("deepfool", "ddn", "cw", "pgd_linf"):
        assert ("tiny_imagenet", "wrn28_10", "patchup_soft", paper_metric(f"{name}@8/255")) in paper
    for other in ("clean", "ddn@0.25", "ddn_100@8/255", "ddn: median distance"):
        assert ("tiny_imagenet", "wrn28_10", "patchup_soft", paper_metric(other)) not in paper


@pytest.mark.slow
def test_real_images(real_checkpoint):
    checkpoint, images = real_checkpoint
    given = [checkpoint, "--attacks", "fgsm", "strongest", "--limit", LIMIT, "--data-dir", images, "--device", "cpu"]
    assert eval_adversarial.main(list(map(str, given))) == 0
    fgsm, strongest = (
        files.read_json(checkpoint.with_name(f"seed0.best.{kind}-limit{LIMIT}.json"))["cases"]
        for kind in ("fgsm", "strongest")
    )
    assert fgsm["pixel@0"]["nll"] == pytest.approx(strongest["clean"]["nll"], rel=1e-4)
    assert (
        fgsm["pixel@0"]["nll"] < fgsm["pixel@8/255"]["nll"] == pytest.approx(strongest["fgsm@8/255"]["nll"], rel=1e-4)
    )
