"""What the benchmarks share: a recipe at work on one batch, and medians of calls that take turns."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import multiprocessing
import statistics
import time
import warnings
from threading import BrokenBarrierError
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

import data
import recipes
from data.loaders import TRAIN, MemoryLoader, Pool
from engine.device import autocast, peak_memory, set_up_backends
from engine.files import RunFailed
from engine.graphs import Recorder
from engine.profiling import replaced
from engine.trainer import Trainer, compile_stages
from regularizers import puzzlemix
from regularizers.base import one_hot

CALLS = {"cpu": 1, "cuda": 20}  # timed in a row: launching kernels runs ahead of a GPU
ROUNDS = {"cpu": 3, "cuda": 31}  # counted, of medians: on a GPU enough to tell 1.03 from 1
LAUNCHING_CYCLES = 100_000_000  # of a GPU: 50 ms and more, in which CALLS calls are launched
LAYERS = (0, 1, 2, 3)
BATCHES = 3  # of random_images
WAIT_EPOCHS = 10  # of random_images, over which the waits are counted
WAITED = "called a synchronizing CUDA operation"  # torch's warning; another one says that counting is a prototype
START_MINUTES = 10  # to wait for the slowest run's first steps, compilation included


# ---- the clock ----


def synchronize(device):
    """Wait for the GPU, if the device is a GPU."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def timed(function, device, calls=1, queued=False):
    """Seconds of one call of function(), the mean of several in a row.

    On a GPU between two events in its stream. There a call takes what is longer, launching its kernels or doing them;
    queued: the GPU begins when all are launched, so that small operations are compared by what they do.
    """
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        synchronize(device)
        if queued:
            torch.cuda._sleep(LAUNCHING_CYCLES)
        start.record()
        for _ in range(calls):
            function()
        end.record()
        synchronize(device)
        return start.elapsed_time(end) / 1e3 / calls
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    synchronize(device)
    return (time.perf_counter() - start) / calls


def medians(functions, device, rounds, queued=False):
    """{name: seconds, the median of `rounds`} of the functions in a dict, which take turns; a first round warms up.

    queued: see timed.
    """
    calls = CALLS.get(device.type, 1)
    clocks = {name: functools.partial(timed, function, device, calls, queued) for name, function in functions.items()}
    return _in_turns(clocks, rounds)


def medians_apart(makers, device, rounds):
    """As medians, of the functions that makers, (function, arguments), return, each in another process.

    So the settings of a process, as whether it keeps freed memory, are one function's alone.
    """
    options = {"mp_context": multiprocessing.get_context("spawn"), "initializer": torch.set_num_threads}
    options |= {"initargs": (torch.get_num_threads(),)}
    with contextlib.ExitStack() as stack:
        clocks = {}
        for name, maker in makers.items():
            pool = stack.enter_context(concurrent.futures.ProcessPoolExecutor(1, **options))
            clocks[name] = lambda pool=pool, maker=maker: pool.submit(_timed, *maker, device).result()
        return _in_turns(clocks, rounds)


def _in_turns(clocks, rounds):
    """{name: the median of what `rounds` calls of clocks[name]() return}; a first round does not count."""
    seconds = {name: [] for name in clocks}
    turns = [name for _ in range(rounds + 1) for name in clocks]
    for name in tqdm(turns, "timing", leave=False, dynamic_ncols=True):
        seconds[name].append(clocks[name]())
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def _timed(maker, arguments, device):
    return timed(_made(maker, arguments), device, CALLS[device.type])


@functools.cache
def _made(maker, arguments):
    return maker(*arguments)


@contextlib.contextmanager
def clocked(module, names, device):
    """Within it, the list that it yields receives the seconds of every call of these functions of a module."""
    seconds = []

    def clock(function):
        def call(*arguments):
            results = []
            seconds.append(timed(lambda: results.append(function(*arguments)), device))
            return results[0]

        return call

    with replaced(module, **{name: clock(getattr(module, name)) for name in names}):
        yield seconds


# ---- memory ----


def kept_bytes(function):
    """Bytes that autograd keeps for the backward pass of the tensors that function() returns.

    Views count as the whole that they keep alive, once.
    """
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = function()  # alive until all is counted, so that no address is used twice
    for node in graph_nodes(outputs):
        for value in getattr(node, "__dict__", {}).values():  # what a Function of Python keeps on its context
            if isinstance(value, torch.Tensor):
                keep(value)
    return sum(kept.values())


def graph_nodes(outputs):
    """Every node of the graph that ends in these tensors."""
    nodes, waiting = {None}, [tensor.grad_fn for tensor in outputs]
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes.add(node)
            waiting += [before for before, _ in node.next_functions]
    return nodes - {None}


# ---- what is timed ----


def random_images(recipe, classes, count=None):
    """A data set of `count` random images (default: of a few batches) that fit a recipe."""
    rng, count = np.random.default_rng(0), count or BATCHES * recipe.batch_size
    images = rng.integers(0, 256, (count, 3, recipe.image_size, recipe.image_size), dtype=np.uint8)
    labelled, facts = Pool(images, rng.integers(0, classes, count)), data.FACTS[recipe.dataset]
    options = {"mean": facts.mean, "std": facts.std, "padding": recipe.padding or 0, "flip": bool(recipe.flip)}
    loader = MemoryLoader(labelled, np.arange(count), seed=0, augment=TRAIN, **options)
    return SimpleNamespace(train=loader, val=loader, test=loader, digest="")


def at_work(model, methods=tuple(recipes.LABELS), **overrides):
    """{name: recipe on CIFAR-100} of methods mixing every batch, those that draw a layer once for each of LAYERS.

    overrides: fields of the recipe, for the methods that have them. Raises recipes.RecipeError.
    """
    cases = {}
    for method in methods:
        options = recipes.applicable(method, {"prob": 1.0} | overrides)
        recipe = recipes.resolve("cifar100", model, method, **options)
        if recipe.layers is None or method == "dropblock":  # which acts on all of its layers at once
            cases[method] = recipe
        else:
            for k in overrides.get("layers", LAYERS):
                cases[f"{method} k={k}"] = recipes.resolve("cifar100", model, method, **options | {"layers": (k,)})
    return cases


class Operations:
    """What a method does in a step: draw, mix at every stage, and the backward pass of the mixing.

    x, y, net: see Regularizer.draw; hidden: {k: the input of stage k}; gradients: {k: the gradient that arrives}.
    """

    def __init__(self, regularizer, x, y, net, hidden, gradients, amp="off"):
        self.regularizer, self.x, self.y, self.net = regularizer, x, y, net
        self.hidden, self.gradients, self.amp = hidden, gradients, amp
        self.count = 0

    def draw(self):
        """The next draw."""
        self.count += 1
        self.regularizer.seed(0, self.count)
        with autocast(self.amp, self.x.device):
            self.regularizer.draw(self.x, self.y, self.net)

    def mix(self):
        """{k: the mixed input of stage k} where this draw alters it."""
        with autocast(self.amp, self.x.device):
            mixed = {k: self.regularizer.mix(k, h) for k, h in self.hidden.items()}
        return {k: out for k, out in mixed.items() if out is not self.hidden[k]}

    def run(self):
        """All of them once."""
        self.draw()
        for k, out in self.mix().items():
            if out.requires_grad:
                torch.autograd.grad(out, self.hidden[k], self.gradients[k])

    def kept(self):
        """Bytes that one mixing keeps for its backward pass."""
        self.draw()
        return kept_bytes(lambda: self.mix().values())


def solver_seconds(operations, device, draws):
    """Seconds that a draw of Puzzle Mix spends on its minimum cut and its transport, a median."""
    seconds = []
    for _ in range(draws):
        with clocked(puzzlemix, ("best_mask", "transport_plan"), device) as times:
            operations.draw()
        seconds.append(sum(times))
    return statistics.median(seconds)


class Case:
    """A recipe at work on one batch of random images of its data set's shape and number of classes, or another.

    graphs: whether steps are launched as CUDA graphs; net: the network, compiled or not (None: as in the recipe).
    """

    def __init__(self, recipe, device, classes=None, graphs=False, net=None):
        recipe = dataclasses.replace(recipe, lr=0.01)  # random labels at a higher rate may diverge
        classes = classes or data.FACTS[recipe.dataset].num_classes
        self.images = random_images(recipe, classes)
        self.regularizer = recipes.regularizer(recipe, classes)
        if net is None:
            net = recipes.network(recipe, classes)
            if recipe.compile:
                compile_stages(net)
        recorder = Recorder(self.regularizer.generators) if graphs else None
        self.trainer = Trainer(recipe, self.images, net, self.regularizer, device, files=None, recorder=recorder)
        self.recipe, self.device, self.net = recipe, device, self.trainer.net.train()
        x, self.y = next(iter(self.images.train.batches(recipe.batch_size, device)))
        self.x = x.to(memory_format=torch.channels_last) if recipe.channels_last else x

    def step(self):
        """One training step, with new draws."""
        self.trainer.epoch += 1  # of which the draws are a function
        self.trainer.train_step(self.x, self.y)

    def hidden(self):
        """({k: an input of stage k}, {k: a gradient that arrives there}), typed and laid out as in a training step."""
        hidden = {}

        def note(k, h):
            hidden[k] = h.detach().clone().requires_grad_(k > 0)
            return h

        with autocast(self.recipe.amp, self.device):
            self.net(self.x, note)
        return hidden, {k: torch.randn_like(h) for k, h in hidden.items()}

    def operations(self, hidden, gradients):
        """The Operations of the method on this batch."""
        return Operations(self.regularizer, self.x, self.y, self.net, hidden, gradients, self.recipe.amp)


def our_step(recipe, device):
    """The step of a recipe as train.py makes it."""
    set_up_backends(device, deterministic=False)
    return Case(recipe, device).step


def official_step(recipe, device):
    """The step of Official, in a process as it is."""
    return Official(recipe, device).step


class Official(Case):
    """The official code's step of `none`: contiguous float32, ReLUs not in place, plain SGD, BCE on softmax."""

    def __init__(self, recipe, device):
        super().__init__(dataclasses.replace(recipe, amp="off", channels_last=False, compile=False), device)
        options = {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay, "nesterov": True}
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, foreach=False, **options)
        self.target = one_hot(self.y, self.regularizer.num_classes)

    def step(self):
        with replaced(F, relu=lambda x, inplace=False: torch.relu(x)):
            loss = F.binary_cross_entropy(self.net(self.x).softmax(dim=1), self.target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


# ---- on a GPU ----


def counts(case):
    """{"peak_memory_mib": of training steps, "synchronisations": of one} of a Case that has done its first steps."""
    torch.cuda.reset_peak_memory_stats(case.device)  # choosing algorithms takes more
    for _ in range(CALLS["cuda"]):
        case.step()
    return {"peak_memory_mib": peak_memory(case.device), "synchronisations": synchronisations(case)}


def synchronisations(case):
    """How often one step of the training loop, with the batch that it takes, makes the host wait for the GPU: a mean.

    What an epoch begins with, and the look at the loss every engine.CUDA_CHECK_STEPS steps, are not among them.
    """
    waits = steps = 0
    for _ in range(WAIT_EPOCHS):
        case.trainer.epoch += 1
        batches = case.images.train.batches(case.recipe.batch_size, case.device, epoch=case.trainer.epoch)
        case.trainer.train_step(*next(batches))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                for batch in batches:
                    case.trainer.train_step(*batch)
                    steps += 1
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits += sum(WAITED in str(warning.message) for warning in seen)
    return waits / steps


def images_a_second(recipe, device, count, seconds=10, graphs=False):
    """Images a second of `count` processes together that train by the recipe at the same time, for so many seconds.

    Raises RunFailed where they do not fit.
    """
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, concurrent.futures.ProcessPoolExecutor(count, mp_context=context) as pool:
        barrier = manager.Barrier(count)
        runs = [pool.submit(_train, recipe, device, seconds, graphs, barrier) for _ in range(count)]
        errors = [error for run in runs if (error := run.exception())]
    if errors:
        errors.sort(key=lambda error: isinstance(error, BrokenBarrierError))  # the cause comes first
        raise RunFailed(f"{count} runs at once cannot be on {device}: {errors[0]}") from errors[0]
    return sum(run.result() for run in runs)


def _train(recipe, device, seconds, graphs, barrier):
    """Images a second of one of the processes, from when all of them have done their first steps."""
    try:
        set_up_backends(device, deterministic=False)
        case, steps = Case(recipe, device, graphs=graphs), 0
        for _ in range(CALLS[device.type]):
            case.step()
        synchronize(device)
    except BaseException:
        barrier.abort()  # the others need not wait
        raise
    barrier.wait(60 * START_MINUTES)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(CALLS[device.type]):
            case.step()
        synchronize(device)
        steps += CALLS[device.type]
    return steps * recipe.batch_size / (time.perf_counter() - start)
