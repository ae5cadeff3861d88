"""What a script does before its imports, which take seconds."""

import os
import sys


def tell_interrupts():
    """From here on an interrupt is one line and exit status 130, as within cli.explain, during imports too."""
    sys.excepthook = _tell


def _tell(kind, error, trace):
    if kind is not KeyboardInterrupt:
        sys.__excepthook__(kind, error, trace)
        return
    script = sys.argv[0].rpartition(os.sep)[2]
    print(f"{script}: interrupted; the same command starts again", file=sys.stderr, flush=True)
    os._exit(130)
