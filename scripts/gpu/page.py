"""What the parts report, as one screen and as a Markdown page."""

import statistics

import recipes
from engine.files import NUMBER, read_json

EPOCH = 45_000  # images of an epoch of CIFAR
TARGETS = {  # on an H100: an epoch of `none` in seconds
    "preactresnet18": 1.0,
    "wrn28_10": 5.0,
}
PATCHUP, PATCHUP_LIMIT = ("patchup_soft", "patchup_hard"), 1.03  # of a step of `none`, with graphs
PUZZLEMIX_LIMIT, PUZZLEMIX_STEP = 1.5, 20  # of `none`, where a step of it takes so many ms
TABLE2_DAYS = 15
ENOUGH = 0.95  # of the most images a second that runs at once reach
STUDY_METHODS = 5  # of gpu-minutes
COMPILING_PAYS = 1.05


# ---- what follows from the rows ----


def rows_of(parts, kind):
    """The rows of a kind, of all parts."""
    return [row for part in parts.values() for row in part["rows"] if row["kind"] == kind]


def well(parts):
    """Whether all that was begun was done and nothing was wrong."""
    begun = [part for part in parts.values() if not part["state"].startswith("left out")]
    return all(part["state"] == "done" for part in begun) and not any(
        row["passed"] is False for row in rows_of(parts, "check")
    )


def speeds(parts):
    """{(model, mode): {method: its row}} of what has a speed."""
    rows = {}
    for row in rows_of(parts, "speed"):
        if row["images_per_second"]:
            rows.setdefault((row["model"], row["mode"]), {})[row["method"]] = row
    return rows


def fastest(parts, model):
    """The mode in which `none` is fastest; compiled only where that pays. None where nothing was measured."""
    worth = {
        mode: methods["none"]["images_per_second"] / (COMPILING_PAYS if mode.startswith("compiled") else 1)
        for (network, mode), methods in speeds(parts).items()
        if network == model
    }
    return max(worth, key=worth.get, default=None)


def speeds_at_once(parts):
    """{runs at once: images a second together}."""
    return {row["runs"]: row["images_per_second"] for row in rows_of(parts, "at once")}


def runs_at_once(parts):
    """The fewest runs at once that reach nearly the most images a second together."""
    together = speeds_at_once(parts)
    return min((runs for runs, speed in together.items() if speed >= ENOUGH * max(together.values())), default=1)


def study_runs_at_once(parts):
    """How many of the study's runs share the card: all methods of a seed, so that they start together, where as many
    runs are together about as fast as fewer; else as runs_at_once.
    """
    together = speeds_at_once(parts)
    share = not together or together[max(together)] >= ENOUGH * max(together.values())
    return STUDY_METHODS if share else runs_at_once(parts)


def images_a_second(parts):
    """Images a second of runs at once of PreActResNet18, not compiled; else of one; None where nothing was measured."""
    alone = [
        methods["none"]["images_per_second"]
        for (model, mode), methods in speeds(parts).items()
        if model == "preactresnet18" and not mode.startswith("compiled")
    ]
    return max(speeds_at_once(parts).values() or alone, default=None)


def flags(parts):
    """The flags that are recommended on this card, or nothing where no speed was measured."""
    mode = fastest(parts, "preactresnet18")
    if not mode:
        return ""
    amp = next(iter(speeds(parts).values()))["none"]["amp"]
    words = [f"--amp {amp}"] * (amp != "off") + ["--graphs"] * ("graphs" in mode) + ["--compile"] * ("comp" in mode)
    jobs = runs_at_once(parts)
    return " ".join(words + [f"--jobs-per-gpu {jobs}"] * (jobs > 1))


def judged(parts):
    """(what, value, limit, met) of the targets for an H100 that were measured, on a GPU."""
    if not any("compute capability" in row for row in rows_of(parts, "card")):
        return
    for model, limit in TARGETS.items():
        if mode := fastest(parts, model):
            seconds = EPOCH / speeds(parts)[model, mode]["none"]["images_per_second"]
            yield f"{model}: epoch of 45,000 images, {mode}", f"{seconds:.2f} s", f"{limit:g} s", seconds <= limit
        graphed = speeds(parts).get((model, "graphs"), {})
        for method in PATCHUP:
            if row := graphed.get(method):
                what = f"{model}: {method} over none, graphs"
                yield what, ratio(row), PATCHUP_LIMIT, row["over_none"] <= PATCHUP_LIMIT
        row = graphed.get("puzzlemix")
        if row and graphed["none"]["step_ms"] >= PUZZLEMIX_STEP:
            what = f"{model}: puzzlemix over none, graphs"
            yield what, f"{row['over_none']:.2f}", PUZZLEMIX_LIMIT, row["over_none"] <= PUZZLEMIX_LIMIT
    for row in rows_of(parts, "days"):
        if row["table"] == "table2" and row["days"] is not None:
            met = row["days"] <= TABLE2_DAYS
            yield "all of Table 2, one run at a time", f"{row['days']:.1f} days", f"{TABLE2_DAYS} days", met


def errors(folder):
    """Rows of the trainings and evaluations of the study that are below a folder: method, seed and an error each.

    Raises BadInput where a file is no result.
    """
    for path in sorted(folder.rglob("seed*.json")):
        result = read_json(path, fields={"method": str, "seed": int}, if_there={"last_epoch_test_error": NUMBER})
        row = {"kind": "error", "method": result["method"], "seed": result["seed"]}
        if "last_epoch_test_error" in result:
            yield row | {"what": "test error (%)", "value": result["last_epoch_test_error"]}
        elif result.get("evaluation") in ("affine", "fgsm"):
            record = read_json(path, "an evaluation", fields={"cases": {...: {"error": NUMBER}}})
            for case, outcome in record["cases"].items():
                yield row | {"what": f"{result['evaluation']}, {case} (%)", "value": outcome["error"]}


# ---- one screen ----


def screen(results):
    """The end of gpu.sh: what it is, whether it is right, how fast, and what it says of the paper."""
    parts = results["parts"]
    return "\n".join([*card_lines(parts), *right_lines(parts), *fast_lines(parts), *true_lines(parts)])


def card_lines(parts):
    """What it is."""
    for row in rows_of(parts, "card"):
        yield "IS     " + ", ".join(f"{name} {value}" for name, value in row.items() if name != "kind")


def right_lines(parts):
    """What was wrong, and which parts did not end."""
    checks = rows_of(parts, "check")
    passed = sum(row["passed"] is True for row in checks)
    yield f"RIGHT  {passed} of {len(checks)} checks passed"
    for row in checks:
        if row["passed"] is False:
            yield f"       WRONG {row['what']}: {row['detail']}"
    for name, part in parts.items():
        if part["state"] != "done":
            yield f"       {name}: {part['state']}"


def fast_lines(parts):
    """Images a second, targets, days and the flags that are recommended."""
    yield "FAST   images a second of none / Soft / Hard PatchUp / Puzzle Mix"
    for (model, mode), methods in speeds(parts).items():
        shown = ("none", *PATCHUP, "puzzlemix")
        numbers = [f"{methods[name]['images_per_second']:,.0f}" if name in methods else "-" for name in shown]
        yield f"       {model}, {mode}: {' / '.join(numbers)}"
    for row in rows_of(parts, "at once"):
        yield f"       {row['runs']} runs at once: {row['images_per_second']:,.0f} together"
    for what, value, limit, met in judged(parts):
        yield f"       {what}: {value}, on an H100 at most {limit}: {'met' if met else 'not met'}"
    if days := rows_of(parts, "days"):
        words = [f"{row['table']} " + (f"{row['days']:.1f}" if row["days"] is not None else "-") for row in days]
        yield f"       days, one run at a time, not compiled: {', '.join(words)}"
    if flags(parts):
        yield f"       recommended: {flags(parts)}"


def true_lines(parts):
    """Errors of the study's methods, means of their seeds."""
    for row in rows_of(parts, "true"):
        yield "TRUE   " + ", ".join(f"{name} {value}" for name, value in row.items() if name != "kind")
    for what, methods in means(parts).items():
        if what.startswith("test"):
            words = [f"{recipes.printed(name)} {mean:.2f} ({count})" for name, (mean, count) in methods.items()]
            yield f"       {what}, mean (seeds): {', '.join(words)}"


def means(parts):
    """{what: {method: (mean, number of seeds)}} of the study."""
    values = {}
    for row in rows_of(parts, "error"):
        values.setdefault(row["what"], {}).setdefault(row["method"], []).append(row["value"])
    return {
        what: {name: (statistics.mean(errors), len(errors)) for name, errors in methods.items()}
        for what, methods in values.items()
    }


# ---- the page ----


def markdown(results):
    """The Markdown page."""
    parts = results["parts"]
    lines = [f"# A card, by `{results['command']}`", "", f"{results['date']}, code {results['code']}", ""]
    lines += ["```", screen(results), "```", "", "## Parts", ""]
    lines += table(("part", "state", "seconds"), [(name, p["state"], p["seconds"]) for name, p in parts.items()])
    if checks := rows_of(parts, "check"):
        words = {True: "yes", False: "**no**", None: ""}
        lines += ["", "## Right", ""]
        lines += table(("check", "passed", ""), [(r["what"], words[r["passed"]], r["detail"]) for r in checks])
    for (model, mode), methods in speeds(parts).items():
        lines += ["", f"## {model}, {mode}, amp {next(iter(methods.values()))['amp']}", ""]
        head = "method", "images a second", "ms a step", "over none", "memory (MiB)"
        lines += table(head, [speed_cells(name, row) for name, row in methods.items()])
    if settings := rows_of(parts, "setting"):
        lines += ["", "## Networks of the paper's tables", ""]
        cells = [(r["model"], r["image_size"], r["method"], f"{r['images_per_second']:,.0f}") for r in settings]
        lines += table(("network", "pixels", "method", "images a second"), cells)
    for what, methods in means(parts).items():
        lines += ["", f"## {what}", ""]
        lines += table(("method", "mean", "seeds"), [(n, f"{mean:.2f}", count) for n, (mean, count) in methods.items()])
    return "\n".join([*lines, ""])


def speed_cells(name, row):
    """A row of a table of speeds."""
    memory = "" if row["memory_mib"] is None else f"{row['memory_mib']:,}"
    return name, f"{row['images_per_second']:,.0f}", f"{row['step_ms']:.2f}", ratio(row), memory


def ratio(row):
    """A step over that of `none`, with its uncertainty."""
    return f"{row['over_none']:.3f} ± {row['uncertainty']:.3f}"


def table(heads, rows):
    """Lines of a Markdown table."""
    return [f"| {' | '.join(map(str, cells))} |" for cells in (heads, ["---"] * len(heads), *rows)]
