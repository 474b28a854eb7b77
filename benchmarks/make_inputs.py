"""Inputs of the benchmarks: python benchmarks/make_inputs.py OUT.h5 [--size 256 | --affinities FILE.h5].

Synthetic neurites, affinities like a network's, and three kinds of fragments: `fragments_ws` by waterz' own watershed
(many), `fragments_xy` by the distance transform section by section, `fragments_3d` by the distance transform in 3-D
(few); and a segmentation. With --affinities, truth and affinities are those of FILE.
"""

import argparse
from pathlib import Path

from segkit import io
from segkit.errors import UnknownComponent
from segkit.infer.oracle import oracle_affinities
from segkit.registry import load
from segkit.segment import segment
from segkit.testing.phantoms import neurites

VOXELS_A_NEURITE = 25_000


def synthetic(size: int, seed: int = 1):
    """Truth and affinities of a cube."""
    truth = neurites((size,) * 3, count=max(size**3 // VOXELS_A_NEURITE, 4), seed=seed).truth
    return truth, oracle_affinities(truth, noise=0.1, seed=seed)


def fragments_of(affinities) -> dict:
    """Kind -> fragments; without the first kind where segkit-waterz is not installed."""
    kinds = {
        "xy": load("fragmenters", "watershed", per_section=True),
        "3d": load("fragmenters", "watershed"),
    }
    try:
        kinds = {"ws": load("fragmenters", "waterz")} | kinds
    except UnknownComponent as error:
        print(f"fragments_ws are left out: {error}")
    return {kind: fragmenter.fragment(affinities) for kind, fragmenter in kinds.items()}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=128, help="edge of the cube, voxels")
    parser.add_argument("--affinities", type=Path, help="a file with affinities and truth, instead of synthetic ones")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if arguments.affinities:
        truth = io.read_labels(arguments.affinities, role="truth")
        affinities = io.read_affinities(arguments.affinities)
    else:
        truth, affinities = synthetic(arguments.size)
    fragments = fragments_of(affinities)
    tree = load("agglomerators", "python").agglomerate(affinities, fragments["3d"])
    containers = {"affinities": affinities, "truth": truth, "segmentation": segment(tree, fragments["3d"], 0.5)}
    containers |= {f"fragments:volumes/fragments_{kind}": labels for kind, labels in fragments.items()}
    io.write_all(arguments.out, containers)
    counts = ", ".join(f"{len(labels.ids())} {kind}" for kind, labels in fragments.items())
    print(f"{arguments.out}: {truth.shape} voxels, {len(truth.ids())} objects, fragments: {counts}")


if __name__ == "__main__":
    main()
