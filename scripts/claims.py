"""The paper's claims and what the study says of them: claims.md, tables and figures, from the study's records alone.

python -m scripts.claims                                             # of all published studies
python -m scripts.claims --records results/study/cpu/records --out results/study/cpu/published
python -m scripts.claims --readme README.md                          # and its section "What holds"

Writes <out>/claims.md and claims.csv (every difference of every claim), and for every scale, in <out>/study/<scale>,
tables.md and .csv and its figures, each PNG with the CSV it is drawn from. The same records give the same text, byte
for byte.
"""

import argparse
import sys
from pathlib import Path

from claims import evidence, page, plots, tables, verdicts
from claims.scope import Scope
from engine import cli
from engine.files import ROOT, BadInput, make_folder, write_whole

PUBLISHED = ROOT / "results" / "published"
SCALES = ("gpu", "cpu")  # in the order of the page
COMMAND = "python -m scripts.claims"


def parser():
    """The command line."""
    found = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = found.add_argument
    add("--records", nargs="+", type=Path, metavar="DIR", help="of scripts/study.py (default: all published ones)")
    add("--out", type=Path, help="gets claims.md and study/ (default, without --records: results/published)")
    add("--readme", type=Path, metavar="FILE", help="a page whose section `What holds` is to be written anew")
    return found


def folders(args):
    """The folders of records to read. Raises BadInput where none is published, or others would replace those."""
    if args.records and not args.out:
        raise BadInput("--records needs --out, which gets what follows from them")
    found = args.records or [path for scale in SCALES if (path := PUBLISHED / "study" / scale).is_dir()]
    if not found:
        raise BadInput(f"{PUBLISHED / 'study'} holds no records: bash scripts/study.sh cpu makes them")
    return found


def derive(scopes):
    """({path below --out: text, or for a picture a function that draws it}, the README's section) of the scopes."""
    claims = list(zip(*map(verdicts.judged, scopes)))
    found, pictures = {}, {}
    for scale in dict.fromkeys(scope.scale for scope in scopes):
        here, folder = [scope for scope in scopes if scope.scale == scale], f"study/{scale}"
        frames = [tables.frame(scope) for scope in here]
        found[f"{folder}/tables.md"] = "# The study's tables\n\n" + "\n".join(map(tables.markdown, here, frames))
        found[f"{folder}/tables.csv"] = tables.csv(frames)
        for name, (table, figure) in plots.figures(here).items():
            found[f"{folder}/{name}.csv"] = evidence.csv(table).decode()
            found[f"{folder}/{name}.png"] = figure
            pictures[f"{folder}/{name}.png"] = f"{scale}: {plots.CAPTIONS[name]}"
    found["claims.md"] = page.markdown(scopes, claims, pictures, COMMAND)
    found["claims.csv"] = page.csv(scopes, claims)
    return found, page.what_holds(scopes, claims)


def write(found, out):
    """Write what derive returned."""
    for name, content in found.items():
        path = out / name
        make_folder(path.parent)
        data = content.encode() if isinstance(content, str) else plots.png(content)
        write_whole(path, lambda file, data=data: file.write(data))


def make(args):
    """Do what a command line asks for."""
    scopes = [Scope(records, model) for records in map(evidence.read, folders(args)) for model in records.models]
    found, section = derive(scopes)
    readme = page.with_section(args.readme, section) if args.readme else None
    out = args.out or PUBLISHED
    write(found, out)
    if readme:
        write_whole(args.readme, lambda file: file.write(readme.encode()))
    print(section)
    print(f"written to {out / 'claims.md'} and {out / 'study'}")
    return 0


def main(arguments=None):
    """Derive what a command line says; the exit status (see cli.explain)."""
    args = parser().parse_args(arguments)
    return cli.explain(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
