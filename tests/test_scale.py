"""scripts/scale.py: what is varied, the exponents of known growth, and a whole small run."""

import numpy as np
import pandas as pd
import pytest
import torch

from scripts import scale

BASE = {"batch": 2, "side": 16, "channels": 4, "classes": 10}


def rows_of(what, unit, law, varied=tuple(scale.VARIED), values=(2, 4, 8)):
    return [(one, value, what, unit, law(one, value)) for one in varied for value in values]


def table_of(*rows):
    return pd.DataFrame(sum(rows, []), columns=["varied", "value", "what", "unit", "number"])


def test_one_thing_is_varied_at_a_time_by_doublings():
    found = list(scale.settings(BASE, 2))
    assert [value for varied, value, _ in found if varied == "batch"] == [2, 4, 8]
    assert [value for varied, value, _ in found if varied == "pixels"] == [256, 1024, 4096]
    assert [value for varied, value, _ in found if varied == "classes"] == [10, 100, 1000]
    for varied, value, setting in found:
        differs = {name for name in BASE if setting[name] != BASE[name]}
        assert len(differs) <= 1 and (varied == "pixels" or setting[varied] == value)
    assert found[-4][2] == BASE | {"channels": 16}


def test_exponents_are_those_of_the_growth():
    powers = {"batch": 1.0, "pixels": 1.5, "channels": 2.0, "classes": 0.0}
    table = table_of(rows_of("mixup", "ms", lambda varied, n: 3 * n ** powers[varied]))
    assert scale.exponents(table).loc[("ms", "mixup")].to_dict() == pytest.approx(powers, abs=1e-12)


def test_what_weighs_most_at_the_first_point_does_not_count():
    values = (2, 4, 8, 16)
    table = table_of(rows_of("mixup", "ms", lambda varied, n: 100.0 if n == 2 else n**1.5, values=values))
    assert scale.exponents(table).loc[("ms", "mixup")].tolist() == pytest.approx([1.5] * 4)


def test_what_is_not_there_has_no_exponent():
    table = table_of(rows_of("cutout", "MB", lambda varied, n: 0.0))
    assert scale.exponents(table).isna().all(axis=None)


def test_growth_beyond_the_tolerance_is_named():
    limit = 1 + scale.TOLERANCE
    laws = {
        ("mixup", "ms"): {"batch": limit - 0.01, "pixels": 1.0, "channels": 3.0},
        ("mixup", "MB"): {"pixels": limit - 0.01, "classes": 3.0},
        ("cutmix", "ms"): {"batch": limit + 0.01},
        ("cutmix", "MB"): {"batch": 2.0, "pixels": 2.0},
    }
    parts = [rows_of(*key, lambda varied, n, law=law: n ** law.get(varied, 0.0)) for key, law in laws.items()]
    found = scale.verdicts(scale.exponents(table_of(*parts)))
    assert found == {"mixup": "no", "cutmix": "time with batch, memory with batch, memory with pixels"}


def test_the_memory_of_a_step_does_not_count_the_weights_and_grows_as_the_batch():
    cpu, found = torch.device("cpu"), []
    for batch in (2, 4):
        setting = BASE | {"batch": batch}
        case = scale.Case(scale.recipe_of("preactresnet18", "none", setting), cpu, 10)
        found.append(scale.step_bytes(case))
    assert found[0] < found[1] < 2 * found[0]
    assert found[0] > 0.99 * (found[1] - found[0])  # all but a constant of statistics and the like
    assert found[1] - found[0] > 2 * 4 * 16 * 16 * 4 * 10  # ten maps of layer1, at least


def test_the_memory_of_a_step_on_a_gpu_is_its_peak_above_what_was_there(monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: done.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 70)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 100)

    class Case:
        device = torch.device("cuda")

        def step(self):
            done.append("step")

    assert scale.step_bytes(Case()) == 30 and done == ["reset", "step"]


def test_the_command_measures_writes_and_draws(tmp_path, capsys):
    command = ["--batch-size", "2", "--image-size", "16", "--width", "4", "--doublings", "1", "--rounds", "1"]
    assert scale.main([*command, "--device", "cpu", "--out", str(tmp_path / "new")]) == 0
    printed = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"scale.md", "scale.csv", "scale.png"}
    assert (tmp_path / "new/scale.md").read_text() == printed
    table = pd.read_csv(tmp_path / "new/scale.csv")
    assert (table[table.unit == "ms"].number > 0).all()
    growth = scale.exponents(table)
    assert growth.loc[("MB", "patchup_hard"), "pixels"] == pytest.approx(1, abs=0.02)
    assert growth.loc[("MB", "patchup_hard"), "batch"] < 0.1  # one mask a batch
    assert growth.loc[("MB", "dropblock"), "batch"] == pytest.approx(1, abs=0.02)
    assert growth.loc[("MB", scale.STEP), "batch"] == pytest.approx(1, abs=0.05)
    numbers = table[(table.what == "puzzlemix") & (table.varied == "batch")]
    times = numbers[numbers.unit == "ms"].number
    line = "| puzzlemix | " + " | ".join(f"{number:,.2f} / 0.00" for number in times) + " |"
    assert "| images a batch: ms / MB | 2 | 4 |\n| --- | ---: | ---: |" in printed and line in printed
    assert not np.isnan(growth.loc["ms"].to_numpy()).any()


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--doublings", "0"], "--doublings must be at least 1, not 0"),
        (["--classes", "1"], "--classes must be at least 2, not 1"),
        (["--image-size", "6"], "block_size 7 does not fit"),
        (["--width", "0"], "--width must be at least 1, not 0"),
        (["--model", "resnet50"], "invalid choice: 'resnet50'"),
        (["--device", "abacus"], "--device abacus cannot be used here"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(capsys, tmp_path, arguments, line):
    try:
        status = scale.main([*arguments, "--out", str(tmp_path / "new")])
    except SystemExit as end:
        status = end.code
    error = capsys.readouterr().err.strip()
    assert status == 2 and line in error and len(error.splitlines()) == 1
    assert not (tmp_path / "new").exists()
