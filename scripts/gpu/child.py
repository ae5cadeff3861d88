"""One part of scripts/gpu.sh in a process of its own: python -m scripts.gpu.child PART DEVICE [small]."""

import sys

from engine.device import select_device
from scripts.gpu import card, right, speed


def parts():
    """{name: what it does on a device}."""
    return {
        "card": card.describe,
        "methods": right.methods,
        "graphs": right.graphs,
        "runs": right.runs,
        "preactresnet18": lambda *where: speed.speed("preactresnet18", False, *where),
        "preactresnet18-compiled": lambda *where: speed.speed("preactresnet18", True, *where),
        "wrn28_10": lambda *where: speed.speed("wrn28_10", False, *where),
        "wrn28_10-compiled": lambda *where: speed.speed("wrn28_10", True, *where),
        "at-once": speed.at_once,
        "days": speed.days,
    }


def main():
    """Do the part that the command line names."""
    name, device, *small = sys.argv[1:]
    parts()[name](select_device(device), bool(small))


if __name__ == "__main__":
    main()
