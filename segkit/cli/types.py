"""What the parameters of verbs are: addresses, runs, components, settings.

A type completes a value in the shell, and says whether the value names a file that the verb reads or writes. A recipe
knows by it what its stages need and make, and which components they name.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from segkit.cli.completion import (
    complete_address,
    complete_file,
    complete_recipe,
    complete_run,
    component_names,
    parameter_values,
    recipe_settings,
    training_settings,
)

SettingNames = Mapping[str, Sequence[str]]
"""Names that --set takes, each with its values where these are a few."""


class Value(click.types.StringParamType):
    """Text of a kind, which the help of an option calls by a word."""

    metavar: str | None = None

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        """Say what the help calls the value; arguments have names of their own."""
        return self.metavar if isinstance(param, click.Option) else None


class Number(click.FloatRange):
    """A finite number in a range, which that of click lets NaN pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuse what is not finite."""
        if not math.isfinite(float(click.FLOAT.convert(value, param, ctx))):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return super().convert(value, param, ctx)


class Text(Value):
    """Text that is completed by a function of what is typed; it may name a file that is read, or written."""

    def __init__(
        self,
        complete: Callable[[str], list[CompletionItem]],
        metavar: str | None = None,
        *,
        reads: bool = False,
        writes: bool = False,
        role: str | None = None,
        here: bool = False,
    ) -> None:
        """`here`: what is named lies on this machine."""
        self.complete, self.metavar = complete, metavar
        self.reads, self.writes, self.role, self.here = reads, writes, role, here

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take the file of its role from ``RAW,labels=LABELS,mask=MASK``; refuse URLs of what must lie `here`."""
        text = super().convert(value, param, ctx)
        if self.here and text.startswith("file://"):
            from segkit.io.remote import as_place

            return str(as_place(text))
        if self.here and re.match(r"\w+://", text):
            self.fail(f"must lie on this machine, not at {text!r}; name a path, and copy it there or back", param, ctx)
        if self.role is None or "=" not in text:
            return text
        from segkit.errors import SegkitError
        from segkit.io import part_for

        try:
            return part_for(text, self.role)
        except SegkitError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete what is typed."""
        return self.complete(incomplete)


ADDRESS = Text(complete_address, "ADDRESS", reads=True)
"""A volume or tree to read: PATH:DATASET[CROP]."""
RAW, TRUTH, MASK, AFFINITIES, FRAGMENTS, TREE = (
    Text(complete_address, "ADDRESS", reads=True, role=role)
    for role in ("raw", "truth", "mask", "affinities", "fragments", "merge_tree")
)
"""The same of one that plays this role."""
TARGET = Text(complete_address, "FILE", writes=True)
"""What a verb makes of it: a file, or a dataset in one."""
VOLUMES = Text(complete_address, "DATA", reads=True)
"""Raw data, labels and perhaps a mask to train on, in one file or as RAW,labels=LABELS,mask=MASK."""
RUN_FOLDER = Text(complete_run, "RUN", reads=True, here=True)
"""The folder of a training run."""
NEW_RUN = Text(complete_run, "RUN", writes=True, here=True)
"""The folder that a training run makes, or goes on in."""
SETTINGS_FILE = Text(complete_file, "F.toml", reads=True, here=True)
"""A file of settings."""
NEW_FILE = Text(complete_file, "FILE", writes=True, here=True)
"""A file of another kind, which a verb makes."""
FILE = Text(complete_file, here=True)
"""Any other file or folder."""
SKELETONS = Text(complete_file, "FILE", reads=True)
"""A file or folder of skeletons."""
CLUSTER = Text(complete_file)
"""What computes blocks: a word, a URL, or a file."""
RECIPE = Text(complete_recipe, here=True)
"""A recipe by name, or its file."""


class Bytes(click.ParamType):
    """A number of bytes, ``4GB``."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Refuses anything but a positive number with a unit of bytes, or without."""
        from segkit.memory import parse_bytes

        try:
            return parse_bytes(str(value))
        except ValueError:
            self.fail(f"must be a number of bytes above 0, as 4GB, 500MB or 2GiB, not {value!r}", param, ctx)


class ComponentName(Value):
    """The name of a component of a kind; with a label, LABEL=NAME."""

    metavar = "NAME"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the name, after the label if there is one."""
        label, equals, name = incomplete.rpartition("=")
        return component_names(self.kind, label + equals, name)


class LossSum(Value):
    """A loss, or a weighted sum of losses: mse+0.1*malis."""

    metavar = "LOSS"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the last term."""
        start = max(incomplete.rfind(separator) + 1 for separator in "+*")
        return component_names("losses", incomplete[:start], incomplete[start:])


class Assignment(Value):
    """NAME=VALUE, of the settings that `known` finds for what is chosen on the line."""

    metavar = "NAME=VALUE"

    def __init__(self, known: Callable[[click.Context], SettingNames]) -> None:
        self.known = known

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete NAME=, and values where there are a few."""
        from segkit.errors import SegkitError

        name, equals, value = incomplete.partition("=")
        try:
            known = self.known(ctx)
        except SegkitError:
            return []
        if equals:
            return [CompletionItem(f"{name}={each}") for each in known.get(name, ()) if each.startswith(value)]
        return [CompletionItem(f"{each}=") for each in known if each.startswith(name)]


def component_settings(ctx: click.Context) -> dict[str, Sequence[str]]:
    """Find the parameters of the components that a line names, or of those that are taken where it names none."""
    found: dict[str, Sequence[str]] = {}
    for param, kind in components(ctx.command.params):
        for name in texts(ctx.params.get(param.name or "") or param.default):
            found |= parameter_values(kind, name.rpartition("=")[2])
    return found


def components(params: Iterable[click.Parameter]) -> list[tuple[click.Parameter, str]]:
    """Find the parameters that name components, each with their kind."""
    return [(param, param.type.kind) for param in params if isinstance(param.type, ComponentName)]


def texts(value: object) -> tuple[str, ...]:
    """Make a tuple of one text or of several; of nothing, an empty one."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, tuple | list) else ()


COMPONENT_SETTING = Assignment(component_settings)
TRAINING_SETTING = Assignment(lambda ctx: training_settings(ctx.params))
RECIPE_SETTING = Assignment(lambda ctx: recipe_settings(ctx.params.get("recipe") or next(iter(ctx.args), "")))
"""A --set without a value leaves the recipe among the arguments that are left over."""
