"""Image files of every mode and place: what is read, how, and what is passed over or refused."""

import os

import numpy as np
import pytest
from PIL import Image

import data
from data import DataError
from data.images import fit, pixels, read_image
from tests.image_files import load_folder, noise, write_classes, write_image

TONES = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040  # 0 to 65520


def saved(path, image, **options):
    image.save(path, **options)
    return path


# --- modes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "grey.pgm"])
def test_16_bit_grey_keeps_its_tones(tmp_path, name):
    rgb = pixels(read_image(saved(tmp_path / name, Image.fromarray(TONES))))
    assert rgb.dtype == np.uint8 and (rgb == np.rint(TONES / 257)).all()


@pytest.mark.parametrize("tones, words", [(np.int32, "32-bit integers"), (np.float32, "floating-point numbers")])
def test_tones_of_unknown_range_are_refused_by_name(tmp_path, tones, words):
    path = saved(tmp_path / "deep.tif", Image.fromarray(TONES.astype(tones)))
    with pytest.raises(DataError, match=f"deep.tif cannot be read as an image: its tones are {words}, whose range"):
        read_image(path)


def test_transparent_parts_are_black(tmp_path):
    colours = noise(8, 8, 4)
    shown = colours[..., :3] * (colours[..., 3:] / 255)
    assert np.abs(np.asarray(read_image(saved(tmp_path / "a.png", Image.fromarray(colours)))) - shown).max() <= 1
    grey = Image.fromarray(colours[..., 0])
    grey.putalpha(Image.fromarray(colours[..., 3]))
    assert np.abs(np.asarray(read_image(saved(tmp_path / "la.png", grey)))[..., 0] - shown[..., 0]).max() <= 1
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([9, 8, 7, 60, 50, 40])
    palette.putpixel((1, 0), 1)
    both = np.asarray(read_image(saved(tmp_path / "p.png", palette, transparency=0)))
    assert both.tolist() == [[[0, 0, 0], [60, 50, 40]]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_are_converted(tmp_path, mode):
    image = Image.fromarray(noise(8, 8, 3)).convert(mode)
    path = saved(tmp_path / "image.tif", image)
    assert np.array_equal(np.asarray(read_image(path)), np.asarray(image.convert("RGB")))


def test_exif_turns_an_image_upright(tmp_path):
    image = Image.fromarray(noise(4, 6, 3))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    upright = read_image(saved(tmp_path / "turned.png", image, exif=exif))
    assert np.array_equal(np.asarray(upright), np.rot90(np.asarray(image), -1))


# --- sizes ----------------------------------------------------------------------------------------------------------


def test_fit_scales_the_shorter_side_and_crops_the_middle():
    image = Image.fromarray(noise(30, 100, 3))
    scaled = image.resize((66, 20), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(fit(image, 20, 16)), np.asarray(scaled)[2:18, 25:41])


@pytest.mark.parametrize("size", [(100_000, 1), (1, 100_000)])
def test_a_line_of_pixels_is_cropped_before_it_is_scaled(monkeypatch, size):
    largest = []
    resize = Image.Image.resize

    def watched(image, size, *rest):
        largest.append(size)
        return resize(image, size, *rest)

    monkeypatch.setattr(Image.Image, "resize", watched)
    line = Image.new("RGB", size, "white")
    line.putpixel((size[0] // 2, size[1] // 2), (255, 0, 0))
    square = np.asarray(fit(line, 32, 32))
    assert square.shape == (32, 32, 3) and max(largest[0]) == 16 * 32
    assert (square[..., 0] == 255).all() and square[..., 1].min() < 10  # the middle of the line


# --- places ---------------------------------------------------------------------------------------------------------


def test_images_in_nested_folders_come_after_those_beside_them(photos):
    write_image(photos / "train" / "bee" / "more" / "deep" / "0.JFIF.jfif", seed=71)
    write_image(photos / "train" / "bee" / "Zoo" / "1.png", seed=72)
    files = data.FACTS["folder"].reader(photos).parts["train"]
    names = [os.fsdecode(name) for name in files.names[files.labels == 1]]
    assert names[12:] == ["bee/Zoo/1.png", "bee/more/deep/0.JFIF.jfif"] and names[:12] == sorted(names[:12])
    assert len(load_folder(photos).train) == 29


def test_what_is_passed_over_is_counted_in_one_line(photos, capsys):
    for name in ("a.txt", "b.TXT", "c.heic", "README", ".hidden.png"):
        (photos / "train" / "ant" / name).write_text("no image")
    os.mkfifo(photos / "train" / "ant" / "pipe.png")
    assert len(load_folder(photos).train) == 27
    line, *bars = capsys.readouterr().err.splitlines()
    words = "passed over what is no image by its ending or no regular file: 2 .txt, "
    assert line.startswith(f"warning: {photos}/train: {words}")
    assert all(part in line for part in ("1 .heic", "1 without an ending", "1 not regular (pipes and the like)"))
    assert bars[-1].strip() == "", "a progress bar stays"


def test_a_link_to_a_folder_around_it_is_refused(photos):
    (photos / "train" / "ant" / "self").symlink_to(photos / "train")
    with pytest.raises(DataError, match="train/ant/self/ant is a link to a folder that it lies in|ant/self/ant"):
        load_folder(photos)


def test_a_linked_folder_is_read(photos, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_classes(elsewhere, ("more",), 3)
    (photos / "train" / "ant" / "linked").symlink_to(elsewhere / "more")
    assert len(load_folder(photos).train) == 30
