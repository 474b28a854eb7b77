"""What a process is asked to measure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from segkit.errors import InvalidParameter, sentence
from segkit.parameters import nearest, parse_assignments


@dataclass(frozen=True)
class Contender:
    """A component with its parameters."""

    label: str
    """What its row is called."""
    component: str
    """The name in the registry."""
    parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One contender on one input, as a worker reads it from its folder."""

    verb: str
    """"agglomerate", "fragment", "evaluate" or "loss"."""
    contender: Contender
    inputs: Mapping[str, str]
    """Role ("affinities", "fragments", ...) -> address."""
    thresholds: tuple[float, ...] = ()
    repeat: int = 3
    neighborhood: list | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else the verb wants to know."""

    def save(self, folder: Path) -> None:
        """Write it to `folder`."""
        (folder / "job.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> "Job":
        """Read what :meth:`save` wrote."""
        values = json.loads((folder / "job.json").read_text())
        contender, thresholds = Contender(**values.pop("contender")), tuple(values.pop("thresholds"))
        return cls(contender=contender, thresholds=thresholds, **values)


def contenders(names: Iterable[str], assignments: Iterable[str] = ()) -> list[Contender]:
    """Contenders from the words of a command line.

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
