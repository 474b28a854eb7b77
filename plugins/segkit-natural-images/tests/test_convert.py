"""Pictures as a volume: where colours and annotations come to lie, and that verbs take it."""

import json

import h5py
import numpy as np
import pytest
from segkit import io
from segkit.errors import InvalidShape

from segkit_natural_images import Picture
from segkit_natural_images.convert import stack

RNG = np.random.default_rng(1)
OUTSIDE = 2**64 - 1


def picture(name: str, shape, annotators: int) -> Picture:
    annotations = tuple(RNG.integers(1, 6, shape).astype(np.uint64) for _ in range(annotators))
    return Picture(name, RNG.integers(0, 256, (*shape, 3), np.uint8), annotations)


def test_colours_are_sections_and_annotations_lie_on_the_middle_one():
    lying, upright = picture("a", (4, 6), 1), picture("b", (6, 4), 2)
    raw, truths = stack([lying, upright])
    assert raw.shape == (6, 4, 6) and len(truths) == 2
    for colour in range(3):
        np.testing.assert_array_equal(raw.array[colour], lying.colours[..., colour])
        np.testing.assert_array_equal(raw.array[3 + colour], upright.colours[..., colour].T)
    np.testing.assert_array_equal(truths[0].array[1], lying.annotations[0])
    for truth, annotation in zip(truths, upright.annotations, strict=True):
        np.testing.assert_array_equal(truth.array[4], annotation.T)
    nobody = [(0, z) for z in (0, 2, 3, 5)] + [(1, z) for z in (0, 1, 2, 3, 5)]
    assert all((truths[k].array[z] == OUTSIDE).all() for k, z in nobody)


def test_other_shapes_are_refused():
    with pytest.raises(InvalidShape, match="must be of one shape"):
        stack([picture("a", (4, 6), 1), picture("b", (5, 6), 1)])


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Four pictures; one of them has a second annotator."""
    monkeypatch.chdir(tmp_path)
    with h5py.File("pictures.h5", "w") as file:
        for number in range(4):
            rows, columns = np.indices((24, 30))
            edge = 8 + 3 * number
            file[f"{number}/raw"] = np.where((columns < edge)[..., None], [200, 30, 40], [20, 90, 220]).astype(np.uint8)
            file[f"{number}/labels/0"] = np.where(columns < edge, 1, 2)
        file["3/labels/1"] = np.where(rows < 12, 1, 2)
    return tmp_path


def test_the_command_converts_the_pictures_that_are_counted(pictures, file):
    result = pictures("pictures.h5[1:4]", "volume.h5")
    assert result.exit_code == 0 and "3 pictures with labels of up to 2 annotators" in result.stderr
    with h5py.File("pictures.h5") as source:
        raw, truth = io.read_volume("volume.h5"), io.read_labels("volume.h5")
        np.testing.assert_array_equal(raw.array[3], source["2/raw"][..., 0])
        np.testing.assert_array_equal(truth.array[7], source["3/labels/0"])
    found = io.matching("volume.h5:volumes/labels/annotator_*", "truth")
    assert [place.dataset for place in found] == ["volumes/labels/annotator_1", "volumes/labels/annotator_2"]


def test_calls_that_make_no_sense_are_refused(pictures, file):
    for source in ("pictures.h5:0/raw", "pictures.h5[0:1,0:3]"):
        result = pictures(source, "out.h5")
        assert result.exit_code == 2 and "pictures counted as [first:last]" in result.stderr
    assert pictures("pictures.h5", "out.h5").exit_code == 0
    assert "exists already" in pictures("pictures.h5", "out.h5").stderr


@pytest.mark.parametrize("out", ["out.h5", "out.zarr"])
def test_annotators_of_other_pictures_do_not_stay_in_the_file(pictures, file, out):
    for part, annotators in (("[2:4]", 2), ("[0:2]", 1)):
        result = pictures(f"pictures.h5{part}", out, "--overwrite")
        assert result.exit_code == 0, result.stderr
        assert len(io.matching(f"{out}:volumes/labels/annotator_*", "truth")) == annotators


def test_training_draws_from_all_annotators(pictures, file):
    from segkit.cli.runs import read_volumes

    assert pictures("pictures.h5", "volume.h5").exit_code == 0
    volumes = read_volumes("volume.h5", None, "volumes/labels/annotator_*")
    assert len(volumes) == 2 and volumes[0].raw is volumes[1].raw
    assert len(volumes[1].labels.ids()) == 2 and (volumes[1].labels.array != OUTSIDE).sum() == 24 * 30


def test_the_recipe_goes_from_pictures_to_scores(segkit, pictures, file):
    for part, name in (("[0:2]", "train"), ("[2:4]", "test")):
        assert pictures(f"pictures.h5{part}", f"{name}.h5").exit_code == 0
    small = ["budget.steps=2", "budget.features=2", "train.set.model.levels=2", "train.set.patch=[1,6,6]"]
    words = [word for setting in [*small, "data.train=train.h5", "data.test=test.h5"] for word in ("--set", setting)]
    result = segkit("run", "bsds-unet2d", "--out", "out", *words, "--json")
    assert result.exit_code == 0, result.stderr
    scores = json.loads(result.stdout)["evaluate"]
    assert {"probabilistic_rand", "segmentation_covering", "voi_split", "cremi_score"} <= scores.keys()
    each = [f"test.h5:volumes/labels/annotator_{k}" for k in (1, 2)]
    words = ["out/segmentation.h5", *each, "--per-section", "--metric", "probabilistic-rand", "--json"]
    again = segkit("evaluate", *words)
    assert json.loads(again.stdout)["probabilistic_rand"] == scores["probabilistic_rand"]


def test_wildcards_that_match_nothing_say_what_there_is(segkit, pictures, file):
    pictures("pictures.h5", "volume.h5")
    result = segkit("evaluate", "volume.h5:volumes/labels/neuron_ids", "volume.h5:volumes/labels/annotater_*")
    assert result.exit_code == 2 and "it holds volumes/labels/annotator_1" in result.stderr
    for option in ("--sweep", "--worst=2"):
        words = ["volume.h5:volumes/labels/neuron_ids", "volume.h5", "volume.h5", option]
        assert "TRUTH must be one with --sweep or --worst" in segkit("evaluate", *words).stderr
