"""What a new card is, whether training on it is right, how fast it is and, with CIFAR-100 at hand, what it says.

bash scripts/gpu.sh --minutes 8 --data-dir IMAGES
bash scripts/gpu.sh --parts methods graphs          # some parts alone; what others reported stays in --out
bash scripts/gpu.sh --device cpu --minutes 3        # without a card: all parts in small
PYTHON=python3 bash scripts/gpu.sh                  # with a Python that has torch already, nothing is installed

Every part is a process with a limit of time; a part that fails or takes too long does not keep the others from their
turn. <out> gets gpu.json (everything, as it comes), gpu.log (what the parts printed) and gpu.md (a page). The exit
status is 1 where something was wrong or a part failed.
"""

import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch

from engine import cli
from engine.device import best_amp, code_version, select_device, unused_gpu
from engine.files import ROOT, BadInput, make_folder, read_json, write_json, write_whole
from scripts.gpu import page, rows

LONGEST = 10_000  # minutes for all parts
NEEDED = "torchvision", "scipy", "sklearn", "pandas", "matplotlib", "jinja2"  # by parts, beside what this imports
SAVING = 10  # seconds that a part gets to end by itself
TRIED, CHOSEN = 2, 0.6  # a part may take so many times its seconds, and is begun where this share of them is left
RUNS, IMAGES = 10, 45_000  # of the study gpu-minutes: trainings, images of an epoch
START, TESTS = 20, 6  # seconds that runs at once take to start, and that tests, or evaluations, take
SPARE = 0.8  # of the time that is left is planned for


@dataclasses.dataclass(frozen=True)
class Part:
    """A part: its name, what it shows, the seconds that it takes on an H100 and in small on a CPU, and how soon it is
    left out where time is short (0: never).
    """

    name: str
    words: str
    seconds: int
    small: int
    rank: int = 0


PARTS = (
    Part("card", "what it is", 10, 8),
    Part("methods", "right: every method on it against float64 on the CPU", 30, 12),
    Part("graphs", "right: graphs against eager steps, bit for bit; waits a step", 60, 12),
    Part("runs", "right: a training stopped and gone on, bit for bit, that learns", 30, 12),
    Part("preactresnet18", "fast: PreActResNet18, every method, eager and graphs", 45, 12),
    Part("wrn28_10", "fast: WRN-28-10, every method, eager and graphs", 55, 15, rank=2),
    Part("at-once", "fast: several runs at once", 60, 15, rank=3),
    Part("preactresnet18-compiled", "fast, right: PreActResNet18 compiled, with and without graphs", 80, 15, rank=4),
    Part("days", "fast: days of the paper's tables 1 to 7", 80, 25, rank=5),
    Part("wrn28_10-compiled", "fast, right: WRN-28-10 compiled, with and without graphs", 90, 15, rank=6),
    Part("true", "true: the study gpu-minutes on CIFAR-100, with the time that is left", 160, 30, rank=7),
)
NAMES = [part.name for part in PARTS]


def parser():
    """The command line."""
    commands = cli.Parser(prog="gpu.sh", description=__doc__)
    add = commands.add_argument
    add("--minutes", type=float, default=8, help="for all parts together (default 8)")
    add("--data-dir", type=Path, default=cli.DATA_DIR, help="holds CIFAR-100 (default $PATCHUP_DATA, else datasets)")
    add("--out", type=Path, default=ROOT / "results" / "gpu", help="gets the results (default results/gpu)")
    add("--device", default="cuda", help="cuda or cuda:<n> (default cuda), or cpu: all parts in small")
    add("--parts", nargs="+", choices=NAMES, metavar="PART", help=f"these alone: {', '.join(NAMES)}")
    return commands


# ---- the plan ----


def why_no_study(folder, device):
    """Why the part `true` cannot be done, or nothing."""
    if not any(folder.glob("cifar*100*")):
        return "--data-dir holds no CIFAR-100"
    return "" if best_amp(device) == "bf16" else "it trains in bf16, which this card would only emulate"


def planned(names, minutes, small, no_study=""):
    """({Part: its seconds}, {Part: why it is left out}) of the named parts; the last one gets what is left."""
    left, chosen, left_out = 60 * minutes, {}, {}
    for part in sorted((part for part in PARTS if part.name in names), key=lambda part: part.rank):
        seconds = part.small if small else part.seconds
        if part.name == "true" and no_study:
            left_out[part] = no_study
        elif seconds > left:
            left_out[part] = f"{seconds} s are more than the {left:.0f} s that are left"
        else:
            chosen[part], left = seconds, left - seconds
    chosen = {part: chosen[part] for part in PARTS if part in chosen}
    if chosen and next(reversed(chosen)).name == "true":
        chosen[next(reversed(chosen))] += round(left)
    return chosen, left_out


def study(args, parts, seconds, small):
    """(the row that fixes epochs and runs at once, the command) of the part `true`, from the speed that was measured.

    Raises BadInput where no epoch would fit.
    """
    command = [sys.executable, "-m", "scripts.study", "gpu-minutes", "--data-dir", str(args.data_dir.resolve())]
    command += ["--device", args.device]
    if small:
        return {"kind": "true", "quick": True}, [*command, "--quick", "--jobs", "2"]
    together = page.images_a_second(parts)
    if not together:
        raise BadInput("no speed of PreActResNet18 was measured")
    jobs = page.study_runs_at_once(parts)
    training = SPARE * seconds - 2 * (START + TESTS) * -(-RUNS // jobs)  # all are trained first, then evaluated
    epochs = int(training * together / (RUNS * IMAGES))
    if epochs < 1:
        raise BadInput(f"{seconds:.0f} s are too few for {RUNS} runs at {together:,.0f} images a second")
    row = {"kind": "true", "epochs": epochs, "runs_at_once": jobs, "images_per_second": together}
    return row, [*command, "--graphs", "--epochs", str(epochs), "--jobs-per-gpu", str(jobs)]


def kept_parts(path):
    """{part: {state, seconds, rows}} in a gpu.json. Raises BadInput where it is a file that no page can show."""
    head = dict.fromkeys(("command", "date", "code"), str)
    results = read_json(path, "scripts/gpu.sh", fields=head | {"parts": {...: {"state": str, "rows": list}}})
    try:
        page.markdown(results)
        page.well(results["parts"])
        page.study_runs_at_once(results["parts"])
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise BadInput(f"{path} is not a result of scripts/gpu.sh ({error!r}); remove it to run it again") from error
    return results["parts"]


# ---- doing it ----


class Results:
    """The results so far, written to <out> whenever they change; parts: {name: {state, seconds, rows}}."""

    def __init__(self, out, head, parts):
        self.out, self.head, self.parts = out, head, parts

    def add(self, name, row):
        """Add a row of a part."""
        self.parts[name]["rows"].append(row)
        self.save()

    def save(self):
        """Write gpu.json and gpu.md."""
        results = {**self.head, "parts": self.parts}
        write_json(self.out / "gpu.json", results)
        write_whole(self.out / "gpu.md", lambda file: file.write(page.markdown(results).encode()))


def do(name, command, limit, results, log):
    """Run a part's command for at most so many seconds; its rows go to the results, all else to the log."""
    part, start = results.parts[name], time.monotonic()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    options = {"stdout": subprocess.PIPE, "stderr": log, "text": True, "start_new_session": True, "cwd": ROOT}
    process = subprocess.Popen(command, env=environment, **options)
    timer = threading.Timer(limit, stop, (process,))
    timer.start()
    try:
        for line in process.stdout:
            if row := rows.read(line):
                results.add(name, row)
                if row.get("passed") is False:
                    print(f"    wrong: {row['what']}: {row['detail']}", flush=True)
            else:
                log.write(line)
                log.flush()
        status = process.wait()
    finally:
        timer.cancel()
        stop(process)
    part["seconds"] = round(time.monotonic() - start, 1)
    if part["seconds"] >= limit:
        part["state"] = f"not finished in its {limit:.0f} s"
    else:
        part["state"] = "done" if status == 0 else f"failed (exit status {status}, see gpu.log)"


def stop(process):
    """End a part's process and what it started."""
    for number, seconds in ((signal.SIGTERM, SAVING), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        if process.poll() is None:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
        else:
            time.sleep(0.1)


def make(args):
    """Do what a command line asks for; 1 where something was wrong."""
    start = time.monotonic()
    if not 0 < args.minutes <= LONGEST:
        raise BadInput(f"--minutes must be above 0 and at most {LONGEST}, not {args.minutes:g}")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise BadInput(f"this Python lacks {', '.join(missing)}: install them, or leave out PYTHON")
    if args.device != "cpu" and not torch.cuda.is_available():
        raise BadInput(f"{unused_gpu() or 'this machine has no GPU'}; --device cpu goes through all parts in small")
    device = select_device(args.device, use=False)  # its parts do
    small, names = device.type == "cpu", args.parts or NAMES
    make_folder(args.out)
    before = args.out / "gpu.json"
    kept = kept_parts(before) if args.parts and before.exists() else {}
    head = {"command": " ".join(["gpu.sh", *sys.argv[1:]]), "date": time.strftime("%F %T"), "code": code_version()}
    results = Results(args.out, head, kept)
    chosen, left_out = planned(names, args.minutes, small, "" if small else why_no_study(args.data_dir, device))
    print(f"{'part':26}{'seconds':>8}")
    for part, seconds in chosen.items():
        print(f"{part.name:26}{seconds:>8}  {part.words}")
    for part, why in left_out.items():
        print(f"{part.name:26}{'-':>8}  left out: {why}", flush=True)
        results.parts[part.name] = {"state": f"left out: {why}", "seconds": 0, "rows": []}
    with (args.out / "gpu.log").open("a") as log:
        for part, seconds in chosen.items():
            perform(part, seconds, start + 60 * args.minutes, args, small, results, log)
    results.save()
    print(f"\n{page.screen({**head, 'parts': results.parts})}\n\n{args.out / 'gpu.md'}")
    return 0 if page.well(results.parts) else 1


def perform(part, seconds, end, args, small, results, log):
    """Do a part, if time is left for it."""
    outcome = results.parts[part.name] = {"state": "at work", "seconds": 0, "rows": []}
    left = end - time.monotonic()
    print(f"{time.strftime('%T')} {part.name} ...", flush=True)
    if left < max(CHOSEN * seconds, SAVING + 5):
        outcome["state"] = f"left out: {max(left, 0):.0f} s were left of its {seconds}"
    elif part.name == "true":
        train_truly(args, left - SAVING, small, results, log)
    else:
        command = [sys.executable, "-m", "scripts.gpu.child", part.name, args.device, *["small"] * small]
        do(part.name, command, min(TRIED * seconds, left - SAVING), results, log)
    results.save()
    print(f"{time.strftime('%T')} {part.name}: {outcome['state']}, {outcome['seconds']:.0f} s", flush=True)


def train_truly(args, seconds, small, results, log):
    """Do the part `true`: the study, in so many seconds."""
    try:
        row, command = study(args, results.parts, seconds, small)
    except BadInput as error:
        results.parts["true"]["state"] = f"left out: {error}"
        return
    results.add("true", row)
    setting = "quick" if small else f"epochs{row['epochs']}"  # another call may have the time for other epochs
    folder = args.out.resolve() / f"study-{setting}"
    do("true", [*command, "--out", str(folder)], seconds, results, log)
    try:
        results.parts["true"]["rows"] += page.errors(folder)
    except BadInput as error:
        results.parts["true"]["state"] = f"failed ({error})"


def main(arguments=None):
    """Do what a command line asks for; the exit status (see cli.explain)."""
    args = parser().parse_args(arguments)
    return cli.explain(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
