import numpy as np
import pytest

from segkit.errors import InvalidInput, InvalidParameter
from segkit.train import TrainConfig


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stpes": 3}, "'stpes'; did you mean 'steps'"),
        ({"steps": 0}, "'steps'"),
        ({"learning_rate": float("nan")}, "'learning_rate'"),
        ({"betas": [0.9, 1.0]}, "'betas.1'"),
        ({"precision": "16"}, "'precision'"),
        ({"augmentation": {"flips": [2, 0, 0]}}, "'augmentation.flips.0'"),
        ({"augmentation": {"elastik": {}}}, "did you mean 'augmentation.elastic"),
        ({"augmentation": {"elastic": {"magnitude": [0, 16, 0]}}}, "along y must be less than half the spacing"),
        ({"min_labelled": 1.5}, "'min_labelled'"),
        ({"model_parameters": {"channels": 3}}, "neighborhood"),
        ({"batch_size": 1.5}, "'batch_size'"),
    ],
)
def test_one_sentence_says_what_is_wrong(values, words):
    with pytest.raises(InvalidParameter) as caught:
        TrainConfig(**values)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_round_trip():
    config = TrainConfig(neighborhood=[[0, 0, -3]], patch=[1, 2, 3], model_parameters={"features": 4}, max_minutes=2)
    assert TrainConfig(**TrainConfig.model_validate_json(config.model_dump_json()).model_dump()) == config


def test_precision_may_be_the_number_that_a_command_line_reads():
    assert TrainConfig(precision=32).precision == "32"


@pytest.mark.parametrize(
    ("ndim", "expected"), [(3, [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]), (2, [[0, -1, 0], [0, 0, -1]])]
)
def test_default_neighborhood(ndim, expected):
    assert np.array_equal(TrainConfig().offsets(ndim), expected)


def test_neighborhoods_are_checked():
    with pytest.raises(InvalidParameter, match="must not leave the section"):
        TrainConfig(neighborhood=[[-1, 0, 0]]).offsets(2)
    with pytest.raises(InvalidInput, match="once"):
        TrainConfig(neighborhood=[[0, 0, 1], [0, 0, -1]]).offsets(3)
