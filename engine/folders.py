"""The folder of a run below results/: one rule for train.py and the tables, so that neither trains what the other has.

runs                     the paper's recipe
runs-width16-epochs8     other recipes, by the fields that differ from the paper's
runs-NAME                the fields that --recipe-tag NAME stands for, kept in runs-NAME/recipe.json
"""

import hashlib
import re

import models
import recipes
from engine.files import BadInput, make_folder, read_json, write_json

LONGEST = 160  # characters of a file name that say what was chosen; names may have 255


def shortened(text):
    """A part of a file name, cut to what file systems take; what is cut off is told by a hash."""
    text = models.as_file_name(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def in_words(overrides):
    """`epochs 2, width 16` for fields of a recipe."""
    return ", ".join(f"{name} {recipes.as_text(value)}" for name, value in overrides.items())


def suffix(overrides, tag=""):
    """How names of files end that belong to a recipe with these fields, and a tag for more: `-epochs2`, or nothing."""
    fields = [f"-{name}{recipes.as_text(overrides[name])}" for name in recipes.OPTIONS if name in overrides]
    return "".join([f"-{tag}" * bool(tag), *fields])


def runs_folder(out, overrides, tag=""):
    """The folder of the runs with these fields other than the paper's, and a tag for more, below the folder out."""
    return out / f"runs{shortened(suffix(overrides, tag))}"


def add_tag_flag(parser):
    """The flag --recipe-tag."""
    tag_help = "a name for the fields of the recipe given with it; later calls need the name alone"
    parser.add_argument("--recipe-tag", metavar="NAME", help=tag_help)


def tagged(out, tag, given):
    """The fields that a --recipe-tag stands for; given: those on this command line, which name them at first.

    Raises BadInput for an impossible name, an unknown name without fields, and a name that stands for other fields.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.]{,59}", tag):
        raise BadInput(f"--recipe-tag must be at most 60 letters, digits, _ and ., not {tag!r}")
    path = _tag_file(out, tag)
    if not path.exists():
        if not given:
            raise BadInput(f"{path} does not exist: give the fields of the recipe with --recipe-tag at its first use")
        return given
    kept = _kept(path)
    if given and given != kept:
        raise BadInput(f"--recipe-tag {tag} stands for {in_words(kept)}: leave them out, or take another tag")
    return kept


def remember(out, tag, overrides):
    """Keep what a recipe tag stands for beside its runs, for later command lines."""
    path = _tag_file(out, tag)
    make_folder(path.parent)
    write_json(path, {"overrides": overrides})


def _tag_file(out, tag):
    return runs_folder(out, {}, tag) / "recipe.json"


def _kept(path):
    """The fields in a tag's file. Raises BadInput for an unknown field, or a value that its flag would not take."""
    remedy = ": take another --recipe-tag"
    kept = read_json(path, "scripts/tables.py", remedy, if_there={"overrides": dict}).get("overrides") or {}
    kept = {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
    for name, value in kept.items():
        if name not in recipes.OPTIONS:
            raise BadInput(f"{path} has {name}, which is no field of a recipe{remedy}")
        if not recipes.takes(name, value):
            raise BadInput(f"{path} has {name} {value!r}, which {recipes.flag(name)} does not take{remedy}")
    return kept
