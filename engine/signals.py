"""A signal asks a run to save and stop."""

import signal

from engine import distributed


class Stopped(Exception):
    """A signal, its only argument, asked the run to stop; the run has been saved."""


NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class StopSignals:
    """Within it, SIGTERM, SIGINT, SIGHUP and SIGUSR1 set `received` instead of killing; a second signal kills as usual.

    Not so under torchrun: it passes on what may have come already, and kills by itself what does not end in time.
    """

    def __init__(self):
        self.received = None

    def __enter__(self):
        self.before = {number: signal.signal(number, self._note) for number in NUMBERS}
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
