"""The loaders' batches on tensors that say they are on a GPU: see test_fake_cuda.py."""

import numpy as np
import pytest
import torch
from test_fake_cuda import DEVICE, pytestmark, waits  # noqa: F401 - a fixture, and what skips

from data.loaders import TRAIN, VAL, MemoryLoader, Pool


@pytest.mark.parametrize("augment", [TRAIN, VAL, None])
def test_images_in_memory_wait_at_the_first_batch_of_an_epoch_alone(augment, waits):  # noqa: F811
    pool = Pool(np.zeros((12, 3, 8, 8), np.uint8), np.zeros(12, np.int64))
    common = {"seed": 0, "augment": augment, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    loader = MemoryLoader(pool, np.arange(11), padding=2, flip=True, **common)
    for epoch in range(2):
        begun = []
        for x, y in loader.batches(4, DEVICE, epoch):
            assert x.device == y.device == DEVICE and x.dtype == torch.float32
            begun.append(list(waits))
            waits.clear()
        assert set(begun[0]) <= {"aten::_to_copy from cpu"} and begun[1:] == [[], []]
    for x, y, rows in loader.pixel_batches(4, DEVICE):
        assert x.device == y.device == rows.device == DEVICE and x.dtype == torch.uint8
