"""The trap of expected run lengths: python benchmarks/run_length.py FILE.h5 [--fragments DATASET] [--crop 110:150].

FILE.h5 holds volumes/labels/neuron_ids, as fib25_train.h5 does. Prints the table of docs/explanation/scores.md: NERL of
the fragments, and of the fragments merged by the oracle, on skeletons that are made of the truth.
"""

import argparse

import numpy as np

from segkit import MergeTree, io
from segkit.evaluate.nerl import Nerl
from segkit.evaluate.run_length import placed
from segkit.evaluate.run_length_sweep import RunLengthSweep, sweep_run_lengths


def bounds(truth: str, fragments: str, metric: Nerl) -> tuple[RunLengthSweep, int, int]:
    """Score fragments and oracle; return numbers of skeletons and nodes too."""
    objects, labels = io.read_labels(truth, role="truth"), io.read_labels(fragments, role="fragments")
    skeletons, voxels = placed(metric.skeletons(objects), labels.grid, labels.shape)
    unmerged = MergeTree(labels.ids(), np.arange(len(labels.ids())), [])
    found = sweep_run_lengths(unmerged, skeletons, labels.array[tuple(voxels.T)], metric.tolerances)
    return found, len(skeletons.skeleton_ids), len(skeletons.nodes)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--fragments", default="volumes/labels/neuroproof_fragments")
    parser.add_argument("--crop", default="110:150")
    args = parser.parse_args()
    metric = Nerl(dust=500, const=100)
    addresses = [f"{args.file}:{name}[{args.crop}]" for name in ("volumes/labels/neuron_ids", args.fragments)]
    found, skeletons, nodes = bounds(addresses[0], addresses[1], metric)
    print(f"{skeletons} skeletons of {nodes} nodes")
    print("| | " + " | ".join(f"`nerl_{t}`" for t in metric.tolerances) + " |")
    for what, scores in (("fragments", found.fragments), ("oracle", found.oracle)):
        print(f"| {what} | " + " | ".join(f"{scores[f'nerl_{t}']:.3f}" for t in metric.tolerances) + " |")


if __name__ == "__main__":
    main()
