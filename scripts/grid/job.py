"""One run as a unit of work: its commands, how a process does them, and how a failure is kept and told.

python -m scripts.grid.job '[["train", ["--dataset", "digits", ...]]]'       # what a Slurm job starts
"""

import contextlib
import importlib
import json
import os
import re
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

import recipes
from engine.files import ROOT, BadInput, RunFailed, write_whole
from engine.runs import RunFiles

END_LINES = 10  # of the output of a failed run, shown
HEAD = "== "  # begins the line in a run's output that says what follows
BAR = re.compile(r"\d+%\|")


@dataclass(frozen=True)
class Job:
    """One run and what is to be done of it.

    commands: ((module, (argument, ...)), ...), done in order until one fails: module.main(arguments) gives the status.
    results: the files that exist when all of it is done.
    """

    recipe: recipes.Recipe
    files: RunFiles
    commands: tuple
    results: tuple

    @property
    def name(self):
        """As `cifar100/wrn28_10/none/seed0`; see RunFiles.name."""
        return self.files.name

    def state(self):
        """files.state(), but `trained` where the training is finished and not yet all the rest."""
        state = self.files.state()
        return state._replace(name="trained") if state.name == "finished" and not self.finished() else state

    def changed_at(self):
        """The time of the last change in the run's files but what is printed to, as their file system tells it."""
        times = [0]
        for path in self.files.stem.parent.glob(f"{self.files.stem.name}.*"):
            if path != self.files.output:
                with contextlib.suppress(FileNotFoundError):  # it has just been replaced
                    times.append(path.stat().st_mtime_ns)
        return max(times)

    def finished(self):
        """Whether all of it is done. Raises BadInput if it was run with another recipe."""
        return bool(self.files.finished()) and all(Path(path).exists() for path in self.results)


# ---- doing it ----


def threads(count):
    """The threads of each process of a run, a text: OMP_NUM_THREADS, or else count. Raises BadInput for no number."""
    text = os.environ.get("OMP_NUM_THREADS") or str(max(1, count))
    if not text.isdecimal() or int(text) == 0:
        raise BadInput(f"OMP_NUM_THREADS must be a number of threads, not {text!r}: set another, or none")
    return text


def with_torchrun(commands, processes):
    """The same commands, but with the training done by several processes, one a GPU."""
    if processes == 1:
        return commands
    options = "--standalone", "--nproc-per-node", str(processes), str(ROOT / "train.py")
    return tuple(
        ("torch.distributed.run", (*options, *arguments)) if module == "train" else (module, arguments)
        for module, arguments in commands
    )


def perform(commands):
    """Do commands ((module, arguments), ...) in order in this process; the first status that is not 0, or 0."""
    for module, arguments in commands:
        print(f"{HEAD}{time.strftime('%F %T')} python -m {module} {shlex.join(arguments)}", flush=True)
        sys.argv = [f"{module}.py", *arguments]  # what its messages begin with
        if status := _status(importlib.import_module(module).main, list(arguments)):
            return status
    return 0


def _status(main, arguments):
    try:
        return main(arguments)
    except SystemExit as error:
        return error.code
    except ChildFailedError as error:  # of torchrun, which counts every failure as 1
        code = error.get_first_failure()[1].exitcode
        return code if code >= 0 else 128 - code
    except SignalException as error:  # likewise
        return 128 + error.sigval


# ---- failures ----


def note_failure(job, code):
    """Write what happened, and the end of the output of the command that failed, to the job's files.failed."""
    happened = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    text = "\n".join([happened, *end_of(job.files.output)]) + "\n"
    with contextlib.suppress(RunFailed):  # on a full disk the others are to go on
        write_whole(job.files.failed, lambda file: file.write(text.encode()))


def report(job):
    """The lines that tell of a job that is given up."""
    text = job.files.failed.read_text(errors="replace") if job.files.failed.is_file() else ""
    happened, *lines = text.splitlines() or ["the reason could not be written"]
    return "\n".join([f"failed: {job.name} ({happened}), {job.files.output} ends:", *(f"  {line}" for line in lines)])


def end_of(path):
    """The last lines that the last command wrote to an output file, without progress bars."""
    text = path.read_bytes().decode(errors="replace").rpartition(HEAD)[2].partition("\n")[2] if path.exists() else ""
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", text)]
    return [line for line in lines if line and not BAR.search(line)][-END_LINES:]


if __name__ == "__main__":
    sys.exit(perform(json.loads(sys.argv[1])))
