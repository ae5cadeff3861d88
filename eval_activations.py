"""Magnitude of the activations, channel by channel, after the stem and every residual stage: Figures 6 and 14.

python eval_activations.py results/runs/cifar100/wrn28_10
python eval_activations.py results/runs/cifar100/preactresnet18 --official

A channel's magnitude is the mean of |a| over all test images and positions; `relu` beside it is that of max(a, 0).
--official computes what the official script (utility/activation_study.py) does instead: of the first image of each
batch of 100, the signed sum over positions; summed over batches and divided by the number of test images.
"""

if __name__ == "__main__":
    from engine.startup import tell_interrupts

    tell_interrupts()

import sys

import numpy as np
import torch
import torch.nn.functional as F

import data
from engine import evaluation
from engine.evaluation import Evaluation, outcomes


class Activations(Evaluation):
    """One pass over the clean test images. The stored arrays <stage>/<measure> have a number a channel, in order.

    measure: `magnitude` and, but for --official, `relu`.
    """

    kind = "activations"
    plain = {"official": False}
    fields = {"curves": {...: {"magnitude": list}}}
    tasks = ("clean",)
    batch = 100  # [C]
    unit = "magnitude over a stage's channels"
    better = ""

    @torch.no_grad()
    def evaluate(self, task, x, y, rows, sums):
        subject = self.subject

        def look(k, h):
            if k > 0:  # the input of stage k is the output of the one before
                for measure, channels in self.measures(h).items():
                    name = f"{subject.net.place(k)}/{measure}"
                    sums[name] = sums.get(name, 0) + channels.cpu().numpy() / len(subject.test)
            return h

        logits = subject.net(data.normalise(x, subject.mean, subject.std), look)
        return {task: outcomes(logits, y)}

    def measures(self, h):
        """What a batch of feature maps [B, C, H, W] adds to the sums over images, {measure: float64 [C]}."""
        if self.setting["official"]:
            return {"magnitude": h[0].sum((1, 2), dtype=torch.float64)}
        both = {"magnitude": h.abs(), "relu": F.relu(h)}
        return {measure: a.mean((2, 3), dtype=torch.float64).sum(0) for measure, a in both.items()}

    def conclude(self, cases, arrays, sums):
        curves = {}
        for name, channels in sums.items():
            stage, measure = name.split("/")
            curves.setdefault(stage, {})[measure] = np.sort(channels)[::-1].tolist()
        return {"curves": curves}

    def shown(self, record):
        statistics = {"mean": np.mean, "median": np.median, "maximum": np.max}
        return {
            f"{stage} {name}": statistic(measures["magnitude"])
            for stage, measures in record["curves"].items()
            for name, statistic in statistics.items()
        }


def parser():
    """The command line."""
    activations_parser = evaluation.parser(__doc__)
    activations_parser.add_argument("--official", action="store_true", help="what the official script computes")
    return activations_parser


def evaluations(args):
    """The evaluation that a command line asks for."""
    return [Activations(args.limit, official=args.official)]


def main(arguments=None):
    """The exit status of a command line (see cli.explain)."""
    return evaluation.main(parser(), evaluations, arguments)


if __name__ == "__main__":
    sys.exit(main())
