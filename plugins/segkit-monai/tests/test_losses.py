"""The losses against their formulas, computed edge by edge without MONAI."""

import numpy as np
import pytest
import torch
from segkit import load
from segkit.errors import InvalidParameter
from segkit.testing.predictions import random_prediction


def members(prediction, of: str):
    """Predicted and true members of each channel of each item, existing edges only, float64."""
    p = 1 / (1 + np.exp(-prediction.logits.double().numpy()))
    t = prediction.target.double().numpy()
    if of == "boundaries":
        p, t = 1 - p, 1 - t
    edges = prediction.edges.numpy()
    return [(p[index][edges[index]], t[index][edges[index]]) for index in np.ndindex(p.shape[:2])]


@pytest.mark.parametrize("of", ["affinities", "boundaries"])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_dice_is_its_formula(seed, squared, of):
    prediction = random_prediction(seed)
    power = 2 if squared else 1
    expected = np.mean([1 - 2 * (p * t).sum() / ((p**power).sum() + t.sum()) for p, t in members(prediction, of)])
    found, parts = load("losses", "monai-dice", squared=squared, of=of)(prediction)
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert parts == {}


@pytest.mark.parametrize("of", ["affinities", "boundaries"])
@pytest.mark.parametrize(("alpha", "beta"), [(0.7, 0.3), (0.2, 0.9)])
def test_tversky_is_its_formula(alpha, beta, of):
    prediction = random_prediction(4)
    costs = []
    for p, t in members(prediction, of):
        true, false_positive, false_negative = (p * t).sum(), (p * (1 - t)).sum(), ((1 - p) * t).sum()
        costs.append(1 - true / (true + alpha * false_positive + beta * false_negative))
    found = load("losses", "monai-tversky", alpha=alpha, beta=beta, of=of)(prediction)[0]
    assert found.item() == pytest.approx(np.mean(costs), rel=1e-4)


def test_tversky_of_halves_is_dice():
    prediction = random_prediction(5)
    tversky = load("losses", "monai-tversky", alpha=0.5, beta=0.5)(prediction)[0]
    assert tversky.item() == pytest.approx(load("losses", "monai-dice")(prediction)[0].item(), rel=1e-4)


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_its_formula(gamma, alpha):
    prediction = random_prediction(6)
    p, t = (np.concatenate(each) for each in zip(*members(prediction, "affinities"), strict=True))
    right = np.where(t == 1, p, 1 - p)
    weight = 1.0 if alpha is None else np.where(t == 1, alpha, 1 - alpha)
    expected = (-weight * (1 - right) ** gamma * np.log(right)).mean()
    found = load("losses", "monai-focal", gamma=gamma, alpha=alpha)(prediction)[0]
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_focal_without_focus_is_segkits_cross_entropy():
    prediction = random_prediction(7)
    expected = load("losses", "bce", balanced=False)(prediction)[0]
    torch.testing.assert_close(load("losses", "monai-focal", gamma=0.0)(prediction)[0], expected)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("monai-dice", {"smooth": 0.0}),
        ("monai-tversky", {"alpha": -1.0}),
        ("monai-tversky", {"beta": float("nan")}),
        ("monai-focal", {"gamma": -0.1}),
        ("monai-focal", {"alpha": 1.5}),
    ],
)
def test_parameters_out_of_range_are_refused(name, parameters):
    with pytest.raises(InvalidParameter, match=next(iter(parameters))):
        load("losses", name, **parameters)
