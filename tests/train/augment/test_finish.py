"""Batches on their way to the device."""

import torch

from segkit.train.augment.finish import Cut, collate
from segkit.train.augment.plan import Plan
from segkit.train.patch import Patch


def test_a_batch_moves_with_all_that_is_in_it():
    patch = Patch((2, 2, 2), (2, 2, 2), 3)
    cubes = (torch.zeros(2, 2, 2, dtype=dtype) for dtype in (torch.uint8, torch.int32, torch.bool))
    raw, labels, mask = cubes
    cut = Cut(raw, (0, 0, 0), labels, mask, (0, 0, 0), Plan(patch, (0, 0, 0)))
    moved = collate([cut, cut]).to(torch.device("meta"))
    assert len(moved) == 2
    for each in moved.cuts:
        assert each.plan is cut.plan
        assert {tensor.device.type for tensor in (each.raw, each.labels, each.mask)} == {"meta"}
        assert (each.raw.dtype, each.labels.dtype, each.mask.dtype) == (torch.uint8, torch.int32, torch.bool)
