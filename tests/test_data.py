"""Loaders, splits and augmentation, on small data."""

import dataclasses
import math
import pickle
import random
import shutil
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

import data
from data import DataError, augment, loaders
from data.loaders import TRAIN, VAL, MemoryLoader, Pool, crop_flip, normalise
from data.splits import split
from tests.image_files import load_folder, noise, write_classes, write_image

MEAN, STD = (0.1, 0.5, 0.7), (0.2, 0.25, 0.4)


def small_loader(augment_kind=TRAIN, n=37, padding=2, flip=True, pool=50):
    shared = Pool(noise(pool, 3, 6, 5), torch.arange(pool).numpy() % 7)
    positions = np.random.default_rng(1).permutation(pool)[:n]
    return MemoryLoader(shared, positions, padding=padding, flip=flip, seed=3, augment=augment_kind, mean=MEAN, std=STD)


def collect(loader, batch_size=10, **where):
    return [(x.clone(), y.clone()) for x, y in loader.batches(batch_size, **where)]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(a, b))


# --- augmentation -------------------------------------------------------------------------------------------------


def test_crop_flip_equals_a_loop_over_pixels():
    x = noise(9, 3, 6, 5)
    rng = np.random.default_rng(2)
    offsets, flips = rng.integers(0, 5, (9, 2)), rng.integers(0, 2, 9)
    expected = np.zeros_like(x)
    for b, c, i, j in np.ndindex(x.shape):
        row, column = i + offsets[b, 0] - 2, j + offsets[b, 1] - 2
        if 0 <= row < 6 and 0 <= column < 5:
            expected[b, c, i, j] = x[b, c, row, 4 - column if flips[b] else column]
    out = crop_flip(torch.from_numpy(x), torch.from_numpy(offsets), torch.from_numpy(flips), 2)
    assert out.dtype == torch.uint8 and out.is_contiguous()
    assert np.array_equal(out.numpy(), expected)


def test_normalise_is_per_channel_on_values_in_0_to_1():
    x = torch.from_numpy(noise(4, 3, 6, 5))
    expected = (x.double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(normalise(x, MEAN, STD), expected.float(), rtol=1e-6, atol=1e-6)


def test_an_epoch_holds_every_image_once_each_with_its_choices():
    loader = small_loader()
    rows, offsets, flips = loader.choices(0)
    assert sorted(rows) == sorted(loader.positions) and not np.array_equal(rows, loader.positions)
    many = small_loader(n=5000, pool=5000)
    _, offsets, flips = many.choices(0)
    assert np.bincount(offsets[:, 0], minlength=5) == pytest.approx([1000] * 5, abs=120)
    assert np.bincount(offsets[:, 1], minlength=5) == pytest.approx([1000] * 5, abs=120)
    assert flips.mean() == pytest.approx(0.5, abs=0.03)
    assert np.corrcoef(np.c_[offsets, flips].T)[np.triu_indices(3, 1)] == pytest.approx([0] * 3, abs=0.05)
    assert not small_loader(flip=False).choices(0)[2].any()


def test_batches_are_the_augmented_images_of_the_pool():
    loader = small_loader()
    rows, offsets, flips = (torch.from_numpy(v) for v in loader.choices(4))
    x = torch.cat([x for x, _ in loader.batches(10, epoch=4)])
    y = torch.cat([y for _, y in loader.batches(10, epoch=4)])
    assert torch.equal(x, normalise(crop_flip(loader.images[rows], offsets, flips, 2), MEAN, STD))
    assert torch.equal(y, loader.labels[rows]) and y.dtype == torch.int64


def test_evaluation_is_in_order_and_plain_and_augmented_validation_in_order():
    plain, augmented = small_loader(None), small_loader(VAL)
    x, y = (torch.cat(v) for v in zip(*plain.batches(10, epoch=1)))
    assert torch.equal(x, normalise(plain.images[plain.positions], MEAN, STD))
    for given, start in (({}, 0), ({"start": 5}, 5)):
        pixels, labels, rows = (torch.cat(v) for v in zip(*augmented.pixel_batches(10, **given)))
        assert rows.tolist() == plain.positions[start:].tolist()
        assert torch.equal(pixels, plain.images[rows]) and torch.equal(labels, plain.labels[rows])
    z, w = (torch.cat(v) for v in zip(*augmented.batches(10, epoch=1)))
    assert torch.equal(y, w) and not torch.equal(x, z)
    assert same(collect(augmented, epoch=1), collect(augmented, epoch=1))
    assert not same(collect(augmented, epoch=1), collect(augmented, epoch=2))


# --- randomness is a function of (seed, epoch) ----------------------------------------------------------------------


def test_any_step_can_come_first_whatever_the_global_generators_hold():
    loader = small_loader()
    whole = collect(loader, epoch=2)
    assert len(whole) == loader.steps(10) == 4 and len(whole[-1][0]) == 7
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    for start in range(5):
        assert same(collect(loader, epoch=2, start=start), whole[start:])
    assert torch.equal(before[0], torch.get_rng_state()) and np.array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()
    assert not same(collect(loader, epoch=3), whole)
    assert same(collect(loader), collect(loader, epoch=0, start=0, rank=0, world=1))


@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_share_the_batches_of_one_process(world):
    loader = small_loader()
    ranks = [collect(loader, 10, epoch=1, start=1, rank=r, world=world) for r in range(world)]
    for whole, *shares in zip(collect(loader, 10, epoch=1, start=1), *ranks):
        assert torch.equal(whole[0], torch.cat([x for x, _ in shares]))
        assert torch.equal(whole[1], torch.cat([y for _, y in shares]))
        assert max(len(x) for x, _ in shares) - min(len(x) for x, _ in shares) <= 1


def test_no_rank_trains_on_an_empty_batch_and_evaluation_leaves_nothing_out():
    train, evaluation = small_loader(n=31), small_loader(None, n=31)
    assert train.steps(10, world=2) == 3 and train.steps(10) == evaluation.steps(10, world=2) == 4
    assert sum(len(x) for r in range(2) for x, _ in evaluation.batches(10, rank=r, world=2)) == 31


@pytest.mark.parametrize("batch_size, world", [(0, 1), (2, 3)])
def test_impossible_batch_size(batch_size, world):
    with pytest.raises(DataError, match="batch_size must be at least 1"):
        small_loader().steps(batch_size, world)


# --- splits ---------------------------------------------------------------------------------------------------------


def test_split_is_per_class_disjoint_and_from_the_seed():
    labels = np.repeat([0, 1, 2], [50, 40, 5])
    train, val = split(labels, "abc", 0, 4, None)
    assert np.bincount(labels[val]).tolist() == [4, 4, 4] and np.bincount(labels[train]).tolist() == [46, 36, 1]
    assert sorted([*train, *val]) == list(range(95))
    assert not np.array_equal(split(labels, "abc", 1, 4, None)[1], val)
    few, same_val = split(labels, "abc", 0, 4, 30)
    assert np.bincount(labels[few]).tolist() == [30, 30, 1]  # as the official code: at most what the class has
    assert set(few) < set(train) and np.array_equal(same_val, val)
    assert np.bincount(labels[split(labels, "abc", 0, None, None)[1]]).tolist() == [5, 4, 1]  # a tenth, at least one


def test_the_draws_are_those_of_all_trainings():
    """A seed means the same images, and a run begun before goes on, for as long as these numbers stay."""
    assert [part.tolist() for part in split(np.repeat([0, 1], 5), "ab", 3, 2, 2)] == [[1, 2, 5, 9], [0, 4, 6, 8]]
    train, val = (small_loader(kind, n=5, pool=6) for kind in (TRAIN, VAL))
    rows, offsets, flips = (draw.tolist() for draw in train.choices(1))
    assert rows == [5, 4, 2, 0, 1] and flips == [0, 1, 1, 1, 0]
    assert offsets == [[4, 3], [2, 1], [4, 0], [4, 1], [3, 2]]
    rows, offsets, flips = (draw.tolist() for draw in val.choices(1))
    assert rows == [4, 0, 2, 1, 5] and flips == [0, 0, 0, 1, 0]
    assert offsets == [[4, 4], [4, 4], [0, 2], [2, 0], [1, 1]]
    assert train.limited(2).positions.tolist() == [2, 5]


def test_svhn_split_has_the_official_size():
    facts = data.FACTS["svhn"]
    labels = np.repeat(range(10), facts.train_images)
    train, val = split(labels, range(10), 0, facts.val_per_class, facts.train_per_class)
    assert (len(train), len(val)) == (57158, 7330)


# training images in all, and the CRC-32 of what is known of a data set as it was when it was compared with its source
COMPARED = {
    "cifar10": (50000, 3437876889),
    "cifar100": (50000, 3976969887),
    "svhn": (73257, 1422983663),
    "tiny_imagenet": (100000, 1953348510),
    "imagenet": (1281167, 3357764360),
    "digits": (1000, 1727075716),
    "folder": (0, 2687380574),
}


@pytest.mark.parametrize("name", data.FACTS)
def test_facts_are_those_that_were_compared_with_their_sources(name):
    known = dataclasses.asdict(data.FACTS[name])
    numbers = {field: value for field, value in known.items() if field not in ("title", "reader")}
    assert (sum(known["train_images"] or ()), zlib.crc32(repr(numbers).encode())) == COMPARED[name]


# --- the user's folder -----------------------------------------------------------------------------------------------


def test_folder_scales_and_crops_the_centre(photos):
    write_image(photos / "train" / "ant" / "0.png", (20, 8))
    loaded = load_folder(photos)
    assert (len(loaded.train), len(loaded.val), len(loaded.test)) == (27, 9, 6)
    assert loaded.classes == ["ant", "bee", "cat"] and loaded.image_size == 8
    first = np.asarray(Image.open(photos / "train" / "ant" / "0.png"))[:, 6:14].transpose(2, 0, 1)
    assert np.array_equal(loaded.train.images[0].numpy(), first)
    assert loaded.train.padding == 0 and load_folder(photos, image_size=32).train.padding == 2 and loaded.train.flip


def test_a_folder_with_validation_images_or_with_val_as_test(photos):
    write_classes(photos / "val", ("ant", "bee", "cat"), 1, seed=9000)
    loaded = load_folder(photos)
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [36, 3, 6]
    shutil.rmtree(photos / "test")
    loaded = load_folder(photos)
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [27, 9, 3]


# --- digits ---------------------------------------------------------------------------------------------------------


def test_digits_show_every_scanned_pixel_as_a_square():
    from sklearn.datasets import load_digits

    loaded = data.load("digits", "nowhere", seed=0, val_per_class=20, train_per_class=30)
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [300, 200, 797]
    assert len(loaded.train.images) == len(loaded.train.labels) == 1000
    assert len(loaded.test.images) == len(loaded.test.labels) == 797
    scans = load_digits().images
    for i, image in ((0, loaded.train.images[0]), (1000, loaded.test.images[0])):
        for c, row, column in np.ndindex(3, 32, 32):
            assert int(image[c, row, column]) == math.floor(scans[i][row // 4, column // 4] * 255 / 16 + 0.5)
    x, y = next(loaded.test.batches(100))
    assert x.shape == (100, 3, 32, 32) and x.min() >= -1 and x.max() == 1
    assert y.tolist() == load_digits().target[1000:1100].tolist()


# --- streams --------------------------------------------------------------------------------------------------------


@pytest.fixture
def imagenet(tmp_path):
    for part, count, seed in (("train", 6, 0), ("val", 2, 900)):
        write_classes(tmp_path / "imagenet" / part, ("n01", "n02"), count, (40, 30), "JPEG", seed)
    return tmp_path


def load_imagenet(root, **changes):
    return data.load("imagenet", root, **{"seed": 5, "val_per_class": 2, "image_size": 16, "workers": 0} | changes)


def test_imagenet_streams_the_same_batches_from_any_step_rank_and_worker(imagenet):
    loader = load_imagenet(imagenet).train
    whole = collect(loader, 3, epoch=1)
    assert [len(y) for _, y in whole] == [3, 3, 2] and whole[0][0].shape == (3, 3, 16, 16)
    assert sum(len(y) for _, y in whole) == len(loader) == 8
    torch.manual_seed(9)
    before = torch.get_rng_state()
    assert same(collect(loader, 3, epoch=1, start=1), whole[1:])
    assert same(collect(load_imagenet(imagenet, workers=2).train, 3, epoch=1), whole)
    assert torch.equal(before, torch.get_rng_state())
    shares = [collect(loader, 3, epoch=1, rank=r, world=2) for r in range(2)]
    assert torch.equal(whole[0][0], torch.cat([shares[0][0][0], shares[1][0][0]]))
    assert not same(collect(loader, 3, epoch=2), whole)
    assert same(collect(loader, 3), collect(loader, 3, epoch=0, start=0, rank=0, world=1))


def test_imagenet_evaluation_is_resize_and_centre_crop(imagenet):
    from torchvision import transforms

    loaded = load_imagenet(imagenet, image_size=224)
    facts = data.FACTS["imagenet"]
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    reference = transforms.Compose([*steps, transforms.Normalize(facts.mean, facts.std)])
    x, y = next(loaded.test.batches(4))
    files = sorted((imagenet / "imagenet" / "val").glob("*/*"))
    expected = torch.stack([reference(Image.open(file).convert("RGB")) for file in files])
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5)
    assert y.tolist() == [0, 0, 1, 1] and len(loaded.val) == 4
    ((pixels, labels, rows),) = loaded.test.augmented().pixel_batches(4)  # without a change to colours or borders
    assert labels.tolist() == [0, 0, 1, 1] and rows.tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(normalise(pixels, facts.mean, facts.std), expected, rtol=1e-5, atol=1e-5)


def test_imagenet_training_images_are_cropped_mirrored_and_coloured_by_their_draws(imagenet):
    loader = load_imagenet(imagenet).train
    x, y = next(loader.batches(8, epoch=3))
    rows, mirrored = loader.positions[loader.order(3)], []
    assert torch.equal(y, loader.labels[rows])
    for row, prepared in zip(rows, x):
        rng = np.random.default_rng((5, 3, TRAIN, 1 + row))
        image = Image.open(loader.files.path(row))
        image = image.crop(augment.random_box(rng, 40, 30)).resize((16, 16), Image.Resampling.BILINEAR)
        image = np.asarray(image) / 255
        mirrored.append(rng.random() < 0.5)
        image = image[:, ::-1] if mirrored[-1] else image
        matrix = augment.jitter(rng, image.mean((0, 1)))
        expected = (image @ matrix[:, :3].T + matrix[:, 3] - loader.mean) / loader.std
        np.testing.assert_allclose(prepared, expected.transpose(2, 0, 1), atol=1e-5)
    assert 0 < sum(mirrored) < 8


class Script:
    """A generator that gives prepared values, to follow the colour changes step by step."""

    def __init__(self, order, strengths, lighting):
        self.order, self.strengths, self.lighting = order, list(strengths), lighting

    def permutation(self, n):
        return self.order

    def uniform(self, low, high):
        assert (low, high) == (-0.4, 0.4)
        return self.strengths.pop(0)

    def normal(self, mean, std, n):
        assert (mean, std, n) == (0, 0.1, 3)
        return self.lighting


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_colour_changes_equal_one_step_after_the_other(order):
    assert np.allclose(augment.EIGENVECTORS.T @ augment.EIGENVECTORS, np.eye(3), atol=2e-4)
    assert augment.EIGENVALUES.tolist() == [0.2175, 0.0188, 0.0045]
    x = noise(3, 5, 7)
    strengths, light = (0.3, -0.2, 0.35), np.array([0.1, -0.05, 0.2])
    image = x / 255
    for kind, strength in zip(order, strengths):
        grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        towards = (np.zeros_like(grey), np.full_like(grey, grey.mean()), grey)[kind]
        image = image + strength * (towards - image)
    for c in range(3):
        image[c] += sum(augment.EIGENVECTORS[c, k] * augment.EIGENVALUES[k] * light[k] for k in range(3))
    expected = (image - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    change = augment.jitter(Script(order, strengths, light), x.mean((1, 2)) / 255)
    matrix = torch.from_numpy(augment.normalising(change, MEAN, STD)).float()
    out = augment.recolour(torch.from_numpy(x)[None], matrix[None])
    assert out.dtype == torch.float32 and out.is_contiguous()
    np.testing.assert_allclose(out[0], expected, atol=1e-5)


def test_random_box_is_distributed_as_torchvisions():
    rng = np.random.default_rng(0)
    boxes = np.array([augment.random_box(rng, 400, 300) for _ in range(4000)])
    left, top, right, bottom = boxes.T
    width, height = right - left, bottom - top
    assert left.min() >= 0 and top.min() >= 0 and right.max() <= 400 and bottom.max() <= 300
    area, ratio = width * height / 120000, np.log(width / height)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draw = RandomResizedCrop.get_params
        sizes = [draw(torch.empty(3, 300, 400), (0.08, 1), (3 / 4, 4 / 3))[2:] for _ in range(4000)]
    h, w = np.array(sizes).T
    for ours, theirs in ((area, w * h / 120000), (ratio, np.log(w / h))):
        quantiles = np.linspace(0, 1, 11)
        np.testing.assert_allclose(np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=0.03)
    rng, after_ten_tries = np.random.default_rng(0), np.random.default_rng(0)
    after_ten_tries.random(20)
    assert augment.random_box(rng, 1000, 10) == (493, 0, 506, 10)  # no try fits: the central 4:3 part
    assert rng.random() == after_ten_tries.random()
    assert augment.random_box(rng, 10, 1000) == (0, 493, 10, 506)
    for size, boxes in (((2, 1), {(0, 0, 1, 1), (1, 0, 2, 1)}), ((1, 2), {(0, 0, 1, 1), (0, 1, 1, 2)})):
        assert {augment.random_box(rng, *size) for _ in range(200)} == boxes | {(0, 0, *size)}  # never an empty part


def test_a_large_folder_streams(photos, monkeypatch):
    monkeypatch.setattr(data, "MEMORY_LIMIT", 42 * 3 * 8 * 8 - 1)
    loaded = load_folder(photos, flip=False)
    assert isinstance(loaded.train, loaders.StreamLoader) and not loaded.train.flip
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [27, 9, 6]
    monkeypatch.setattr(data, "MEMORY_LIMIT", 42 * 3 * 8 * 8)
    assert isinstance(load_folder(photos).train, MemoryLoader)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_in_the_stream_is_one_line(imagenet, workers):
    bad = imagenet / "imagenet" / "val" / "n02" / "1.JPEG"
    bad.write_bytes(bad.read_bytes()[:300])
    loaded = load_imagenet(imagenet, workers=workers)
    with pytest.raises(DataError, match=f"^{bad} cannot be read as an image: .*$"):
        list(loaded.test.batches(2))


def test_data_errors_are_one_line_and_travel_between_processes():
    error = pickle.loads(pickle.dumps(DataError("two\nlines")))
    assert isinstance(error, ValueError) and str(error) == "two lines"
