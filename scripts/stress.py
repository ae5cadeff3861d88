"""Kill -9 a table's launcher or its runs at random moments, and compare the end with that of an undisturbed command.

python -m scripts.stress                                            # ten kills of a small demo, a few minutes
python -m scripts.stress --times 3 -- demo --methods none mixup --width 4 --epochs 50 --checkpoint-minutes 0.01

After every kill of the launcher the same command starts again. Equal must be, bit for bit, all errors and weights of
all runs, and the table but for its seconds. On a GPU the command needs --deterministic.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from engine import cli
from engine.files import NUMBER, ROOT, BadInput, RunFailed, is_locked, load_checkpoint, read_json

DEMO = "demo --methods none patchup_hard --seeds 2 --width 4 --epochs 80 --checkpoint-minutes 0.01 --device cpu"
MEASURED = dict.fromkeys(("test_error", "test_nll", "last_epoch_test_error", "val_error", "best_epoch"), NUMBER)
POLL_SECONDS = 0.05


def start(command, out, log):
    """The process of scripts/tables.py with the command's arguments and --out, which writes to log."""
    arguments = [sys.executable, "-m", "scripts.tables", *command, "--out", str(out)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def finish(process, log):
    """Wait for the process. Raises RunFailed with the end of its log if it fails."""
    if process.wait():
        raise RunFailed(f"exit status {process.returncode}: {Path(log.name).read_text()[-500:]}")


def run_processes(out):
    """The numbers of the processes that train below out."""
    numbers = []
    for lock in Path(out).rglob("seed*.lock"):
        with contextlib.suppress(OSError, IndexError, ValueError):  # it has ended, or not signed yet
            if is_locked(lock):
                numbers.append(int(lock.read_text().split()[0]))
    return numbers


def disturb(command, out, log, args, pause):
    """Let the command come to its end while it is killed args.times times, after at most `pause` seconds of training.

    One kill in four may come before anything trains. Raises RunFailed if the command ends before.
    """
    rng = random.Random(args.seed)
    process = start(command, out, log)
    for count in range(args.times):
        early, left = rng.random() < 0.25, rng.uniform(0, pause)
        while left > 0:
            time.sleep(POLL_SECONDS)
            if early or run_processes(out):
                left -= POLL_SECONDS
            if process.poll() == 0:
                raise RunFailed(f"it has ended after {count} kills: give more --epochs")
            if process.poll() is not None:  # a run that is killed twice is given up: the same command goes on
                process = start(command, out, log)
        runs = run_processes(out)
        victim = rng.choice([process.pid, *runs])
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        print(f"kill {count + 1}: {'a run' if victim in runs else 'the launcher'}, {len(runs)} running", flush=True)
        if victim == process.pid:
            process.wait()
            process = start(command, out, log)
    if process.wait() == 1:
        process = start(command, out, log)
    finish(process, log)


def differences(undisturbed, disturbed):
    """What differs between two folders of results, lines of text; an empty list if they are equal."""
    folders = undisturbed, disturbed
    paths, others = map(results, folders)
    lines = [f"{path} is only in one folder" for path in sorted(paths ^ others)]
    for path in sorted(paths & others):
        first, second = (read_json(folder / path, fields=MEASURED) for folder in folders)
        lines += [f"{path}: {name} {first[name]}, {second[name]}" for name in MEASURED if first[name] != second[name]]
        for weights in ("best.pt", "last.pt"):
            net, other = (load_checkpoint((folder / path).with_suffix(f".{weights}"))["net"] for folder in folders)
            if net.keys() != other.keys() or not all(torch.equal(net[name], other[name]) for name in net):
                lines.append(f"{path}: the weights of {weights}")
    for path in undisturbed.glob("tables/*.csv"):
        lines += [f"{path.name}: the table"] * (rows(path) != rows(disturbed / "tables" / path.name))
    return lines


def results(folder):
    """The results of the runs in a folder, paths within it; records of evaluations have other suffixes."""
    return {path.relative_to(folder) for path in folder.glob("runs*/**/seed*.json") if len(path.suffixes) == 1}


def rows(path):
    """The lines of a table's CSV but those of seconds."""
    return [line for line in path.read_text().splitlines() if ",seconds," not in line] if path.exists() else []


def make(args):
    """Run undisturbed, run disturbed, compare; 1 where they differ."""
    command = args.command or DEMO.split()
    cli.require_counts(args, "times", least=0)
    if "--out" in command:
        raise BadInput("give the command without --out")
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, disturbed = Path(folder, "undisturbed"), Path(folder, "disturbed")
        with Path(folder, "log").open("w") as log:
            begun = time.monotonic()
            finish(start(command, undisturbed, log), log)
            seconds = time.monotonic() - begun
            print(f"undisturbed: {seconds:.0f} s", flush=True)
            disturb(command, disturbed, log, args, seconds / max(1, args.times))
            print(f"killed {args.times} times: {time.monotonic() - begun - seconds:.0f} s")
        lines = differences(undisturbed, disturbed)
        count = len(results(undisturbed))
    print("\n".join(lines) or f"all {count} runs and the table are equal, bit for bit")
    return 1 if lines else 0


def make_parser():
    """The command line."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--times", type=int, default=10, help="kills (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and victims (default 0)")
    parser.add_argument("command", nargs="*", help=f"after --: arguments of scripts/tables.py (default {DEMO})")
    return parser


def main(arguments=None):
    """Do what a command line says; the exit status (see cli.explain)."""
    args = make_parser().parse_args(arguments)
    return cli.explain(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
