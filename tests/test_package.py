"""`pip install .`: the wheel, in an environment where a package of the user's own is called `models`."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRAINING = """
import torch

import models  # the user's
from patchup.models import build as network, mixable
from patchup.regularizers import build

assert models.MINE == 1
net = network("preactresnet18", num_classes=3, width=4)
mixed = mixable(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(900 * 4, 3)), ["0"])
for trained in (net, mixed):
    patchup = build("patchup_hard", num_classes=3, layers=(0, 1), block_size=3, prob=1.0)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    for step in range(2):
        x, y = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
        patchup.seed(0, step)
        patchup.draw(x, y, trained)
        patchup.loss(trained(x, patchup.mix)).backward()
        optimizer.step()
puzzlemix = build("puzzlemix", num_classes=3)
puzzlemix.seed(0, 0)
puzzlemix.draw(x, y, net)
net(x, puzzlemix.mix)
print("trained", patchup.__class__.__module__)
"""


def test_the_wheel_trains_beside_a_package_called_models(tmp_path):
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    copy = tmp_path / "copy"  # building leaves files beside the sources
    copy.mkdir()
    for name in ("models", "regularizers", "pyproject.toml", "README.md"):
        (copy / name).symlink_to(ROOT / name)
    subprocess.run([*wheel, str(copy)], check=True, capture_output=True)
    (built,) = tmp_path.glob("patchup_regularizers-*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(built)]
    subprocess.run(install, check=True, capture_output=True)
    (tmp_path / "user/models").mkdir(parents=True)
    (tmp_path / "user/models/__init__.py").write_text("MINE = 1\n")
    (tmp_path / "user/train.py").write_text(TRAINING)
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, str(tmp_path / "user/train.py")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "trained patchup.regularizers.patchup\n", done.stderr
