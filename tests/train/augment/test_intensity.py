"""Intensities: the scale of inference, blur as SciPy's, and every defect as it says."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from segkit.models import inputs
from segkit.train.augment.intensity import apply_defect, blur, change_intensity, scale_intensity
from segkit.train.augment.plan import Defect, Plan
from segkit.train.patch import Patch

PATCH = Patch((4, 20, 24), (4, 20, 24), 3)
RAW = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, PATCH.input).astype(np.float32))


def changed(raw=RAW, **plan):
    return change_intensity(raw, Plan(PATCH, (0, 0, 0), **plan))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
def test_raw_data_are_scaled_as_inference_does(dtype):
    rng = np.random.default_rng(1)
    array = rng.random(1000).astype(dtype) if dtype(0.5) else rng.integers(0, np.iinfo(dtype).max, 1000, dtype)
    array = array.reshape(10, 10, 10)
    assert np.array_equal(scale_intensity(torch.from_numpy(array)), inputs.scale_intensity(array))


def test_a_plan_without_changes_changes_nothing():
    assert torch.equal(changed(), RAW)


@pytest.mark.parametrize("sigma", [(0, 1, 2), (1, 0, 0), (0, 0, 0.4)])
def test_blur_is_that_of_scipy(sigma):
    expected = RAW.numpy()
    for axis, width in enumerate(sigma):
        width = width or 1e-9
        one = [width if a == axis else 0 for a in range(3)]
        expected = gaussian_filter(expected, one, mode="nearest", radius=int(np.ceil(3 * width)))
    assert np.allclose(blur(RAW, sigma), expected, atol=1e-5)


def test_tone_by_hand():
    assert torch.allclose(changed(scale=1.2, shift=-0.1), RAW * 1.2 - 0.1)
    assert torch.allclose(changed(gamma=2.0), ((RAW + 1) / 2) ** 2 * 2 - 1, atol=1e-6)
    beyond = changed(torch.full(PATCH.input, 1.5), gamma=0.5)
    assert torch.isfinite(beyond).all()


def test_noise_follows_its_seed_and_its_sigma():
    first = changed(noise=0.2, seed=7) - RAW
    assert torch.equal(first, changed(noise=0.2, seed=7) - RAW)
    assert not torch.equal(first, changed(noise=0.2, seed=8) - RAW)
    assert abs(float(first.std()) - 0.2) < 0.02 and abs(float(first.mean())) < 0.02
    assert torch.equal(changed(noise=0.0, seed=7), RAW)


DEFECTS = [
    Defect("missing", 2, 0.25),
    Defect("dark", 2, 0.7),
    Defect("contrast", 2, 0.9),
    Defect("blur", 2, 2.0, (10.0, 12.0, 8.0)),
]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.kind)
def test_a_defect_concerns_its_section_alone(defect):
    before = RAW.clone()
    result = changed(defects=(defect,))
    assert torch.equal(RAW, before)
    assert torch.equal(result[[0, 1, 3]], RAW[[0, 1, 3]])
    assert not torch.equal(result[2], RAW[2])


def test_each_defect_does_what_it_says():
    missing, dark, contrast, blurred = (apply_defect(RAW, defect)[2] for defect in DEFECTS)
    assert (missing == -0.5).all()
    assert torch.allclose(dark, (RAW[2] + 1) * 0.3 - 1, atol=1e-6)
    assert torch.allclose(contrast.mean(), RAW[2].mean(), atol=1e-6)
    assert torch.allclose(contrast.std(), RAW[2].std() * 0.1, atol=1e-5)
    y, x = np.mgrid[:20, :24]
    distance = np.hypot(y - 10, x - 12)
    assert torch.equal(blurred[torch.from_numpy(distance >= 8)], RAW[2][torch.from_numpy(distance >= 8)])
    soft = gaussian_filter(RAW[2].numpy(), 2, mode="nearest", radius=6)
    assert np.isclose(blurred[10, 12], soft[10, 12], atol=1e-5)
    expected = RAW[2].numpy() + (1 - (distance / 8) ** 2).clip(0) * (soft - RAW[2].numpy())
    assert np.allclose(blurred, expected, atol=1e-5)


def test_nothing_falls_on_missing_sections():
    result = changed(defects=(Defect("missing", 0, 0.0),), noise=0.3, scale=1.1, shift=0.2, gamma=1.5)
    assert (result[0] == -1).all()
