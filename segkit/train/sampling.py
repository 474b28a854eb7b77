"""Where patches are cut: every place that holds one is as likely as every other, over all volumes."""

from collections.abc import Sequence

import numpy as np

from segkit.errors import InvalidInput, InvalidShape, sentence
from segkit.train.patch import Patch


def generator(seed: int, stream: int, k: int) -> np.random.Generator:
    """The random numbers of patch k: they depend on nothing that was drawn before."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, k])))


class PatchSampler:
    """Draws places for a patch from volumes, in proportion to the number of places that each has.

    A place is valid if the output lies inside the labels and the input inside the raw data.
    """

    def __init__(self, volumes: Sequence, patch: Patch, name: str = "training volume") -> None:
        if not volumes:
            raise InvalidInput(sentence(f"{name}s", "must be at least one"))
        ranges = [origins(volume, patch, called(volume, number, name)) for number, volume in enumerate(volumes)]
        self.low = np.array([low for low, _ in ranges])
        self.size = np.array([high - low for low, high in ranges])
        self.ends = np.cumsum(self.size.prod(axis=1))

    def draw(self, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """The number of a volume, and the voxel of its labels at which the output begins, int64 (3,)."""
        place = int(rng.integers(self.ends[-1]))
        number = int(np.searchsorted(self.ends, place, side="right"))
        within = place - (int(self.ends[number - 1]) if number else 0)
        return number, self.low[number] + np.unravel_index(within, self.size[number])


def called(volume, number: int, purpose: str = "training volume") -> str:
    """What messages call a volume: what it is for, and its name, or else its number among those."""
    return f"{purpose} {number if volume.name is None else volume.name}"


def origins(volume, patch: Patch, name: str) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last voxel of the labels at which the output of a patch may begin, int64 (3,) each."""
    before, position = np.array(patch.before), np.array(volume.position)
    output, needed = np.array(patch.output), np.array(patch.input)
    low = np.maximum(0, before - position)
    high = np.minimum(np.array(volume.labels.shape) - output, volume.raw.shape - needed + before - position) + 1
    if (high <= low).any():
        rule = f"must hold raw data of {patch.input} voxels (z, y, x) around labels of {patch.output}"
        value = f"raw of {volume.raw.shape} with labels of {volume.labels.shape} beginning at {volume.position}"
        next_step = "choose a smaller patch (patch=auto finds one), a network with less context (model.padding=same has"
        next_step += " none, where the network takes it), or a larger volume"
        raise InvalidShape(sentence(name, rule, value, next_step))
    return low, high
