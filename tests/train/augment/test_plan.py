"""What is drawn: with its probability, in its range, and nothing where it makes no sense."""

import numpy as np
import pytest

from segkit import Grid
from segkit.train.augment.config import AugmentationSettings
from segkit.train.augment.plan import draw_plan
from segkit.train.patch import Patch

SOLID, THREE, ONE = Patch((6, 8, 8), (10, 12, 12), 3), Patch((1, 8, 8), (3, 12, 12), 2), Patch((1, 8, 8), (1, 8, 8), 2)


def plans(patch=SOLID, count=200, grid=None, rim=(0, 0, 0), **settings):
    settings = AugmentationSettings(**settings)
    grid = grid or Grid()
    return [draw_plan(np.random.default_rng(seed), settings, patch, grid, rim) for seed in range(count)]


def test_by_default_axes_and_tone_change_and_nothing_else():
    for plan in plans():
        assert plan.warp is None and not plan.defects and not any(plan.blur) and not plan.noise and plan.gamma == 1
    scales, shifts = (np.array([getattr(plan, name) for plan in plans()]) for name in ("scale", "shift"))
    assert 0.9 <= scales.min() < 0.92 and 1.08 < scales.max() <= 1.1
    assert -0.1 <= shifts.min() < -0.09 and 0.09 < shifts.max() <= 0.1


@pytest.mark.parametrize("kind", ["missing", "dark", "contrast", "blur"])
@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_each_section_suffers_with_its_probability(kind, share):
    found = [defect for plan in plans(sections={kind: share}) for defect in plan.defects]
    assert {defect.kind for defect in found} == ({kind} if share else set())
    rate = len(found) / (200 * SOLID.input[0])
    assert rate == share if share in (0, 1) else abs(rate - share) < 0.04
    if share:
        assert {defect.section for defect in found} == set(range(SOLID.input[0]))


def test_amounts_lie_in_their_range():
    settings = {"dark": 1, "darkness": 0.4, "contrast": 1, "contrast_loss": 0.6, "missing": 1, "fill": 0.3}
    found = [defect for plan in plans(sections=settings) for defect in plan.defects]
    for kind, most in (("dark", 0.4), ("contrast", 0.6)):
        amounts = [defect.amount for defect in found if defect.kind == kind]
        assert 0 <= min(amounts) < 0.01 and most - 0.01 < max(amounts) <= most
    assert {defect.amount for defect in found if defect.kind == "missing"} == {0.3}
    spots = np.array([defect.spot for plan in plans(sections={"blur": 1}) for defect in plan.defects])
    assert spots.min(axis=0) == pytest.approx([0, 0, 1.5], abs=0.1)
    assert spots.max(axis=0) == pytest.approx([11, 11, 6], abs=0.1)


def test_networks_that_see_one_section_lose_none():
    assert not any(plan.defects for plan in plans(ONE, sections={"missing": 1}))
    assert all(len(plan.defects) == 3 for plan in plans(THREE, sections={"missing": 1}))


@pytest.mark.parametrize("probability", [0, 0.3, 1])
@pytest.mark.parametrize(
    ("name", "happened"),
    [
        ("affine", lambda plan: plan.warp is not None),
        ("elastic", lambda plan: plan.warp is not None and plan.warp.control is not None),
        ("noise", lambda plan: plan.noise > 0),
        ("blur", lambda plan: any(plan.blur)),
    ],
)
def test_patches_are_changed_with_their_probability(name, happened, probability):
    rate = np.mean([happened(plan) for plan in plans(**{name: {"probability": probability}})])
    assert rate == probability if probability in (0, 1) else abs(rate - probability) < 0.1


def test_2d_networks_keep_to_their_sections():
    settings = {
        "affine": {"probability": 1, "scale": [0.3, 0.3, 0.3], "shear": 0.2},
        "elastic": {"probability": 1, "magnitude": [3, 3, 3]},
        "blur": {"probability": 1, "sigma": [2, 2, 2]},
    }
    for plan in plans(THREE, 30, **settings):
        assert plan.warp.keeps_sections and plan.blur[0] == 0 < min(plan.blur[1:])
    assert not any(plan.warp.keeps_sections for plan in plans(SOLID, 30, **settings))


def test_gamma_and_noise_lie_in_their_range():
    drawn = plans(intensity={"gamma": 0.7}, noise={"probability": 1, "sigma": 0.2}, count=400)
    gammas, noises = np.array([(plan.gamma, plan.noise) for plan in drawn]).T
    assert np.exp(-0.7) <= gammas.min() < 0.51 and 1.95 < gammas.max() <= np.exp(0.7)
    assert 0 <= noises.min() < 0.01 and 0.19 < noises.max() <= 0.2
    assert len({plan.seed for plan in drawn}) == 400


def test_labels_are_needed_as_far_as_their_rim():
    (plan,) = plans(count=1, rim=(0, 3, 3))
    assert plan.label_box == ((0, -3, -3), (6, 14, 14)) and plan.raw_box == ((-2, -2, -2), (10, 12, 12))
    (warped,) = plans(count=1, rim=(0, 3, 3), affine={"probability": 1})
    assert warped.warp.low == (-2, -3, -3) and warped.warp.shape == (10, 14, 14)


def test_words_name_what_was_drawn():
    still = {"flips": [0, 0, 0], "transposes": False}
    (plan,) = plans(count=1, **still)
    assert plan.words() == "as it is"
    (plan,) = plans(count=1, flips=[1, 0, 1], transposes=False, sections={"missing": 1, "slip": 1})
    assert plan.words() == "mirrored zx, misaligned, missing sections 0 1 2 3 4 5 6 7 8 9"
