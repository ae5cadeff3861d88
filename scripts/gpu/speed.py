"""How fast training is on this device: every method in every mode, runs at once, days of the paper's tables."""

import functools
import gc
import itertools
import math
import statistics
import time

import torch

import recipes
import regularizers
from engine.device import best_amp, set_up_backends
from engine.profiling import replaced
from engine.trainer import compile_stages
from scripts.bench.timing import Case, images_a_second, timed
from scripts.gpu.right import compiled_as_eager
from scripts.gpu.rows import attempted, report
from scripts.grid import estimates

FIRST = ("none", "patchup_hard", "patchup_soft", "puzzlemix")  # where time is short, these at least
ROUND_SECONDS = 0.05  # of calls in a row
WARM_UP = 40  # steps, in which every branch of a method is recorded
TABLES = tuple(f"table{number}" for number in range(1, 8))


# ---- methods ----


def speed(model, compiled, device, small):
    """Report every method's speed and memory with a network, by graphs and launched from Python."""
    set_up_backends(device, deterministic=False)
    size = {"width": 4, "batch_size": 4} if small else {}
    amp = "off" if small else best_amp(device)
    net = recipes.network(recipes.resolve("cifar100", model, "none", **size), 100)
    compiler = functools.partial(torch.compile, backend="aot_eager") if small else torch.compile
    with replaced(torch, compile=compiler):  # in small, stages are traced alone: compiling takes minutes on a CPU
        if compiled:
            compile_stages(net)
            recipe = recipes.resolve("cifar100", model, "none", amp=amp, **size)
            attempted(f"{model}: compiled against eager", lambda: compiled_as_eager(recipe, net, device))
        for graphs in (False, True) if device.type == "cuda" else (False,):  # a failed recording may spoil what follows
            mode = ", ".join(word for word, chosen in (("compiled", compiled), ("graphs", graphs)) if chosen) or "eager"
            fields = {"amp": amp, "compile": compiled} | size
            make = functools.partial(made, model=model, device=device, graphs=graphs, net=net, **fields)
            about, seconds = {"model": model, "mode": mode, "amp": amp}, 0.1 if small else 1.5
            attempted(f"{model}, {mode}", functools.partial(speeds, make, device, seconds, about))


def made(method, *, model, device, graphs, net=None, dataset="cifar100", **fields):
    """A Case of a method that has done its first steps."""
    case = Case(recipes.resolve(dataset, model, method, **fields), device, graphs=graphs, net=net)
    for _ in range(WARM_UP if device.type == "cuda" else 1):
        case.step()
    return case


def speeds(make, device, seconds, about):
    """Report every method's speed, with what it is `about`, timed in turns with `none` for so many seconds."""
    none = make("none")
    for method in (*FIRST, *(name for name in regularizers.METHODS if name not in FIRST)):
        what = f"{about['model']}, {about['mode']}: speed of {method}"
        attempted(
            what, lambda method=method: report("speed", **about, **speed_row(none, make, method, device, seconds))
        )


def speed_row(none, make, method, device, seconds):
    """What speeds reports of a method; one that does not fit has no speed."""
    free(device)
    before = reserved(device)
    try:
        case = make(method)
        free(device)
        times = in_turns(none.step, case.step, device, seconds)
    except torch.OutOfMemoryError:
        return {"method": method, "images_per_second": None}
    return {"method": method, **compared(*times, case.recipe.batch_size), "memory_mib": peak(device, before)}


def in_turns(first, second, device, seconds):
    """Two lists of seconds a call, of rounds in turns; a round has as many calls as take ROUND_SECONDS, at least 2."""
    calls = max(2, math.ceil(ROUND_SECONDS / timed(first, device)))
    rounds, end = [], time.monotonic() + seconds
    while len(rounds) < 3 or time.monotonic() < end:
        rounds.append([timed(function, device, calls) for function in (first, second)])
    return tuple(zip(*rounds))


def compared(none, other, batch_size):
    """What the seconds of two steps say: the other's speed, its step over that of `none`, and the ratio's uncertainty.

    The uncertainty is two standard errors of the rounds' median ratio.
    """
    ratios = [b / a for a, b in zip(none, other)]
    return {
        "step_ms": 1e3 * statistics.median(other),
        "images_per_second": batch_size / statistics.median(other),
        "over_none": statistics.median(ratios),
        "uncertainty": 2 * 1.25 * statistics.stdev(ratios) / math.sqrt(len(ratios)),
    }


def free(device):
    """Give back what no tensor holds: compiled stages are in circles with their networks."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def reserved(device):
    """Bytes of the GPU that this process holds."""
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else 0


def peak(device, before):
    """MiB that steps held at most on the GPU on top of `before` bytes; None on a CPU, where they are not told apart."""
    return round((torch.cuda.max_memory_reserved(device) - before) / 2**20) if device.type == "cuda" else None


# ---- runs at once ----


def at_once(device, small):
    """Report images a second of several processes that train `none` at the same time, all together."""
    size = {"width": 4, "batch_size": 4} if small else {}
    recipe = recipes.resolve("cifar100", "preactresnet18", "none", amp=best_amp(device), **size)
    options = {"seconds": 0.5 if small else 4, "graphs": device.type == "cuda"}

    def together(count):
        report("at once", runs=count, images_per_second=images_a_second(recipe, device, count, **options))

    for count in (2,) if small else (1, 2, 4):
        attempted(f"{count} runs at once", functools.partial(together, count))


# ---- days of the paper's tables ----


def days(device, small):
    """Report the days that each of the paper's tables takes on this device, by `none` and Puzzle Mix timed for each
    network and image size: all other methods are taken to be as fast as `none`.
    """
    set_up_backends(device, deterministic=False)
    options = {"device": device, "graphs": device.type == "cuda", "amp": "off" if small else best_amp(device)}
    known = {}
    for name in TABLES:
        attempted(f"days of {name}", lambda name=name: days_of(name, known, small, options))


def days_of(name, known, small, options):
    """Report the days of a table; known: {(model, image side, batch, method): seconds an image}, which it adds to."""
    seconds, runs = 0.0, 0
    for recipe, count in trainings(recipes.TABLES[name]):
        kind = "puzzlemix" if recipe.method == "puzzlemix" and not small else "none"
        key = recipe.model, recipe.image_size, recipe.batch_size, kind
        if key not in known:
            known[key] = seconds_an_image(recipe, kind, small, **options)
            if known[key]:
                report("setting", model=key[0], image_size=key[1], method=kind, images_per_second=1 / known[key])
        if known[key] is None:
            seconds = math.nan
            break
        seconds += count * recipe.epochs * estimates.training_images(recipe) * known[key]
        runs += count
    report("days", table=name, days=None if math.isnan(seconds) else seconds / 86400, runs=runs)


def trainings(table):
    """(recipe, number of seeds) of every cell of a table that is trained for it."""
    rows = [row for row in table.rows if row.method not in table.cited]
    for dataset, model, row in itertools.product(table.datasets, table.models, rows):
        overrides = recipes.applicable(row.method, table.overrides | row.overrides)
        yield recipes.resolve(dataset, model, row.method, **overrides), len(table.seeds[: row.seeds])


def seconds_an_image(recipe, method, small, **options):
    """Seconds of a training step an image, or None where the memory does not suffice."""
    size = {"width": 4} if small and recipe.width else {}
    size |= {"batch_size": 2} if small else {}
    device = options["device"]
    try:
        case = made(method, model=recipe.model, dataset=recipe.dataset, **size, **options)
        if small:
            return timed(case.step, device) / case.recipe.batch_size
        _, times = in_turns(case.step, case.step, device, seconds=1)
        return statistics.median(times) / case.recipe.batch_size
    except torch.OutOfMemoryError:
        return None
    finally:
        free(device)
