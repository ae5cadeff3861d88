"""The device of a run: its choice, its settings, its precision, and what a result says of it."""

import contextlib
import ctypes
import math
import os
import platform
import re
import resource
import subprocess
import warnings
from pathlib import Path

import numpy as np
import torch

from engine import distributed
from engine.files import ROOT, BadInput

KINDS = ("cpu", "cuda", "mps")
DRIVER = Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl")  # where NVIDIA's is loaded
BF16_CAPABILITY = 8, 0
MENDS = (  # what serves a GPU below a capability
    ((7, 0), "install torch==2.7.1 torchvision==0.22.1, the last that has it"),
    ((7, 5), "REQUIREMENTS=requirements-v100.txt bash scripts/setup.sh"),
    ((math.inf, 0), "install a newer torch"),
)
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


def select_device(name, use=True):
    """The torch device for `auto`, `cpu`, `cuda`, `cuda:1` or `mps`; a GPU's with its number.

    Under torchrun every process of a node has its own GPU. `auto` warns where it takes the CPU beside a GPU.
    use: whether this process uses it, and so holds some of a GPU's memory until its end.
    Raises BadInput for a device that does not exist, or a GPU that this torch has no kernels for.
    """
    asked = name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if reason := unused_gpu():
            warnings.warn(f"{reason}: TRAINING ON THE CPU, many times slower", stacklevel=2)
    if distributed.size() > 1 and name.startswith("cuda") and name != "cuda":
        raise BadInput(f"--device {name} is one GPU, but there are {distributed.size()} processes: give cuda")
    if name == "cuda":
        name = f"cuda:{distributed.local_rank()}"  # torch.cuda.set_device asks for a number
    try:
        device = torch.device(name)
        if device.type not in KINDS:
            raise RuntimeError("no such kind")
        if device.type == "cuda":
            require_kernels(device)
        if use:
            torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BadInput(f"--device {asked} cannot be used ({reason}); give auto, cpu, cuda, cuda:<n> or mps") from error
    if device.type == "mps":
        warnings.warn("--device mps is untested", stacklevel=2)
    return device


def unused_gpu():
    """Why torch cannot use this machine's NVIDIA GPU, in a few words; None where it can, or no driver is loaded."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or torch.cuda.is_available() or not any(path.exists() for path in DRIVER):
        return None
    try:
        torch.cuda.init()
        reason = "it finds no card"
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0]
    return f"this machine has an NVIDIA driver, but torch {torch.__version__} cannot use it ({reason})"


# ---- the card and this build of torch ----


def require_kernels(device):
    """Raise BadInput, naming card, build and mend, where this build of torch has no kernels for the GPU."""
    capability, build = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    if not has_kernels(capability, build):
        card = f"{torch.cuda.get_device_name(device)} (compute capability {'.'.join(map(str, capability))})"
        mend = next(words for limit, words in MENDS if capability < limit)
        raise BadInput(f"torch {torch.__version__} is not built for {card}, but for {' '.join(build)}: {mend}")


def has_kernels(capability, build):
    """Whether a build's list, as ["sm_80", "sm_90", "compute_90"], serves a GPU of this capability (major, minor).

    Machine code runs on later minor versions of its major one, sm_90a on its own version alone; compute_90 is compiled
    for any later card when it is loaded.
    """
    for name in build:
        kind, major, minor, exact = re.fullmatch(r"(sm|compute)_(\d+)(\d)(\D?)", name).groups()
        version = int(major), int(minor)
        if capability == version:
            return True
        if version < capability and exact != "a" and (kind == "compute" or version[0] == capability[0]):
            return True
    return False


# ---- precision ----


def best_amp(device):
    """The fastest of a recipe's amp that the device computes in hardware: `bf16`, `fp16` or `off`."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= BF16_CAPABILITY else "fp16"
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bf16"
    return "off"


def require_amp(amp, device):
    """Raise BadInput where the device does not compute in the recipe's amp."""
    if amp == "fp16" and device.type != "cuda":
        raise BadInput("--amp fp16 needs a CUDA device; a CPU takes bf16")
    if amp == "bf16" and device.type == "cuda" and torch.cuda.get_device_capability(device) < BF16_CAPABILITY:
        name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        raise BadInput(
            f"--amp bf16 needs a GPU of compute capability 8.0, {name} has {'.'.join(map(str, capability))} and would "
            "only emulate it: give --amp fp16"
        )


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
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "code": code_version(),
    }


def device_name(device):
    """What the device is called: the GPU's name, or the machine's kind."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.machine() + " mps" * (device.type == "mps")


def code_version():
    """The git commit of this code, with `-dirty` where files have changed, or `unknown`."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def peak_memory(device):
    """The largest memory this process has held, in MiB: on the GPU if it used one (mps: holds now), else resident."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    if device.type == "mps":
        return round(torch.mps.driver_allocated_memory() / 2**20)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


def set_up_backends(device, deterministic):
    """On a CPU keep freed memory; on a GPU use TF32, and cuDNN's autotuner or, for bit-equal repetition, deterministic
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
