"""Inputs of the benchmarks: python benchmarks/make_inputs.py OUT.zarr [--size 256] [--labels FILE].

Labels, affinities like a network's made of them, and three kinds of fragments: `fragments_ws`, the watershed on the
affinity graph (many; waterz' own gives the same but for ties), `fragments_xy` by the distance transform section by
section, `fragments_3d` by the distance transform in 3-D (few); and of `fragments_xy` the merge tree and a segmentation.

The labels are synthetic neurites, or those of FILE: the middle of them, or mirrored at their faces until they fill the
cube. So volumes of all sizes hold tissue of one kind.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np

from segkit import Labels, io
from segkit.data import NEAREST, Affinities
from segkit.infer.oracle import oracle_affinities
from segkit.registry import load
from segkit.segment import segment
from segkit.testing.phantoms import neurites
from segkit.threads import share

VOXELS_A_NEURITE = 25_000
BLOCK, MARGIN = 256, 8
"""Affinities are made block by block, with a margin that the blur does not reach across."""
FRAGMENTERS = {
    "ws": ("affinity-watershed", {"size_threshold": 0}),
    "xy": ("watershed", {"per_section": True}),
    "3d": ("watershed", {}),
}


def synthetic(size: int, seed: int = 1) -> Labels:
    """Neurites that fill a cube."""
    return neurites((size,) * 3, count=max(size**3 // VOXELS_A_NEURITE, 4), seed=seed).truth


def cube(labels: Labels, size: int) -> Labels:
    """The middle of `labels`, mirrored at their faces where they are too small; each piece is an object of its own.

    >>> from segkit import Grid
    >>> cube(Labels.convert([[[7, 0, 9, 8]]], Grid()), 2).array.tolist()
    [[[0, 1], [0, 1]], [[0, 1], [0, 1]]]
    """
    import cc3d

    if labels.shape == (size,) * 3:
        return labels
    spare = [max(length - size, 0) // 2 for length in labels.shape]
    array = np.where(labels.inside, labels.array, 0)[tuple(slice(start, start + size) for start in spare)]
    array = np.pad(array, [(0, size - length) for length in array.shape], mode="symmetric")
    return Labels(cc3d.connected_components(array, connectivity=6).astype(np.uint64), labels.grid)


def affinities_of(truth: Labels, block: int = BLOCK, seed: int = 1) -> Affinities:
    """Affinities with the faults of a network's, in blocks with a noise of their own, by all threads."""
    array = np.empty((3, *truth.shape), np.float32)
    corners = list(product(*(range(0, length, block) for length in truth.shape)))

    def fill(start: int, stop: int) -> None:
        for number in range(start, stop):
            inner = [slice(a, min(a + block, n)) for a, n in zip(corners[number], truth.shape, strict=True)]
            outer = [slice(max(each.start - MARGIN, 0), each.stop + MARGIN) for each in inner]
            made = oracle_affinities(Labels(truth.array[tuple(outer)], truth.grid), noise=0.1, seed=seed + number)
            kept = [slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True)]
            array[(slice(None), *inner)] = made.array[(slice(None), *kept)]

    share(fill, len(corners))
    return Affinities(array, NEAREST, truth.grid)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=128, help="edge of the cube, voxels")
    parser.add_argument("--labels", help="a file with labels, instead of synthetic ones")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    known = io.read_labels(arguments.labels) if arguments.labels else synthetic(arguments.size)
    truth = cube(known, arguments.size)
    affinities = affinities_of(truth)
    fragments = {
        kind: load("fragmenters", name, **parameters).fragment(affinities)
        for kind, (name, parameters) in FRAGMENTERS.items()
    }
    tree = load("agglomerators", "python").agglomerate(affinities, fragments["xy"])
    containers = {"affinities": affinities, "truth": truth, "merge_tree": tree}
    containers |= {"segmentation": segment(tree, fragments["xy"], 0.5)}
    containers |= {f"fragments:volumes/fragments_{kind}": labels for kind, labels in fragments.items()}
    io.write_all(arguments.out, containers)
    counts = ", ".join(f"{len(labels.ids())} {kind}" for kind, labels in fragments.items())
    print(f"{arguments.out}: {truth.shape} voxels, {len(truth.ids())} objects, fragments: {counts}")


if __name__ == "__main__":
    main()
