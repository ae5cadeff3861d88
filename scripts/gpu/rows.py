"""What parts report: rows, which they print as they come and which `python -m scripts.gpu` collects."""

import json

MARK = "row: "


def report(kind, **values):
    """Print a row for the process that started this one: its kind and values that JSON can hold."""
    print(MARK + json.dumps({"kind": kind, **values}), flush=True)


def check(what, passed, detail):
    """Report whether something is right: what, in words; passed, or None where it cannot be on this device."""
    report("check", what=what, passed=None if passed is None else bool(passed), detail=detail)


def read(line):
    """The row that a line holds, or None; also of a line that was cut off with its process."""
    try:
        return json.loads(line.removeprefix(MARK)) if line.startswith(MARK) else None
    except ValueError:
        return None


def attempted(what, function):
    """Call function(); what it raises becomes a failed check, so that the others go on. Out of memory is named so."""
    try:
        function()
    except Exception as error:  # a fault of any kind is what this looks for
        reason = (str(error).strip() or "no message").partition("\n")[0]
        check(what, False, f"{type(error).__name__}: {reason}")
