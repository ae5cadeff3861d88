"""A signal asks a run to save and stop."""

import signal

from engine import distributed


class Stopped(Exception):
    """A signal, its only argument, asked the run to stop; the run has been saved."""


class StopSignals:
    """Within it, SIGTERM, SIGINT and SIGUSR1 set `received` instead of killing; a second one kills as usual.

    Not so under torchrun: it passes on what may have come already, and kills by itself what does not end in time.
    """

    def __init__(self):
        self.received = None

    def __enter__(self):
        self.before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
        return self

    def _note(self, number, frame):
        self.received = number
        self._restore()

    def _restore(self):
        if distributed.size() == 1:
            for number, handler in self.before.items():
                signal.signal(number, handler)

    def __exit__(self, *exception):
        self._restore()
