"""A part of scripts/gpu.sh in a process: python -m scripts.gpu.child PART DEVICE [small]."""

import os
import shutil
import subprocess
import sys

import torch

from engine.device import best_amp, device_name, environment, select_device
from scripts.gpu import right, speed
from scripts.gpu.rows import report


def describe(device, small):
    """Report what this machine trains on: card, memory, driver, torch, the kernels that it is built for, cores."""
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


PARTS = {  # what each does on a device
    "card": describe,
    "methods": right.methods,
    "graphs": right.graphs,
    "runs": right.runs,
    "at-once": speed.at_once,
    "days": speed.days,
}


def main():
    """Do the part that the command line names."""
    name, device, *small = sys.argv[1:]
    where = select_device(device), bool(small)
    if name in PARTS:
        PARTS[name](*where)
    else:  # a network's name, `-compiled` or not
        speed.speed(name.removesuffix("-compiled"), name.endswith("-compiled"), *where)


if __name__ == "__main__":
    main()
