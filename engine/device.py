"""The device of a run: its choice, its settings, its precision, and what a result says of it."""

import contextlib
import ctypes
import os
import platform
import resource
import subprocess

import numpy as np
import torch

from engine import distributed
from engine.files import ROOT, BadInput

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


def select_device(name):
    """The torch device for `auto`, `cpu`, `cuda` or `cuda:1`; under torchrun every process of a node has its own GPU.

    Raises BadInput where there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if distributed.size() > 1 and name.startswith("cuda"):
        if name != "cuda":
            raise BadInput(f"--device {name} is one GPU, but there are {distributed.size()} processes: give cuda")
        name = f"cuda:{distributed.local_rank()}"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("no such kind")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BadInput(
            f"--device {name} cannot be used here ({reason}); there are auto, cpu, cuda, cuda:<n>"
        ) from error
    return device


def autocast(amp, device, cache=True):
    """The autocast context of the recipe's field amp; cache: whether it keeps casted weights."""
    if amp == "off":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if amp == "bf16" else torch.float16, cache_enabled=cache)


def environment(device):
    """What a result depends on apart from its recipe: versions, device, threads, code."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "code": code_version(),
    }


def code_version():
    """The git commit of this code, with `-dirty` where files have changed, or `unknown`."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def peak_memory(device):
    """The largest memory this process has held, in MiB: on the GPU if it used one, else resident."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


def set_up_backends(device, deterministic):
    """Freed memory is kept on a CPU. On a GPU TF32, and cuDNN's autotuner, or for bit-equal repetition deterministic
    algorithms alone.
    """
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda":
        torch.cuda.set_device(device)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = not deterministic
        torch.use_deterministic_algorithms(deterministic)


def keep_freed_memory():
    """Let glibc keep the memory of freed tensors for the next step; returned to the system, it costs a fault a page."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
