"""``--voxel-size``, and the files that must say theirs."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from segkit.errors import InvalidInput, sentence

if TYPE_CHECKING:
    from segkit.io.lookup import AnyAddress


class VoxelSizeType(click.ParamType):
    """Three lengths, ``40,4,4``."""

    name = "Z,Y,X"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """The lengths. Refuses anything but three positive numbers."""
        if isinstance(value, list | tuple):
            return [float(part) for part in value]
        try:
            lengths = [float(part) for part in value.split(",")]
        except ValueError:
            lengths = []
        if len(lengths) != 3 or not all(0 < length < float("inf") for length in lengths):
            self.fail(f"must be three lengths in nm, as 40,4,4, not {value!r}", param, ctx)
        return lengths


def check_stated(address: "AnyAddress", role: str, why: str) -> None:
    """Raise InvalidInput if the object at `address` does not say its voxel size."""
    from segkit import io

    if not io.states_voxel_size(address, role):
        address = io.parse_address(str(address))
        stack = io.holds_one(address)  # one volume without a name
        place = io.Address(address.path, None if stack else address.at(role))
        rule = f"must say its voxel size for {why}"
        next_step = f"`segkit convert {place} OUT --kind {role} --voxel-size Z Y X` (nm) writes a file that does"
        raise InvalidInput(sentence(str(place), rule, next_step=next_step))


def check_all_stated(texts: Iterable[str], raw_dataset: str | None, labels_dataset: str | None, why: str) -> None:
    """The same for raw data and labels of all that is trained on."""
    from segkit.cli.runs import places_of

    for text in texts:
        places = places_of(text, raw_dataset, labels_dataset)
        check_stated(replace(places.raw, crop=None), "raw", why)
        for place in places.labels:
            check_stated(replace(place, crop=None), "truth", why)
