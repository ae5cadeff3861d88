"""One run in several processes, one a GPU or share of the cores, started by torchrun; without it, one process.

Every rank goes through the same steps with its share of every batch. What all ranks must know alike is exchanged on the
CPU (gloo), so that no GPU is waited for; what lies on GPUs travels by NCCL.
"""

import contextlib
import functools
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from engine.files import BadInput

TORCHRUN = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT")  # which say where a process stands among others


@functools.cache
def torchrun_store():
    """torchrun's store, with this process' rank and the number of processes; it lives on when a rank dies."""
    return next(rendezvous("env://"))


def join():
    """Meet the other processes, where torchrun started this one with others (RANK, WORLD_SIZE, LOCAL_RANK).

    Raises BadInput where only a part of what torchrun sets is set.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        if odd := [name for name in TORCHRUN if not os.environ.get(name, "").isdigit()]:
            raise BadInput(f"WORLD_SIZE is set, but {odd[0]} is no number: start it by torchrun, or unset WORLD_SIZE")
        store, rank, size = torchrun_store()
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)


def leave():
    """The end of a run that ended well on every rank."""
    if size() > 1:
        dist.destroy_process_group()


def rank():
    """This process' number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size():
    """The number of processes of this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank():
    """This process' number on its node, from 0."""
    return int(os.environ["LOCAL_RANK"]) if size() > 1 else 0


# ---- what a person sees ----


@contextlib.contextmanager
def only_rank_0_prints():
    """Within it, what other ranks print, warnings and progress bars included, is dropped."""
    if rank() == 0:
        yield
        return
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def tell(text):
    """Print on stderr why this process ends, if it is the first to end: the others ask the same, or it is why they end.

    They wait until it is printed, because torchrun ends all processes as soon as one has.
    """
    if size() == 1:
        print(text, file=sys.stderr)
        return
    store, *_ = torchrun_store()
    if store.add("tellers", 1) == 1:
        print(f"\n{text}", file=sys.stderr, flush=True)  # below rank 0's progress bar
        store.set("told", "")
    else:
        store.wait(["told"])


# ---- what ranks tell each other ----


def from_rank_0(make):
    """What make() gives on rank 0, on every rank; the others do not call it."""
    if size() == 1:
        return make()
    results = [make() if rank() == 0 else None]
    dist.broadcast_object_list(results, src=0)
    return results[0]


def highest(number):
    """The highest of the ranks' integers."""
    if size() == 1:
        return number
    number = torch.tensor(number)
    dist.all_reduce(number, dist.ReduceOp.MAX)
    return int(number)


def barrier():
    """Wait for every rank."""
    highest(0)


@contextlib.contextmanager
def first_on_each_node():
    """Local rank 0 of every node goes through it before the others do."""
    if local_rank() > 0:
        barrier()
    yield
    if local_rank() == 0:
        barrier()


def mean(tensor):
    """The mean of the ranks' tensors of one shape."""
    if size() == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / size()


def gathered(rows):
    """All ranks' rows [n, ...], in the order of ranks; n may differ and be 0, dtype and the other sizes may not."""
    if size() == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(size())]
    dist.all_gather(counts, torch.tensor([len(rows)]))
    padded = rows.new_zeros(max(map(int, counts)), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts)])


# ---- the network ----


def parallel(net):
    """net for the training steps: backward averages the gradients over the ranks. It starts from rank 0's weights."""
    if size() == 1:
        return net
    model = DistributedDataParallel(net, gradient_as_bucket_view=True)
    model.broadcast_buffers = False  # as an argument it warns, and its new name is not known everywhere
    return model


def follow_rank_0(net):
    """Give every rank rank 0's running statistics of BatchNorm, all in one tensor.

    Right after a step, not before the forward pass, where DistributedDataParallel would: evaluation and Puzzle Mix'
    draw read them as well.
    """
    if size() == 1 or not (buffers := statistics(net)):
        return
    together = flat(buffers)
    dist.broadcast(together, src=0)
    unflatten(together, buffers)


def statistics(net):
    """The running statistics of BatchNorm, a list of tensors."""
    return [buffer for buffer in net.buffers() if buffer.is_floating_point()]


def flat(tensors):
    """All values of the tensors in a tensor [n]."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def unflatten(values, tensors):
    """Copy what flat gave back into the tensors, on a GPU by one launch."""
    parts = values.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors)])
