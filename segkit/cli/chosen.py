"""The threshold that a training run chose on its validation volumes, on its way from file to file.

`infer` notes it beside the affinities; `fragment` notes how the fragments were made. `agglomerate` takes it, and hands
it on to the merge tree, where fragments and agglomerator are those that it was chosen with; else the tree says why it
did not. `segment` finds either there.
"""

from collections.abc import Mapping, Sequence
from math import isclose
from typing import Any

import click

from segkit.cli.common import note, parse_thresholds
from segkit.errors import InvalidParameter, sentence

RUN = "run"
"""The word that stands for it after --threshold."""


class ThresholdType(click.ParamType):
    """A number, or the word "run"."""

    name = "number|run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """The number, or the word."""
        try:
            return value if value == RUN else float(value)
        except ValueError:
            self.fail(f"must be a number or {RUN!r}, not {value!r}; repeat the option for several", param, ctx)


class Choice:
    """The threshold of a run, if there is one for what is at hand, or why there is none."""

    def __init__(self, chosen: Mapping[str, Any] | None, problem: str | None = None) -> None:
        self.chosen = chosen if problem is None else None
        self.known, self.problem = chosen, problem
        """`known` may have been chosen for other components, as `problem` says."""

    @property
    def notes(self) -> dict[str, object]:
        """What a file made with it should say: the choice, or why there is none."""
        if self.chosen:
            return {"chosen": self.chosen}
        return {"not_chosen": self._not_taken(self.known) if self.known else self.problem}

    def thresholds(self, given: tuple[float | str, ...], required: bool = False) -> list[float]:
        """Those of --threshold, "run" replaced; if none is given, that of the run, if there is one.

        Raises InvalidParameter if there is none, and "run" is given, or nothing although a threshold is `required`.
        """
        if self.chosen and (RUN in given or not given):
            given = (*(each for each in given if each != RUN), self.chosen["threshold"])
            note(f"threshold {self.chosen['threshold']:g} is that of {_where(self.chosen)}")
        elif RUN in given:
            raise InvalidParameter(sentence("--threshold run", f"cannot be had: {self.problem}", None, "give a number"))
        elif required and not given:
            raise InvalidParameter(
                sentence("--threshold", f"must be given: {self.problem}", None, "give a number in 0..1")
            )
        elif self.known and not given:
            note(self._not_taken(self.known))
        return parse_thresholds(given)

    def _not_taken(self, known: Mapping[str, Any]) -> str:
        return f"threshold {known['threshold']:g} of {_where(known)} is not taken: {self.problem}"


def chosen_by(run: str, extra: Mapping[str, Any], unlike: str = "") -> dict[str, object]:
    """Notes for affinities, from what was saved with the network; nothing if that is not the best of its run.

    `unlike` says how the affinities were made otherwise than those of the validation volumes.
    """
    found = extra.get("validation")
    if not isinstance(found, Mapping):
        return {}
    if unlike:
        note(f"the threshold of {run} was chosen {unlike}: another may be better here")
    return {"chosen": {"run": run, **found} | ({"unlike": unlike} if unlike else {})}


def unlike(extra: Mapping[str, Any], augment: str, seen: Sequence[float], made: Sequence[float]) -> str:
    """How validation differed from an inference, in which the network saw voxels of size `seen` and gave `made`.

    >>> unlike({"voxel_size": [8, 8, 8]}, "flips", (8, 8, 8), (4, 4, 4))
    'without --augment flips, on voxels of 8,8,8 nm instead of 4,4,4'
    """
    found = [f"without --augment {augment}"] if augment != "none" else []
    size: Any = extra.get("voxel_size")
    for other in (seen, made) if size else ():
        if not all(isclose(a, b, rel_tol=1e-5) for a, b in zip(size, other, strict=True)):
            found.append(f"on voxels of {_lengths(size)} nm instead of {_lengths(other)}")
            break
    return ", ".join(found)


def _lengths(size: Sequence[float]) -> str:
    return ",".join(f"{length:g}" for length in size)


def choice_for(affinities: Mapping, fragments: Mapping, agglomerator: Mapping[str, object]) -> Choice:
    """What the notes of affinities and fragments say for an agglomerator, as the registry's settings describe it."""
    chosen = affinities.get("chosen")
    if not chosen:
        return Choice(None, "the affinities are not of a network that a run chose on validation volumes")
    if "fragmenter" not in fragments:
        return Choice(chosen, "the fragments do not say how they were made")
    for kind, made in (("fragmenter", fragments["fragmenter"]), ("agglomerator", agglomerator)):
        difference = _difference(chosen[kind], made)
        if difference:
            return Choice(chosen, f"it was chosen with {difference} of the {kind}")
    return Choice(chosen)


def choice_of(tree: Mapping[str, Any]) -> Choice:
    """What the notes of a merge tree say."""
    if tree.get("chosen"):
        return Choice(tree["chosen"])
    unknown = "the merge tree has none, being of no run, or of other components than the run was scored with"
    return Choice(None, str(tree.get("not_chosen", unknown)))


def _difference(chosen: Mapping, made: Mapping) -> str | None:
    """Where two components differ, as the first one has it.

    >>> _difference({"name": "a", "parameters": {"x": 1}}, {"name": "a", "parameters": {"x": 2}})
    'x = 1, not 2,'
    """
    if chosen["name"] != made["name"]:
        return f"{chosen['name']!r}, not {made['name']!r}, as name"
    first, second = chosen["parameters"], made["parameters"]
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            return f"{name} = {first.get(name)!r}, not {second.get(name)!r},"
    return None


def _where(chosen: Mapping[str, object]) -> str:
    score = f"CREMI score {chosen['cremi_score']:.3f} on its validation volumes"
    unlike = f", chosen {chosen['unlike']}" if chosen.get("unlike") else ""
    return f"the run {str(chosen['run'])!r} at step {chosen['step']} ({score}){unlike}"
