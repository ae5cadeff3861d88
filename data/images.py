"""Image files to pixels."""

import errno
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from .errors import DataError
from .workers import in_chunks

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".bmp", ".webp", ".avif", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff"),
}
CHUNK = 256  # images a worker decodes at a time
LONGEST = 16  # times its shorter side: of an image longer than that only the middle is scaled


@dataclass(frozen=True)
class Files:
    """Image files below a folder, sorted by class and name.

    names: their paths relative to folder, a numpy array of bytes (a million Python strings would be copied into every
    worker process); labels: int64 class indices.
    """

    folder: Path
    names: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.names)

    def path(self, i):
        """The i-th file's path, a string."""
        return f"{self.folder}/{os.fsdecode(self.names[i])}"


def read_image(path):
    """The image file as an RGB PIL image of 8 bits, the first of several, turned as its EXIF data say.

    16-bit grey is scaled to 8 bits; what is transparent is laid over black. Raises DataError naming a file that cannot
    be decoded, or of 32-bit or floating-point tones, whose range is unknown.
    """
    try:
        with Image.open(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return _rgb(image)
    except Exception as error:  # Pillow raises many kinds for damaged files
        if getattr(error, "errno", None) == errno.EMFILE:
            raise
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read as an image: {reason}") from error


def _rgb(image):
    grey16 = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    if grey16:
        grey = np.rint(np.asarray(image) * (255 / 65535))
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        kind = {"I": "32-bit integers", "F": "floating-point numbers"}[image.mode]
        raise ValueError(f"its tones are {kind}, whose range is unknown: store them in 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("RGB")


def fit(image, shorter, side):
    """Scale a PIL image so that its shorter side has `shorter` pixels, then crop its central side x side pixels."""
    width, height = image.size
    scale = min(width, height)
    if max(width, height) > LONGEST * scale:  # a line of pixels would become huge before it is cropped
        width, height = (min(length, LONGEST * scale) for length in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    width, height = shorter * width // scale, shorter * height // scale
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def pixels(image):
    """A PIL image as uint8 [3, H, W]."""
    return np.asarray(image).transpose(2, 0, 1)


def check(what, images, labels, classes, side):
    """Raise DataError where images are not uint8 [n, 3, side, side] with labels int64 [n] below `classes`."""
    if images.dtype != np.uint8 or images.shape != (len(labels), 3, side, side) or labels.dtype != np.int64:
        kinds = f"{images.dtype} {images.shape} with {labels.dtype} labels {labels.shape}"
        raise DataError(f"{what} images are {kinds}, not uint8 (n, 3, {side}, {side}) with int64 labels (n,)")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise DataError(f"{what} label {wrong[0]} is outside the {classes} classes")


def read_images(files, side, exact, rows):
    """The image files of some rows as uint8 [B, 3, side, side].

    exact: refuse images of another size (DataError naming the file); otherwise they are scaled and cropped to it.
    """
    out = np.empty((len(rows), 3, side, side), np.uint8)
    for x, row in zip(out, rows):
        image = read_image(files.path(row))
        if image.size != (side, side):
            if exact:
                raise DataError(f"{files.path(row)} is {image.width}x{image.height} pixels, not {side}x{side}")
            image = fit(image, side, side)
        x[:] = pixels(image)
    return out


def decode(files, side, exact, workers, title):
    """All images as read_images gives them, decoded in parallel under a progress bar."""
    out, done = np.empty((len(files), 3, side, side), np.uint8), 0
    chunks = in_chunks(partial(read_images, files, side, exact), range(len(files)), CHUNK, workers)
    with tqdm(total=len(files), desc=f"decoding {title}", unit=" images", leave=False) as bar:
        for chunk in chunks:
            out[done : done + len(chunk)] = chunk
            done += len(chunk)
            bar.update(len(chunk))
    return out
