"""Accuracy of trained networks under adversarial attacks: Table 5, Figures 5 and 13, and what is stronger than them.

python eval_adversarial.py results/runs/cifar100/wrn28_10 --attacks fgsm
python eval_adversarial.py results/runs/tiny_imagenet/wrn28_10 --limit 1000 --attacks table5 converged

--attacks, each with its records; in brackets the gradients that an image takes. A gradient takes as long as classifying
the image three times, 2 ms for a PreActResNet18 of width 16 on one core of a CPU: see --limit.

    fgsm         FGSM as the official code has it, in normalised input, and FGSM on pixels (2)
    table5       Foolbox's attacks as Table 5 labels them, of 7 steps (232), and once more for a network that is given
                 pixels without normalisation (232)
    converged    PGD with steps of 2.5 epsilon / steps, 7 and 40 of them, and DDN with 100 (336)
    cw           Carlini and Wagner's attack with 9 x 100 steps (901)
    strongest    PGD with restarts on two losses (at most 801)

`strongest` leaves out the images that are misclassified already, as they are or at a smaller epsilon.

A case is an attack within an epsilon of its norm, as `ddn@0.25`; error, NLL and ECE are of the attacked images. `ddn`
alone is the nearest adversarial image, at any distance. What is printed says where an attack is weaker than FGSM.
"""

if __name__ == "__main__":
    from engine.startup import tell_interrupts

    tell_interrupts()

import math
import sys
from collections import Counter

import torch

import data
from engine import attacks, evaluation
from engine.evaluation import Evaluation, outcomes
from engine.subject import PixelClassifier

WEAKER = "weaker than FGSM"


class Attacked(Evaluation):
    """What the kinds share: accuracy on attacked images, 100 of them at a time."""

    batch = attacks.BATCH
    better = "higher"

    def conclude(self, cases, arrays, sums):
        for case, values in cases.items():
            attack, _, epsilon = case.partition("@")
            values |= {"attack": attack} | ({"eps": attacks.strength(epsilon)} if epsilon else {})
        return {}


@torch.no_grad()
def results_of(net, images, y):
    """What becomes of attacked images (see evaluation.outcomes): predicted anew, whatever the attack says."""
    return outcomes(net(images), y)


class Fgsm(Attacked):
    """The fast gradient sign method: `official` in normalised input with the authors' epsilons, and `pixel`."""

    kind = "fgsm"
    tasks = ("official", "pixel")
    unit = "accuracy (%)"

    def evaluate(self, task, x, y, rows, sums):
        subject = self.subject
        if task == "official":
            net, x = subject.net, data.normalise(x, subject.mean, subject.std)
            attacked = attacks.fgsm(net, x, y, attacks.OFFICIAL_EPSILONS, x.min(), x.max())
        else:
            net, x = subject.classifier, x / 255
            attacked = attacks.fgsm(net, x, y, attacks.PIXEL_EPSILONS, 0, 1)
        return {f"{task}@{epsilon}": results_of(net, images, y) for epsilon, images in attacked}

    def shown(self, record):
        return {case: 100 - values["error"] for case, values in record["cases"].items()}


class Benchmark(Attacked):
    """Attacks on pixels in [0, 1], beside the clean images and FGSM at the same epsilons through the same wrapper.

    kind: names the files; given: {name: attack of attacks.py}; normalised: False gives the network pixels as they are.
    """

    unit = "accuracy, in [0, 1]"

    def __init__(self, kind, given, limit=None, normalised=True):
        self.plain = {name: attack.described for name, attack in given.items()}
        super().__init__(limit, **self.plain)
        self.kind, self.given, self.normalised = kind, given, normalised
        self.clean = "clean" if normalised else "unattacked"
        self.tasks = (self.clean, "fgsm", *given)

    def prepare(self):
        super().prepare()
        self.classifier = self.subject.classifier
        if not self.normalised:
            as_it_is = PixelClassifier(self.subject.net, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
            self.classifier = as_it_is.to(self.subject.device).eval()

    def evaluate(self, task, x, y, rows, sums):
        net, x = self.classifier, x / 255
        if task == self.clean:
            return {task: results_of(net, x, y)}
        if task == "fgsm":
            attacked = attacks.fgsm(net, x, y, attacks.LINF_EPSILONS, 0, 1)
        else:
            attacked = self.given[task].images(net, x, y, rows)
        cases = {}
        for epsilon, images in attacked:
            cases[f"{task}@{epsilon}" if epsilon else task] = case = results_of(net, images, y)
            if epsilon is None:
                distance = attacks.distances(images, x, self.given[task].norm)
                case["distance"] = torch.where(case["predicted"] == y, math.inf, distance).float()
        return cases

    def conclude(self, cases, arrays, sums):
        super().conclude(cases, arrays, sums)
        for case, values in cases.items():
            if f"{case}/distance" in arrays:
                values |= attacks.spread(arrays[f"{case}/distance"])
            attack, _, epsilon = case.partition("@")
            if epsilon and attack in self.given and self.given[attack].norm == math.inf:
                fgsm = cases[f"fgsm@{epsilon}"]["error"]
                if values["error"] < fgsm:
                    values["remark"] = f"{WEAKER}, whose error is {fgsm:.2f} %"
        return {}

    def shown(self, record):
        numbers = {}
        for case, values in record["cases"].items():
            if "median_distance" not in values:
                numbers[case] = 1 - values["error"] / 100
                continue
            distance = math.inf if values["median_distance"] is None else values["median_distance"]
            if self.given[case].norm == math.inf:
                numbers[f"{case}: median distance x 255"] = 255 * distance
            else:
                numbers[f"{case}: median distance"] = distance
        return numbers

    def remark(self, records):
        words = [] if self.normalised else ["The network is given pixels that are not normalised."]
        l2 = [name for name, attack in self.given.items() if attack.norm == 2]
        words.append(f"Epsilons of {', '.join(l2)} are L2, others Linf." if l2 else "Epsilons are Linf.")
        if any("distance" in label for record in records for label in self.shown(record)):
            words.append("Distances: of the images classified rightly; inf where fewer than half were broken.")
        weaker = Counter(case for record in records for case, values in record["cases"].items() if "remark" in values)
        if weaker:
            counts = (f"{case} ({count} of {len(records)} runs)" for case, count in weaker.items())
            words.append(f"{WEAKER[0].upper()}{WEAKER[1:]}: {', '.join(counts)}.")
        return " ".join(words)


SUITES = {  # name on the command line: evaluations with a limit
    "fgsm": lambda limit: [Fgsm(limit)],
    "table5": lambda limit: [
        Benchmark("table5", attacks.AS_LABELLED, limit),
        Benchmark("unnormalised", attacks.AS_LABELLED, limit, normalised=False),
    ],
    "converged": lambda limit: [Benchmark("converged", attacks.CONVERGED, limit)],
    "cw": lambda limit: [Benchmark("cw", attacks.CARLINI_WAGNER, limit)],
    "strongest": lambda limit: [Benchmark("strongest", attacks.STRONGEST, limit)],
}


def parser():
    """The command line."""
    adversarial_parser = evaluation.parser(__doc__)
    add = adversarial_parser.add_argument
    words = "which ones, see above (default: fgsm table5)"
    add("--attacks", nargs="+", choices=SUITES, default=["fgsm", "table5"], metavar="NAME", help=words)
    return adversarial_parser


def evaluations(args):
    """The evaluations that a command line asks for. Raises BadInput where Foolbox is needed and cannot be imported."""
    if {"table5", "converged", "cw"} & set(args.attacks):
        attacks.library()
    return [kind for name in SUITES if name in args.attacks for kind in SUITES[name](args.limit)]


def main(arguments=None):
    """The exit status of a command line (see cli.explain)."""
    return evaluation.main(parser(), evaluations, arguments)


if __name__ == "__main__":
    sys.exit(main())
