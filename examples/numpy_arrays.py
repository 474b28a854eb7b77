"""From NumPy arrays of another tool to a segmentation as a NumPy array, without files.

The tool is made up, but typical: axes x, y, z with channels last, 8 bits, 255 = split, voxels of 4 x 4 x 12 nm. Nothing
of that can be seen from the array, so it is stated, once; from then on the containers carry it.
"""

import numpy as np

from segkit import Affinities, Grid, Labels, load
from segkit.evaluate import evaluate
from segkit.infer import oracle_affinities
from segkit.segment import segment
from segkit.testing import neurites

VOXELS = Grid(voxel_size=(12, 4, 4))  # nm, always z, y, x
NEIGHBORHOOD = [[0, 0, -1], [0, -1, 0], [-1, 0, 0]]  # of channels 0, 1, 2: the voxel before along x, y, z


def foreign_arrays() -> tuple[np.ndarray, np.ndarray]:
    """What the tool gives: split probabilities uint8 (x, y, z, channel), and labels uint32 (x, y, z)."""
    truth = neurites((16, 96, 96), count=12, seed=3, voxel_size=VOXELS.voxel_size).truth
    same = oracle_affinities(truth, NEIGHBORHOOD, seed=3).array
    return np.rint((1 - same) * 255).astype(np.uint8).T, truth.array.astype(np.uint32).T


split, labels = foreign_arrays()
print(f"theirs: {split.dtype} {split.shape}, labels {labels.dtype} {labels.shape}")

# Axis order: (x, y, z, c) -> (c, z, y, x). Polarity: 1 = same object. Scale: `convert` divides 8 bits by 255, and
# writes 0 where an edge leaves the volume.
same = 255 - split.transpose(3, 2, 1, 0)
affinities = Affinities.convert(same, NEIGHBORHOOD, VOXELS)
truth = Labels.convert(labels.transpose(2, 1, 0), VOXELS)

fragments = load("fragmenters", "watershed", seed_distance=7).fragment(affinities)
tree = load("agglomerators", "python", score="mean").agglomerate(affinities, fragments)
segmentation = segment(tree, fragments, threshold=0.6)
score = evaluate(segmentation, truth, {"cremi": load("metrics", "cremi")})["cremi_score"]
print(f"{len(fragments.ids())} fragments -> {len(segmentation.ids())} segments, CREMI score {score:.3f}")

# Back: x, y, z and 32 bits. A container's array is a read-only view; astype makes a copy that may be written to.
assert segmentation.array.max() < 2**32
result = segmentation.array.transpose(2, 1, 0).astype(np.uint32, order="C")
print(f"back: {result.dtype} {result.shape}, writable {result.flags.writeable}")
