"""How long a run takes to start: from the start of its process to its imports, and to its first training step done.

python scripts/startup.py -- --data-dir DIR                                 # PreActResNet18 on CIFAR-100, No Mixup
python scripts/startup.py --rounds 5 -- --dataset digits --width 16         # further flags of train.py

Every round is a fresh process, which stops after that step and leaves nothing behind.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import engine
import estimates
import train
from records import BadInput, RunFailed

RUN = ("--dataset", "cifar100", "--model", "preactresnet18", "--method", "none")
FRESH = f"import sys; sys.argv[0] = 'train.py'; sys.path.insert(0, {str(ROOT)!r}); from scripts import startup; "


def measure(arguments=(), rounds=3):
    """{"import_seconds", "first_step_seconds"}: how long after the start of its process train.py is so far.

    arguments: the command line's, after RUN. Medians of so many fresh processes. Raises BadInput or RunFailed with
    what a process says that refuses or fails.
    """
    found = [once(arguments) for _ in range(rounds)]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def once(arguments):
    """As measure, of one process."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", f"{FRESH}startup.report()", *RUN, *arguments, "--out", out]
        started = time.monotonic()  # the same clock in all processes
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise (BadInput if done.returncode == 2 else RunFailed)(done.stderr.strip().rpartition("\n")[2])
    moments = json.loads(done.stdout.splitlines()[-1])
    return {name: round(moment - started, 3) for name, moment in moments.items()}


def report():
    """In a fresh process: train by its arguments until the first step is done, then print when what was done."""
    moments = {"import_seconds": time.monotonic()}
    train_step = engine.Trainer.train_step

    def first_step(trainer, x, y):
        train_step(trainer, x, y)
        estimates.now(trainer.device)
        moments["first_step_seconds"] = time.monotonic()
        print(json.dumps(moments), flush=True)
        raise SystemExit

    engine.Trainer.train_step = first_step
    sys.exit(train.main())


def show(args):
    """Measure and print."""
    if args.rounds < 1:
        raise BadInput(f"--rounds must be at least 1, not {args.rounds}")
    for name, seconds in measure(args.arguments, args.rounds).items():
        print(f"{name} {seconds:.2f}")
    return 0


def parser():
    """The command line."""
    found = train.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    found.add_argument("--rounds", type=int, default=3, help="fresh processes, of which the medians count (default 3)")
    found.add_argument("arguments", nargs="*", help=f"after --: flags of train.py, beside {' '.join(RUN)}")
    return found


def main(arguments=None):
    """Measure what a command line asks for; the exit status (see train.explain)."""
    args = parser().parse_args(arguments)
    return train.explain(lambda: show(args))


if __name__ == "__main__":
    sys.exit(main())
