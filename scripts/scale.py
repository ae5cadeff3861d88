"""How a training step and the methods' own operations grow with batch, image, channels and classes.

python scripts/scale.py                        # bases small enough for a CPU; nothing else may run
python scripts/scale.py --device cuda --batch-size 128 --width 64 --out results/benchmarks

One of the four is varied at a time, by doublings from a base. Measured are the step of `none`, every method's own
operations (as in benchmark.py), and the memory of both: what autograd keeps for the backward pass, on a GPU for the
step the peak above what was there before. An exponent is the slope of a line through the logarithms of the last three
points: at the first, what does not grow weighs most.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import check_install

check_install.main()  # before anything else imports torchvision

import numpy as np
import pandas as pd
import torch

import engine
import models
import recipes
import train
from records import BadInput, make_folder, write_whole
from scripts.figures import NAMES, PAGE, PRINT, STYLES, plt, styles
from scripts.timing import Case, Operations, kept_bytes, medians, solver_seconds

LAYER = 1  # where methods act that act on features
CLASSES = (10, 100, 1000)
LAST = 3  # points that an exponent is of
TOLERANCE = 0.15  # of an exponent, for times that a machine repeats to some 10 %
VARIED = {
    "batch": "images a batch",
    "pixels": "pixels an image",
    "channels": "channels of layer1",
    "classes": "classes",
}
STEP, SOLVERS = "step of none", "puzzlemix, cut and transport"


# ---- what is measured ----


def settings(base, doublings):
    """(varied, its value, the whole setting) of every point; base: {"batch", "side", "channels", "classes"}."""
    times = [2**i for i in range(doublings + 1)]
    for i in times:
        yield "batch", i * base["batch"], base | {"batch": i * base["batch"]}
    for i in times:
        side = i * base["side"]
        yield "pixels", side**2, base | {"side": side}
    for i in times:
        yield "channels", i * base["channels"], base | {"channels": i * base["channels"]}
    for classes in CLASSES:
        yield "classes", classes, base | {"classes": classes}


def recipe_of(model, method, setting):
    """The recipe of a method mixing every batch of images of any size, at LAYER where it acts on features."""
    size = {"image_size": setting["side"], "batch_size": setting["batch"], "width": setting["channels"]}
    options = recipes.applicable(method, {"prob": 1.0, "layers": (LAYER,)})
    return recipes.resolve("folder", model, method, stem_stride=1, **size, **options)


def point(model, setting, device, rounds):
    """{(what, "ms" or "MB"): number} of one setting."""
    case = Case(recipe_of(model, "none", setting), device, setting["classes"])
    hidden = case.hidden()
    operations = {}
    for method in recipes.LABELS:
        if method != "none":
            regularizer = recipes.regularizer(recipe_of(model, method, setting), setting["classes"])
            operations[method] = Operations(regularizer, case.x, case.y, case.net, *hidden)
    calls = {STEP: case.step} | {method: one.run for method, one in operations.items()}
    found = {(what, "ms"): 1e3 * seconds for what, seconds in medians(calls, device, rounds).items()}
    found[SOLVERS, "ms"] = 1e3 * solver_seconds(operations["puzzlemix"], device, rounds)
    found[STEP, "MB"] = step_bytes(case) / 1e6
    return found | {(method, "MB"): one.kept() / 1e6 for method, one in operations.items()}


def step_bytes(case):
    """What a step keeps for its backward pass beside the weights; on a GPU its peak above what was there before."""
    if case.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(case.device)
        before = torch.cuda.memory_allocated(case.device)
        case.step()
        return torch.cuda.max_memory_allocated(case.device) - before
    regularizer, net = case.regularizer, case.net
    regularizer.draw(case.x, case.y, net)
    return kept_bytes(lambda: [regularizer.loss(net(case.x, regularizer.mix))], [*net.parameters(), *net.buffers()])


def measured(model, base, doublings, device, rounds):
    """A row a point and number: varied, value, what, unit (ms or MB), number; 0 where nothing is kept."""
    rows = []
    for varied, value, setting in settings(base, doublings):
        for (what, unit), number in point(model, setting, device, rounds).items():
            rows.append((varied, value, what, unit, number))
    return pd.DataFrame(rows, columns=["varied", "value", "what", "unit", "number"])


# ---- growth ----


def exponents(table):
    """The exponent of growth of every (what, unit) with everything varied, a frame [(unit, what), varied]; else NaN."""
    found = {}
    for (unit, what, varied), rows in table.groupby(["unit", "what", "varied"], sort=False):
        rows = rows.tail(LAST)
        positive = bool((rows.number > 0).all())
        slope = np.polyfit(np.log(rows.value), np.log(rows.number), 1)[0] if positive else np.nan
        found.setdefault((unit, what), {})[varied] = slope
    return pd.DataFrame.from_dict(found, orient="index")[list(VARIED)]


def verdicts(growth):
    """{what: `no`, or what of it grows faster than linearly with batch or pixels, beyond TOLERANCE}."""
    kinds, found = {"ms": "time", "MB": "memory"}, {}
    for (unit, what), row in growth.iterrows():
        faster = [f"{kinds[unit]} with {varied}" for varied in ("batch", "pixels") if row[varied] > 1 + TOLERANCE]
        found.setdefault(what, []).extend(faster)
    return {what: ", ".join(faster) or "no" for what, faster in found.items()}


# ---- what is shown ----


def markdown(table, growth, head):
    """The exponents, and the numbers behind them."""
    answers = verdicts(growth)
    heads = [f"{name}, {varied}" for name in ("time", "memory") for varied in VARIED]
    lines = [head, "", f"| exponent of growth | {' | '.join(heads)} | faster than linear in batch or pixels |"]
    lines.append("| --- |" + " ---: |" * len(heads) + " --- |")
    for what, answer in answers.items():
        cells = [growth[varied].get((unit, what), np.nan) for unit in ("ms", "MB") for varied in VARIED]
        texts = ["" if np.isnan(cell) else f"{cell:.2f}" for cell in cells]
        lines.append(f"| {what} | {' | '.join(texts)} | {answer} |")
    for varied, words in VARIED.items():
        part = table[table.varied == varied].pivot(index="what", columns=["value", "unit"], values="number")
        values = list(dict.fromkeys(part.columns.get_level_values("value")))
        lines += ["", f"| {words}: ms / MB | " + " | ".join(f"{value:,}" for value in values) + " |"]
        lines.append("| --- |" + " ---: |" * len(values))
        for what in answers:
            texts = [numbers_in_words(part.loc[what, value]) for value in values]
            lines.append(f"| {what} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def numbers_in_words(numbers):
    """`5.43 / 0.26` for milliseconds and megabytes, the latter where they were measured."""
    words = f"{numbers.ms:,.2f}"
    return words if np.isnan(numbers.MB) else f"{words} / {numbers.MB:,.2f}"


def picture(table):
    """The figure: time above, memory below, a panel for everything varied, logarithmic."""
    looks = styles(set(table.what) - {STEP, SOLVERS})
    looks = {STEP: STYLES["none"], **looks, SOLVERS: STYLES["puzzlemix"]._replace(marker="", dashes=":")}
    with plt.rc_context(PRINT):
        figure, axes = plt.subplots(2, len(VARIED), figsize=(PAGE, 4.2), layout="constrained", sharey="row")
        for row, (unit, label) in zip(axes, {"ms": "time (ms)", "MB": "kept for backward (MB)"}.items()):
            row[0].set_ylabel(label)
            for axis, (varied, words) in zip(row, VARIED.items()):
                part = table[(table.varied == varied) & (table.unit == unit) & (table.number > 0)]
                for what, look in looks.items():
                    line = part[part.what == what]
                    axis.plot(line.value, line.number, label=NAMES.get(what, what), **look.line())
                axis.set(xscale="log", yscale="log", xlabel=words if unit == "MB" else "")
                values = sorted(set(part.value))
                axis.set_xticks(values, [f"{value:,}" for value in values])
                axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
                axis.grid()
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        return figure


# ---- the command ----


def measure(args):
    """Measure, print the table, and write table and picture where --out says."""
    base = {"batch": args.batch_size, "side": args.image_size, "channels": args.width, "classes": args.classes}
    for name, least in (("doublings", 1), ("rounds", 1), ("classes", 2)):
        if getattr(args, name) < least:
            raise BadInput(f"--{name} must be at least {least}, not {getattr(args, name)}")
    device = engine.select_device(args.device)
    train.set_up_backends(device, deterministic=False)
    for method in recipes.LABELS:
        recipe_of(args.model, method, base)  # raises where it cannot be
    if args.out:
        make_folder(args.out)
    table = measured(args.model, base, args.doublings, device, args.rounds)
    words = ", ".join(f"{name} {value}" for name, value in base.items())
    head = f"{args.model}, from {words}, on {engine.environment(device)['device']}; medians of {args.rounds} rounds. "
    head += (
        f"Of a method its own operations, at k = {LAYER} where it acts on features; memory is what they keep for the "
    )
    head += f"backward pass. Exponents are of the last {LAST} points; one up to {1 + TOLERANCE:g} counts as linear."
    text = markdown(table, exponents(table), head)
    print(text, end="")
    if args.out:
        write_whole(args.out / "scale.md", lambda file: file.write(text.encode()))
        write_whole(args.out / "scale.csv", lambda file: table.to_csv(file, index=False))
        figure = picture(table)
        write_whole(args.out / "scale.png", lambda file: figure.savefig(file, format="png"))
        plt.close(figure)
    return 0


def parser():
    """The command line."""
    found = train.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = found.add_argument
    add("--model", default="preactresnet18", choices=models.SCALABLE)
    add("--batch-size", type=int, default=16, help="base (default 16)")
    add("--image-size", type=int, default=32, help="base, side in pixels (default 32)")
    add("--width", type=int, default=16, help="base, channels of layer1 (default 16)")
    add("--classes", type=int, default=10, help="with everything else varied (default 10)")
    add("--doublings", type=int, default=3, help="of batch, side and channels (default 3)")
    add("--rounds", type=int, default=5, help="counted timings of everything (default 5)")
    add("--device", default="auto")
    add("--out", type=Path, help="a folder that gets scale.md, scale.csv and scale.png")
    return found


def main(arguments=None):
    """Measure as a command line says; the exit status (see train.explain)."""
    args = parser().parse_args(arguments)
    return train.explain(lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
