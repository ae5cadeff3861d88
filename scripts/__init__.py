"""Many runs, tables, figures, claims, benchmarks and the report: what the .sh files start."""

import sys

from engine.startup import tell_interrupts

if sys.argv[0] == "-m":  # while `python -m scripts...` looks for its module
    tell_interrupts()
