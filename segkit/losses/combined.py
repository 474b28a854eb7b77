"""Sums of losses, written as text: ``constrained-malis+0.1*mse``."""

import math
import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.protocols import Loss, Prediction
from segkit.registry import calls, find

GRAMMAR = "TERM+TERM+..., each TERM a NAME or WEIGHT*NAME, as in 'constrained-malis+0.1*mse'"

# Terms are matched from the left instead of splitting at '+', which may also stand in an exponent: 1e+2*mse.
_TERM = re.compile(
    r"\s*(?:(?P<weight>[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf|nan))\s*\*)?"
    r"\s*(?P<name>[A-Za-z_][\w.:-]*)\s*(?P<end>\+|$)"
)


class Sum(Loss):
    """A weighted sum of losses: sum over terms of weight * loss.

    The parts hold each term's own value, not weighted, under its name, and its parts under ``name/part``.

    Parameters
    ----------
    terms
        (name, weight, loss) of each term; names differ.
    """

    def __init__(self, *, terms: Sequence[tuple[str, float, Loss]]) -> None:
        self.terms = tuple(terms)

    def __call__(self, prediction: Prediction) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum, and every term and part of a term."""
        total, parts = 0.0, {}
        for name, weight, loss in self.terms:
            value, inner = calls.loss(loss, prediction)
            total = total + weight * value
            parts[name] = value.detach()
            parts.update({f"{name}/{part}": number for part, number in inner.items()})
        return total, parts


def parse_loss(spec: str, parameters: Mapping[str, object] | None = None, *, backend: str | None = None) -> Loss:
    """The loss that `spec` describes: one name of a registered loss, or a sum of names with weights.

    `parameters` are those of the loss, ``{"balanced": False}``, or, for any number of terms, those of each by name,
    ``{"bce": {"balanced": False}}``. `backend`, if given, is that of every term that has such a parameter and that
    `parameters` give none. Raises InvalidInput where the text breaks the grammar, UnknownComponent where no loss has
    that name, and InvalidParameter where a parameter does not fit or no term has a backend to choose.

    >>> [(name, weight) for name, weight, loss in parse_loss("bce+1e-2*mse").terms]
    [('bce', 1.0), ('mse', 0.01)]
    >>> parse_loss("bce", {"balanced": False}).balanced
    False
    """
    weights = parse_terms(spec)
    values = _parameters_by_term(tuple(weights), parameters or {})
    if backend is not None:
        values = _with_backend(values, backend)
    losses = {name: find("losses", name).create(**values[name]) for name in weights}
    if list(weights.values()) == [1.0]:
        return next(iter(losses.values()))
    return Sum(terms=[(name, weight, losses[name]) for name, weight in weights.items()])


def parse_terms(spec: str) -> dict[str, float]:
    """Name -> weight of the terms of `spec`, in order.

    >>> parse_terms("constrained-malis + 1e+1*mse")
    {'constrained-malis': 1.0, 'mse': 10.0}
    """
    weights: dict[str, float] = {}
    position, end = 0, "+"
    while end:
        term = _TERM.match(spec, position)
        if term is None:
            raise InvalidInput(sentence("loss", f"must look like {GRAMMAR}", repr(spec)))
        name, weight = term["name"], float(term["weight"] or 1)
        if not (math.isfinite(weight) and weight > 0):
            raise InvalidInput(sentence(f"the weight of {name!r} in loss", "must be positive and finite", weight))
        if name in weights:
            raise InvalidInput(sentence("loss", f"must name {name!r} once", repr(spec), "add up its weights"))
        weights[name] = weight
        position, end = term.end(), term["end"]
    return weights


def terms_of(loss: Loss, spec: str) -> Sequence[tuple[str, float, Loss]]:
    """List (name, weight, loss) of the terms of `loss`, which :func:`parse_loss` made of `spec`."""
    return loss.terms if isinstance(loss, Sum) else [(next(iter(parse_terms(spec))), 1.0, loss)]


def _parameters_by_term(names: tuple[str, ...], parameters: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    by_term = {name: value for name, value in parameters.items() if name in names and isinstance(value, Mapping)}
    if len(by_term) == len(parameters):
        return {name: by_term.get(name, {}) for name in names}
    if len(names) == 1:
        return {names[0]: parameters}
    stray = next(name for name, value in parameters.items() if name not in names or not isinstance(value, Mapping))
    next_step = f"give a table for each of {', '.join(names)}"
    raise InvalidParameter(sentence("the parameters of a sum of losses", "must be given by term", stray, next_step))


def _with_backend(values: Mapping[str, Mapping[str, object]], backend: str) -> dict[str, Mapping[str, object]]:
    """The parameters by term, with `backend` in those terms that take one."""
    takers = [name for name in values if "backend" in find("losses", name).parameters()]
    if not takers:
        rule = f"must not be given with a loss without a parameter 'backend', as {' and '.join(values)}"
        raise InvalidParameter(sentence("loss_backend", rule, repr(backend), "omit it"))
    return {name: {"backend": backend, **given} if name in takers else given for name, given in values.items()}
