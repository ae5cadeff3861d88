"""scripts/gpu.sh without a GPU: its plan, parts that hang or fail, what follows from the rows, checks that notice."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

import regularizers
from engine.files import ROOT, BadInput
from scripts.gpu import __main__ as gpu
from scripts.gpu import page, right, rows, speed

CPU = torch.device("cpu")
SMALL = {"width": 4, "batch_size": 4}


def names(parts):
    return [part.name for part in parts]


# ---- the plan ----


def test_eight_minutes_have_all_but_the_last_parts_in_their_order_and_twelve_all():
    chosen, out = gpu.planned(gpu.NAMES, 8, small=False)
    assert names(out) == ["wrn28_10-compiled", "true"] and names(chosen) == gpu.NAMES[:-2]
    chosen, out = gpu.planned(gpu.NAMES, 12, small=False)
    assert names(chosen) == gpu.NAMES and not out
    assert sum(chosen.values()) == 12 * 60 and chosen[gpu.PARTS[-1]] > gpu.PARTS[-1].seconds


def test_in_three_minutes_all_parts_fit_in_small():
    chosen, out = gpu.planned(gpu.NAMES, 3, small=True)
    assert names(chosen) == gpu.NAMES and not out


@pytest.mark.parametrize("amp, folder, why", [("bf16", "", "no CIFAR-100"), ("fp16", "cifar100", "only emulate")])
def test_without_images_or_bf16_the_study_is_left_out_and_in_little_time_the_rest(
    amp, folder, why, tmp_path, monkeypatch
):
    monkeypatch.setattr(gpu, "best_amp", lambda device: amp)
    (tmp_path / folder).mkdir(exist_ok=True)
    chosen, out = gpu.planned(gpu.NAMES, 3, small=False, no_study=gpu.why_no_study(tmp_path, CPU))
    assert why in {part.name: why for part, why in out.items()}["true"]
    assert names(chosen) == ["card", "methods", "graphs", "runs", "preactresnet18"]


def study(parts, seconds, small=False):
    args = SimpleNamespace(data_dir=ROOT / "images", out=ROOT / "out", device="cuda")
    return gpu.study(args, parts, seconds, small)


def part(*rows, state="done"):
    return {"state": state, "seconds": 1, "rows": list(rows)}


def at_once(**speeds):
    return [{"kind": "at once", "runs": int(n[1:]), "images_per_second": value} for n, value in speeds.items()]


def test_epochs_of_the_study_follow_from_the_speed_and_are_fixed_before_it():
    row, command = study({"at-once": part(*at_once(n1=50_000.0, n2=60_000.0, n4=61_000.0))}, 400)
    training = 0.8 * 400 - 4 * (20 + 6)  # five at once: two groups that start, are tested, and evaluated likewise
    assert row["epochs"] == int(training * 61_000 / 450_000) == 29 and row["runs_at_once"] == 5
    assert command[-5:] == ["--graphs", "--epochs", "29", "--jobs-per-gpu", "5"]
    slow_together = study({"at-once": part(*at_once(n1=50_000.0, n2=60_000.0, n4=40_000.0))}, 600)
    assert slow_together[0]["runs_at_once"] == 2


def test_another_number_of_epochs_has_another_folder(tmp_path, monkeypatch):
    commands, args = [], SimpleNamespace(data_dir=ROOT / "images", out=tmp_path, device="cuda")
    monkeypatch.setattr(gpu, "do", lambda name, command, *rest: commands.append(command))
    parts = {"at-once": part(*at_once(n1=50_000.0, n2=60_000.0, n4=61_000.0)), "true": part()}
    head = {"command": "gpu.sh", "date": "today", "code": "x"}
    gpu.train_truly(args, 400, False, gpu.Results(tmp_path, head, parts), None)
    assert str(tmp_path / "study-epochs29") in commands[0], "another call may have the time for other epochs"


def test_without_a_speed_or_the_time_there_is_no_study():
    with pytest.raises(BadInput, match="no speed of PreActResNet18 was measured"):
        study({}, 400)
    with pytest.raises(BadInput, match="30 s are too few for 10 runs at 50,000 images a second"):
        study({"at-once": part(*at_once(n1=50_000.0))}, 30)


# ---- doing parts ----


@pytest.fixture
def results(tmp_path):
    return gpu.Results(tmp_path, {"command": "gpu.sh", "date": "today", "code": "x"}, {"a": part(state="at work")})


def run(results, code, limit):
    with (results.out / "gpu.log").open("a") as log:
        gpu.do("a", [sys.executable, "-c", code], limit, results, log)
    return json.loads((results.out / "gpu.json").read_text())["parts"]["a"]


ROW = 'print(\'row: {"kind": "check", "what": "w", "passed": true, "detail": "d"}\', flush=True)\n'


def test_a_part_that_hangs_is_ended_with_what_it_started_and_its_rows_stay(results, tmp_path):
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    code = f"{ROW}import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    start = time.monotonic()
    reported = run(results, code, 5)["rows"]
    assert time.monotonic() - start < 60 and results.parts["a"]["state"] == "not finished in its 5 s"
    assert [row["what"] for row in reported] == ["w"]
    if pid.exists():
        process = subprocess.run(["ps", "-o", "stat=", "-p", pid.read_text()], capture_output=True, text=True)
        assert process.stdout[:1] in ("", "Z")


def test_a_part_that_fails_is_said_to_and_the_log_has_its_words(results):
    run(results, f"{ROW}print('words')\nraise SystemExit('a fault')", 60)
    assert results.parts["a"]["state"] == "failed (exit status 1, see gpu.log)" and not page.well(results.parts)
    log = (results.out / "gpu.log").read_text()
    assert "words" in log and "a fault" in log and "row:" not in log


def test_what_a_check_raises_is_its_failure_and_the_others_go_on(capsys):
    rows.attempted("this", lambda: 1 / 0)
    row = rows.read(capsys.readouterr().out.splitlines()[0])
    assert row == {"kind": "check", "what": "this", "passed": False, "detail": "ZeroDivisionError: division by zero"}
    assert rows.read("some other line") is None


# ---- what follows ----


def speed_row(mode, method, images, model="preactresnet18", over_none=1.0, step_ms=2.0):
    values = {"images_per_second": images, "over_none": over_none, "uncertainty": 0.002, "memory_mib": 900}
    return {"kind": "speed", "model": model, "mode": mode, "method": method, "amp": "bf16", "step_ms": step_ms} | values


CARD = {"kind": "card", "device": "H100", "compute capability": "9.0"}


def test_flags_are_those_of_the_fastest_mode_and_compiling_has_to_pay():
    eager, graphs = speed_row("eager", "none", 18_000), speed_row("graphs", "none", 50_000)
    parts = {"a": part(eager, graphs, speed_row("compiled, graphs", "none", 52_000))}
    assert page.flags(parts) == "--amp bf16 --graphs"
    parts["b"] = part(speed_row("compiled, graphs", "none", 60_000), *at_once(n1=50_000.0, n2=60_000.0, n4=61_000.0))
    assert page.flags(parts) == "--amp bf16 --graphs --compile --jobs-per-gpu 2"
    assert page.flags({}) == ""


def test_targets_are_judged_on_a_gpu_alone():
    measured = [
        speed_row("graphs", "none", 50_000),
        speed_row("graphs", "patchup_soft", 48_000, over_none=1.04),
        speed_row("graphs", "patchup_hard", 49_000, over_none=1.02),
        speed_row("graphs", "puzzlemix", 10_000, over_none=5.0),
        speed_row("graphs", "none", 4_500, "wrn28_10", step_ms=22.0),
        speed_row("graphs", "puzzlemix", 3_500, "wrn28_10", over_none=1.29),
        {"kind": "days", "table": "table2", "days": 16.0, "runs": 405},
    ]
    assert not list(page.judged({"a": part(*measured)}))
    judged = {what: met for what, _, _, met in page.judged({"a": part(CARD, *measured)})}
    assert judged == {
        "preactresnet18: epoch of 45,000 images, graphs": True,
        "preactresnet18: patchup_soft over none, graphs": False,
        "preactresnet18: patchup_hard over none, graphs": True,
        "wrn28_10: epoch of 45,000 images, graphs": False,
        "wrn28_10: puzzlemix over none, graphs": True,  # that of a step of 2 ms is no target
        "all of Table 2, one run at a time": False,
    }


def test_the_screen_names_what_is_wrong_and_the_page_has_every_row(tmp_path):
    wrong = {"kind": "check", "what": "mixup against float64", "passed": False, "detail": "off by 1"}
    parts = {
        "card": part(CARD),
        "methods": part(wrong, {**wrong, "what": "none against float64", "passed": True}),
        "days": part(state="left out: 3 s were left of its 60"),
        "preactresnet18": part(speed_row("graphs", "none", 50_000)),
    }
    study = tmp_path / "runs" / "none"
    study.mkdir(parents=True)
    for seed, error in enumerate((30.0, 32.0)):
        result = {"method": "none", "seed": seed, "last_epoch_test_error": error}
        (study / f"seed{seed}.json").write_text(json.dumps(result))
    fgsm = {"method": "none", "seed": 0, "evaluation": "fgsm", "cases": {"0.1": {"error": 80.0}}}
    (study / "seed0.last.fgsm.json").write_text(json.dumps(fgsm))
    parts["true"] = part({"kind": "true", "epochs": 25}, *page.errors(tmp_path))
    results = {"command": "gpu.sh", "date": "today", "code": "x", "parts": parts}
    screen, text = page.screen(results), page.markdown(results)
    assert "1 of 2 checks passed" in screen and "WRONG mixup against float64: off by 1" in screen
    assert "days: left out: 3 s were left of its 60" in screen and "No Mixup 31.00 (2)" in screen
    assert len(screen.splitlines()) < 30 and screen in text
    assert "| mixup against float64 | **no** | off by 1 |" in text and "| none | 80.00 | 1 |" in text
    assert not page.well(parts)


# ---- checks ----


def checked(capsys):
    """The row of the one check that was printed."""
    [row] = filter(None, map(rows.read, capsys.readouterr().out.splitlines()))
    return row


@pytest.mark.parametrize("method", ["mixup", "patchup_soft", "puzzlemix", "dropblock"])
def test_a_device_that_computes_as_the_cpu_passes(method, capsys):
    right.against_float64(method, CPU, 1, SMALL)
    assert checked(capsys)["passed"]


def test_another_draw_on_the_device_is_noticed(capsys, monkeypatch):
    real = right.carried

    def carried(value, device, dtype):
        wrong = isinstance(value, torch.Tensor) and value.dim() == 0 and dtype == torch.float32  # lambda
        return 1.001 * value if wrong else real(value, device, dtype)

    monkeypatch.setattr(right, "carried", carried)
    right.against_float64("mixup", CPU, 1, SMALL)
    assert not checked(capsys)["passed"]


def test_steps_that_do_not_repeat_are_noticed(capsys, monkeypatch):
    real, count = right.trainer_of, iter(range(2))
    monkeypatch.setattr(right, "trainer_of", lambda *given, **options: real(*given, **options, seed=next(count)))
    recipe = right.recipes.resolve("cifar100", "preactresnet18", "none", **SMALL)
    right.graphed_as_eager("none", recipe, CPU, 2)
    assert not checked(capsys)["passed"]


def test_a_method_that_fails_does_not_keep_the_others_from_being_timed(capsys, monkeypatch):
    real = speed.made

    def made(method, **options):
        if method == "puzzlemix":
            raise RuntimeError("a fault")
        return real(method, **options)

    monkeypatch.setattr(speed, "made", made)
    monkeypatch.setattr(speed, "in_turns", lambda *given: ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)))
    speed.speed("preactresnet18", False, CPU, small=True)
    reported = [row for line in capsys.readouterr().out.splitlines() if (row := rows.read(line))]
    [fault] = [row for row in reported if row["kind"] == "check"]
    assert fault["what"] == "preactresnet18, eager: speed of puzzlemix" and "a fault" in fault["detail"]
    timed = [row["method"] for row in reported if row["kind"] == "speed"]
    assert timed[:3] == ["none", "patchup_hard", "patchup_soft"] and len(timed) == len(regularizers.METHODS) - 1


def test_a_ratio_has_an_uncertainty():
    none, other = (1.0, 1.1, 0.9, 1.0), (1.02, 1.122, 0.918, 1.02)
    row = speed.compared(none, other, 100)
    assert row["over_none"] == pytest.approx(1.02) and row["uncertainty"] < 1e-9
    assert speed.compared((1.0, 1.0, 1.0, 1.0), (1.0, 1.1, 0.9, 1.0), 100)["uncertainty"] > 0.05


# ---- the command ----


def test_some_parts_alone_leave_what_others_reported(tmp_path, monkeypatch):
    reported = {"preactresnet18": [speed_row("eager", "none", 50_000)], "at-once": at_once(n1=50_000.0), "true": []}

    def do(name, command, limit, results, log):
        assert name != "true" or command[-2:] == ["--out", str(tmp_path / "study-quick")]
        results.parts[name]["state"] = "done"
        for row in reported[name]:
            results.add(name, row)

    monkeypatch.setattr(gpu, "do", do)
    given = ["--device", "cpu", "--minutes", "3", "--out", str(tmp_path), "--data-dir", str(tmp_path), "--parts"]
    assert gpu.main([*given, "preactresnet18", "at-once"]) == gpu.main([*given, "true"]) == 0
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    reported["true"] = [{"kind": "true", "quick": True}]
    assert {name: part["rows"] for name, part in parts.items()} == reported


def test_a_python_without_a_library_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "NEEDED", ("scipy", "no_such_library"))
    assert gpu.main(["--device", "cpu", "--out", str(tmp_path / "out")]) == 2
    assert "this Python lacks no_such_library" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_minutes_that_cannot_be_are_one_line(minutes, tmp_path, capsys):
    assert gpu.main(["--minutes", minutes, "--device", "cpu", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "--minutes must be above 0" in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_without_a_gpu_it_says_how_to_go_through_all_parts(tmp_path, capsys):
    assert gpu.main(["--out", str(tmp_path / "out")]) == 2
    assert "--device cpu goes through all parts in small" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_on_a_cpu_it_goes_through_all_parts_in_small_and_keeps_to_its_minutes(tmp_path):
    start = time.monotonic()
    command = ["bash", str(ROOT / "scripts" / "gpu.sh"), "--device", "cpu", "--minutes", "3", "--out", str(tmp_path)]
    command += ["--data-dir", str(tmp_path)]
    environment = {**gpu.os.environ, "PYTHON": sys.executable}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert time.monotonic() - start < 3 * 60 + 90, "with the time to start, on a busy machine"
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert list(parts) == gpu.NAMES and result.stderr == ""
    assert parts["card"]["state"] == parts["methods"]["state"] == "done"
    states = {name: part["state"] for name, part in parts.items() if name != "true"}  # without images
    assert all(state == "done" or state.startswith(("left out", "not finished")) for state in states.values()), states
    assert all(row["passed"] for row in page.rows_of(parts, "check"))
    assert page.screen({"parts": parts}) in result.stdout
    assert page.screen({"parts": parts}) in (tmp_path / "gpu.md").read_text()
