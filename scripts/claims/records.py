"""The records of a study: a line a run, with its result and its evaluations, small enough for git.

<folder>/records.jsonl has, a run a line,

    scale          of the study, as `cpu`
    result         train.py's; its recipe says which rows of the study's tables show the run
    evaluations    {kind: what the claims read of the evaluation's record}
    diversity      [[interpolation, measure, mean], ...] in this network (see scripts/figures/diversity.py)

A record stands for its run: scripts/study.py does not train again what has one.
"""

import functools
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

import data
import recipes
from engine.files import BadInput, make_folder, write_whole
from engine.runs import in_this_format
from scripts.claims import measures

FILE = "records.jsonl"
DIGITS = 6  # of the numbers of evaluations
KINDS = ("affine", "activations", "fgsm", "corruption", "table5", "converged")  # of evaluations that claims read
CASE = ("error", "nll", "ece", "median_distance")  # what is kept of a case
WHOLE = ("setting", "checkpoint_sha256", "images", "seconds", "source", "sums", "mean_error")  # and of a record


@dataclass(frozen=True)
class RunRecord:
    """One run of a study, as a line of the file has it."""

    result: dict
    evaluations: dict = field(default_factory=dict)
    diversity: list = field(default_factory=list)

    @functools.cached_property
    def numbers(self):
        """{measure: number} (see measures.py)."""
        return measures.numbers(self.result, self.evaluations, self.diversity)


class StudyRecords:
    """The records of a scale.

    runs: {recipe as text: RunRecord}; rows(record) says where the study's tables show a run.
    """

    def __init__(self, scale):
        self.scale, self.design = scale, recipes.DESIGNS[scale]
        self.seeds = {}  # how many each of these is to have
        self.shown = {}  # {recipe without seed and free fields, as text: [(part, model, method, variant), ...]}
        for part, table in trained(scale).items():
            for model in table.models:
                for row in table.rows:
                    key = self._key(expected(table, model, row))
                    self.shown.setdefault(key, []).append((part, model, row.method, row.variant))
                    self.seeds[key] = max(row.seeds, self.seeds.get(key, 0))
        self.runs, self.common = {}, {"classes": data.FACTS["cifar100"].num_classes}  # what all runs have alike

    def _key(self, recipe):
        return as_key({name: value for name, value in recipe.items() if name not in ("seed", *self.design.free)})

    def add(self, record, where):
        """Take a record in; of two records of a run that with more evaluations stays, else the later.

        Raises BadInput, beginning with where, for a run of another recipe or other images than the study's.
        """
        recipe = record.result["recipe"]
        if self._key(recipe) not in self.shown:
            run = f"{record.result['method']}, seed {record.result['seed']}"
            raise BadInput(f"{where}: {run}, has another recipe than the study {self.scale} ({self._nearest(recipe)})")
        for name in ("classes", "digest", *self.design.free):
            value = record.result.get(name, recipe.get(name))
            if value is not None and self.common.setdefault(name, value) != value:
                raise BadInput(f"{where}: {name} {value}, the study's is {self.common[name]}: give another --out")
        before = self.of(recipe)
        if before is None or len(before.evaluations) <= len(record.evaluations):
            self.runs[as_key(recipe)] = record

    def _nearest(self, recipe):
        """What a recipe has other than the nearest row, in words."""
        rows = [json.loads(key) for key, places in self.shown.items() if places[0][2] == recipe.get("method")]
        open_fields = {name: recipe[name] for name in ("seed", *self.design.free) if name in recipe}
        words = [recipes.differences(recipe, row | open_fields) for row in rows]
        return min(words, key=lambda text: text.count(","), default="a method that it has not")

    def __iter__(self):
        return iter(self.runs.values())

    def rows(self, record):
        """[(part, model, method, variant)] of the tables' rows that show a run."""
        return self.shown[self._key(record.result["recipe"])]

    def of(self, recipe):
        """The RunRecord of a recipe (a dict as recipes.used gives it), or None."""
        return self.runs.get(as_key(recipe))

    @property
    def models(self):
        """The networks that have runs, in the study's order."""
        models = {record.result["model"] for record in self}
        return [model for model in self.design.models if model in models]

    def wanted(self, model):
        """How many runs of a network the whole study has."""
        return sum(count for key, count in self.seeds.items() if self.shown[key][0][1] == model)

    def in_order(self):
        """The records seed by seed, and as the tables have them."""
        order = {key: place for place, key in enumerate(self.shown)}
        return sorted(self, key=lambda record: (record.result["seed"], order[self._key(record.result["recipe"])]))


def trained(scale):
    """{part: recipes.Table} of the tables that are trained: `methods`, `size`, ..."""
    return {part: table for part, table in recipes.STUDIES[scale].items() if not table.evaluation}


def expected(table, model, row):
    """The recipe of a row with seed 0, as recipes.used gives it."""
    options = recipes.applicable(row.method, table.overrides | row.overrides)
    return recipes.used(recipes.resolve(table.datasets[0], model, row.method, 0, **options))


def as_key(recipe):
    """A recipe as text that is the same for the same fields."""
    return json.dumps(recipe, sort_keys=True)


# ---- what is kept of a run's files ----


def evaluation(record, confidence=None):
    """What is kept of an evaluation's record; confidence: the mean confidence in percent, where it is known."""
    cases = record["cases"] if "sums" not in record else {"clean": record["cases"]["clean"]}  # else a mean says it
    kept = {name: record[name] for name in WHOLE if name in record}
    kept["cases"] = {name: {key: case[key] for key in CASE if key in case} for name, case in cases.items()}
    if "curves" in record:
        kept["magnitude"] = {stage: float(np.mean(curve["magnitude"])) for stage, curve in record["curves"].items()}
    if weaker := [name for name, case in record["cases"].items() if "remark" in case]:
        kept["weaker_than_fgsm"] = weaker
    if confidence is not None:
        kept["confidence"] = confidence
    return rounded(kept)


def rounded(value):
    """A JSON value with numbers of DIGITS digits."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


# ---- the file ----


def write(folder, records):
    """Write the file of a StudyRecords, whole. Raises BadInput or RunFailed where the folder cannot be written."""
    make_folder(folder, "--records")
    lines = [
        {"scale": records.scale} | asdict(record) | {"diversity": rounded(record.diversity)}
        for record in records.in_order()
    ]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    write_whole(folder / FILE, lambda file: file.write(text.encode()))


def read(folder, scale=None):
    """The StudyRecords in a folder.

    scale: that they must be of (None: any). Raises BadInput, naming file and line, where no line is, a line is
    damaged, or a run has another recipe than the study's.
    """
    path, records = Path(folder) / FILE, None
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}): scripts/study.py collects records") from error
    for number, text in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            line = json.loads(text)
            named = line["scale"]
            record = RunRecord(in_this_format(line["result"], where), line["evaluations"], line["diversity"])
            require_shape(record)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BadInput(f"{where} is damaged ({error}): remove it to train that run anew") from error
        wanted = scale or (records.scale if records else named)
        if named != wanted or named not in tuple(recipes.DESIGNS):
            raise BadInput(f"{where} is of the study {named}, not {wanted}; known are {', '.join(recipes.DESIGNS)}")
        records = records or StudyRecords(named)
        records.add(record, where)
    if records is None:
        raise BadInput(f"{path} is empty: scripts/study.py collects records")
    return records


def require_shape(record):
    """Raise TypeError, KeyError or ValueError unless a record has the shape that is read."""
    result = record.result
    for name in ("dataset", "model", "method", "seed"):
        if result[name] != result["recipe"][name]:
            raise ValueError(f"{name} {result[name]} with a recipe of {result['recipe'][name]}")
    if unknown := [kind for kind in record.evaluations if kind not in KINDS]:
        raise ValueError(f"an evaluation {unknown[0]}")
    numbers = [*record.numbers.values(), result["seconds"], result["classes"]]
    numbers += [result["images"][part] for part in ("train", "val", "test")]
    numbers += [number for kept in record.evaluations.values() for number in (kept["seconds"], len(kept["setting"]))]
    if not all(isinstance(number, (int, float)) for number in numbers):
        raise TypeError("text where a number belongs")
