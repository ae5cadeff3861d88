"""One page with tables, pictures, learning curves and runs: <out>/report.html, which needs no network.

python -m scripts.report [--out results/demo]

Shows the tables in <out>/tables, those of trainings as their runs are now, the pictures in <out>/figures and all runs
below <out>/runs*. What cannot be read, and runs of another recipe than the tables', are named on the page.
"""

import datetime
import sys
from pathlib import Path

import jinja2

from engine import cli
from engine.device import code_version
from engine.files import ROOT, make_folder, write_whole
from scripts.report import content

TEMPLATE = Path(__file__).with_name("page.html")


def make(out):
    """Write <out>/report.html, in which every text from a file is escaped, and say so."""
    make_folder(out)
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    template = jinja2.Environment(**options).from_string(TEMPLATE.read_text())
    made = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    page = template.render(content.gather(out), made=made, code=code_version()).encode(errors="replace")
    write_whole(out / "report.html", lambda file: file.write(page))
    print(f"written to {out / 'report.html'} ({len(page) / 2**20:.1f} MiB)")
    return 0


def main(arguments=None):
    """Make the page that a command line asks for; the exit status (see cli.explain)."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "results", help="is shown, and gets report.html")
    args = parser.parse_args(arguments)
    return cli.explain(lambda: make(args.out))


if __name__ == "__main__":
    sys.exit(main())
