"""What ImageNet's streamed pipeline gives on this CPU, and on paper what GPUs would need of it. Nothing else may run.

python scripts/streaming.py                                          # needs no images: it makes its own
python scripts/streaming.py --gpu-images-per-second 1000 4000 --out results/benchmarks

Measured: images a second of ImageNet's training augmentation (data/loaders.py) with 1 and 2 worker processes, on JPEGs
of ImageNet's mean size, and how a worker's time divides; images a second of Tiny-ImageNet's batches, from memory.
On paper: the workers and the bytes a second that GPUs of given speeds need.
"""

import argparse
import math
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import check_install

check_install.main()  # before anything else imports torchvision

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import data
import engine
import train
from data import augment, loaders
from data.loaders import TRAIN, StreamLoader
from data.sources import scan
from data.workers import parallel
from records import BadInput, make_folder, write_json, write_whole
from scripts.inputs import batches_a_second
from scripts.timing import clocked, timed

CPU = torch.device("cpu")
WIDTH, HEIGHT, QUALITY = 500, 375, 90  # with the texture below about 110 kB, as ImageNet's files have in the mean
TEXTURE = 0.82  # amplitude of every octave over that of the next coarser one
SIDE, BATCH = 224, 32
EPOCHS = 3
IMAGENET, TINY_IMAGENET = 1_281_167, 100_000  # training images
TINY_SIDE = 64

# Assumed speeds of GPUs: a share of the peak that their maker states, in TFLOP/s (16 bits, without sparsity).
PEAKS = {"V100": 125, "A100": 312, "H100": 989}
SHARE = 0.2
GMACS = {"ResNet-50 on ImageNet": 4.1, "WRN-28-10 on Tiny-ImageNet": 5.95}  # of a forward pass
GMACS_IN_WORDS = ", ".join(f"{model} {gmacs} GMAC" for model, gmacs in GMACS.items())


# ---- the images ----


def picture(rng):
    """A smooth random picture with texture, uint8 [HEIGHT, WIDTH, 3]: octaves of noise, most of it grey."""
    out = torch.zeros(1, 3, HEIGHT, WIDTH)
    for octave in range(7):
        cell = 2 ** (6 - octave)
        shape = (HEIGHT // cell + 2, WIDTH // cell + 2)
        grey, colour = (torch.from_numpy(rng.standard_normal((1, n, *shape), dtype=np.float32)) for n in (1, 3))
        noise = F.interpolate(0.8 * grey + 0.5 * colour, size=(HEIGHT, WIDTH), mode="bicubic", align_corners=False)
        out += TEXTURE**octave * noise
    return (128 + 55 * out).clamp(0, 255).byte()[0].permute(1, 2, 0).numpy()


def write_jpegs(folder, count):
    """Write so many pictures to folder/0; the mean size of a file in bytes."""
    rng = np.random.default_rng(0)
    make_folder(folder / "0")
    for i in range(count):
        Image.fromarray(picture(rng)).save(folder / "0" / f"{i:04}.jpg", quality=QUALITY)
    return statistics.mean(path.stat().st_size for path in (folder / "0").iterdir())


# ---- what is measured ----


def loader_of(files, workers):
    """ImageNet's training images, of these files."""
    facts = data.FACTS["imagenet"]
    options = {"mean": facts.mean, "std": facts.std, "image_size": SIDE, "flip": facts.flip, "workers": workers}
    return StreamLoader(files, np.arange(len(files)), seed=0, augment=TRAIN, **options)


def streamed(files, workers):
    """Images a second that so many workers prepare, a median of whole epochs; colours are the device's work."""
    prepare, rows = loader_of(files, workers).prepare, np.arange(len(files))

    def epoch(number):
        keys = ((number, rows[i : i + BATCH]) for i in range(0, len(rows), BATCH))
        return sum(1 for _ in parallel(prepare, keys, workers))

    seconds = [timed(lambda number=number: epoch(number), CPU) for number in range(EPOCHS)]
    return len(files) / statistics.median(seconds)


def division(files):
    """{part: seconds an image} of a worker's work in one process: decode, resize and the rest; medians of epochs."""
    loader, found = loader_of(files, 0), {"decode": [], "resize": [], "rest": []}
    for epoch in range(EPOCHS):
        with clocked(loaders, ("read_image",), CPU) as decode, clocked(Image.Image, ("crop", "resize"), CPU) as resize:
            whole = timed(lambda e=epoch: loader.prepare((e, np.arange(len(files)))), CPU)
        parts = {"decode": sum(decode), "resize": sum(resize), "rest": whole - sum(decode) - sum(resize)}
        for name, seconds in parts.items():
            found[name].append(seconds / len(files))
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def drafts(files):
    """What libjpeg's decoding at half size would save: seconds an image of both, and the share of draws it is fine for.

    It is where the random part has still SIDE pixels a side at half size.
    """

    def decode(draft):
        for row in range(len(files)):
            with Image.open(files.path(row)) as image:
                if draft:
                    image.draft("RGB", (WIDTH // 2, HEIGHT // 2))
                image.convert("RGB")

    seconds = {name: timed(lambda d=draft: decode(d), CPU) for name, draft in (("full", False), ("half", True))}
    rng, draws = np.random.default_rng(0), 10_000
    boxes = np.array([augment.random_box(rng, WIDTH, HEIGHT) for _ in range(draws)])
    large = (boxes[:, 2:] - boxes[:, :2] >= 2 * SIDE).all(axis=1)
    return {name: one / len(files) for name, one in seconds.items()} | {"share_of_draws": float(large.mean())}


def measured(images, workers):
    """All that is measured, a dict."""
    with tempfile.TemporaryDirectory() as folder:
        mean_bytes = write_jpegs(Path(folder), images)
        files, _ = scan(Path(folder))
        return {
            "jpegs": {"count": images, "width": WIDTH, "height": HEIGHT, "quality": QUALITY, "mean_bytes": mean_bytes},
            "images_per_second": {str(count): streamed(files, count) for count in workers},
            "seconds_per_image": division(files),
            "draft": drafts(files),
            "tiny_imagenet_images_per_second": batches_a_second(CPU, "tiny_imagenet", 20_000),
        }


# ---- on paper ----


def assumed(model):
    """{words: images a second of training} of the cards, from the multiplications and additions of a step."""
    flop = 2 * 3 * GMACS[model] * 1e9
    return {f"{card}, {100 * SHARE:g} % of {peak} TFLOP/s": SHARE * peak * 1e12 / flop for card, peak in PEAKS.items()}


def needs(speed, worker, mean_bytes):
    """What a GPU that trains on so many images a second asks of the pipeline; worker: images a second of one."""
    return {
        "images_per_second": speed,
        "epoch_seconds": IMAGENET / speed,
        "jpeg_bytes_per_second": speed * mean_bytes,
        "pixel_bytes_per_second": speed * 3 * SIDE**2,
        "workers": math.ceil(speed / worker),
    }


def gathers(speed):
    """The same of Tiny-ImageNet, whose pixels live on the GPU: bytes read as uint8, and written as float32."""
    pixels = 3 * TINY_SIDE**2
    return {
        "images_per_second": speed,
        "epoch_seconds": TINY_IMAGENET / speed,
        "read_bytes_per_second": speed * pixels,
        "written_bytes_per_second": 4 * speed * pixels,
    }


def on_paper(found, speeds):
    """{"imagenet", "tiny_imagenet": {whose speed: what it needs}}; speeds: images a second, or the assumed cards'."""
    given = {f"given: {speed:g}": speed for speed in speeds or ()}
    large, small = (given or assumed(model) for model in GMACS)
    worker, mean_bytes = found["images_per_second"]["1"], found["jpegs"]["mean_bytes"]
    return {
        "imagenet": {name: needs(speed, worker, mean_bytes) for name, speed in large.items()},
        "tiny_imagenet": {name: gathers(speed) for name, speed in small.items()},
    }


# ---- the report ----

COLUMNS = {  # headings of what is on paper, and what one of their units is
    "images_per_second": ("images a second", 1),
    "epoch_seconds": ("epoch (s)", 1),
    "jpeg_bytes_per_second": ("JPEG (MB/s)", 1e6),
    "pixel_bytes_per_second": ("pixels (MB/s)", 1e6),
    "read_bytes_per_second": ("read (MB/s)", 1e6),
    "written_bytes_per_second": ("written (MB/s)", 1e6),
    "workers": ("workers", 1),
}


def table(head, rows):
    """Lines of a Markdown table: its head, and rows of texts; all but the first column are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)] + [""]


def paper_table(found):
    """The same of what on_paper found for one data set."""
    keys = next(iter(found.values()))
    head = ["a GPU's speed", *(COLUMNS[key][0] for key in keys)]
    return table(head, [[name, *(f"{one[key] / COLUMNS[key][1]:,.0f}" for key in keys)] for name, one in found.items()])


def measured_part(found):
    """Lines on what was measured."""
    jpegs, parts, draft = found["jpegs"], found["seconds_per_image"], found["draft"]
    whole, kilobytes = sum(parts.values()), f"{jpegs['mean_bytes'] / 1e3:.0f} kB"
    full, half, fine = 1e3 * draft["full"], 1e3 * draft["half"], 100 * draft["share_of_draws"]
    speeds = [[n, f"{speed:,.0f}", f"{speed / int(n):,.0f}"] for n, speed in found["images_per_second"].items()]
    work = [[name, f"{1e3 * one:.2f}", f"{100 * one / whole:.0f} %"] for name, one in parts.items()]
    return [
        f"Measured on {jpegs['count']} generated JPEGs of {WIDTH}x{HEIGHT} pixels, {kilobytes} in the mean, of which "
        f"random parts become {SIDE}x{SIDE}; medians of {EPOCHS} epochs.",
        "",
        *table(["worker processes", "images a second", "each"], speeds),
        *table(["a worker's work", "ms an image", "share"], work),
        f"Decoded at half size (`Image.draft`) a file takes {half:.2f} ms instead of {full:.2f}; {fine:.1f} % of the "
        f"random parts then have {SIDE} pixels a side.",
        "",
    ]


def paper_part(found, paper, speeds):
    """Lines on what GPUs need, of given speeds or none."""
    assumption = [f"Speeds of cards are assumed, for a step of three forward passes ({GMACS_IN_WORDS})."]
    gigabytes = f"{TINY_IMAGENET * 3 * TINY_SIDE**2 / 1e9:.2f} GB"
    return [
        f"On paper, ImageNet, {IMAGENET:,} images an epoch, by the speed of one worker here:",
        "",
        *paper_table(paper["imagenet"]),
        f"On paper, Tiny-ImageNet, {TINY_IMAGENET:,} images an epoch, {gigabytes} in the device's memory (measured on "
        f"this CPU: {found['tiny_imagenet_images_per_second']:,.0f} images a second):",
        "",
        *paper_table(paper["tiny_imagenet"]),
        *(assumption if not speeds else []),
    ]


# ---- the command ----


def measure(args):
    """Measure, print the report, and write it where --out says."""
    speeds = args.gpu_images_per_second
    for name, least in (("images", args.images), ("workers", min(args.workers))):
        if least < 1:
            raise BadInput(f"--{name} must be at least 1, not {least}")
    if speeds and not min(speeds) > 0:
        raise BadInput(f"--gpu-images-per-second must be above 0, not {min(speeds):g}")
    if args.out:
        make_folder(args.out)
    found = measured(args.images, dict.fromkeys((1, *args.workers)))
    paper = on_paper(found, speeds)
    text = "\n".join(measured_part(found) + paper_part(found, paper, speeds)) + "\n"
    print(text, end="")
    if args.out:
        head = {"command": " ".join(["python", *sys.argv]), "environment": engine.environment(CPU)}
        write_json(args.out / "streaming.json", head | found | {"on_paper": paper})
        write_whole(args.out / "streaming.md", lambda file: file.write(text.encode()))
    return 0


def parser():
    """The command line."""
    found = train.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = found.add_argument
    add("--images", type=int, default=512, help="JPEGs to generate (default 512)")
    add("--workers", type=int, nargs="+", default=[1, 2], help="processes to measure with (default 1 2)")
    add("--gpu-images-per-second", type=float, nargs="+", help="speeds of GPUs (default: assumed from their peaks)")
    add("--out", type=Path, help="a folder that gets streaming.md and streaming.json")
    return found


def main(arguments=None):
    """Measure as a command line says; the exit status (see train.explain)."""
    args = parser().parse_args(arguments)
    return train.explain(lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
