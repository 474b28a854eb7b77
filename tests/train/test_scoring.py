"""Networks whose segmentation is known by hand, and where volumes are cropped."""

import numpy as np
import pytest
import torch
from torch import nn

from segkit import Grid, Labels, Volume, load
from segkit.errors import InvalidInput, InvalidParameter, UnknownComponent
from segkit.evaluate import sweep
from segkit.infer import predict
from segkit.protocols import Model
from segkit.train import TrainConfig, TrainingVolume
from segkit.train.scoring import LARGEST, Segmenter, choose_scene

NEAREST = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1]])
PLANE = NEAREST[1:]
CPU = torch.device("cpu")
WATERSHED = {"fragmenter": "affinity-watershed"}


class ByIntensity(nn.Module):
    """Joins equal intensities; others the less the further apart: 1 - 2 * difference, of intensities in 0..1."""

    sections = 1

    def __init__(self, ndim=3, context=0, neighborhood=NEAREST):
        super().__init__()
        self.ndim, self.stride, self.context = ndim, (1,) * ndim, (context,) * ndim
        self.neighborhood = neighborhood[:, 3 - ndim :]

    def output_shape(self, input_shape):
        return tuple(size - lost for size, lost in zip(input_shape, self.context, strict=True))

    def input_shape(self, output_shape):
        return tuple(size + lost for size, lost in zip(output_shape, self.context, strict=True))

    def forward(self, raw):
        raw = (raw[:, 0] + 1) / 2
        axes = list(range(1, raw.ndim))
        others = [raw.roll([-int(step) for step in offset], axes) for offset in self.neighborhood]
        joined = torch.stack([1 - 2 * (raw - other).abs() for other in others], dim=1)
        half = self.context[0] // 2
        middle = (slice(None), slice(None), *(slice(half, size - half) for size in joined.shape[2:]))
        return torch.logit(joined[middle].double(), eps=1e-9).float()


def slabs(values, shape=(4, 6, 20)):
    """As many slabs along x as there are values."""
    array = np.zeros(shape, int)
    edges = np.linspace(0, shape[2], len(values) + 1).astype(int)
    for value, low, high in zip(values, edges[:-1], edges[1:], strict=True):
        array[:, :, low:high] = value
    return array


def volume(intensities, objects, **grid):
    raw = Volume(slabs(intensities).astype(np.uint8), Grid(**grid))
    return TrainingVolume(raw, Labels.convert(slabs(objects), Grid(**grid)))


def segmenter(volumes, network=None, neighborhood=NEAREST, **settings):
    config = TrainConfig(validation={**WATERSHED, **settings})
    return Segmenter(config, volumes, network or ByIntensity(), neighborhood)


def test_the_protocol_is_kept():
    assert isinstance(ByIntensity(), Model)


def test_a_network_that_joins_what_belongs_together():
    """Affinity 0.8 between the second and the third slab, one object, and 0.2 between the first and the second."""
    found = segmenter([volume([0, 102, 127], [1, 2, 2])]).score(ByIntensity(), CPU)
    assert found["cremi_score"] == found["oracle_cremi_score"] == 0 and found["fragments"] == 3
    assert 0.2 < found["threshold"] <= 0.8  # merges of altitude below it: 1 - 0.8, not 1 - 0.2


def test_a_score_worked_by_hand():
    """The network does not see the border between two objects, of a quarter each: half the voxels hold one bit."""
    found = segmenter([volume([0, 0, 200, 200], [1, 1, 2, 3])]).score(ByIntensity(), CPU)
    assert (found["voi_split"], found["voi_merge"]) == pytest.approx((0, 0.5))
    assert found["adapted_rand_error"] == pytest.approx(1 / 7)
    assert found["cremi_score"] == found["oracle_cremi_score"] == pytest.approx((0.5 / 7) ** 0.5)


def test_it_is_what_the_verbs_do_one_after_the_other():
    rng = np.random.default_rng(0)
    raw = Volume(rng.integers(0, 128, (4, 12, 12)).astype(np.uint8), Grid())
    truth = Labels.convert(rng.integers(0, 4, raw.shape), Grid())
    found = segmenter([TrainingVolume(raw, truth)], fragmenter_parameters={"size_threshold": 2})
    affinities = predict(ByIntensity(), raw, NEAREST)
    fragments = load("fragmenters", "affinity-watershed", size_threshold=2).fragment(affinities)
    tree = load("agglomerators", "python").agglomerate(affinities, fragments)
    best = sweep(tree, fragments, truth).best()
    scored = found.score(ByIntensity(), CPU)
    assert best.items() <= scored.items() and scored["fragments"] == len(tree.leaf_ids)
    assert found.made_by["agglomerator"]["parameters"]["score"] == "mean"
    assert found.made_by["fragmenter"]["parameters"]["size_threshold"] == 2


def test_of_several_volumes_one_threshold_and_the_mean():
    """Slabs of affinity 0.8 that the first volume joins and the second keeps apart: one of them is wrong."""
    first, second = volume([102, 127], [1, 1]), volume([102, 127], [1, 2])
    found = segmenter([first, second]).score(ByIntensity(), CPU)
    assert found["voi_split"] + found["voi_merge"] == pytest.approx(0.5)
    assert found["fragments"] == 4 and segmenter([first]).score(ByIntensity(), CPU)["cremi_score"] == 0


def test_what_lies_outside_the_mask_does_not_count():
    wrong = volume([0, 200, 200], [1, 2, 3])
    mask = slabs([1, 1, 0]).astype(bool)
    masked = TrainingVolume(wrong.raw, wrong.labels, Volume(mask, Grid()))
    assert segmenter([wrong]).score(ByIntensity(), CPU)["cremi_score"] > 0
    assert segmenter([masked]).score(ByIntensity(), CPU)["cremi_score"] == 0


def test_sections_of_2d_networks_are_scored_on_their_own():
    """In 3-D the pieces in all sections would be parts of one object: two bits of false splits."""
    flat = ByIntensity(2, neighborhood=PLANE)
    found = segmenter([volume([0, 200], [1, 2])], flat, PLANE)
    assert found.made_by["fragmenter"]["parameters"]["per_section"]
    scores = found.score(flat, CPU)
    assert scores["cremi_score"] == 0 and scores["fragments"] == 8


@pytest.mark.parametrize("context", [0, 4])
def test_a_crop_sees_what_lies_around_it(context):
    """Of the whole volume's affinities the middle; a valid network is given its context."""
    rng = np.random.default_rng(1)
    raw = Volume(rng.integers(0, 128, (14, 16, 18)).astype(np.uint8), Grid((2, 1, 1), (20, 0, 0)))
    labels = Labels.convert(np.ones((8, 10, 14), int), Grid((2, 1, 1), (26, 2, 3)))
    scene = choose_scene(TrainingVolume(raw, labels), ByIntensity(context=context), [4, 6, 8], False)
    assert scene.truth.shape == (4, 6, 8) and scene.truth.grid.offset == (30, 4, 6)
    margin = context // 2
    assert scene.raw.shape == (4 + 2 * margin, 6 + 2 * margin, 8 + 2 * margin)
    whole = predict(ByIntensity(context=context), raw, NEAREST).array[:, 5:9, 4:10, 6:14]
    part = predict(ByIntensity(context=context), scene.raw, NEAREST).array[(slice(None), *scene.window)]
    inner = (slice(None), *[slice(1, None)] * 3) if not context else ...
    assert np.array_equal(whole[inner], part[inner])


def test_labels_that_reach_further_than_the_raw_data_are_cut():
    raw = Volume(np.zeros((4, 6, 6), np.uint8), Grid(offset=(2, 0, 0)))
    labels = Labels.convert(np.arange(1, 9)[:, None, None] * np.ones((8, 6, 6), int), Grid())
    scene = choose_scene(TrainingVolume(raw, labels), ByIntensity(), None, False)
    assert scene.truth.ids().tolist() == [3, 4, 5, 6] and scene.truth.grid.offset == (2, 0, 0)
    assert scene.raw.shape == scene.truth.shape == (4, 6, 6)


def test_memory_is_bounded():
    array = np.broadcast_to(np.uint64(1), (3, 3000, 6000))
    raw = Volume(np.broadcast_to(np.uint8(0), array.shape), Grid())
    scene = choose_scene(TrainingVolume(raw, Labels(array, Grid())), ByIntensity(), None, False)
    assert 0.99 * LARGEST < scene.truth.array.size <= LARGEST and scene.truth.shape[0] == 3
    assert scene.truth.shape[1] == scene.truth.shape[2]


def test_equal_volumes_and_components_have_one_digest():
    def digest(intensities=(0, 200), objects=(1, 2), **settings):
        return segmenter([volume(intensities, objects)], **settings).digest

    others = [
        digest((0, 201)),
        digest(objects=(1, 3)),
        digest(agglomerator_parameters={"score": "max"}),
        digest(crop=[4, 6, 19]),
    ]
    assert digest() == digest(agglomerator_parameters={"score": "mean"}) and digest() not in others


@pytest.mark.parametrize(
    ("error", "objects", "settings", "said"),
    [
        (InvalidInput, [0, 0], {}, "hold an object in the part that is segmented.*validation.crop"),
        (InvalidInput, [1, 2], {"crop": [4, 6, 21]}, r"validation.crop must be a shape .* \(4, 6, 20\)"),
        (UnknownComponent, [1, 2], {"agglomerator": "pyhton"}, "did you mean 'python'"),
        (InvalidParameter, [1, 2], {"fragmenter_parameters": {"hihg": 1}}, "did you mean 'high'"),
    ],
)
def test_what_is_refused_before_training(error, objects, settings, said):
    with pytest.raises(error, match=said):
        segmenter([volume([0, 200], objects)], **settings)
