"""The speed targets, as a table: other code, the target, and what was measured."""

from typing import NamedTuple


class Target(NamedTuple):
    """One target."""

    key: str  # of the measured figures
    what: str
    elsewhere: str
    limit: float
    words: str  # the format of a figure
    least: bool = False  # whether the limit is the least that will do, not the most

    def met(self, value):
        """Whether a measured value does."""
        return value >= self.limit if self.least else value <= self.limit


def targets(device):
    """All of them. What is said to be elsewhere was measured with the official code on another 2-core CPU."""
    puzzlemix = 1.9 if device.type == "cuda" else 1.7
    mixing = "Mixup, ManifoldMixup, CutMix, Cutout, PatchUp at any k"
    return (
        Target("soft", "Soft PatchUp's operation over a copy", "115 to 135 x; plain torch 21 to 25 x", 8, "{:.1f} x"),
        Target("hard", "Hard PatchUp's operation over a copy", "115 to 135 x; plain torch 21 to 25 x", 10, "{:.1f} x"),
        Target("soft_compiled", "the same compiled, Soft", "", 5, "{:.1f} x"),
        Target("hard_compiled", "the same compiled, Hard", "", 5, "{:.1f} x"),
        Target("kept", "what PatchUp keeps for backward, over its tensor", "2.0 x", 0.05, "{:.3f} x"),
        Target("mixing", f"step over `none`: {mixing}", "1.04 to 1.27", 1.03, "{:.3f}"),
        Target("dropblock", "step over `none`: DropBlock, exactly the same law", "1.31 to 1.56", 1.08, "{:.3f}"),
        Target("puzzlemix", "step over `none`: Puzzle Mix", "2.02; paper, on a GPU 2.3", puzzlemix, "{:.2f}"),
        Target("solvers", "its transport and cut, of `none`'s step", "", 8, "{:.1f} %"),
        Target("eager", "`none`'s step over the official formulation's", "1.00", 0.87, "{:.2f}"),
        Target("compiled", "the same with `--compile`", "1.00", 0.84, "{:.2f}"),
        Target("input", "32x32 training images a second", "5,700", 100_000, "{:,.0f}", least=True),
    )


def judged(wanted, figures):
    """Rows for people and for JSON, dicts, of targets and {key: (value, of what)}; None where nothing was measured."""
    rows = []
    for target in wanted:
        value, of = figures.get(target.key, (None, ""))
        rows.append(
            {
                "what": target.what,
                "elsewhere": target.elsewhere,
                "target": f"{'>=' if target.least else '<='} {target.words.format(target.limit)}",
                "here": value,
                "of": of,
                "here_in_words": "" if value is None else target.words.format(value) + (f" ({of})" if of else ""),
                "met": None if value is None else target.met(value),
            }
        )
    return rows


def table(rows):
    """Markdown of judged rows."""
    lines = ["| what | elsewhere | target | here | met |", "| --- | --- | ---: | ---: | --- |"]
    for row in rows:
        here = row["here_in_words"] or "not measured"
        met = {True: "yes", False: "no", None: ""}[row["met"]]
        lines.append(f"| {row['what']} | {row['elsewhere']} | {row['target']} | {here} | {met} |")
    return "\n".join(lines)
