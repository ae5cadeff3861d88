"""Accuracy of trained networks under adversarial attacks: Table 5, Figures 5 and 13, and what is stronger than them.

python eval_adversarial.py --table figure5 --attacks fgsm
python eval_adversarial.py results/runs/tiny_imagenet/wrn28_10 --limit 1000 --attacks table5 converged

--attacks, each with records of its own; in brackets the gradients that an image takes. One takes as long as classifying
it three times, 2 ms for a PreActResNet18 of width 16 on one core of a CPU: see --limit.

    fgsm         FGSM as the official code has it, in normalised input, and FGSM on pixels (2)
    table5       Foolbox's attacks as Table 5 labels them, of 7 steps (232), and once more for a network that is given
                 pixels without normalisation (232)
    converged    PGD with steps of 2.5 epsilon / steps, 7 and 40 of them, and DDN with 100 (336)
    cw           Carlini and Wagner's attack with 9 x 100 steps (901)
    strongest    PGD with restarts on two losses (at most 801)

`strongest` leaves out the images that are misclassified already, as they are or at a smaller epsilon.

A case is an attack within an epsilon of its own norm, as `ddn@0.25`; error, NLL and ECE are of the attacked images.
`ddn` alone is the nearest image that it found, at any distance. A row says so where an attack is weaker than FGSM.
"""

import math
import sys

import numpy as np
import torch

import data
from engine import attacks, evaluation
from engine.evaluation import PixelClassifier, outcomes
from scripts.figures import charts

WEAKER = "weaker than FGSM"


class Attacked(evaluation.Study):
    """What the studies share: accuracy on attacked images, 100 of them at a time."""

    batch = attacks.BATCH
    better = "higher"

    def conclude(self, cases, arrays):
        for case, found in cases.items():
            attack, _, epsilon = case.partition("@")
            found |= {"attack": attack} | ({"eps": attacks.strength(epsilon)} if epsilon else {})
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

    def evaluate(self, task, subject, x, y, rows):
        if task == "official":
            net, x = subject.net, data.normalise(x, subject.mean, subject.std)
            attacked = attacks.fgsm(net, x, y, attacks.OFFICIAL_EPSILONS, x.min(), x.max())
        else:
            net, x = subject.classifier, x / 255
            attacked = attacks.fgsm(net, x, y, attacks.PIXEL_EPSILONS, 0, 1)
        return {f"{task}@{epsilon}": results_of(net, images, y) for epsilon, images in attacked}

    def shown(self, record):
        return {case: 100 - found["error"] for case, found in record["cases"].items()}

    def draw(self, records, path, expected, note):
        table = evaluation.frame(records)
        images = " or ".join(map(str, sorted(set(table.images))))
        for attack, suffix, unit, words in (
            ("official", "", 1, "ε of FGSM, in normalised input"),
            ("pixel", "-pixel", 255, "ε of FGSM on pixels, in 1/255"),
        ):
            part = table[table.attack == attack]
            part = part.assign(eps=part.eps * unit)
            where = path.with_name(path.name + suffix)
            charts.accuracy_curves(part, where, expected, f"{images} test images. {note}".strip(), strength=words)


class Benchmark(Attacked):
    """Attacks on pixels in [0, 1], beside the clean images and FGSM at the same epsilons through the same wrapper.

    kind: of the study; given: {name: attack of attacks.py}; normalised: False gives the network pixels as they are.
    """

    unit = "accuracy, in [0, 1]"

    def __init__(self, kind, given, normalised=True):
        super().__init__(**{name: attack.described for name, attack in given.items()})
        self.plain = dict(self.setting)
        self.kind, self.given, self.normalised = kind, given, normalised
        self.clean = "clean" if normalised else "unattacked"
        self.tasks = (self.clean, "fgsm", *given)

    def evaluate(self, task, subject, x, y, rows):
        net, x = self.classifier(subject), x / 255
        if task == self.clean:
            return {task: results_of(net, x, y)}
        if task == "fgsm":
            attacked = attacks.fgsm(net, x, y, attacks.LINF_EPSILONS, 0, 1)
        else:
            attacked = self.given[task].images(net, x, y, rows)
        found = {}
        for epsilon, images in attacked:
            found[f"{task}@{epsilon}" if epsilon else task] = one = results_of(net, images, y)
            if epsilon is None:
                distance = attacks.distances(images, x, self.given[task].norm)
                one["distance"] = torch.where(one["predicted"] == y, math.inf, distance).float()
        return found

    def classifier(self, subject):
        """What is attacked: pixels in [0, 1] to logits."""
        if self.normalised:
            return subject.classifier
        return PixelClassifier(subject.net, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).to(subject.device).eval()

    def conclude(self, cases, arrays):
        super().conclude(cases, arrays)
        for case, found in cases.items():
            if f"{case}/distance" in arrays:
                found |= spread(arrays[f"{case}/distance"])
            attack, _, epsilon = case.partition("@")
            if epsilon and attack in self.given and self.given[attack].norm == math.inf:
                fgsm = cases[f"fgsm@{epsilon}"]["error"]
                if found["error"] < fgsm:
                    found["remark"] = f"{WEAKER}, whose error is {fgsm:.2f} %"
        return {}

    def shown(self, record):
        rows = {}
        for case, found in record["cases"].items():
            if "median_distance" not in found:
                rows[case] = 1 - found["error"] / 100
                continue
            distance = math.inf if found["median_distance"] is None else found["median_distance"]
            if self.given[case].norm == math.inf:
                rows[f"{case}: median distance x 255"] = 255 * distance
            else:
                rows[f"{case}: median distance"] = distance
        return rows

    def remark(self, results):
        words = [] if self.normalised else ["The network is given pixels that are not normalised."]
        l2 = [name for name, attack in self.given.items() if attack.norm == 2]
        words.append(f"Epsilons of {', '.join(l2)} are L2, others Linf." if l2 else "Epsilons are Linf.")
        if any("distance" in label for result in results for label in self.shown(result)):
            words.append("Distances: of the images classified rightly; inf where fewer than half were broken.")
        return " ".join(words)

    def heading(self, label, results):
        weaker = sum("remark" in result["cases"].get(label, {}) for result in results)
        return f"{label} ({WEAKER}: {weaker} of {len(results)} runs)" if weaker else label

    def paper_metric(self, label):
        attack, _, epsilon = label.partition("@")
        return f"robust_accuracy_fraction@{attack}" if epsilon == attacks.TABLE5_EPSILON else ""


def spread(distance):
    """What a record tells of the distances [N] of the nearest attacked images: inf where the attack found none.

    median_distance: over the images that are classified rightly as they are, which the others, at distance 0, are not;
    median_distance_all: over all; None where it is infinite. found: in percent of the former.
    """
    needed = distance[distance > 0]

    def median(values):
        middle = np.median(values) if len(values) else math.inf
        return float(middle) if np.isfinite(middle) else None

    found = float(100 * np.isfinite(needed).mean()) if len(needed) else None
    return {"median_distance": median(needed), "median_distance_all": median(distance), "found": found}


SUITES = {
    "fgsm": lambda: [Fgsm()],
    "table5": lambda: [
        Benchmark("table5", attacks.AS_LABELLED),
        Benchmark("unnormalised", attacks.AS_LABELLED, normalised=False),
    ],
    "converged": lambda: [Benchmark("converged", attacks.CONVERGED)],
    "cw": lambda: [Benchmark("cw", attacks.CARLINI_WAGNER)],
    "strongest": lambda: [Benchmark("strongest", attacks.STRONGEST)],
}


def parser():
    """The command line."""
    found = evaluation.parser(__doc__)
    words = "which ones, see above (default: fgsm table5)"
    found.add_argument("--attacks", nargs="+", choices=SUITES, default=["fgsm", "table5"], metavar="NAME", help=words)
    return found


def studies(args):
    """The studies that a command line asks for. Raises BadInput where Foolbox is needed and cannot be imported."""
    if {"table5", "converged", "cw"} & set(args.attacks):
        attacks.library()
    return [study for name in SUITES if name in args.attacks for study in SUITES[name]()]


def main(arguments=None):
    """The exit status of a command line (see cli.explain)."""
    return evaluation.main(parser(), studies, arguments)


if __name__ == "__main__":
    sys.exit(main())
