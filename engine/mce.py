"""mCE: errors under corruptions relative to those of reference networks (Hendrycks and Dietterich, 2019)."""

import numpy as np

import recipes
from engine.files import NUMBER, BadInput, read_json

RECORD = {"source": str, "sums": {...: NUMBER}, "mean_sum": NUMBER}  # what a record of corruptions holds, among others


class References:
    """The corruption records that mCE is relative to: the one at path, or all of this name in a folder.

    In a folder the same command may still make them: then it holds the checkpoints, with these weights. Raises BadInput
    where there is neither, or something else.
    """

    def __init__(self, path, weights, name):
        self.path, self.pattern = path, f"*.{weights}.{name}.json"
        if not path.exists():
            raise BadInput(f"--reference {path} is missing")
        if not self.existing() and not any(path.rglob(f"*.{weights}.pt")):
            raise BadInput(self.missing)

    @property
    def missing(self):
        """The error where no record exists."""
        return f"--reference {self.path} holds no {self.pattern}: evaluate it in the same way first"

    def existing(self):
        """{path: record} so far."""
        paths = sorted(self.path.rglob(self.pattern)) if self.path.is_dir() else [self.path]
        fields = RECORD | {"images": int, "model": str, "method": str}
        return {path: read_json(path, maker="eval_corruption.py", remedy="", fields=fields) for path in paths}

    def require_images(self, source, images):
        """Raise BadInput, naming the reference, unless all are of this source and number of images."""
        for path, record in self.existing().items():
            if (record["source"], record["images"]) != (source, images):
                words = f"{record['source']}, {record['images']} images"
                raise BadInput(
                    f"--reference {path} is of {words}; the records to show are of {source}, {images} images"
                )

    def mce(self, record):
        """The mean over corruptions of 100 E_c / E_c of the references, whose E_c are averaged first.

        Raises BadInput, naming the reference, where it is of other images, or makes no error to divide by.
        """
        self.require_images(record["source"], record["images"])
        sums = [reference["sums"] for reference in self.existing().values()]
        if not sums:
            raise BadInput(self.missing)
        if missing := {name for reference in sums for name in record["sums"].keys() - reference.keys()}:
            raise BadInput(f"--reference {self.path} says nothing of {min(missing)}")
        ratios = []
        for name, error in record["sums"].items():
            divisor = np.mean([reference[name] for reference in sums])
            if divisor == 0:
                raise BadInput(f"--reference {self.path} makes no error under {name}, so mCE cannot be computed")
            ratios.append(100 * error / divisor)
        return float(np.mean(ratios))

    def in_words(self):
        """Their networks and methods and their number, as `wrn28_10 No Mixup, 5 runs`."""
        records = self.existing().values()
        pairs = ((record["model"], record["method"]) for record in records)
        names = dict.fromkeys(f"{model} {recipes.printed(method)}" for model, method in pairs)
        return f"{' and '.join(names)}, {len(records)} run{'s' * (len(records) > 1)}"
