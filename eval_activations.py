"""Magnitude of the activations, channel by channel, after the stem and every residual stage: Figures 6 and 14.

python eval_activations.py --table figure14
python eval_activations.py results/runs/cifar100/preactresnet18 --official

A channel's magnitude is the mean of |a| over all test images and positions; `relu` beside it is that of max(a, 0).
--official computes what the official script (utility/activation_study.py) does instead: of the first image of each
batch of 100, the signed sum over positions; summed over batches and divided by the number of test images.
"""

import sys

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

import data
from engine import evaluation
from scripts.figures import charts

FIGURE_STAGES = {"figure6": ("layer1", "layer2")}  # what a table's picture shows; others show all
NOTES = {  # of the picture, by --official
    False: "Mean of |a| over all positions of {} test images.",
    True: "As the official script: sums over the positions of the first image of every 100, divided by {}.",
}


class Activations(evaluation.Study):
    """One pass over the clean test images. The stored arrays <stage>/<measure> have a number a channel, in order.

    measure: `magnitude` and, but for --official, `relu`.
    """

    kind = "activations"
    tasks = ("clean",)
    batch = 100  # [C]
    unit = "magnitude over a stage's channels"
    better = ""

    def __init__(self, args):
        super().__init__(official=args.official)
        self.plain = {"official": False}
        self.stages = FIGURE_STAGES.get(args.table)

    @torch.no_grad()
    def evaluate(self, task, subject, x, y, rows):
        def look(k, h):
            if k > 0:  # the input of stage k is the output of the one before
                for measure, sums in self.measures(h).items():
                    name = f"{subject.net.place(k)}/{measure}"
                    self.totals[name] = self.totals.get(name, 0) + sums.cpu().numpy() / len(subject.test)
            return h

        logits = subject.net(data.normalise(x, subject.mean, subject.std), look)
        return {task: evaluation.outcomes(logits, y)}

    def measures(self, h):
        """What a batch of feature maps [B, C, H, W] adds to the sums over images, {measure: float64 [C]}."""
        if self.setting["official"]:
            return {"magnitude": h[0].sum((1, 2), dtype=torch.float64)}
        both = {"magnitude": h.abs(), "relu": F.relu(h)}
        return {measure: a.mean((2, 3), dtype=torch.float64).sum(0) for measure, a in both.items()}

    def conclude(self, cases, arrays):
        found = {}
        for name, values in self.totals.items():
            stage, measure = name.split("/")
            found.setdefault(stage, {})[measure] = np.sort(values)[::-1].tolist()
        return {"curves": found}

    def shown(self, record):
        rows = {"mean": np.mean, "median": np.median, "maximum": np.max}
        stages = record["curves"].items()
        return {f"{stage} {name}": f(found["magnitude"]) for stage, found in stages for name, f in rows.items()}

    def draw(self, records, path, expected, note):
        table = curves(records)
        if self.stages:
            table = table[table.stage.isin(self.stages)]
        images = " or ".join(map(str, sorted({record["images"] for record in records})))
        measure = NOTES[self.setting["official"]].format(images)
        charts.activation_curves(table, path, expected, f"{measure} {note}".strip())


def curves(records):
    """The sorted magnitudes of all channels, from records of this study (see evaluation.frame), a row a channel.

    Columns: dataset, model, method, seed, stage (conv1, layer1, ...), channel_rank (from 1), magnitude and relu, each
    in descending order for itself; relu is NaN for --official.
    """
    run, parts = ["dataset", "model", "method", "seed"], []
    for record in records:
        for stage, found in record["curves"].items():
            part = pd.DataFrame(found, columns=["magnitude", "relu"], dtype=float)
            part.insert(0, "channel_rank", range(1, len(part) + 1))
            parts.append(part.assign(**{name: record[name] for name in run}, stage=stage))
    order = [*run, "stage", "channel_rank", "magnitude", "relu"]
    return pd.concat(parts, ignore_index=True)[order] if parts else pd.DataFrame(columns=order)


def parser():
    """The command line."""
    found = evaluation.parser(__doc__)
    found.add_argument("--official", action="store_true", help="what the official script computes, see above")
    return found


def studies(args):
    """The study that a command line asks for."""
    return [Activations(args)]


def main(arguments=None):
    """The exit status of a command line (see cli.explain)."""
    return evaluation.main(parser(), studies, arguments)


if __name__ == "__main__":
    sys.exit(main())
