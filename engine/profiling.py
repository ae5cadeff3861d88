"""Where the time of a run's training steps goes: train.py --profile DIR.

The step is taken apart from outside: meanwhile, what Trainer.train_step calls is replaced by the same within a region.
So training itself knows of no regions, and they cost it nothing.
"""

import contextlib
import itertools
import os
import time

import torch
from torch.autograd import DeviceType
from torch.profiler import record_function
from tqdm import tqdm

import recipes
from engine import distributed
from engine.device import environment
from engine.files import write_whole

PARTS = ("input", "draw", "forward", "mix", "backward", "optimizer", "other")
WARM_UP = {"cpu": 2, "cuda": 10}  # steps; on a GPU algorithms are chosen in them, with --compile stages are compiled
TIMED, TRACED = 10, 3  # steps
OPERATORS = 8  # in the summary


def profile(trainer, folder):
    """Time and trace a few training steps of an engine.Trainer without files; the summary, a text.

    Rank 0 writes folder/summary.txt and folder/trace.json (for https://ui.perfetto.dev). The summary's times are of
    steps that are not traced. Raises files.RunFailed where a file cannot be written.
    """
    if trainer.device.type == "cpu":
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler's library complains of a missing GPU
    warm_up, timeline = WARM_UP[trainer.device.type], Timeline(trainer.device)
    trainer.net.train()
    with (
        contextlib.closing(batches(trainer)) as source,
        tqdm(total=warm_up + TIMED + TRACED, desc="profiling", unit="step", dynamic_ncols=True, leave=False) as bar,
    ):
        make_steps(trainer, source, warm_up, contextlib.nullcontext, bar)
        timeline.mark()
        images = make_steps(trainer, source, TIMED, timeline.region, bar)
        timeline.mark()
        milliseconds = {part: total / TIMED for part, total in timeline.milliseconds().items()}
        with torch.profiler.profile() as trace:
            make_steps(trainer, source, TRACED, record_function, bar)
    lines = [*setting(trainer, warm_up), *split(milliseconds, images / TIMED), "", *operators(trace, trainer.device)]
    if distributed.rank() == 0:
        write_whole(folder / "trace.json", lambda file: trace.export_chrome_trace(file.name))
        write_whole(folder / "summary.txt", lambda file: file.write("\n".join([*lines, ""]).encode()))
    return "\n".join(lines)


# ---- steps ----


def batches(trainer):
    """Yield the training batches of one epoch after another, the trainer's epoch and step being theirs."""
    where = {"rank": trainer.rank, "world": trainer.world}
    for trainer.epoch in itertools.count():
        epoch = trainer.datasets.train.batches(trainer.recipe.batch_size, trainer.device, trainer.epoch, **where)
        for trainer.step, batch in enumerate(epoch):
            yield batch


def make_steps(trainer, source, count, region, bar):
    """Make so many training steps on batches of source, every part within region(part), a context manager.

    Returns the number of their images, of all ranks together.
    """
    images = 0
    with contextlib.ExitStack() as meanwhile:
        for owner, name, part in places(trainer):
            meanwhile.enter_context(replaced(owner, **{name: within(region, part, getattr(owner, name))}))
        for _ in range(count):
            with region("input"):
                x, y = next(source)
            trainer.train_step(x, y)
            images += trainer.datasets.train.size(trainer.recipe.batch_size, trainer.step)
            bar.update()
    return images


def places(trainer):
    """(object, name, part): what a training step calls, and the part of the step that it is."""
    yield trainer.regularizer, "seed", "draw"
    yield trainer.regularizer, "draw", "draw"
    yield trainer, "model", "forward"
    yield trainer.regularizer, "mix", "mix"
    yield trainer.regularizer, "loss", "forward"
    yield torch.Tensor, "backward", "backward"
    yield trainer.scaler, "step", "optimizer"
    yield trainer.scaler, "update", "optimizer"
    yield trainer.optimizer, "zero_grad", "optimizer"


@contextlib.contextmanager
def replaced(owner, **values):
    """Within it, attributes of a module, class or object have these values."""
    before = {name: getattr(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def within(region, part, function):
    """function, called within region(part)."""

    def inner(*given, **options):
        with region(part):
            return function(*given, **options)

    return inner


class Timeline:
    """Times parts that may be nested: the time of an inner part is not counted for the outer.

    On a GPU it is the device's timeline, between events in its stream, so that nothing waits for the GPU; the time
    in which the GPU waits for its next work is the part's that gives it.
    """

    def __init__(self, device):
        self.cuda = device.type == "cuda"
        self.open, self.marks = ["other"], []

    def mark(self):
        """Give the time since the mark before to the innermost open part."""
        if self.cuda:
            now = torch.cuda.Event(enable_timing=True)
            now.record()
        else:
            now = time.perf_counter()
        self.marks.append((self.open[-1], now))

    @contextlib.contextmanager
    def region(self, part):
        """Within it, time is the part's."""
        self.mark()
        self.open.append(part)
        yield
        self.mark()
        self.open.pop()

    def milliseconds(self):
        """{part: milliseconds from the first mark to the last}; together they are all of the time between these."""
        if self.cuda:
            torch.cuda.synchronize()
        total = dict.fromkeys(PARTS, 0.0)
        for (_, start), (part, end) in itertools.pairwise(self.marks):
            total[part] += start.elapsed_time(end) if self.cuda else 1e3 * (end - start)
        return total


# ---- the summary ----


def setting(trainer, warm_up):
    """Lines that say what was timed, and where."""
    place = environment(trainer.device)
    processes = f", {trainer.world} processes" if trainer.world > 1 else ""
    yield ", ".join(f"{name} {value}" for name, value in recipes.used(trainer.recipe).items())
    yield f"{place.pop('device')}{processes}, " + ", ".join(f"{name} {value}" for name, value in place.items())
    yield f"{TIMED} training steps, after {warm_up} to warm up"


def split(milliseconds, images):
    """Lines of a table: milliseconds {part: of a step}, its share of the step, and the images a second that it allows.

    images: in a step, on average.
    """
    step = sum(milliseconds.values())
    yield f"{'':<12}{'ms a step':>12}{'% of step':>12}{'images a second':>18}"
    for part, time_taken in (milliseconds | {"step": step}).items():
        speed = f"{1e3 * images / time_taken:,.0f}" if time_taken else "-"
        yield f"{part:<12}{time_taken:>12.2f}{100 * time_taken / step:>12.1f}{speed:>18}"


def operators(trace, device):
    """Lines of a table: the operators that take most time, on the GPU if it is one, without those they call."""

    def seconds(event):
        return (event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total) / 1e6

    events = [e for e in trace.key_averages() if e.device_type == DeviceType.CPU and not e.is_user_annotation]
    yield f"{'operator':<44}{'ms a step':>12}{'calls a step':>14}"
    for event in sorted(events, key=seconds, reverse=True)[:OPERATORS]:
        yield f"{event.key[:43]:<44}{1e3 * seconds(event) / TRACED:>12.2f}{event.count / TRACED:>14.1f}"
