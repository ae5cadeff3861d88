"""JSON that tables, estimates, gpu.sh and stress find in place of theirs: one line that names it, and it stays."""

import pytest
import torch

from engine.files import BadInput
from scripts import stress, tables
from scripts.gpu import __main__ as gpu
from scripts.gpu import page
from scripts.grid import estimates
from tests.table_grids import grid_of

RUN = "runs/digits/preactresnet18/none/seed0.json"
READERS = {
    "hours.json": lambda path: tables.kept_hours(grid_of(path.parent, "table8")),
    "speed.json": lambda path: estimates.Speeds(path, torch.device("cpu")),
    "gpu.json": gpu.kept_parts,
    "study/seed0.json": lambda path: list(page.errors(path.parent)),
    RUN: lambda path: stress.differences(path.parents[4], path.parents[4]),
}
PART = '{"command": "", "date": "", "code": "", "parts": {"card": %s}}'
OTHER_SHAPES = [
    ("hours.json", '{"none": 3}'),
    ("hours.json", '{"none": {"hours": "3"}}'),
    ("hours.json", '{"none": {"hours": NaN}}'),
    ("speed.json", '{"cpu": 3}'),
    ("speed.json", '{"cpu": {"wrn28_10": "fast"}}'),
    ("speed.json", '{"cpu": {"wrn28_10": true}}'),
    ("gpu.json", "{}"),
    ("gpu.json", PART % 3),
    ("gpu.json", PART % '{"state": "done", "seconds": 1}'),
    ("gpu.json", PART % '{"state": "done", "seconds": 1, "rows": [7]}'),
    ("gpu.json", PART % '{"state": "done", "seconds": 1, "rows": [{"kind": "check"}]}'),
    ("gpu.json", PART % '{"state": "done", "seconds": 1, "rows": [{"kind": "at once", "runs": 1}]}'),
    ("study/seed0.json", '{"method": "none"}'),
    ("study/seed0.json", '{"method": "none", "seed": 0, "last_epoch_test_error": "3"}'),
    ("study/seed0.json", '{"method": "none", "seed": 0, "evaluation": "fgsm", "cases": [1]}'),
    ("study/seed0.json", '{"method": "none", "seed": 0, "evaluation": "fgsm", "cases": {"0.1": 7}}'),
    (RUN, '{"test_error": 5.0}'),
]
ALL_SHAPES = [(name, content) for content in ("[1]", "7", "\x00", "[" * 100_000) for name in READERS] + OTHER_SHAPES


@pytest.mark.parametrize("name, content", ALL_SHAPES, ids=[f"{name}-{content[-40:]}" for name, content in ALL_SHAPES])
def test_json_of_another_shape_is_named_and_stays(name, content, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    with pytest.raises(BadInput) as refusal:
        READERS[name](path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
    assert path.read_text() == content
