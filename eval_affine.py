"""Error of trained networks on rotated, sheared and scaled test images: Tables 4 and 10.

python eval_affine.py results/runs/cifar100/preactresnet18
python eval_affine.py results/runs/cifar100/preactresnet18/*/seed0.best.pt --geometry modern --limit 1000

Every image has one rotation, shear and scale in each of the eight sets, the same for all checkpoints. They are drawn
from --draw-seed once and kept, with their checksum, in <data-dir>/affine.
"""

if __name__ == "__main__":
    from engine.startup import tell_interrupts

    tell_interrupts()

import hashlib
import sys
import warnings

import numpy as np

from data import affine
from engine import cli, evaluation
from engine.evaluation import Evaluation
from engine.files import BadInput, RunFailed, write_whole

CLEAN = "clean"


class Affine(Evaluation):
    """The clean test images and the eight sets of Table 4; the images are deformed before they are normalised."""

    kind = "affine"
    plain = {"geometry": affine.AUTHORS, "draw_seed": 0}
    fields = {"draws_sha256": str}
    tasks = (CLEAN, *affine.SETS)

    def prepare(self):
        super().prepare()
        seed = self.setting["draw_seed"]
        path = self.subject.folder / "affine" / f"{self.subject.recipe.dataset}-seed{seed}.npz"
        self.values, self.stamp = fixed_draws(path, len(self.subject.test.labels), seed)

    def evaluate(self, task, x, y, rows, sums):
        if task != CLEAN:
            height, width = x.shape[2:]
            values = self.values[task][rows.cpu().numpy()]
            x = affine.warp(x, affine.matrices(task, values, width, height, self.setting["geometry"]))
        return super().evaluate(task, x, y, rows, sums)

    def conclude(self, cases, arrays, sums):
        return {"draws_sha256": self.stamp}

    def remark(self, records):
        draws = {}
        for record in records:
            images = record["dataset"], record["recipe"].get("images")
            if draws.setdefault(images, record["draws_sha256"]) != record["draws_sha256"]:
                raise BadInput(f"records on {images[0]} are of different draws: remove some, and evaluate again")
        return ""


def fixed_draws(path, images, seed):
    """The values drawn for so many test images, {set: float64 [images]}, and their SHA-256; made and kept at first.

    Raises BadInput where the file at path is damaged, altered or of another number of images.
    """
    if not path.exists():
        values = affine.draw(images, seed)
        save_draws(path, values)
        return values, checksum(values)
    remedy = "remove it to draw anew, and evaluate every model on the new draws"
    try:
        with np.load(path, allow_pickle=False) as stored:
            values, expected = {name: stored[name].astype("<f8") for name in affine.SETS}, str(stored["sha256"])
    except Exception as error:  # whatever a damaged or foreign file makes the reader do
        raise BadInput(f"{path} is damaged or holds no draws ({error}); {remedy}") from error
    if checksum(values) != expected:
        raise BadInput(f"{path} does not match its checksum; {remedy}")
    if {drawn.shape for drawn in values.values()} != {(images,)}:
        raise BadInput(f"{path} is for {values['rotate_20'].size} test images, here are {images}; {remedy}")
    return values, expected


def save_draws(path, values):
    """Keep values at path; where that cannot be, warn, as the seed gives them again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: np.savez(file, sha256=checksum(values), **values))
    except (OSError, RunFailed) as error:
        warnings.warn(f"the affine draws cannot be kept ({error}); the seed gives the same again", stacklevel=2)


def checksum(values):
    """The SHA-256 of drawn values, hex."""
    digest = hashlib.sha256()
    for name in affine.SETS:
        digest.update(name.encode() + values[name].astype("<f8").tobytes())
    return digest.hexdigest()


def parser():
    """The command line."""
    affine_parser = evaluation.parser(__doc__)
    add = affine_parser.add_argument
    geometry_help = "of the authors' torchvision 0.4.2 (default), whose shear also squeezes, or today's"
    add("--geometry", choices=affine.GEOMETRIES, default=affine.AUTHORS, help=geometry_help)
    add("--draw-seed", type=int, default=0, metavar="K", help="of the fixed draws (default 0)")
    return affine_parser


def evaluations(args):
    """The evaluation that a command line asks for. Raises BadInput for an impossible seed."""
    cli.require_counts(args, "draw_seed", least=0, most=2**63 - 1)
    return [Affine(args.limit, geometry=args.geometry, draw_seed=args.draw_seed)]


def main(arguments=None):
    """The exit status of a command line (see cli.explain)."""
    return evaluation.main(parser(), evaluations, arguments)


if __name__ == "__main__":
    sys.exit(main())
