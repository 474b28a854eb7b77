"""Calls of components: what they return is checked, and whoever made a mistake is named.

All of segkit calls components by these functions. What a plugin raises on its own account, or returns against its plug
point, becomes a BrokenComponent that names the component and its distribution; errors of segkit, such as the refusal of
an input, pass as they are, and so do those of segkit's own components, which are segkit's to mend.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.data import Affinities, Labels, MergeTree, RegionAdjacencyGraph, Volume
from segkit.errors import BrokenComponent, InvalidInput, SegkitError, out_of_memory, sentence
from segkit.protocols import (
    Agglomerator,
    Fitted,
    Fragmenter,
    LearningAgglomerator,
    Loss,
    Metric,
    Prediction,
    Sample,
)
from segkit.registry import declarations
from segkit.registry.component import OWN, Component


def fragment(fragmenter: Fragmenter, affinities: Affinities, mask: Volume | None = None) -> Labels:
    """Cut a volume into fragments; see :meth:`segkit.protocols.Fragmenter.fragment`."""
    with blaming(fragmenter):
        found: object = fragmenter.fragment(affinities, mask)
    if not isinstance(found, Labels):
        raise _wrong(fragmenter, "fragment", "Labels", found)
    if found.shape != affinities.shape or found.grid != affinities.grid:
        rule = f"Labels of shape {affinities.shape} on the grid of the affinities"
        raise _wrong(fragmenter, "fragment", rule, f"of shape {found.shape} on {found.grid}")
    _check_own(fragmenter, "fragment", found.array, affinities.array, None if mask is None else mask.array)
    return found


def agglomerate(agglomerator: Agglomerator, affinities: Affinities, fragments: Labels) -> MergeTree:
    """Merge fragments into a tree; see :meth:`segkit.protocols.Agglomerator.agglomerate`."""
    with blaming(agglomerator):
        found: object = agglomerator.agglomerate(affinities, fragments)
    return _checked_tree(agglomerator, "agglomerate", found, affinities.array, fragments.array)


def cluster(agglomerator: Any, graph: RegionAdjacencyGraph, *lists: object) -> MergeTree:
    """Merge the nodes of a graph; see :meth:`segkit.protocols.RagAgglomerator.cluster`."""
    with blaming(agglomerator):
        found: object = agglomerator.cluster(graph, *lists)
    tree = _checked_tree(agglomerator, "cluster", found)
    if len(tree.leaf_ids) != len(graph.node_ids):
        rule = f"a MergeTree whose leaves are the {len(graph.node_ids)} nodes of the graph"
        raise _wrong(agglomerator, "cluster", rule, f"one of {len(tree.leaf_ids)} leaves")
    return tree


def graph(
    agglomerator: Any, affinities: Affinities, fragments: Labels, inner: tuple[slice, slice, slice] | None = None
) -> RegionAdjacencyGraph:
    """Build the graph of a volume, or of a part; see :meth:`segkit.protocols.RagAgglomerator.graph`."""
    with blaming(agglomerator):
        found: object = agglomerator.graph(affinities, fragments, inner)
    if not isinstance(found, RegionAdjacencyGraph):
        raise _wrong(agglomerator, "graph", "a RegionAdjacencyGraph", found)
    return found


def fit(agglomerator: LearningAgglomerator, samples: Sequence[Sample]) -> Fitted:
    """Learn from samples; see :meth:`segkit.protocols.LearningAgglomerator.fit`."""
    with blaming(agglomerator):
        found: object = agglomerator.fit(samples)
    if not isinstance(found, Fitted) or not isinstance(found.model, str):
        raise _wrong(agglomerator, "fit", "a Fitted", found)
    return Fitted(found.model, _numbers(agglomerator, "fit", found.figures))


def edge_scores(agglomerator: Any, graph: RegionAdjacencyGraph, *lists: object) -> NDArray[np.float64]:
    """Score each edge of a graph; see :meth:`segkit.protocols.RagAgglomerator.scores`."""
    with blaming(agglomerator):
        found: object = agglomerator.scores(graph, *lists)
    if not isinstance(found, np.ndarray) or found.dtype != np.float64 or found.shape != (len(graph.edges),):
        raise _wrong(agglomerator, "scores", f"float64 of shape ({len(graph.edges)},)", found)
    return found


def score(metric: Metric, call: Callable[[], object]) -> dict[str, float]:
    """Compute the scores of a metric by `call`, which may score what was counted before.

    NaN is a score too: of what is not defined.
    """
    with blaming(metric):
        found = call()
    return _numbers(metric, "score", found)


def loss(function: Loss, prediction: Prediction) -> tuple[Any, dict[str, Any]]:
    """Compute a loss, and its parts; see :meth:`segkit.protocols.Loss.__call__`."""
    with blaming(function):
        found: object = function(prediction)
    rule = "a tensor of no axes, and a mapping of names to tensors"
    if not isinstance(found, tuple) or len(found) != 2 or not _is_tensor(found[0]):
        raise _wrong(function, "__call__", rule, found)
    value, parts = found
    if value.ndim or not isinstance(parts, Mapping) or not all(map(_is_tensor, parts.values())):
        raise _wrong(function, "__call__", rule, f"{_described(value)} and {_described(parts)}")
    return value, dict(parts)


def logits(model: Any, raw: Any, network: Callable[[Any], object] | None = None) -> Any:
    """Run a model, or `network`, which is the same in another form (compiled, say), on raw data (B, S, [Z,] Y, X)."""
    with blaming(model):
        found: Any = (network or model)(raw)
    if not _is_tensor(found):
        raise _wrong(model, "forward", "a tensor of logits", found)
    if found.ndim != raw.ndim or found.shape[0] != raw.shape[0]:
        rule = f"logits of {raw.ndim} axes for {raw.shape[0]} patches"
        raise _wrong(model, "forward", rule, f"a tensor of shape {tuple(found.shape)}")
    return found


@contextmanager
def blaming(component: object) -> Iterator[None]:
    """Turn what a plugin raises on its own account into a BrokenComponent that names it."""
    try:
        yield
    except (Exception, SystemExit) as error:
        made_wrong = isinstance(error, InvalidInput) and _in_a_container(error.__traceback__)
        if (isinstance(error, SegkitError) and not made_wrong) or out_of_memory(error):
            raise
        holder = _holder(component)
        if holder is None or holder.distribution == OWN:
            raise
        what = f"made what is no result ({error})" if made_wrong else f"raised {type(error).__name__}: {error}"
        next_step = f"report it to the authors of {holder.distribution} with what --debug shows"
        raise BrokenComponent(sentence(_named(holder), what, next_step=next_step)) from error


def _numbers(component: object, method: str, found: object) -> dict[str, float]:
    rule = "a mapping of names to numbers"
    if not isinstance(found, Mapping):
        raise _wrong(component, method, rule, found)
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Real):
            raise _wrong(component, method, rule, f"{name!r}: {_described(value)}")
    return dict(found)


def _checked_tree(agglomerator: object, method: str, found: object, *inputs: np.ndarray) -> MergeTree:
    if not isinstance(found, MergeTree):
        raise _wrong(agglomerator, method, "a MergeTree", found)
    try:
        found.check()
    except InvalidInput as error:
        raise _wrong(agglomerator, method, "a valid MergeTree", str(error)) from error
    heights = found.altitudes
    if len(heights) and (heights[0] < 0 or heights[-1] > 1):
        raise _wrong(agglomerator, method, "a MergeTree of altitudes in 0..1", f"{heights[0]:g}..{heights[-1]:g}")
    for array in (found.leaf_ids, found.parents, found.altitudes):
        _check_own(agglomerator, method, array, *inputs)
    return found


def _check_own(component: object, method: str, result: np.ndarray, *inputs: np.ndarray | None) -> None:
    """Raise BrokenComponent if a result lies in the memory of an input; bounds tell, for both are whole arrays."""
    if any(given is not None and np.may_share_memory(result, given) for given in inputs):
        raise _wrong(component, method, "memory of its own", "a view of its input")


def _wrong(component: object, method: str, rule: str, found: object) -> BrokenComponent:
    holder = _holder(component)
    next_step = f"report it to the authors of {holder.distribution}" if holder else None
    named = _named(holder) if holder else f"{type(component).__module__}.{type(component).__qualname__}"
    value = found if isinstance(found, str) else _described(found)
    return BrokenComponent(sentence(named, f"must return {rule} from {method}()", value, next_step))


def _described(value: object) -> str:
    """A value by its type, and what says more: ``a ndarray of int32 (3, 4, 5)``."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", "")
    name = type(value).__name__
    article = "an" if name[0].lower() in "aeiou" else "a"
    return f"{article} {name}" + (f" of {dtype} {tuple(shape)}".replace("  ", " ") if shape is not None else "")


def _is_tensor(value: object) -> bool:
    """Whether this is a tensor of torch, which need not be imported to know it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _named(holder: Component) -> str:
    return f"{holder.title} of {holder.distribution} {holder.version}"


def _holder(component: object) -> Component | None:
    """The declaration of the class of a component; None for a class that no distribution offers."""
    for declared in declarations()[0]:
        found: object = sys.modules.get(declared.module)
        for part in declared.target.partition(":")[2].split("."):
            found = getattr(found, part.strip(), None)
        if found is type(component):
            return declared
    return None


def _in_a_container(trace: TracebackType | None) -> bool:
    """Whether an error came from the making of a container: those that components are given were made before."""
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "__post_init__" and frame.f_globals.get("__name__", "").startswith("segkit.data."):
            return True
        trace = trace.tb_next
    return False
