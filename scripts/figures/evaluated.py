"""The pictures of evaluations, from their records: Figures 4, 5, 6, 13, 14 and 15."""

import pandas as pd

from engine.files import make_folder
from scripts.figures import charts
from scripts.figures.charts import RUN
from scripts.grid.evaluated import frame

FIGURE_STAGES = {"figure6": ("layer1", "layer2")}  # of activations, for a figure that shows some of them
NOTES = {  # of activations, by --official
    False: "Mean of |a| over all positions of {} test images.",
    True: "As the official script: sums over the positions of the first image of every 100, divided by {}.",
}


def draw(evaluation, records, grid, name):
    """Draw a grid's records to <out>/figures/<name>, if that kind of evaluation has a picture; whether it has one."""
    if evaluation.kind not in PICTURES or not records:
        return False
    path = grid.out / "figures" / name
    make_folder(path.parent)
    recipe = f"{grid.note[:1].upper()}{grid.note[1:]}." if grid.note else ""
    note = " ".join(filter(None, [evaluation.remark(records), recipe]))
    PICTURES[evaluation.kind](records, path, grid, note)
    print(f"drawn in {path}.png and .pdf")
    return True


def corruption_bars(records, path, grid, note):
    """E_c by corruption."""
    rows = pd.DataFrame(
        {name: record[name] for name in RUN} | {"corruption": name, "sum_error": value}
        for record in records
        for name, value in (record["sums"] | record.get("held_out_sums", {})).items()
    )
    charts.corruption_bars(rows, path, grid.table.methods, note)


def accuracy_curves(records, path, grid, note):
    """Accuracy under FGSM, official and on pixels, in two pictures."""
    cases, images = frame(records), in_words(records)
    for attack, suffix, unit, words in (
        ("official", "", 1, "ε of FGSM, in normalised input"),
        ("pixel", "-pixel", 255, "ε of FGSM on pixels, in 1/255"),
    ):
        rows = cases[cases.attack == attack]
        rows = rows.assign(eps=rows.eps * unit)
        part = path.with_name(path.name + suffix)
        caption = f"{images} test images. {note}".strip()
        charts.accuracy_curves(rows, part, grid.table.methods, caption, strength=words)


def activation_curves(records, path, grid, note):
    """The sorted magnitudes of the channels, stage by stage."""
    rows = pd.DataFrame(
        {name: record[name] for name in RUN} | {"stage": stage, "channel_rank": rank, "magnitude": magnitude}
        for record in records
        for stage, measures in record["curves"].items()
        for rank, magnitude in enumerate(measures["magnitude"], 1)
    )
    if stages := FIGURE_STAGES.get(grid.name):
        rows = rows[rows.stage.isin(stages)]
    measure = NOTES[records[0]["setting"]["official"]].format(in_words(records))
    charts.activation_curves(rows, path, grid.table.methods, f"{measure} {note}".strip())


PICTURES = {  # by kind of evaluation
    "corruption": corruption_bars,
    "corruption-released": corruption_bars,
    "fgsm": accuracy_curves,
    "activations": activation_curves,
}


def in_words(records):
    """The number of test images, `1000`, or `1000 or 10000`."""
    return " or ".join(map(str, sorted({record["images"] for record in records})))
