"""The settings of training in words, read from their pydantic models; imports no torch."""

import json
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from segkit.parameters import type_name
from segkit.train.config import TrainConfig

TABLES = {"model_parameters": "model", "loss_parameters": "loss"}
"""Settings that are tables of parameters, and how `--set` calls them."""


@dataclass(frozen=True)
class DescribedSetting:
    """One setting of training, all in plain text."""

    name: str
    """As `--set` takes it: ``steps``, ``augmentation.elastic.sigma``, ``model.NAME``."""
    type: str
    """What values it takes, such as ``int >= 1``."""
    default: str
    """As `--set` takes it; "None" where it is not set, "" for tables of parameters."""
    description: str
    """What it does, in a sentence or a few."""


def described_settings() -> list[DescribedSetting]:
    """List every setting of training, those of nested tables included, in the order of :class:`TrainConfig`."""
    return list(_described(TrainConfig, ""))


def _described(settings: type[BaseModel], prefix: str) -> Iterator[DescribedSetting]:
    for name, field in settings.model_fields.items():
        table = _table(field.annotation)
        description = " ".join((field.description or "").split())
        if table is not None:
            yield from _described(table, f"{prefix}{name}.")
        elif typing.get_origin(field.annotation) is dict:
            yield DescribedSetting(f"{prefix}{TABLES.get(name, name)}.NAME", "any", "", description)
        else:
            yield DescribedSetting(prefix + name, _type(field), _as_value(field.default), description)


def _table(annotation: object) -> type[BaseModel] | None:
    """The model of a nested table, also of one that may be None."""
    parts = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)


def _type(field: FieldInfo) -> str:
    """Its type with its bounds; without None, which `--set` cannot say."""
    annotation = typing.Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return type_name(annotation).removesuffix(" | None")


def _as_value(value: object) -> str:
    return value if isinstance(value, str) else "None" if value is None else json.dumps(value)
