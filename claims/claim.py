"""A claim, what was measured of it, and the rule by which that gives a verdict.

A difference is decided where its paired 95 % t interval over seeds excludes zero. A claim holds where all of its parts
do: each must be decided by itself, so their number needs no correction. It does not hold where a part is decided
against it that stays so (p < 0.05) after Holm's correction for the number of the claim's differences, as any of them
would do. In all other cases it is undecided.
"""

import dataclasses
import functools
import math
from dataclasses import dataclass

from claims import statistics
from claims.scope import in_order

HOLDS, FAILS = "holds", "does not hold"
OPEN, UNTESTABLE = "undecided at this scale", "not testable here"


@dataclass(frozen=True)
class Part:
    """One difference by seed and what the claim says of it.

    differences: {seed: value}; says: -1 below zero, 1 above zero, 0 nothing; mcnemar: {seed: statistics.McNemar} of
    the two that are compared, in this order, or nothing; digits: of what is printed.
    """

    what: str
    differences: dict
    says: int = 0
    digits: int = 2
    mcnemar: dict = dataclasses.field(default_factory=dict)

    @property
    def singles(self):
        """The differences that it consists of: itself."""
        return (self,)

    @property
    def nearest(self):
        """(Part, its name) that stands for it: itself."""
        return self, ""

    @property
    def shown(self):
        """The difference as it is shown: itself."""
        return self

    @property
    def values(self):
        """The differences, numpy [seeds]."""
        return in_order(self.differences)

    @property
    def n(self):
        """The number of seeds."""
        return len(self.differences)

    @property
    def mean(self):
        """The mean difference; NaN without any."""
        return float(self.values.mean()) if self.n else math.nan

    @functools.cached_property
    def interval(self):
        """statistics.t_interval of the differences."""
        return statistics.t_interval(self.values)

    @functools.cached_property
    def bootstrap(self):
        """statistics.bootstrap_interval of the differences."""
        return statistics.bootstrap_interval(self.values)

    @property
    def verdict(self):
        """Whether the interval lies on the claim's side of zero; None where the claim says nothing."""
        if not self.says:
            return None
        low, high = sorted((self.says * self.interval.low, self.says * self.interval.high))
        return HOLDS if low > 0 else FAILS if high < 0 else OPEN  # comparisons with NaN are false

    @property
    def least(self):
        """How far from zero on the claim's side its interval begins at least, and its mean; sorts parts."""
        bounds = [self.says * bound for bound in self.interval[:2]]
        return (-math.inf if math.isnan(bounds[0]) else min(bounds)), self.says * self.mean

    @property
    def in_words(self):
        """`+1.23 [+0.50, +1.96]`; `+1.23` of one seed, `+1.23 (all alike)` of equal ones; `missing` without any run."""
        if not self.n:
            return "missing"
        low, high, _ = self.interval
        texts = [f"{value:+.{self.digits}f}" for value in (self.mean, low, high)]
        return texts[0] + (" (all alike)" * (self.n > 1) if math.isnan(low) else f" [{texts[1]}, {texts[2]}]")


@dataclass(frozen=True)
class Group:
    """One thing against several others, as one row: it holds where it holds against each.

    parts: one or more Parts, which say the same; names: what each is against.
    """

    what: str
    parts: tuple
    names: tuple

    @property
    def singles(self):
        """The differences that it consists of."""
        return self.parts

    @property
    def nearest(self):
        """(Part, its name) that is nearest to contradicting the claim: by its verdict, its interval, its mean."""
        there = [one for one in zip(self.parts, self.names) if one[0].n] or [(self.parts[0], self.names[0])]
        return min(there, key=lambda one: (one[0].verdict != FAILS, *one[0].least))

    @property
    def shown(self):
        """The nearest part under the group's name, which also tells how many others have no run."""
        part, name = self.nearest
        without = sum(not one.n for one in self.parts)
        missing = f" ({without} of {len(self.parts)} without runs)" if 0 < without < len(self.parts) else ""
        return dataclasses.replace(part, what=f"{self.what}, nearest: {name}{missing}")

    @property
    def verdict(self):
        """As a claim's, without correction."""
        found = [part.verdict for part in self.parts]
        return FAILS if FAILS in found else HOLDS if set(found) == {HOLDS} else OPEN


def corrected(parts):
    """[(Part, its p value after Holm)] of all differences of parts that a claim says something of."""
    singles = [one for part in parts for one in part.singles if one.says]
    return list(zip(singles, statistics.holm([one.interval.p for one in singles])))


def verdict_of(parts):
    """The verdict of a claim by its parts; see above."""
    if any(one.verdict == FAILS and p < statistics.LEVEL for one, p in corrected(parts)):
        return FAILS
    return HOLDS if parts and all(part.verdict == HOLDS for part in parts) else OPEN


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what one network at one scale says of it.

    sentence: the paper's, in our words; paper: its numbers, with their table; uses: the parts of the study it rests on;
    parts: what the claim says; beside: rows without verdict; official: rows of the official code's variants;
    remarks: sentences; decided: the verdict, where it is none of differences, with `line`, the figures in one line.
    """

    number: int
    title: str
    sentence: str
    paper: str
    uses: tuple = ()
    parts: tuple = ()
    beside: tuple = ()
    official: tuple = ()
    remarks: tuple = ()
    decided: str = ""
    line: str = ""

    @property
    def verdict(self):
        """One of the four."""
        return self.decided or verdict_of(self.parts)

    @property
    def in_one_line(self):
        """The figures of the first part that has runs, and which parts hold or are contradicted."""
        if self.line:
            return self.line
        first = next((part.shown for part in self.parts if part.shown.n), None)
        if not first:
            return "not run yet"
        text = f"{first.what}: {first.in_words} ({first.n} seed{'s' * (first.n != 1)})"
        if len(self.parts) == 1:
            return text
        return (
            f"{text}; of {len(self.parts)} parts {self.counted(HOLDS, 'hold')}, {self.counted(FAILS, 'contradicted')}"
        )

    def counted(self, verdict, word):
        """`2 hold (this one, that one)` for the parts with a verdict of their own."""
        names = [part.what.rpartition(",")[0] for part in self.parts if part.verdict == verdict]  # without the metric
        count = len(names)
        return f"{count} {word}" + f" ({'; '.join(dict.fromkeys(names))})" * (0 < count < len(self.parts))
