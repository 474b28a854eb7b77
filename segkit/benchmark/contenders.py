"""Those that compete: components with their parameters, as a command line names them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segkit import io
from segkit.data import Affinities, Labels
from segkit.errors import InvalidParameter, sentence
from segkit.parameters import nearest, parse_assignments
from segkit.registry import load


@dataclass(frozen=True)
class Contender:
    """A component with its parameters."""

    label: str
    """What its row is called."""
    component: str
    """The name in the registry."""
    parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """A component on its inputs, as a fresh process is asked to measure it; every field can be written as JSON."""

    component: str
    parameters: dict[str, Any]
    inputs: dict[str, str]
    """Role ("affinities", "fragments", ...) -> address."""
    repeat: int
    neighborhood: list | None
    """Offsets of the affinities, where their file does not say them."""
    folder: str
    """Where results are left for the comparison."""

    def load(self, kind: str) -> Any:
        """Make the component."""
        return load(kind, self.component, **self.parameters)

    def affinities(self) -> Affinities:
        """Read the affinities."""
        return io.read_affinities(self.inputs["affinities"], neighborhood=self.neighborhood)

    def labels(self, role: str) -> Labels:
        """Read the labels of a role."""
        return io.read_labels(self.inputs[role], role=role)

    def result(self, name: str) -> Path:
        """Name a file in the folder of results."""
        return Path(self.folder) / name


def contenders(names: Iterable[str], assignments: Iterable[str] = ()) -> list[Contender]:
    """Read contenders from the words of a command line.

    A name is ``COMPONENT`` or ``LABEL=COMPONENT``, so that one component can run twice. An assignment ``name=value``
    is for all of them, ``LABEL.name=value`` for one.

    >>> for contender in contenders(["python", "maxima=python"], ["score=mean", "maxima.score=max"]):
    ...     print(contender.label, contender.component, contender.parameters)
    python python {'score': 'mean'}
    maxima python {'score': 'max'}
    """
    pairs = [(label, component or label) for label, _, component in (name.partition("=") for name in names)]
    for label, component in pairs:
        if not label:
            value = repr(f"={component}" if component else "")
            raise InvalidParameter(sentence("a component", "must look like NAME or LABEL=NAME", value))
    labels = [label for label, _ in pairs]
    for label in labels:
        if labels.count(label) > 1:
            next_step = f"call the second '{label}2={label}'"
            raise InvalidParameter(sentence("a component", "must be named once", repr(label), next_step))
    shared, own = _split(parse_assignments(assignments), labels)
    return [Contender(label, component, shared | own[label]) for label, component in pairs]


def _split(values: Mapping[str, object], labels: list[str]) -> tuple[dict, dict[str, dict]]:
    """Values for all, and values for each label."""
    shared: dict[str, object] = {}
    own: dict[str, dict[str, object]] = {label: {} for label in labels}
    for name, value in values.items():
        label, dot, parameter = name.rpartition(".")
        if dot and label not in own:
            guess = nearest(label, labels)
            next_step = f"did you mean {guess!r}?" if guess else f"they are {', '.join(labels)}"
            raise InvalidParameter(sentence("--set", "must name one of those that run", repr(label), next_step))
        (own[label] if dot else shared)[parameter] = value
    return shared, own
