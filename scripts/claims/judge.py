"""What a network's records say of contrasts and claims.

A part of a claim is decided where its interval in the additive model excludes zero; where Levene's test says that
cells deviate differently, only where the paired interval does so on the same side. Fewer than three seeds decide
nothing where the design has more. A claim holds where all its parts do, which needs no correction for their number. It
does not hold where a part is decided against it and stays so after Holm's correction, as any of them would do.
"""

import functools
import math
from dataclasses import dataclass

from scripts.claims.catalogue import Claim, Contrast, catalogue
from scripts.claims.measures import BEST, MEASURES
from scripts.grid import statistics
from scripts.grid.statistics import Interval

FEWEST = 3  # seeds
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
NO_VERDICT, UNTESTABLE = "no verdict yet", "not testable here"


@dataclass(frozen=True)
class Finding:
    """A contrast in a network.

    label: of the contrast; seeds: the fewest of its cells; enough: whether they may decide; complete: whether all cells
    have those of the design; pooled, paired: its Intervals; best: that of the best epoch's weights, or None; paper: of
    the paper's numbers, or None; unequal: whether the pooled interval does not decide alone.
    """

    contrast: Contrast
    label: str
    seeds: int
    enough: bool
    complete: bool
    pooled: Interval
    paired: Interval
    best: Interval | None
    paper: Interval | None
    unequal: bool

    @property
    def measure(self):
        """How its numbers are headed and printed."""
        return MEASURES[self.contrast.measure]

    @property
    def deciding(self):
        """The Intervals that decide it together; none while seeds are too few."""
        both = (self.pooled, self.paired) if self.unequal else (self.pooled,)
        return both if self.enough else ()

    @property
    def side(self):
        """-1 or 1 where it is decided, else 0."""
        sides = {interval.side for interval in self.deciding}
        return sides.pop() if len(sides) == 1 else 0

    @property
    def p(self):
        """The p value by which it is decided, or NaN."""
        return max((interval.p for interval in self.deciding), default=math.nan)

    @property
    def verdict(self):
        """Of a part of a claim: HOLDS, FAILS, UNDECIDED, or NO_VERDICT while seeds are too few."""
        if not self.enough:
            return NO_VERDICT
        return {0: UNDECIDED, 1: HOLDS, -1: FAILS}[self.side * self.contrast.says]

    @property
    def paper_decides(self):
        """Whether the paper's numbers decide it on the claim's side; True where it prints none."""
        return self.paper is None or self.paper.side == self.contrast.says

    @property
    def excludes_paper(self):
        """Whether the paper's difference lies outside the interval."""
        if self.paper is None or not self.enough:
            return False
        return all(interval.excludes(self.paper.mean) for interval in self.deciding)


@dataclass(frozen=True)
class Judgement:
    """A claim with the Findings of its parts and of what stands beside them."""

    claim: Claim
    parts: tuple
    beside: tuple

    @functools.cached_property
    def corrected(self):
        """The parts' p values after Holm."""
        return statistics.holm([part.p for part in self.parts])

    @property
    def verdict(self):
        """One of the five."""
        if self.claim.floor:
            return UNTESTABLE
        verdicts = [part.verdict for part in self.parts]
        if any(v == FAILS and p < statistics.LEVEL for v, p in zip(verdicts, self.corrected)):
            return FAILS
        if NO_VERDICT in verdicts:
            return NO_VERDICT
        return HOLDS if set(verdicts) == {HOLDS} and not self.claim.absent else UNDECIDED

    @property
    def so_far(self):
        """The verdict, and whether seeds of the design are missing."""
        decided = self.verdict in (HOLDS, FAILS, UNDECIDED)
        return self.verdict + " so far" * (decided and not all(part.complete for part in self.parts))


def finding(network, contrast):
    """The Finding of a contrast."""
    cells, measure, paper = list(contrast.weights), contrast.measure, contrast.paper
    group = network.group_of(cells)
    values, model = network.values(measure, group), network.additive(measure, group)
    seeds = {cell: len(values.get(cell, ())) for cell in cells}
    wanted = {cell: network.wanted(cell, measure) for cell in cells}
    best = None if MEASURES[measure].needs else network.additive(measure + BEST, group).contrast(contrast.weights)
    in_paper = paper.keys() >= set(cells)
    return Finding(
        contrast,
        contrast.words or " - ".join(network.row(cell).label for cell in cells),
        min(seeds.values()),
        all(seeds[cell] >= min(FEWEST, wanted[cell]) for cell in cells),
        all(seeds[cell] >= wanted[cell] for cell in cells),
        model.contrast(contrast.weights),
        statistics.paired(values, contrast.weights)[0],
        best,
        statistics.welch([(w, *paper[cell]) for cell, w in contrast.weights.items()]) if in_paper else None,
        model.unequal,
    )


def judge(network):
    """The Judgements of all claims that the network's study has parts of."""
    return [
        Judgement(claim, *(tuple(finding(network, c) for c in contrasts) for contrasts in (claim.parts, claim.beside)))
        for claim in catalogue(network)
    ]
