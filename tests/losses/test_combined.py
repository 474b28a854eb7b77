"""Sums of losses: the text, the parameters, the values."""

import numpy as np
import pytest
import torch

from segkit.data import edge_mask
from segkit.errors import InvalidInput, InvalidParameter, UnknownComponent
from segkit.losses.combined import Sum, parse_loss, parse_terms
from segkit.losses.elementwise import BCE, MSE
from segkit.losses.malis import ConstrainedMalis
from segkit.protocols import Prediction


@pytest.fixture
def prediction():
    neighborhood = np.array([(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
    labels = torch.arange(24).reshape(1, 2, 3, 4) // 8
    edges = torch.from_numpy(edge_mask((2, 3, 4), neighborhood))[None]
    logits = torch.randn(edges.shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    return Prediction(logits, torch.ones(edges.shape), labels, labels >= 0, edges, neighborhood)


@pytest.mark.parametrize(
    ("spec", "terms"),
    [
        ("mse", {"mse": 1.0}),
        ("constrained-malis+0.1*mse", {"constrained-malis": 1.0, "mse": 0.1}),
        (" 1e-2*bce + malis-higra ", {"bce": 0.01, "malis-higra": 1.0}),
        ("1e+2*bce+.5 * mse", {"bce": 100.0, "mse": 0.5}),
        ("+2.*other-package:my_loss", {"other-package:my_loss": 2.0}),
    ],
)
def test_terms(spec, terms):
    assert parse_terms(spec) == terms


@pytest.mark.parametrize(
    "spec",
    ["", "+", "mse+", "+mse", "mse++bce", "0.1mse", "mse*0.1", "0.1*", "2*3*mse", "mse bce", "1e*mse"],
)
def test_text_that_breaks_the_grammar_is_told_the_grammar(spec):
    with pytest.raises(InvalidInput, match=r"loss must look like TERM\+TERM.*WEIGHT\*NAME"):
        parse_loss(spec)


@pytest.mark.parametrize("weight", ["0", "-1", "inf", "nan", "1e999", "0e5"])
def test_weights_must_be_positive_and_finite(weight):
    with pytest.raises(InvalidInput, match="the weight of 'mse' in loss must be positive and finite"):
        parse_loss(f"bce+{weight}*mse")


def test_names_must_be_known_and_differ():
    with pytest.raises(UnknownComponent, match="mean-squared"):
        parse_loss("mean-squared")
    with pytest.raises(InvalidInput, match="must name 'mse' once"):
        parse_loss("mse+0.5*mse")


def test_a_single_name_is_that_loss_and_every_built_in_name_works(prediction):
    assert type(parse_loss("mse")) is MSE and type(parse_loss("constrained-malis")) is ConstrainedMalis
    for name in ("mse", "bce", "malis", "constrained-malis", "malis-higra"):
        assert parse_loss(name)(prediction)[0] > 0


def test_a_sum_adds_weighted_values_and_gradients_and_names_the_parts(prediction):
    total, parts = parse_loss("constrained-malis+0.1*bce")(prediction)
    (gradient,) = torch.autograd.grad(total, prediction.logits, retain_graph=True)
    malis, malis_parts = ConstrainedMalis()(prediction)
    bce, _ = BCE()(prediction)
    (expected,) = torch.autograd.grad(malis + 0.1 * bce, prediction.logits)
    assert total.item() == pytest.approx((malis + 0.1 * bce).item(), rel=1e-6) and total.dtype == torch.float32
    torch.testing.assert_close(gradient, expected)
    assert list(parts) == [
        "constrained-malis",
        "constrained-malis/positive",
        "constrained-malis/negative",
        "bce",
        "bce/positive",
        "bce/negative",
    ]
    assert parts["bce"] == bce and parts["constrained-malis/positive"] == malis_parts["positive"]
    assert not any(part.requires_grad for part in parts.values())


def test_a_single_term_with_a_weight_is_scaled(prediction):
    assert parse_loss("2*mse")(prediction)[0].item() == pytest.approx(2 * MSE()(prediction)[0].item())


def test_parameters_of_one_loss_or_by_term():
    assert parse_loss("bce", {"balanced": False}).balanced is False
    assert parse_loss("bce", {"bce": {"balanced": False}}).balanced is False
    both = parse_loss("malis-higra+0.5*bce", {"malis-higra": {"constrained": False}})
    assert isinstance(both, Sum)
    assert both.terms[0][2].constrained is False and both.terms[1][2].balanced is True
    assert parse_loss("0.5*bce", {"balanced": False}).terms[0][2].balanced is False


def test_parameters_that_do_not_fit_are_named():
    with pytest.raises(InvalidParameter, match="balance"):
        parse_loss("bce", {"balance": False})
    with pytest.raises(InvalidParameter, match="must be bool"):
        parse_loss("bce", {"balanced": "perhaps"})
    with pytest.raises(InvalidParameter, match="by term, not balanced; give a table for each of bce, mse"):
        parse_loss("bce+mse", {"balanced": False})
    with pytest.raises(InvalidParameter, match="not malis"):
        parse_loss("bce+mse", {"bce": {}, "malis": {}})


def test_a_backend_goes_to_the_terms_that_take_one_and_have_none():
    both = parse_loss("malis+0.5*bce", {"malis": {"balanced": False}}, backend="higra")
    assert both.terms[0][2].backend == "higra" and both.terms[0][2].balanced is False
    assert parse_loss("malis", {"backend": "cpu"}, backend="higra").backend == "cpu"
    assert parse_loss("malis").backend == "auto"


def test_a_backend_that_nothing_takes_or_knows_is_refused():
    with pytest.raises(InvalidParameter, match=r"loss_backend must not be given with .* as bce and mse, not 'cpu'"):
        parse_loss("bce+mse", backend="cpu")
    with pytest.raises(InvalidParameter, match=r"'backend' of loss 'malis' must be 'auto' \| 'cpu'"):
        parse_loss("malis", backend="tpu")
    with pytest.raises(InvalidParameter, match="backend must be one of auto, cpu, gpu, higra, not 'tpu'"):
        ConstrainedMalis(backend="tpu")
