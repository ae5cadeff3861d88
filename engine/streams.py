"""stdout and stderr that never make a run fail: closed, on a full disk, or in an encoding without the printed signs."""

import contextlib
import io
import os
import sys


class Tolerant:
    """A text stream that drops what cannot be written to it. A closed pipe still raises."""

    def __init__(self, stream):
        self.stream = stream
        stream.reconfigure(errors="replace")

    def write(self, text):
        with self._dropping():
            self.stream.write(text)
        return len(text)

    def flush(self):
        with self._dropping():
            self.stream.flush()

    @contextlib.contextmanager
    def _dropping(self):
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError:  # from now on, and at exit, into nothing
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name):
        return getattr(self.stream, name)


def make_tolerant():
    """Put a Tolerant stream in the place of stdout and stderr; one that is closed leads to /dev/null."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:  # the closed number, unless a file has taken it since
                nowhere = os.dup2(nowhere, number) if _is_closed(number) else nowhere
            stream = os.fdopen(nowhere, "w", closefd=False)
        if isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, Tolerant(stream))


def _is_closed(number):
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
