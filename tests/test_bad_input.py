"""Bad input: exit status 2, one line that names the thing, no traceback, nothing written."""

import subprocess
import sys
from pathlib import Path

import pytest

import train
from engine import cli
from scripts import tables
from tests.image_files import write_classes

ROOT = Path(__file__).resolve().parent.parent
RUN = {"dataset": "digits", "model": "preactresnet18", "method": "none"}


def arguments(text):
    """The command line of a small run with `--flag value` pairs added or, for data set, model, method, replaced."""
    given = dict(zip(text.split()[::2], text.split()[1::2]))
    run = {f"--{name}": value for name, value in RUN.items()} | given
    return [part for pair in run.items() for part in pair if part]


def refused(capsys, tmp_path, function, given):
    """The one line on stderr of a command that must exit with status 2 and write nothing."""
    try:
        status = function([*given, "--out", str(tmp_path / "out"), "--data-dir", str(tmp_path / "images")])
    except SystemExit as error:
        status = error.code
    errors = capsys.readouterr().err
    assert status == 2, errors
    assert errors.count("\n") == 1 and "Traceback" not in errors, errors
    assert not list((tmp_path / "out").rglob("*.*"))
    return errors


@pytest.mark.parametrize(
    "given, message",
    [
        ("--dataset mnist", "unknown data set 'mnist'; known are cifar10, cifar100"),
        ("--model vgg16", "unknown model 'vgg16'; known are preactresnet18"),
        ("--method cutmax", "unknown method 'cutmax'; did you mean cutmix? Known are none, mixup"),
        ("--method patchup_soft --gamma 1.5", "gamma must lie in [0, 1], not 1.5"),
        ("--method patchup_soft --gamma -0.5", "gamma must lie in [0, 1], not -0.5"),
        ("--method patchup_hard --prob 1.1", "prob must lie in [0, 1], not 1.1"),
        ("--method patchup_soft --alpha 0", "alpha must be above 0, not 0"),
        ("--method mixup --alpha -1", "alpha must be above 0, not -1"),
        ("--method mixup --alpha inf", "alpha must be above 0, not inf"),
        ("--method patchup_soft --block-size 33", "block_size 33 does not fit a feature map of 32x32 (layer 1)"),
        ("--method patchup_soft --block-size 0", "block_size must be an integer from 1, not 0"),
        (
            "--method patchup_soft --block-size seven",
            "argument --block-size: must be integers, as 7 or 7,7,5, not 'seven'",
        ),
        ("--method dropblock --block-size 7,7", "block_size must be an integer from 1, not (7, 7)"),
        ("--method patchup_soft --layers 1,9", "layer 9 does not exist: this network has layers 0 to 5"),
        ("--method manifold_mixup --layers 6", "layer 6 does not exist: this network has layers 0 to 5"),
        ("--method patchup_soft --layers 1,1", "layers must be distinct stage indices from 0, not [1, 1]"),
        ("--method patchup_soft --layers 5", "block_size 7 does not fit a feature map of 4x4 (layer 5)"),
        ("--method patchup_soft --loss-terms third", "argument --loss-terms: invalid choice: 'third'"),
        ("--method dropblock --keep-prob 0", "keep_prob must lie in (0, 1], not 0"),
        ("--method dropblock --block-size 40", "block_size 40 does not fit a feature map of 32x32"),
        ("--method cutout --length 0", "length must be an integer from 1, not 0"),
        ("--method cutout --length 64", "length must be below 64, not 64"),
        ("--method cutmix --prob 2", "prob must lie in [0, 1], not 2"),
        ("--method puzzlemix --n-labels 1", "n_labels must be an integer from 2 to 16, not 1"),
        ("--method mixup --gamma 0.5", "--gamma means nothing to the method mixup, which takes --alpha"),
        ("--gamma 0.5", "--gamma means nothing to the method none, which takes no hyper-parameters"),
        ("--stem cifar", "--stem means nothing to preactresnet18 on digits"),
        ("--model resnet50 --width 8", "--width means nothing to resnet50 on digits"),
        ("--model resnet50 --stem vgg", "argument --stem: invalid choice: 'vgg'"),
        ("--batch-size 0", "--batch-size must be at least 1, not 0"),
        ("--epochs -3", "--epochs must be at least 1, not -3"),
        ("--epochs 0", "--epochs must be at least 1, not 0"),
        ("--epochs many", "argument --epochs: invalid int value: 'many'"),
        (
            "--schedule step --epochs 10 --milestones 5,10",
            "--milestones must rise and lie between 1 and 9 (--epochs 10), not 5,10",
        ),
        ("--schedule step --milestones 9,5", "--milestones must rise and lie between 1 and 24 (--epochs 25), not 9,5"),
        ("--milestones 5", "--milestones means nothing with --schedule cosine"),
        ("--lr 0", "--lr must be above 0, not 0.0"),
        ("--lr nan", "--lr must be above 0, not nan"),
        ("--momentum 1", "--momentum must lie in (0, 1), not 1.0"),
        ("--weight-decay -1", "--weight-decay must be at least 0, not -1.0"),
        ("--width 0", "--width must be at least 1, not 0"),
        ("--width 1000000", "--width must be at most 10000, not 1000000"),
        (f"--width {10**30}", "--width must be at most 10000, not 1000"),
        (f"--epochs {10**30}", "--epochs must be at most 1000000, not 1000"),
        ("--padding 33", "--padding must be at most the images' side, 32, not 33"),
        ("--seed -1", "--seed must be at least 0, not -1"),
        ("--seed 99999999999999999999", "--seed must be below 2^63, not 99999999999999999999"),
        ("--criterion mse", "argument --criterion: invalid choice: 'mse'"),
        ("--image-size 64", "digits has images of 32 pixels; --image-size is for folder and imagenet"),
        ("--val-per-class 0", "--val-per-class must be at least 1, not 0"),
        ("--val-per-class 100", "leaves none to train on"),
        ("--workers -1", "workers must be at least 0, not -1"),
        ("--checkpoint-minutes -1", "--checkpoint-minutes must be at least 0, not -1.0"),
        ("--device gpu", "--device gpu cannot be used"),
        ("--device meta", "--device meta cannot be used (no such kind); give auto, cpu, cuda, cuda:<n> or mps"),
        ("--amp fp16 --device cpu", "--amp fp16 needs a CUDA device; a CPU takes bf16"),
        ("--dataset folder", "the data set folder needs --image-size"),
        ("--dataset folder --image-size 32", "images is missing: images go to"),
        ("--dataset tiny_imagenet", "tiny-imagenet-200 is missing: get http"),
        (
            "--dataset imagenet --model resnet50",
            "imagenet is missing: get the ILSVRC2012 images from https://image-net.org",
        ),
        ("--gama 0.5", "unrecognized arguments: --gama 0.5; did you mean --gamma?"),
    ],
)
def test_command_lines(given, message, capsys, tmp_path):
    line = refused(capsys, tmp_path, train.main, arguments(given))
    assert message in line


@pytest.mark.parametrize(
    "given, message",
    [
        (["table44"], "table44 is unknown; the nearest are table4,"),
        (["table9"], "Table 9, Figure 11 and Figure 12 are unknown: they are in the paper's appendix alone"),
        (["demo", "--methods", "cutmax"], "demo: unknown method 'cutmax'; did you mean cutmix? Known are none, mixup"),
        (["table2", "--datasets", "digits"], "table2: unknown dataset 'digits'; known are cifar10"),
        (["demo", "--seeds", "0"], "--seeds must be at least 1, not 0"),
        (["demo", "--seeds", "10000000"], "--seeds must be at most 10000, not 10000000"),
        (["demo", "--jobs", str(10**30)], "--jobs must be at most 10000, not 1000"),
        (["demo", "--checkpoint-minutes", "nan"], "--checkpoint-minutes must be at least 0, not nan"),
        (["demo", "--graphs", "--device", "cpu"], "--graphs is for one process on a CUDA device"),
        (["demo", "--jobs", "0"], "--jobs must be at least 1, not 0"),
        (["demo", "--epochs", "-1"], "--epochs must be at least 1, not -1"),
        (["demo", "--methods", "mixup", "--gamma", "0.5"], "--gamma means nothing to any of the methods"),
    ],
)
def test_command_lines_of_tables(given, message, capsys, tmp_path):
    assert message in refused(capsys, tmp_path, tables.main, given)


def test_an_unreadable_image(capsys, tmp_path):
    for part in ("train", "test"):
        write_classes(tmp_path / "images" / part, "ab", 3, (32, 32))
    (tmp_path / "images/train/a/1.png").write_bytes(b"not an image")
    line = refused(capsys, tmp_path, train.main, arguments("--dataset folder --image-size 32"))
    assert "images/train/a/1.png cannot be read as an image" in line


@pytest.mark.parametrize("script, name", [(["train.py"], "train.py"), (["-m", "scripts.tables"], "demo.sh")])
def test_a_real_command(script, name, tmp_path):
    given = ["demo", "--epochs", "0"] if "-m" in script else arguments("--epochs 0")
    done = subprocess.run([sys.executable, *script, *given], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == f"{name}: --epochs must be at least 1, not 0\n"
    assert not list(tmp_path.iterdir())


def test_any_file_that_cannot_be_opened_is_one_line(capsys, tmp_path):
    assert cli.explain(lambda: (tmp_path / "gone").read_text(), "train.py") == 1
    assert capsys.readouterr().err == f"train.py: [Errno 2] No such file or directory: '{tmp_path / 'gone'}'\n"


def test_an_output_folder_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "out").write_text("a file, no folder")
    assert train.main([*arguments("--epochs 1"), "--out", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "cannot write to" in errors and "give another --out" in errors


def test_relative_paths_are_the_callers(tmp_path):
    """And a package of the caller's that has the name of one of ours does not stand in its way."""
    if sys.version_info >= (3, 11):  # which has PYTHONSAFEPATH
        (tmp_path / "data.py").write_text("raise SystemExit('the wrong data')\n")
    command = ["bash", str(ROOT / "scripts/compare.sh"), "--methods", "none", "--dataset", "digits", "--no-run"]
    command += ["--model", "preactresnet18", "--out", "here"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here/tables").is_dir()


def test_a_last_batch_of_one_image_on_maps_of_one_pixel_is_refused_before_the_first_step(capsys, tmp_path):
    for part in ("train", "test"):
        write_classes(tmp_path / "images" / part, "ab", 4, (8, 8))
    flags = "--dataset folder --image-size 8 --model preactresnet18 --method none --width 4 --val-per-class 1"
    where = f"--out {tmp_path}/other --data-dir {tmp_path}/images --epochs 1 --batch-size 4"
    assert train.main(f"{flags} {where}".split()) == 0
    capsys.readouterr()  # the bar of decoding the images, once
    line = refused(capsys, tmp_path, train.main, f"{flags} --batch-size 5".split())
    assert "--batch-size 5 leaves one image for the last batch" in line


def test_compiling_without_a_compiler_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(train.shutil, "which", lambda name: None)
    flags = "--dataset digits --model preactresnet18 --method none --compile"
    assert "--compile needs a C++ compiler" in refused(capsys, tmp_path, train.main, flags.split())
