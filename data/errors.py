"""The warnings and errors about images."""

import sys


def warn(line):
    """A warning line on stderr."""
    print(f"warning: {' '.join(line.split())}", file=sys.stderr)


class DataError(ValueError):
    """Data that cannot be used; the message is one line naming what is wrong and what is possible."""

    def __init__(self, message):
        super().__init__(" ".join(message.splitlines()))
