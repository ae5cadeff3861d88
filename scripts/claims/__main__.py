"""The paper's claims and what the study says of them, from the study's records alone.

python -m scripts.claims                                      # of what is published
python -m scripts.claims --records results/study/cpu/records --out results/study/cpu
python -m scripts.claims --readme README.md                   # and its section "What holds"

Writes <out>/claims.md and claims.csv (every contrast of every claim), and into the folder of the records, or without
--records results/published/study/cpu, tables.md and .csv and the pictures, each PNG with the CSV it is drawn from. The
same records give the same text, byte for byte.
"""

import os
import sys
from pathlib import Path

from engine import cli
from engine.files import make_folder, write_whole
from scripts.claims import page, pictures, records, tables
from scripts.claims.judge import judge
from scripts.claims.network import Network
from scripts.grid.grids import ROOT

PUBLISHED = ROOT / "results" / "published"
SCALE = "cpu"  # of the page in results/published


def derive(network, folder):
    """{name: text} of the page's files and {name: text, or a function that draws} of the folder's, and the README's
    section. folder: of the records, as the page names it.
    """
    judgements, drawn = judge(network), pictures.pictures(network)
    texts = {"claims.md": page.markdown(network, judgements, drawn, folder), "claims.csv": page.csv(judgements)}
    beside = tables.files(network)
    for name, (frame, draw) in drawn.items():
        beside |= {f"{name}.csv": tables.as_csv(frame), f"{name}.png": draw}
    return texts, beside, page.what_holds(network, judgements)


def write(files, out):
    """Write {name: text, or a function that draws} into a folder."""
    make_folder(out)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else pictures.png(content)
        write_whole(out / name, lambda file, data=data: file.write(data))


def publish(folder, out, readme=None):
    """Derive all that follows from the records in a folder and write it; `out` and readme get the first network's."""
    study = records.read(folder)
    for number, model in enumerate(study.models):
        name = model if number else ""
        texts, beside, section = derive(Network(study, model), os.path.relpath(folder / name, out / name))
        written = [(beside, folder / name), (texts, out / name)]
        if readme and not number:
            written.append(({readme.name: page.with_section(readme, section)}, readme.parent))
        for files, place in written:
            write(files, place)
        print(section)
        print(f"written to {out / name / 'claims.md'} and {folder / name}")
    return 0


def main(arguments=None):
    """Derive what a command line says; the exit status (see cli.explain)."""
    parser = cli.Parser(description=__doc__)
    add = parser.add_argument
    add("--records", type=Path, metavar="DIR", help=f"of scripts/study.py (default: {PUBLISHED / 'study' / SCALE})")
    add("--out", type=Path, help="gets claims.md (default: the folder of --records, or results/published)")
    add("--readme", type=Path, metavar="FILE", help="a page whose section `What holds` is to be written anew")
    args = parser.parse_args(arguments)
    folder, out = args.records or PUBLISHED / "study" / SCALE, args.out or args.records or PUBLISHED
    return cli.explain(lambda: publish(folder, out, args.readme))


if __name__ == "__main__":
    sys.exit(main())
