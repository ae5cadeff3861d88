"""A network from its checkpoint and the images it is evaluated on."""

import numpy as np
import pytest
import torch

import data
from engine.subject import load_subject, unchanged


def test_an_evaluation_must_not_change_the_network(trained):
    path, _ = trained
    subject = load_subject(path, device="cpu")
    with pytest.raises(AssertionError, match="changed the network"), unchanged(subject.net):
        subject.net.train()
    with pytest.raises(AssertionError, match="changed the network"), unchanged(subject.net.train()):
        subject.net(torch.zeros(2, 3, 32, 32))
        subject.net.eval()


def test_the_classifier_takes_pixels_in_0_1(trained):
    path, _ = trained
    subject = load_subject(path, device="cpu", limit=20)
    x, _, _ = next(subject.test.pixel_batches(20))
    assert torch.allclose(subject.classifier(x / 255), subject.logits(x), atol=1e-5)
    assert not subject.classifier.training


def test_limited_is_the_same_part_for_everyone_and_of_all_classes(trained):
    path, _ = trained
    subject = load_subject(path, device="cpu", limit=200)
    rows = subject.test.positions
    assert len(rows) == 200 == len(set(rows)) and list(rows) == sorted(rows)
    few = load_subject(path, device="cpu", limit=50).test.positions
    assert set(few) <= set(rows)
    assert np.bincount(subject.test.labels[rows]).min() >= 8  # 20 on average
    whole = load_subject(path, device="cpu", limit=5000)
    assert len(whole.test) == 797
    x, y, here = next(subject.test.pixel_batches(7, start=3))
    assert (here.numpy() == rows[3:10]).all()
    assert (x == whole.test.images[here]).all() and (y == whole.test.labels[here]).all()


def test_streamed_images_are_those_of_testing(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for part, name in ((p, n) for p in ("train", "val") for n in ("n1", "n2")):
        (tmp_path / "imagenet" / part / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (40, 30 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "imagenet" / part / name / f"{i}.png")
    test = data.load("imagenet", tmp_path, seed=0, val_per_class=1, image_size=16, workers=0).test
    expected = torch.cat([x for x, _ in test.batches(4)])
    batches = list(test.pixel_batches(2, start=1))
    mean, std = test.mean, test.std
    assert torch.cat([rows for _, _, rows in batches]).tolist() == [1, 2, 3, 4, 5]
    assert torch.cat([y for _, y, _ in batches]).tolist() == [0, 0, 1, 1, 1]
    assert torch.allclose(data.normalise(torch.cat([x for x, _, _ in batches]), mean, std), expected[1:], atol=1e-5)
