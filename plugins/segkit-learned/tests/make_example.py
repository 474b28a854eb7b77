"""Learn the small model that `segkit plugins check segkit-learned` is tried with, from synthetic neurites.

python plugins/segkit-learned/tests/make_example.py plugins/segkit-learned/src/segkit_learned/example.json
"""

import sys
from pathlib import Path

import segkit
from segkit.infer import oracle_affinities
from segkit.protocols import Sample
from segkit.testing import neurites

from segkit_learned.agglomerator import Learned

LONG = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (-3, 0, 0), (0, -3, 0), (0, 0, -3))


def sample(seed: int, neighborhood=LONG[:3], size: int = 64) -> Sample:
    """Neurites of 40 x 8 x 4 nm, affinities with the faults of a network's, and their fragments."""
    shape = (size // 4, size, size)
    truth = neurites(shape, count=size // 3, seed=seed, voxel_size=(40.0, 8.0, 4.0)).truth
    affinities = oracle_affinities(truth, neighborhood, noise=0.35, seed=seed)
    fragments = segkit.load("fragmenters", "watershed", threshold=0.6, seed_distance=2)
    return Sample(affinities, fragments.fragment(affinities), truth)


if __name__ == "__main__":
    fitted = Learned(trees=20, leaves=5, learning_rate=0.3, forests=1).fit([sample(seed) for seed in (1, 2, 3)])
    Path(sys.argv[1]).write_text(fitted.model, encoding="utf-8")
    print({name: round(value, 3) for name, value in fitted.figures.items()})
