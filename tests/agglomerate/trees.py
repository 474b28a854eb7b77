"""What the tests of several agglomerators ask of two merge trees."""

import numpy as np


def assert_same_tree(one, other, what=""):
    """Fail with `what` unless both trees have the same leaves, parents and altitudes, bit for bit."""
    np.testing.assert_array_equal(one.leaf_ids, other.leaf_ids, what)
    np.testing.assert_array_equal(one.parents, other.parents, what)
    np.testing.assert_array_equal(one.altitudes, other.altitudes, what)
