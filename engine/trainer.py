"""A training: its steps, epochs, validation and test, and how it stops at any step and goes on.

Under torchrun (see distributed.py) every rank runs the same Trainer on its share of every batch; rank 0 alone writes.

Randomness is a function, not a state: the order and augmentation of an epoch follow from (seed, epoch), a method's
choices from (seed, rank, epoch, step), the initial weights from the seed. So a checkpoint holds no generator, and a run
stopped anywhere and started again ends with the same weights, bit for bit, on the same device and number of threads.
"""

import contextlib
import math
import sys
import time

import numpy as np
import torch
from tqdm import tqdm

from engine import distributed
from engine.device import autocast
from engine.files import BadInput, RunFailed
from engine.graphs import GraphedStep
from engine.metrics import logits_of, metrics
from engine.runs import FORMAT
from engine.signals import Stopped, StopSignals

CUDA_CHECK_STEPS = 50  # steps between looks at the loss on a GPU, each of which waits for it
CHECKS_TOGETHER = 10  # calls of check() between two at which several ranks wait for each other
OVERFLOWS = 8  # steps in a row that may overflow in fp16


def learning_rate(recipe, progress):
    """The learning rate after `progress` epochs, a fraction within an epoch. Step: constant in an epoch."""
    if recipe.schedule == "cosine":
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * progress / recipe.epochs))
    return recipe.lr * recipe.lr_decay ** sum(int(progress) >= milestone for milestone in recipe.milestones)


class Trainer:
    """One run: trains net with the recipe, saving itself to files (a RunFiles) so that it can go on from any step.

    datasets: what data.load returned; regularizer: the method; minutes: the least time between two checkpoints;
    recorder: records steps as graphs (see graphs.py; None: every step is run from Python); board: a Board, or None.
    """

    def __init__(
        self, recipe, datasets, net, regularizer, device, files, minutes=5, quiet=False, recorder=None, board=None
    ):
        self.recipe, self.datasets, self.regularizer, self.device = recipe, datasets, regularizer, device
        self.files, self.minutes, self.quiet, self.board = files, minutes, quiet, board
        self.net = net.to(device)
        self.model = distributed.parallel(self.net)  # the same, in a training step
        self.optimizer = torch.optim.SGD(
            self.net.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=True,
            fused=True,
        )
        self.start_momentum()
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp == "fp16")
        if recipe.compile:
            regularizer.compile()
        self.rank, self.world = distributed.rank(), distributed.size()
        self.graphed = GraphedStep(regularizer, recorder) if recorder else None
        self.steps = datasets.train.steps(recipe.batch_size, self.world)
        self.losses = torch.zeros(2, self.steps, device=device)  # of the present epoch: whole, and for each term
        self.epoch, self.step, self.seconds = 0, 0, 0.0  # both from 0; files and messages count from 1
        self.checks = 0  # for signals
        self.best = None  # net, epoch and validation error of the best epoch
        self.saved_at = self.started_at = time.monotonic()

    # ---- the loop ----

    def run(self):
        """Train from where the run stands to its end, and return the test metrics.

        Raises Stopped after a signal, RunFailed if it cannot go on.
        """
        self.resume()
        with StopSignals() as self.signals, self.progress() as self.bar:
            while self.epoch < self.recipe.epochs:
                self.train_epoch()
                self.finish_epoch()
            self.save()
            return self.test()

    def train_epoch(self):
        """The steps of the present epoch that are still to do."""
        self.net.train()
        recipe = self.recipe
        where = {"epoch": self.epoch, "start": self.step, "rank": self.rank, "world": self.world}
        for x, y in self.datasets.train.batches(recipe.batch_size, self.device, **where):
            self.train_step(x, y)
            self.bar.update(self.datasets.train.size(recipe.batch_size, self.step))
            self.step += 1
            if self.device.type == "cpu" or self.step % CUDA_CHECK_STEPS == 0:
                self.require_finite()
            self.save_if_due()

    def train_step(self, x, y):
        """One step of SGD on images x [B, 3, H, W] with labels y [B], this rank's share of the batch."""
        recipe, regularizer = self.recipe, self.regularizer
        if recipe.channels_last:
            x = x.to(memory_format=torch.channels_last)
        self.set_learning_rate(learning_rate(recipe, self.epoch + self.step / self.steps))
        regularizer.seed(recipe.seed, self.rank, self.epoch, self.step)
        if self.graphed:
            loss = self.graphed(x, y, self.draw, self.optimize)
        else:
            self.draw(x, y)
            loss = self.optimize(x)
        distributed.follow_rank_0(self.net)
        self.losses[:, self.step] = distributed.mean(loss)

    def draw(self, x, y):
        """The method's choices for this batch."""
        with self.autocast():
            self.regularizer.draw(x, y, self.net)

    def optimize(self, x):
        """Forward, loss, backward and update of a batch that was drawn for; its loss, and that divided by its terms."""
        with self.skipping_overflows():
            with self.autocast():
                logits = self.model(x, self.regularizer.mix)
            loss = self.regularizer.loss(logits)
            weight = len(x) * self.world / self.datasets.train.size(self.recipe.batch_size, self.step)
            if weight != 1:  # shares differ: the mean over ranks is to be that over images
                loss = loss * weight
            self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return torch.stack([loss, loss / self.regularizer.terms()]).detach()

    def autocast(self):
        """The recipe's autocast, which in a graph must not keep casted weights."""
        return autocast(self.recipe.amp, self.device, cache=not self.graphed)

    @contextlib.contextmanager
    def skipping_overflows(self):
        """With fp16, a forward pass within it that overflows leaves BatchNorm's statistics as they were.

        Its gradients are not finite either, so that the scaler skips the step: nothing of it remains.
        """
        if self.recipe.amp != "fp16" or not (statistics := distributed.statistics(self.net)):
            yield
            return
        before = distributed.flat(statistics)
        yield
        after = distributed.flat(statistics)
        distributed.unflatten(torch.where(after.isfinite().all(), after, before), statistics)

    def set_learning_rate(self, rate):
        """Set the optimizer's learning rate; for graphs in one tensor, where they read it."""
        if self.device.type == "cuda":  # where a step reads a number in float64, but a tensor in float32
            rate = float(np.float32(rate))
        for group in self.optimizer.param_groups:
            if not self.graphed:
                group["lr"] = rate
            elif isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = torch.tensor(rate, device=self.device)

    def finish_epoch(self):
        """Validate, keep the best weights, write the epoch's line."""
        self.require_finite()
        self.show("validating")
        measured = self.evaluate(self.datasets.val, self.epoch)
        if self.best is None or measured["error"] < self.best["val_error"]:
            self.best = {"net": self.weights(), "epoch": self.epoch + 1, "val_error": measured["error"]}
        line = {
            "format": FORMAT,
            "epoch": self.epoch + 1,
            "lr": learning_rate(self.recipe, self.epoch),
            **self.mean_losses(),
            **{f"val_{name}": value for name, value in measured.items()},
            "seconds": round(self.total_seconds(), 3),
        }
        if self.rank == 0:
            self.files.log_epoch(line)
            if self.board:
                self.board.add_epoch(line)
        self.epoch, self.step = self.epoch + 1, 0
        self.losses.zero_()
        self.show()
        self.save_if_due()

    def mean_losses(self):
        """The mean losses of this epoch's steps, with fp16 of those that did not overflow.

        train_loss_per_term (see Regularizer.terms) is None where the epoch was begun by code that did not record it.
        """
        whole, per_term = self.losses.cpu().double()
        if self.recipe.amp == "fp16":
            whole, per_term = whole[whole.isfinite()], per_term[whole.isfinite()]
        known = not per_term.isnan().any()
        return {"train_loss": whole.mean().item(), "train_loss_per_term": per_term.mean().item() if known else None}

    def evaluate(self, loader, epoch=0, check=None):
        """metrics of the net as it is, on a loader's images of an epoch. By default saves and stops at a signal."""
        options = {"amp": self.recipe.amp, "channels_last": self.recipe.channels_last, "epoch": epoch}
        return metrics(*logits_of(self.net, loader, self.device, **options, check=check or self.check))

    def test(self):
        """Test metrics of the last epoch's weights and of the best epoch's, by the names they have in the result.

        Of the best ones also augmented_val_error, on validation images augmented as the official code does.
        """
        self.show("testing")
        tested = {f"last_epoch_test_{name}": value for name, value in self.evaluate(self.datasets.test).items()}
        last = self.weights()
        self.net.load_state_dict(self.best["net"])
        go_on = {"check": lambda: None}  # a checkpoint must not hold these weights as the last
        best = self.evaluate(self.datasets.test, **go_on)
        augmented = self.evaluate(self.datasets.val.augmented(), self.best["epoch"] - 1, **go_on)
        self.net.load_state_dict(last)
        tested |= {f"test_{name}": value for name, value in best.items()}
        return tested | {"augmented_val_error": augmented["error"]}

    def weights(self):
        """A copy of the network's weights and buffers."""
        return {name: tensor.clone() for name, tensor in self.net.state_dict().items()}

    def require_finite(self):
        """Raise RunFailed if a loss of this epoch is not finite.

        With fp16 if those of OVERFLOWS steps in a row are, or if gradients overflow however little the loss is scaled.
        """
        if self.scaler.get_scale() < 1:  # 1 without fp16; every step that overflows halves it and changes no weight
            self.diverged("the gradients are", max(self.step - 1, 0))
        broken = ~torch.isfinite(self.losses[0, : self.step])
        if not broken.any():
            return
        in_a_row = OVERFLOWS if self.recipe.amp == "fp16" else 1
        runs = broken.cpu().unfold(0, min(in_a_row, len(broken)), 1).all(dim=1).nonzero()
        if len(broken) >= in_a_row and len(runs):
            self.diverged("the loss is", int(runs[0]))

    def diverged(self, what, step):
        """Raise RunFailed: what is not finite at a step of this epoch, and what may help."""
        rate = learning_rate(self.recipe, self.epoch + step / self.steps)
        other = ", or --amp bf16" if self.recipe.amp == "fp16" else ""
        kept = f"; {self.files.checkpoint} is from before it" if self.files.checkpoint.exists() else ""
        raise RunFailed(
            f"{what} not finite at step {step + 1} of epoch {self.epoch + 1} with learning rate {rate:g}: "
            f"try a lower --lr{other}{kept}"
        )

    # ---- saving and going on ----

    def check(self):
        """Save and raise Stopped if a signal has come, to any rank: all stop at the same step.

        Several ranks ask each other at every CHECKS_TOGETHER-th call.
        """
        self.checks += 1
        if self.world > 1 and self.checks % CHECKS_TOGETHER:  # every rank waits for all others at it
            return
        if number := distributed.highest(self.signals.received or 0):
            self.save()
            distributed.barrier()  # torchrun ends all ranks when the first has ended
            raise Stopped(number)

    def save_if_due(self):
        """Save if a signal has come, and raise Stopped then, or if the last time is long enough ago."""
        self.check()
        if time.monotonic() - self.saved_at >= 60 * self.minutes:
            self.save()

    def save(self):
        """On rank 0, write a checkpoint of this very step. Raises RunFailed where its weights are not finite."""
        if self.rank > 0:
            return
        self.require_finite()
        if not all(torch.isfinite(tensor).all() for tensor in self.net.state_dict().values()):
            self.diverged("the weights are", self.step)
        self.files.save_checkpoint(
            {
                "net": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "format": FORMAT,
                "epoch": self.epoch + 1,
                "step": self.step,
                "losses": self.losses,
                "best": self.best,
                "seconds": self.total_seconds(),
                "images": self.image_counts(),
                "digest": self.datasets.digest,
                "processes": self.world,
            }
        )
        self.saved_at = time.monotonic()

    def resume(self):
        """Take up rank 0's newest checkpoint, if any.

        Raises BadInput if it belongs to other images or another number of processes.
        """
        if state := distributed.from_rank_0(self.files.newest_checkpoint):
            self.require_same_images_and_processes(state)
            self.net.load_state_dict(state["net"])
            self.optimizer.load_state_dict(state["optimizer"])
            for group in self.optimizer.param_groups:
                group["lr"] = float(group["lr"])  # of a graphed run it is a tensor, on the device of that
            self.scaler.load_state_dict(state["scaler"])
            self.losses.copy_(state["losses"])
            self.epoch, self.step = state["epoch"] - 1, state["step"]
            self.best, self.seconds = state["best"], state["seconds"]
            if not self.quiet:
                print(f"going on at step {self.step} of {self.steps} in epoch {self.epoch + 1}", flush=True)
        if self.rank == 0:
            self.files.cut_log(self.epoch)
            if self.board:
                self.board.begin(self.total_seconds())

    def require_same_images_and_processes(self, state):
        """Raise BadInput where a checkpoint is of other images, or of another number of processes."""
        path, processes = self.files.checkpoint, state.get("processes", 1)
        if processes != self.world:
            raise BadInput(
                f"{path} is to be continued by as many processes as it was started with, {processes}, "
                f"not {self.world}: start so many, or give another --out"
            )
        remedy = "give the same --data-dir, or another --out"
        if state["images"] != self.image_counts():
            raise BadInput(f"{path} was trained on {state['images']} images, not on {self.image_counts()}: {remedy}")
        if state.get("digest", self.datasets.digest) != self.datasets.digest:
            raise BadInput(f"{path} was trained on other images (names, sizes or labels differ): {remedy}")

    def start_momentum(self):
        """With fp16, start momentum at 0, which gives the same first step: a skipped fused step would leave garbage."""
        if self.recipe.amp == "fp16":
            for parameter in self.net.parameters():
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def image_counts(self):
        """Images of each split, to tell one data set from another."""
        return {name: len(getattr(self.datasets, name)) for name in ("train", "val", "test")}

    def total_seconds(self):
        """Seconds of this run, all its parts together."""
        return self.seconds + time.monotonic() - self.started_at

    def progress(self):
        """The progress bar over all images of all epochs."""
        images = min(self.steps * self.recipe.batch_size, len(self.datasets.train))
        return tqdm(
            total=self.recipe.epochs * images,
            initial=min(self.epoch * images + self.step * self.recipe.batch_size, self.recipe.epochs * images),
            unit="img",
            unit_scale=True,
            dynamic_ncols=True,
            disable=self.quiet,
            mininterval=0.5 if sys.stderr.isatty() else 60,  # a log file is no screen
        )

    def show(self, *doing):
        """The epoch, the best error so far and what it is doing beside the progress bar."""
        best = [f"best val error {self.best['val_error']:.2f} %"] if self.best else []
        epoch = min(self.epoch + 1, self.recipe.epochs)
        words = ", ".join([f"epoch {epoch}/{self.recipe.epochs}", *best, *doing])
        self.bar.set_postfix_str(words, refresh=sys.stderr.isatty())  # a log file is no screen


def compile_stages(net):
    """Compile every part for itself, keeping the state dict's keys; see Regularizer.compile for what lies between."""
    torch._dynamo.config.recompile_limit = 64  # training, evaluation and odd batches share nn.Sequential.forward
    for part in net.parts():
        part.forward = torch.compile(part.forward, dynamic=False)  # or parts would share graphs of unknown sizes
