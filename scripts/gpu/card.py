"""What the device is: card, capability, memory, driver, torch, the kernels that it is built for, cores."""

import os
import shutil
import subprocess

import torch

from engine.device import best_amp, device_name, environment
from scripts.gpu.rows import report


def describe(device, small):
    """Report what this machine trains on."""
    values = {"device": device_name(device), "cores": len(os.sched_getaffinity(0))}
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        values |= {
            "compute capability": f"{facts.major}.{facts.minor}",
            "memory (MiB)": facts.total_memory // 2**20,
            "multiprocessors": facts.multi_processor_count,
            "driver": driver(),
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
            "built for": " ".join(torch.cuda.get_arch_list()),
        }
    place = environment(device)
    values |= {name: place[name] for name in ("torch", "python", "code")}
    report("card", **values, amp=best_amp(device))


def driver():
    """The version of NVIDIA's driver, or `unknown`."""
    if not shutil.which("nvidia-smi"):
        return "unknown"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip().partition("\n")[0] or "unknown"
