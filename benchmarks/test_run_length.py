"""The trap of expected run lengths shows in a volume made by hand."""

import numpy as np
import pytest
import run_length

from segkit import Grid, Labels, io
from segkit.evaluate.nerl import Nerl


def test_merging_rightly_may_lower_the_strict_score(tmp_path):
    pytest.importorskip("kimimaro", reason="needs kimimaro")
    truth = np.zeros((5, 11, 60), np.uint64)
    truth[1:4, 1:4], truth[1:4, 6:9] = 1, 2
    fragments = truth * np.uint64(10) + (np.arange(60) // 20).astype(np.uint64)
    fragments[1:4, 6:9, :3] = 11  # a bit of the second neuron is in a fragment of the first
    fragments[truth == 0] = 0
    for role, array in (("truth", truth), ("fragments", fragments)):
        io.write(tmp_path / f"{role}.h5", Labels(array, Grid((10, 10, 10))), role)
    metric = Nerl(dust=20, const=20.0, tolerances=(0, 5))
    found, skeletons, nodes = run_length.bounds(f"{tmp_path}/truth.h5", f"{tmp_path}/fragments.h5", metric)
    assert skeletons == 2 and nodes > 100
    assert found.oracle["nerl_5"] > 0.9 > 0.4 > found.fragments["nerl_5"] > found.fragments["nerl_0"]
    assert found.oracle["nerl_0"] < 0.6
