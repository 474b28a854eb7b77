"""What was learned, as a text file: JSON that names its format, its statistics and a checksum."""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from segkit.data import Affinities, RegionAdjacencyGraph
from segkit.errors import InvalidInput, InvalidParameter, MissingFile, StorageError, sentence

from segkit_learned.features import NAMES, describe
from segkit_learned.forest import MOST_NODES, Forest

FORMAT, VERSION = "segkit-learned", 1
MOST_BYTES = 2**27


class _Content(BaseModel):
    """What a file holds beside its checksum."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    format: str
    version: int
    features: list[str] = Field(max_length=1000)
    voxel_size: list[float] = Field(min_length=3, max_length=3)
    offsets: list[list[int]] = Field(min_length=1, max_length=1000)
    calibration: list[float] = Field(min_length=2, max_length=2)
    figures: dict[str, float] = Field(max_length=100)
    trees: dict[str, list[float]] = Field(max_length=10)


@dataclass(frozen=True, eq=False)
class Model:
    """A forest, how its sums become probabilities, and of what affinities it speaks."""

    forest: Forest
    calibration: tuple[float, float]
    """The probability that a contact joins is 1 / (1 + exp(-(slope * sum + shift))): J. Platt 1999."""
    voxel_size: tuple[float, float, float]
    """nm."""
    offsets: tuple[tuple[int, int, int], ...]
    """Of the affinities that it was learned from, each towards the voxel that is first in order, sorted."""
    figures: dict[str, float]
    """What learning came to: "threshold", say."""

    def scores(self, graph: RegionAdjacencyGraph) -> np.ndarray:
        """Score contacts by what `contact_statistics` gives of them, float64 (E,): 0 = surely the same neuron."""
        if not len(graph.edges):
            return np.empty(0)
        slope, shift = self.calibration
        sums = self.forest.sums(describe(graph, np.array(self.voxel_size)))
        return 1 / (1 + np.exp(np.clip(slope * sums + shift, -500, 500)))

    def check(self, affinities: Affinities) -> None:
        """Raise InvalidInput for affinities of other voxels or offsets: the statistics would mean something else.

        They may have some of the offsets only: a part of a graph is made of one channel, say.
        """
        size = affinities.grid.voxel_size
        if not np.allclose(size, self.voxel_size, rtol=0.02):
            rule = f"must be {self.voxel_size} nm, those that the model was learned from"
            raise InvalidInput(sentence("voxels of the affinities", rule, size, "learn a model of such volumes"))
        self.check_offsets(affinities.neighborhood, some=True)

    def check_offsets(self, neighborhood: np.ndarray, *, some: bool = False) -> None:
        """Raise InvalidInput unless the offsets, int64 (C, 3), are those learned from: all, or at least `some`."""
        found = sorted_offsets(neighborhood)
        if not set(found) <= set(self.offsets) or (found != self.offsets and not some):
            rule = f"must be {list(self.offsets)}, those that the model was learned from"
            raise InvalidInput(
                sentence("offsets of the affinities", rule, list(found), "learn a model of such volumes")
            )

    def text(self) -> str:
        """The content of a file."""
        trees = {each.name: getattr(self.forest, each.name).tolist() for each in fields(Forest)}
        content = {
            "format": FORMAT,
            "version": VERSION,
            "features": list(NAMES),
            "voxel_size": list(map(float, self.voxel_size)),
            "offsets": [list(offset) for offset in self.offsets],
            "calibration": list(map(float, self.calibration)),
            "figures": self.figures,
            "trees": trees,
        }
        return json.dumps({**content, "sha256": _digest(content)}) + "\n"


def offsets_of(affinities: Affinities) -> tuple[tuple[int, int, int], ...]:
    """The offsets as `Model.offsets` has them: one edge can be stored at either end."""
    return sorted_offsets(affinities.neighborhood)


def sorted_offsets(neighborhood: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """The same of int64 (C, 3)."""
    found = (tuple(map(int, offset)) for offset in neighborhood)
    return tuple(sorted(min((z, y, x), (-z, -y, -x)) for z, y, x in found))


def read_model(path: Path) -> Model:
    """Read a file. Nothing in it is executed, and nothing larger than 128 MiB is read.

    Raises MissingFile, StorageError, or InvalidInput for what is no model, a damaged one, or one of another version.
    """
    try:
        with open(path, "rb") as file:
            found = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise MissingFile(sentence("model", "must be a file", str(path), "`segkit fit` makes one")) from None
    except OSError as error:
        raise StorageError(f"model {path} could not be read: {error}") from error
    try:
        if len(found) > MOST_BYTES:
            raise InvalidInput(sentence("it", f"must not be larger than {MOST_BYTES} bytes"))
        return parse_model(found.decode())
    except (InvalidInput, ValueError, RecursionError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        rule = f"must be a model of `segkit fit --backend learned` ({reason})"
        raise InvalidParameter(sentence(f"model {path}", rule, next_step="learn it again")) from error


def parse_model(text: str) -> Model:
    """The model of a text; raises InvalidInput or ValueError."""
    content: Any = json.loads(text)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InvalidInput(sentence("format", f"must be {FORMAT!r}"))
    if content.get("version") != VERSION:
        raise InvalidInput(sentence("version", f"must be {VERSION}", repr(content.get("version"))[:20]))
    stated = content.pop("sha256", None)
    if stated != _digest(content):
        raise InvalidInput(sentence("sha256", "must be that of the content, which was changed or damaged"))
    try:
        parsed = _Content.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from None
    if parsed.features != list(NAMES):
        raise InvalidInput(sentence("features", "must be those of this version of segkit-learned"))
    if parsed.trees.keys() != {each.name for each in fields(Forest)} or len(parsed.trees["roots"]) > MOST_NODES:
        raise InvalidInput(sentence("trees", "must have roots, feature, threshold, left, right and value"))
    floats = {"threshold", "value"}
    arrays = {k: np.array(v, np.float64 if k in floats else np.int64) for k, v in parsed.trees.items()}
    forest = Forest(**arrays)
    forest.check(len(NAMES))
    offsets = tuple((z, y, x) for z, y, x in parsed.offsets)
    z, y, x = parsed.voxel_size
    slope, shift = parsed.calibration
    return Model(forest, (slope, shift), (z, y, x), offsets, parsed.figures)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
