"""Whose mistake it was: components of an installed plugin that raise, or return what their plug point does not say."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from segkit import Affinities, Grid, Labels, MergeTree, io, registry
from segkit.agglomerate.stage import agglomerate_files
from segkit.blockwise import ComponentSpec
from segkit.blockwise.work import Work
from segkit.errors import BlocksFailed, BrokenComponent, InvalidInput
from segkit.evaluate.scores import evaluate
from segkit.fragment.stage import fragment_files
from segkit.fragment.threshold import Threshold
from segkit.infer import predict
from segkit.protocols import GROUPS
from segkit.registry import calls
from segkit.registry.component import SINGULAR, Component
from segkit.testing.predictions import random_prediction

GRID = Grid((10, 10, 10))
FRAGMENTS = Labels.convert(np.arange(1, 9).reshape(2, 2, 2), GRID)
AFFINITIES = Affinities.convert(np.full((3, 2, 2, 2), 0.5, np.float32), grid=GRID)
TREE = MergeTree.from_merges([1, 2], [[0, 1]], [0.5])
METHOD = {"fragmenters": "fragment", "agglomerators": "agglomerate", "metrics": "score", "losses": "__call__"}


@pytest.fixture
def offered(monkeypatch):
    """Offers a component of a kind, whose method does what is given, as a distribution lab 1.0 would."""

    def offer(kind, does):
        module = ModuleType("lab")
        module.Thing = type("Thing", (), {"__module__": "lab", METHOD[kind]: lambda self, *inputs: does(*inputs)})
        monkeypatch.setitem(sys.modules, "lab", module)
        declared = Component(kind, "thing", "lab", "1.0", "lab:Thing")
        for holder in (registry, calls):
            monkeypatch.setattr(holder, "declarations", lambda: ([declared], []))
        return module.Thing()

    return offer


def zero(*inputs):
    return 1 // 0


def raised(kind, call, *words):
    with pytest.raises(BrokenComponent) as caught:
        call()
    assert str(caught.value).startswith(f"{SINGULAR[kind]} 'thing' of lab 1.0 ")
    assert "report it to the authors of lab" in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("does", "words"),
    [
        (
            lambda affinities, mask: FRAGMENTS.array,
            ["must return Labels from fragment()", "ndarray of uint64 (2, 2, 2)"],
        ),
        (lambda affinities, mask: None, ["must return Labels from fragment(), not a NoneType"]),
        (lambda affinities, mask: Labels(np.ones((2, 2, 2), np.int32), GRID), ["must be uint64, not int32"]),
        (lambda affinities, mask: Labels(np.ones((1, 2, 2), np.uint64), GRID), ["shape (2, 2, 2)", "(1, 2, 2)"]),
        (lambda affinities, mask: Labels(np.ones((2, 2, 2), np.uint64), Grid()), ["grid of the affinities"]),
        (lambda affinities, mask: affinities.array.fill(0), ["raised ValueError", "read-only"]),
        (zero, ["raised ZeroDivisionError", "--debug"]),
        (lambda affinities, mask: sys.exit(3), ["raised SystemExit"]),
    ],
)
def test_fragmenters(offered, does, words):
    thing = offered("fragmenters", does)
    raised("fragmenters", lambda: calls.fragment(thing, AFFINITIES), *words)


def test_a_result_that_is_a_view_of_an_input(offered):
    thing = offered("fragmenters", lambda affinities, mask: Labels(mask.array.view(np.uint64), GRID))
    mask = SimpleNamespace(array=np.ones((2, 2, 2), np.int64))
    raised("fragmenters", lambda: calls.fragment(thing, AFFINITIES, mask), "memory of its own")


@pytest.mark.parametrize(
    ("does", "words"),
    [
        (
            lambda affinities, fragments: TREE.parents,
            ["must return a MergeTree from agglomerate(), not a", "int64 (3,)"],
        ),
        (lambda *inputs: MergeTree([1, 2], [2, 2, 2], [np.nan]), ["a valid MergeTree", "altitudes must be finite"]),
        (lambda *inputs: MergeTree([1, 2], [2, 2, 2], [1.5]), ["altitudes in 0..1", "1.5..1.5"]),
        (lambda *inputs: MergeTree(np.array([1.0, 2.0]), [2, 2, 2], [0.5]), ["must fit uint64"]),
        (zero, ["raised ZeroDivisionError"]),
    ],
)
def test_agglomerators(offered, does, words):
    thing = offered("agglomerators", does)
    raised("agglomerators", lambda: calls.agglomerate(thing, AFFINITIES, FRAGMENTS), *words)


@pytest.mark.parametrize(
    ("does", "words"),
    [
        (lambda *inputs: 0.5, ["must return a mapping of names to numbers from score(), not a float"]),
        (lambda *inputs: {"a": np.ones(2)}, ["'a': a ndarray of float64 (2,)"]),
        (lambda *inputs: {"a": "good"}, ["'a': a str"]),
        (zero, ["raised ZeroDivisionError"]),
    ],
)
def test_metrics(offered, does, words):
    thing = offered("metrics", does)
    raised("metrics", lambda: evaluate(FRAGMENTS, FRAGMENTS, {"thing": thing}), *words)


def test_a_score_may_be_nan(offered):
    thing = offered("metrics", lambda *inputs: {"a": np.float32("nan")})
    assert np.isnan(evaluate(FRAGMENTS, FRAGMENTS, {"thing": thing})["a"])


@pytest.mark.parametrize(
    ("does", "words"),
    [
        (
            lambda prediction: prediction.logits.sum(),
            ["must return a tensor of no axes", "not a Tensor of torch.float32"],
        ),
        (lambda prediction: (0.5, {}), ["a tensor of no axes"]),
        (lambda prediction: (prediction.logits.sum((1, 2, 3, 4)), {}), ["a Tensor of torch.float32 (2,)"]),
        (lambda prediction: (prediction.logits.sum(), {"part": 1.0}), ["a mapping of names to tensors"]),
        (zero, ["raised ZeroDivisionError"]),
    ],
)
def test_losses(offered, does, words):
    thing = offered("losses", does)
    prediction = random_prediction(1, shape=(2, 3, 4), neighborhood=np.diag([-1, -1, -1]), masked=False)
    raised("losses", lambda: calls.loss(thing, prediction), *words)


class Model(torch.nn.Module):
    """Gives what `does` makes of its input."""

    ndim, sections, stride, context = 3, 1, (1, 1, 1), (0, 0, 0)

    def __init__(self, does) -> None:
        super().__init__()
        self.does = does

    def output_shape(self, input_shape):
        return tuple(input_shape)

    input_shape = output_shape

    def forward(self, raw):
        return self.does(raw.expand(-1, 3, -1, -1, -1))


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (lambda logits: (logits, logits), "not a tuple"),
        (lambda logits: {"logits": logits}, "not a dict"),
        (lambda logits: logits[0], "logits of 5 axes for 1 patches from forward(), not a tensor of shape (3, 4, 4, 4)"),
    ],
)
def test_models(does, said):
    from segkit import Volume

    raw = Volume(np.zeros((4, 4, 4), np.uint8), GRID)
    with pytest.raises(BrokenComponent, match="Model must return") as caught:
        predict(Model(does), raw, np.diag([-1, -1, -1]), tile_shape=(4, 4, 4))
    assert said in str(caught.value)


def test_refusals_of_input_and_lack_of_memory_pass(offered):
    def refuses(affinities, mask):
        raise InvalidInput("mask must be whole")

    def runs_out(affinities, mask):
        raise MemoryError

    for does, error in ((refuses, InvalidInput), (runs_out, MemoryError)):
        with pytest.raises(error) as caught:
            calls.fragment(offered("fragmenters", does), AFFINITIES)
        assert not isinstance(caught.value, BrokenComponent)


def test_faults_of_segkit_itself_pass(monkeypatch):
    monkeypatch.setattr(Threshold, "fragment", zero)
    with pytest.raises(ZeroDivisionError):
        calls.fragment(Threshold(), AFFINITIES)


def test_every_kind_has_its_call():
    assert {*METHOD, "models"} == set(GROUPS)


class Wrong(Threshold):
    """A fragmenter that counts its calls, and returns a bare array."""

    calls = 0

    def fragment(self, affinities, mask=None):
        Wrong.calls += 1
        return super().fragment(affinities, mask).array


def test_a_block_is_tried_once_if_its_component_is_wrong(tmp_path, monkeypatch):
    affinities = Affinities.convert(np.full((3, 4, 4, 4), 0.5, np.float32), grid=GRID)
    io.write(tmp_path / "a.zarr", affinities)
    monkeypatch.setattr(ComponentSpec, "load", lambda self: Wrong())
    Wrong.calls = 0
    work = Work((64, 64, 64))
    with pytest.raises(BlocksFailed, match=r"must return Labels from fragment\(\)"):
        fragment_files(tmp_path / "a.zarr", tmp_path / "f.zarr", ComponentSpec("fragmenters", "threshold"), work=work)
    assert Wrong.calls == 1


def test_a_whole_volume_too(tmp_path, monkeypatch):
    io.write_all(tmp_path / "a.h5", {"affinities": AFFINITIES, "fragments": FRAGMENTS})
    wrong = SimpleNamespace(agglomerate=lambda *inputs: None)
    monkeypatch.setattr(ComponentSpec, "load", lambda self: wrong)
    with pytest.raises(BrokenComponent, match=r"must return a MergeTree from agglomerate\(\), not a NoneType"):
        agglomerate_files(tmp_path / "a.h5", tmp_path / "a.h5", tmp_path / "t.h5", ComponentSpec("agglomerators", "x"))
    assert not (tmp_path / "t.h5").exists()
