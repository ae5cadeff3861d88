"""Minimum cuts on several cores: the grids of a batch are independent, so every core takes a share of them.

They are processes and not threads, because SciPy's maximum flow holds Python's global lock. A process runs graphcut.py
alone, which needs no PyTorch; it reads shares from its standard input and ends with it, however its parent ends.
"""

import pickle
import subprocess
import sys
import weakref

import numpy as np

from . import graphcut

SHARE = 1024  # the least number of blocks that a core gets: fewer are solved sooner than sent
CODE = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"


class CutPool:
    """Solves batches of grids on several cores: in this process, and in others that start when first needed."""

    def __init__(self, cores):
        self.cores = cores
        self.workers = []

    def solve(self, costs):
        """graphcut.solve(costs). Without other processes where they cannot start or do not answer."""
        shares = np.array_split(costs, max(1, min(self.cores, len(costs), costs[:, 0].size // SHARE)))
        workers, self.workers = self.workers, []  # a worker that still owes an answer is never asked again
        try:
            workers += [Worker() for _ in range(len(shares) - 1 - len(workers))]
            for worker, share in zip(workers, shares[:-1]):
                worker.send(share)
            last = graphcut.solve(shares[-1])
            labels = np.concatenate([*(worker.receive() for worker, _ in zip(workers, shares[:-1])), last])
        except (OSError, EOFError, pickle.UnpicklingError):
            self.cores = 1
            return graphcut.solve(costs)
        self.workers = workers
        return labels


class Worker:
    """A process that solves one share after another."""

    def __init__(self):
        # A session of its own: Ctrl-C asks the parent to stop, which may still need an answer for its last step.
        command, pipe = [sys.executable, "-c", CODE, graphcut.__file__], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)
        weakref.finalize(self, self.process.communicate)  # closes its input and waits for its end

    def send(self, costs):
        pickle.dump(costs, self.process.stdin)
        self.process.stdin.flush()

    def receive(self):
        return pickle.load(self.process.stdout)
