"""Is training on this device right? Every method against float64, graphs and compiled stages against eager steps."""

import contextlib
import copy
import os
import signal
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

import recipes
import regularizers
import train
from engine.device import autocast, best_amp, set_up_backends
from engine.graphs import Recorder
from engine.profiling import replaced
from engine.signals import Stopped
from engine.trainer import Trainer, compile_stages
from scripts.bench.timing import Case, random_images, synchronisations
from scripts.gpu.rows import attempted, check

# Rounding of another order is as large as the CPU's; the transforms of Winograd's 3x3 convolutions, which cuDNN may
# choose, add about one decimal digit. A wrong operand or mask is off by the size of the step itself.
FLOAT32_FACTOR = 16
COMPILED_FACTOR = 2  # of what eager bf16 or fp16 is off float32: fused kernels round less often, never more
PUZZLEMIX_WAITS = 3  # a step, for its cut and its transport
LEARNT = 25  # percent of error on digits, of which a CPU leaves about 12


def trainer_of(recipe, device, *, dtype=torch.float32, recorder=False, seed=0):
    """A Trainer of a recipe on random images, its network's weights drawn from the seed, in training mode."""
    torch.manual_seed(seed)
    net = recipes.network(recipe, 100).to(dtype)
    regularizer = recipes.regularizer(recipe, 100)
    if recipe.compile:
        compile_stages(net)
    recorder = Recorder(regularizer.generators) if recorder else None
    images = random_images(recipe, 100, 2 * recipe.batch_size)
    trainer = Trainer(recipe, images, net, regularizer, device, files=None, recorder=recorder)
    trainer.net.train()
    return trainer


# ---- every method against float64 ----


def methods(device, small):
    """Weights after some steps of every method, against those of the same draws in float64 on the CPU."""
    set_up_backends(device, deterministic=False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    size = {"width": 4, "batch_size": 4} if small else {"width": 16, "batch_size": 32}
    for method in regularizers.METHODS:
        attempted(
            f"{method} against float64", lambda method=method: against_float64(method, device, 1 if small else 3, size)
        )


def against_float64(method, device, steps, size):
    """Check one method, with a smooth activation: at the kink of a ReLU rounding alone would decide much."""
    recipe = recipes.resolve("cifar100", "preactresnet18", method, criterion="ce", **size)
    plain, exact, tested = (
        trainer_of(recipe, torch.device("cpu")),
        trainer_of(recipe, torch.device("cpu"), dtype=torch.float64),
        trainer_of(recipe, device),
    )
    before = flat(exact)
    with replaced(F, relu=lambda x, inplace=False: F.silu(x)):
        for step in range(steps):
            same_step(plain, (exact, tested), step)
    moved = (flat(exact) - before).norm()
    off_plain, off = (float((flat(trainer) - flat(exact)).norm() / moved) for trainer in (plain, tested))
    limit = FLOAT32_FACTOR * off_plain
    detail = f"off by {off:.1e} of {steps} steps, the CPU's float32 by {off_plain:.1e}, limit {limit:.1e}"
    check(f"{method} against float64", off <= limit, detail)


def same_step(leader, followers, step):
    """A step of each trainer on the same batch, with the leader's draw."""
    x, y = next(leader.datasets.train.batches(leader.recipe.batch_size, leader.device, epoch=step))
    known = dict(vars(leader.regularizer))
    leader.regularizer.seed(0, step)
    leader.draw(x, y)
    drawn = {
        name: value for name, value in vars(leader.regularizer).items() if name not in known or value is not known[name]
    }
    drawn.pop("rng"), drawn.pop("torch_seed")
    for follower in (leader, *followers):
        dtype = next(follower.net.parameters()).dtype
        follower.regularizer.seed(0, step)
        if follower is not leader:
            vars(follower.regularizer).update({name: carried(v, follower.device, dtype) for name, v in drawn.items()})
        with replaced(torch, rand=cpu_rand(step)):
            follower.optimize(carried(x, follower.device, dtype))


def carried(value, device, dtype):
    """A draw for another device: tensors in copies, those as large as images in another dtype."""
    if isinstance(value, torch.Tensor):
        return value.to(device, dtype if value.is_floating_point() and value.dim() > 2 else value.dtype)
    if isinstance(value, (list, tuple)):
        return type(value)(carried(part, device, dtype) for part in value)
    return copy.copy(value)


def cpu_rand(step):
    """Stands in for torch.rand: the same numbers on every device, whose generators differ."""
    numbers, rand = torch.Generator().manual_seed(step), torch.rand

    def drawn(*size, device=None, generator=None, **options):
        return rand(*size, generator=numbers, **options).to(device)

    return drawn


def flat(trainer):
    """All weights, float64 [n] on the CPU."""
    return torch.cat([p.detach().double().cpu().flatten() for p in trainer.net.parameters()])


# ---- graphs against eager steps ----


def graphs(device, small):
    """Graphed and eager steps of every method, bit for bit; waits for the GPU a step."""
    set_up_backends(device, deterministic=True)
    size = {"width": 4, "batch_size": 4} if small else {"width": 16, "batch_size": 32}
    # Before torch 2.15 a recording that fails spoils those after it: the most involved method comes last.
    for method in sorted(regularizers.METHODS, key="puzzlemix".__eq__):
        for amp in ("off",) if small else dict.fromkeys(("off", best_amp(device))):
            recipe = recipes.resolve("cifar100", "preactresnet18", method, lr=0.01, amp=amp, **size)
            what = f"{method}, amp {amp}: graphs against eager steps"
            attempted(what, lambda what=what, recipe=recipe: graphed_as_eager(what, recipe, device, 2 if small else 48))
    for method in regularizers.METHODS if device.type == "cuda" else ():
        attempted(f"{method}: waits a step", lambda method=method: waits(method, device))


def graphed_as_eager(what, recipe, device, steps):
    """Check that both end with the same weights; on a CPU that a repetition does."""
    ends = []
    for recorder in (False, device.type == "cuda"):
        trainer = trainer_of(recipe, device, recorder=recorder)
        batches = list(trainer.datasets.train.batches(recipe.batch_size, device))
        for step in range(steps):
            trainer.epoch = step  # of which the draws are a function
            trainer.train_step(*batches[step % len(batches)])
        ends.append(flat(trainer))
    off = float((ends[0] - ends[1]).abs().max())
    detail = f"{steps} steps, equal bit for bit" if off == 0 else f"off by {off:.1e} after {steps} steps"
    check(what, off == 0, detail + ("" if device.type == "cuda" else " (a repetition: a CPU has no graphs)"))


def waits(method, device):
    """Check how often a step makes the host wait for the GPU."""
    set_up_backends(device, deterministic=False)
    recipe = recipes.resolve("cifar100", "preactresnet18", method, amp=best_amp(device))
    case = Case(recipe, device)
    for _ in range(3):
        case.step()
    count, limit = synchronisations(case), PUZZLEMIX_WAITS if method == "puzzlemix" else 0
    check(f"{method}: waits a step", count <= limit, f"{count:g}, at most {limit}")


# ---- compiled stages against eager ones ----


def compiled_as_eager(recipe, net, device):
    """Check the gradients of a batch by a compiled network, on the device, against those of its eager twin.

    Both are held against those of the next higher precision: bf16 and fp16 against float32, float32 against float64.
    """
    twin = recipes.network(recipe, 100).to(device).train()
    twin.load_state_dict(net.state_dict())
    shape = recipe.batch_size, 3, recipe.image_size, recipe.image_size
    x = torch.randn(shape, device=device).to(memory_format=torch.channels_last)
    y = torch.randint(100, shape[:1], device=device)
    eager, compiled = (gradient(network, x, y, recipe.amp) for network in (twin, net))
    factor = FLOAT32_FACTOR if recipe.amp == "off" else COMPILED_FACTOR
    if recipe.amp == "off":
        twin, x = twin.double(), x.double()
    with replaced(torch.backends.cuda.matmul, allow_tf32=False), replaced(torch.backends.cudnn, allow_tf32=False):
        exact = gradient(twin, x, y, "off")
    off_eager, off_compiled = (float((tested - exact).norm() / exact.norm()) for tested in (eager, compiled))
    limit = factor * off_eager
    detail = f"gradients off by {off_compiled:.1e}, eager ones by {off_eager:.1e}, limit {limit:.1e}"
    check(f"{recipe.model}, amp {recipe.amp}: compiled against eager", off_compiled <= limit, detail)


def gradient(net, x, y, amp):
    """The gradient of a batch by all weights, float64 [n]."""
    with autocast(amp, x.device):
        logits = net(x)
    gradients = torch.autograd.grad(F.cross_entropy(logits.float(), y), list(net.parameters()))
    return torch.cat([part.double().flatten() for part in gradients])


# ---- runs ----


def runs(device, small):
    """A training that is stopped and goes on ends as one that is not, bit for bit; and it learns."""
    size = {"width": 4, "epochs": 2, "train_per_class": 2, "val_per_class": 2} if small else {"width": 16, "epochs": 20}
    options = {"criterion": "ce", "schedule": "cosine", "amp": "off" if small else best_amp(device)} | size
    recipe = recipes.resolve("digits", "preactresnet18", "patchup_soft", **options)
    attempted("stopped and gone on", lambda: stop_and_go_on(recipe, device, 1 if small else 100, learns=not small))


def stop_and_go_on(recipe, device, stop_after, learns):
    """Check both on digits."""
    results, ends = [], []
    with tempfile.TemporaryDirectory() as folder:
        for stops in (False, True):
            out = Path(folder) / f"stops-{stops}"
            options = {"data_dir": Path(folder), "out": out, "device": str(device), "deterministic": True}
            options |= {"graphs": device.type == "cuda", "quiet": True}
            if stops:
                with stopped_at(stop_after), contextlib.suppress(Stopped):
                    train.run(recipe, **options)
            results.append(train.run(recipe, **options))
            [path] = out.rglob("*.last.pt")
            ends.append(torch.load(path, map_location="cpu", weights_only=True)["net"])
    equal = all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    check("stopped and gone on, --deterministic", equal, "the same weights, bit for bit" if equal else "other weights")
    error, seconds = results[0]["last_epoch_test_error"], results[0]["seconds"]
    detail = f"{error:.1f} % error on digits after {recipe.epochs} epochs in {seconds:.0f} s"
    check("a training learns", error < LEARNT if learns else error < 95, detail)


def stopped_at(count):
    """Within it this process gets SIGUSR1 after so many training steps."""
    real, steps = Trainer.train_step, iter(range(1, 10**9))

    def train_step(self, x, y):
        real(self, x, y)
        if next(steps) == count:
            os.kill(os.getpid(), signal.SIGUSR1)

    return replaced(Trainer, train_step=train_step)
