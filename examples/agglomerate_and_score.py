"""Two agglomerators head to head on the same fragments, and a threshold chosen on one volume and tried on another."""

from segkit import load
from segkit.evaluate import evaluate, sweep
from segkit.infer import oracle_affinities
from segkit.segment import segment
from segkit.testing import neurites

AGGLOMERATORS = {
    "mean": load("agglomerators", "python", score="mean"),
    "quantile": load("agglomerators", "python", score="quantile", quantile=0.75),
}
fragmenter = load("fragmenters", "watershed", seed_distance=5)


def made(seed: int):
    """Affinities with the faults of a network's, fragments, and the truth of a synthetic volume."""
    phantom = neurites((32, 96, 96), count=20, seed=seed)
    affinities = oracle_affinities(phantom.truth, noise=0.15, seed=seed)
    return affinities, fragmenter.fragment(affinities), phantom.truth


validation, test = made(seed=1), made(seed=2)
for name, agglomerator in AGGLOMERATORS.items():
    affinities, fragments, truth = validation
    scores = sweep(agglomerator.agglomerate(affinities, fragments), fragments, truth)
    best = scores.best("cremi_score")
    before, limit = scores.fragments["cremi_score"], scores.oracle["cremi_score"]
    print(f"{name}: validation: fragments {before:.3f}, best possible {limit:.3f}, ", end="")
    print(f"{best['cremi_score']:.3f} at threshold {best['threshold']:g}")

    # A threshold is chosen on one volume and reported on another.
    affinities, fragments, truth = test
    tree = agglomerator.agglomerate(affinities, fragments)
    segmentation = segment(tree, fragments, best["threshold"])
    found = evaluate(segmentation, truth, {"cremi": load("metrics", "cremi")})
    split, merge = found["voi_split"], found["voi_merge"]
    print(f"{name}: test: CREMI score {found['cremi_score']:.3f}, VOI split {split:.3f}, merge {merge:.3f}")
