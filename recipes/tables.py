"""The grid of every table and figure of the paper, once."""

from dataclasses import dataclass, field
from typing import NamedTuple

import data
import models
import regularizers
from recipes.names import printed
from recipes.paper import SMALL

PREACT = ("preactresnet18", "preactresnet34")
PAPER_ROBUST = ("manifold_mixup", "cutout", "dropblock", "cutmix", "puzzlemix", "patchup_soft", "patchup_hard")
PAPER_AFFINE = ("cutout", "cutmix", "manifold_mixup", "puzzlemix", "patchup_soft", "patchup_hard")  # and Figures 6, 14


class Metric(NamedTuple):
    """A number that a table shows of its runs."""

    name: str  # in a run's result
    heading: str
    paper: str = ""  # in results/paper, where it has another name
    better: str = "lower"  # or `higher`, or nothing where neither is
    digits: int = None  # behind the point; by default as many as the mean needs


@dataclass(frozen=True)
class Row:
    """A row of a table: a method, and what its recipe has other than the paper's."""

    method: str
    variant: str = ""  # names the row, as results/paper does behind a metric's @
    words: str = ""  # what is said of it behind the method's name
    overrides: dict = field(default_factory=dict)
    seeds: int = None  # how many of the table's seeds it has, where not all

    @property
    def label(self):
        """How the row is headed."""
        return printed(self.method) + (f", {self.words}" if self.words else "")


@dataclass(frozen=True)
class Table:
    """A grid of runs: every data set x model x row x seed, and what its cells show."""

    title: str
    datasets: tuple
    models: tuple
    metrics: tuple = ()  # of the runs; an evaluation has others
    methods: tuple = regularizers.PAPER
    variants: tuple = ()  # the rows, where they are more than the methods
    seeds: tuple = (0, 1, 2, 3, 4)
    overrides: dict = field(default_factory=dict)  # what differs from the paper's recipe
    evaluation: tuple = ()  # its kind, and flags of its script, where the cells show one
    cited: tuple = ()  # methods whose numbers the paper cites: shown, not run
    paper: tuple = ()  # files in results/paper, where it is not the file of this name
    remark: str = ""  # to stand below the title
    folder: str = ""  # in results, of runs whose recipe differs from the paper's by these overrides
    kind: str = "runs"  # or `steps`, timed, no runs; `any` data sets, networks and methods that are named; or `demo`

    def __post_init__(self):
        if self.overrides and not self.folder:
            raise ValueError(f"{self.title}: a table with overrides needs a folder, for runs that are not the paper's")

    @property
    def rows(self):
        """The rows in their order, those of cited methods too."""
        return tuple(map(Row, self.cited)) + (self.variants or tuple(map(Row, self.methods)))

    def seeds_of(self, row):
        """The seeds of a row, which may have fewer than the table; none of a cited method."""
        return () if row.method in self.cited else self.seeds[: row.seeds]


NOT_IN_PAPER = "The paper's numbers are in its appendix, which is not available."
ERROR = Metric("test_error", "test error (%)", digits=2)
NLL = Metric("test_nll", "test NLL", paper="test_loss_nll", digits=3)
ERROR_AND_NLL = (ERROR, NLL)
VALIDATION = (
    Metric("augmented_val_error", "validation error (%), images augmented [C]", paper="val_error", digits=2),
    Metric("val_error", "validation error (%), clean images", paper="-", digits=2),
)
LOSS_TERMS = (  # of equation 6
    ("L1", {"loss_terms": "first"}),
    ("L2", {"loss_terms": "second"}),
    ("L1+L2", {}),
    # what the official code computes for L2: its loss_alpha misses a part of L1, and its WRN does not mix W at k = 0
    ("official L2", {"loss_terms": "official_second", "input_target": "own"}),
)
TABLE7_ROWS = (
    ("k=1_only", "k = 1 alone", {"layers": (1,)}),
    ("k=2_only", "k = 2 alone", {"layers": (2,)}),
    ("k=3_only", "k = 3 alone", {"layers": (3,)}),
    ("random_k", "random k", {}),
    ("PatchUp_mask_also_at_k=0", "random k, PatchUp's mask at k = 0 too", {"input_mask": "patchup"}),
)
TABLES = {
    "table1": Table(
        "Table 1: test error and NLL on Tiny-ImageNet",
        datasets=("tiny_imagenet",),
        models=("resnet101", "resnet152", "wrn28_10"),
        metrics=ERROR_AND_NLL,
    ),
    "table2": Table(
        "Table 2: test error on CIFAR-10, CIFAR-100 and SVHN",
        datasets=SMALL,
        models=(*PREACT, "wrn28_10"),
        metrics=(ERROR,),
    ),
    "table3": Table(
        "Table 3: validation error on ImageNet",
        datasets=("imagenet",),
        models=("resnet50",),
        metrics=(
            Metric("test_error", "top-1 error (%)", paper="val_top1_error", digits=2),
            Metric("test_top5_error", "top-5 error (%)", paper="val_top5_error", digits=2),
        ),
        methods=("patchup_soft", "patchup_hard"),
        seeds=(0,),
        cited=("none", "mixup", "manifold_mixup", "cutout", "feature_cutmix", "cutmix", "puzzlemix"),
        remark="The other methods' numbers are citations in the paper (of the CutMix and the Puzzle Mix paper).",
    ),
    "table4": Table(
        "Table 4: test error under affine deformations",
        datasets=("cifar100",),
        models=("preactresnet34",),
        methods=PAPER_AFFINE,
        evaluation=("affine",),
    ),
    "table5": Table(
        "Table 5: accuracy under attacks",
        datasets=("tiny_imagenet",),
        models=("wrn28_10",),
        evaluation=("adversarial", "--attacks", "table5"),
    ),
    "table6": Table(
        "Table 6: the terms of PatchUp's loss",
        datasets=("cifar100",),
        models=("wrn28_10",),
        metrics=(*VALIDATION, ERROR),
        methods=("none", "patchup_soft", "patchup_hard"),
        variants=(
            Row("none"),
            *(
                Row(method, f"loss={terms}", terms, overrides)
                for method in ("patchup_soft", "patchup_hard")
                for terms, overrides in LOSS_TERMS
            ),
        ),
        remark="L1 and L2 are equal, and L1+L2 is twice either (docs/details.md, 4).",
    ),
    "table7": Table(
        "Table 7: the layers that Hard PatchUp acts on",
        datasets=("cifar100",),
        models=("wrn28_10",),
        metrics=(*VALIDATION, ERROR, Metric("test_nll", "test NLL", digits=3)),
        methods=("none", "patchup_hard"),
        variants=(Row("none"), *(Row("patchup_hard", *row) for row in TABLE7_ROWS)),
        paper=("table6", "table7"),
    ),
    "table8": Table(
        "Table 8: hours of a training",
        datasets=("tiny_imagenet",),
        models=("wrn28_10",),
        metrics=(Metric("hours", "hours a run", better=""),),
        kind="steps",
        seeds=(0,),
        remark="The paper's: its text's, about 23 hours on one V100, Puzzle Mix 53. Its table is in the appendix, "
        "which is not available.",
    ),
    "table10": Table(
        "Table 10: test error under affine deformations",
        datasets=("cifar100",),
        models=("wrn28_10",),
        methods=PAPER_AFFINE,
        evaluation=("affine",),
        remark=NOT_IN_PAPER,
    ),
    "table11": Table(
        "Table 11: test error and NLL on CIFAR-10 and CIFAR-100",
        datasets=("cifar10", "cifar100"),
        models=(*PREACT, "wrn28_10"),
        metrics=ERROR_AND_NLL,
        paper=("table2",),
        remark=f"{NOT_IN_PAPER} The errors are Table 2's; which of Tables 11 and 12 shows what is our guess.",
    ),
    "table12": Table(
        "Table 12: test error and NLL on SVHN",
        datasets=("svhn",),
        models=(*PREACT, "wrn28_10"),
        metrics=ERROR_AND_NLL,
        paper=("table2",),
        remark=f"{NOT_IN_PAPER} The errors are Table 2's; which of Tables 11 and 12 shows what is our guess.",
    ),
    "figure4": Table(
        "Figure 4: errors under common corruptions",
        datasets=("tiny_imagenet",),
        models=("wrn28_10",),
        evaluation=("corruption",),
    ),
    "figure5": Table(
        "Figure 5: accuracy under FGSM",
        datasets=("cifar100", "tiny_imagenet"),
        models=("wrn28_10",),
        methods=PAPER_ROBUST,
        evaluation=("adversarial", "--attacks", "fgsm"),
    ),
    "figure6": Table(
        "Figure 6: activation magnitudes after the first two layers",
        datasets=("cifar100",),
        models=("wrn28_10",),
        methods=PAPER_AFFINE,
        evaluation=("activations",),
    ),
    "figure13": Table(
        "Figure 13: accuracy under FGSM",
        datasets=("cifar10", "svhn"),
        models=(*PREACT, "wrn28_10"),
        methods=PAPER_ROBUST,
        evaluation=("adversarial", "--attacks", "fgsm"),
    ),
    "figure14": Table(
        "Figure 14: activation magnitudes after conv1 and every layer",
        datasets=("cifar100",),
        models=("wrn28_10",),
        methods=PAPER_AFFINE,
        evaluation=("activations",),
    ),
    "figure15": Table(
        "Figure 15: errors under common corruptions",
        datasets=("tiny_imagenet",),
        models=("resnet101", "resnet152"),
        evaluation=("corruption",),
    ),
    "demo": Table(
        "Demo: scikit-learn's digits, 10 training images a class, PreActResNet18 of width 16",
        datasets=("digits",),
        models=("preactresnet18",),
        metrics=(ERROR, NLL, Metric("seconds", "seconds a run", better="")),
        seeds=(0, 1, 2),
        overrides={"width": 16},
        folder="demo",
        kind="demo",
    ),
    "compare": Table(  # any methods, on any data set and network
        "Comparison",
        datasets=tuple(data.FACTS),
        models=tuple(models.MODELS),
        metrics=ERROR_AND_NLL,
        methods=tuple(regularizers.METHODS),
        paper=("table1", "table2"),
        kind="any",
    ),
}
