"""Names as they are written in print, all in one place: a method's label is here, the others' are in their entries."""

import data
import models

LABELS = {  # as the paper writes them
    "none": "No Mixup",
    "mixup": "Input Mixup",
    "manifold_mixup": "ManifoldMixup",
    "cutout": "Cutout",
    "dropblock": "DropBlock",
    "cutmix": "CutMix",
    "puzzlemix": "Puzzle Mix",
    "patchup_soft": "Soft PatchUp",
    "patchup_hard": "Hard PatchUp",
    "feature_cutmix": "Feature CutMix",  # of Table 3
}
PRINTED = {name: facts.title for name, facts in data.FACTS.items()}
PRINTED |= {name: network.title or name for name, network in models.MODELS.items()} | LABELS


def printed(name):
    """A method, data set or network as it is written in print; a name without a label is printed as it is."""
    return PRINTED.get(name, name)
