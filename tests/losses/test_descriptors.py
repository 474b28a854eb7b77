import math

import numpy as np
import pytest
import torch

from segkit.errors import InvalidParameter
from segkit.losses.descriptors import ShapeDescriptors, descriptor_error


def brute_force(labels, sigma, axes):
    """Straight from the definition, voxel by voxel; `sigma` in voxels, over `axes`."""
    order = [(a, b) for i, a in enumerate(axes) for b in axes[i + 1 :]]
    result = np.zeros((2 * len(axes) + len(order) + 1, *labels.shape))
    norm = 1.0
    for axis in axes:
        reach = max(int(3 * sigma[axis] + 0.5), 1)
        norm *= sum(math.exp(-0.5 * (s / sigma[axis]) ** 2) for s in range(-reach, reach + 1))
    for voxel in zip(*np.nonzero(labels), strict=True):
        offsets, weights = [], []
        for other in zip(*np.nonzero(labels == labels[voxel]), strict=True):
            step = np.subtract(other, voxel)
            if any(step[a] for a in range(3) if a not in axes):
                continue
            if any(abs(step[a]) > max(int(3 * sigma[a] + 0.5), 1) for a in axes):
                continue
            offsets.append(step)
            weights.append(math.exp(-0.5 * sum((step[a] / sigma[a]) ** 2 for a in axes)))
        offsets, weights = np.array(offsets, float), np.array(weights)
        mean = (offsets * weights[:, None]).sum(0) / weights.sum()
        spread = (offsets - mean).T @ ((offsets - mean) * weights[:, None]) / weights.sum()
        values = [mean[a] / sigma[a] * 0.5 + 0.5 for a in axes]
        values += [spread[a, a] / sigma[a] ** 2 for a in axes]
        values += [
            spread[a, b] / math.sqrt(max(spread[a, a], 1e-3) * max(spread[b, b], 1e-3)) * 0.5 + 0.5 for a, b in order
        ]
        result[(slice(None), *voxel)] = np.clip([*values, weights.sum() / norm], 0, 1)
    return result


def objects(seed, shape=(4, 8, 6)):
    return (
        np.random.default_rng(seed)
        .integers(0, 4, [-(-s // 3) for s in shape])
        .repeat(3, 0)
        .repeat(3, 1)
        .repeat(3, 2)[: shape[0], : shape[1], : shape[2]]
        * 7
    )


@pytest.mark.parametrize("voxel_size", [(10, 10, 10), (40, 8, 8)])
def test_against_the_definition(voxel_size):
    labels = np.stack([objects(0), objects(1)])
    found = ShapeDescriptors(sigma=16.0, voxel_size=voxel_size)(torch.from_numpy(labels))
    assert found.shape == (2, 10, 4, 8, 6) and found.dtype == torch.float32
    for item, values in zip(labels, found, strict=True):
        expected = brute_force(item, [16 / v for v in voxel_size], axes=[0, 1, 2])
        assert np.abs(values.numpy() - expected).max() < 2e-4


def test_sections_on_their_own():
    labels = objects(2, (3, 9, 8))
    found = ShapeDescriptors(sigma=16.0, voxel_size=(40, 8, 8), ndim=2)(torch.from_numpy(labels)[None])[0]
    assert found.shape == (6, 3, 9, 8)
    assert np.abs(found.numpy() - brute_force(labels, [0.4, 2, 2], axes=[1, 2])).max() < 2e-4


def test_a_large_box_by_hand():
    """In the middle of an object larger than the window: no offset, the window's own variance, all of it filled."""
    labels = torch.ones(1, 25, 25, 25, dtype=torch.int64)
    middle = ShapeDescriptors(sigma=20.0, voxel_size=(10, 10, 10))(labels)[0, :, 12, 12, 12]
    steps = torch.arange(-6, 7.0)
    weights = torch.exp(-0.5 * (steps / 2) ** 2)
    variance = float((weights * steps**2).sum() / weights.sum() / 4)
    assert middle.tolist() == pytest.approx([0.5] * 3 + [variance] * 3 + [0.5] * 3 + [1], abs=1e-5)


def test_a_permutation_of_the_ids_changes_nothing():
    labels = torch.from_numpy(objects(3))[None]
    other = torch.where(labels > 0, 100 - labels, 0)
    compute = ShapeDescriptors(sigma=20.0, voxel_size=(10, 10, 10))
    assert torch.equal(compute(labels), compute(other))


def test_the_error_counts_objects_inside_the_mask_alone():
    labels = torch.tensor([[[[0, 1, 1, 2]]]])
    mask = torch.tensor([[[[True, True, False, True]]]])
    target = torch.full((1, 6, 1, 1, 4), 0.5)
    logits = torch.zeros(1, 6, 1, 1, 4, requires_grad=True)
    assert descriptor_error(logits, target, labels, mask).item() == 0
    wrong = torch.where(torch.tensor([0, 1, 0, 0]) > 0, 0.1, 0.5).expand(1, 6, 1, 1, 4)
    assert descriptor_error(logits, wrong, labels, mask).item() == pytest.approx(0.16 / 2)
    error = descriptor_error(logits, target - 0.4, labels, mask)
    error.backward()
    assert (logits.grad != 0).any(dim=1).ravel().tolist() == [False, True, False, True]
    nothing = descriptor_error(logits, target, labels * 0, mask)
    assert nothing.item() == 0


def test_devices_can_share_a_batch():
    """The error of a batch is the mean of those of its parts, though one holds fewer voxels of objects."""
    labels = torch.zeros(2, 1, 1, 4, dtype=torch.int64)
    labels[0, ..., 1:], labels[1, ..., 3] = 5, 5
    logits, target = torch.randn(2, 6, 1, 1, 4), torch.rand(2, 6, 1, 1, 4)
    mask = torch.ones(2, 1, 1, 4, dtype=torch.bool)
    items = [descriptor_error(*(each[k : k + 1] for each in (logits, target, labels, mask))) for k in range(2)]
    assert descriptor_error(logits, target, labels, mask).item() == pytest.approx(float(sum(items)) / 2)


def test_a_sigma_that_is_none_is_refused():
    with pytest.raises(InvalidParameter, match=r"descriptors\.sigma"):
        ShapeDescriptors(sigma=0.0, voxel_size=(1, 1, 1))
