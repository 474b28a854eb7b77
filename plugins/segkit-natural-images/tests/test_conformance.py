"""Both metrics pass the suite of segkit."""

from segkit.testing import MetricConformance


class TestProbabilisticRand(MetricConformance):
    """Pairs of four voxels that agree, of six."""

    name = "probabilistic-rand"
    symmetric = ("probabilistic_rand",)
    known = (
        ([9, 9, 4, 4], [5, 5, 5, 5], {"probabilistic_rand": 2 / 6}),
        ([1, 2, 1, 2], [7, 7, 6, 6], {"probabilistic_rand": 2 / 6}),
        ([3, 3, 3, 3], [8, 8, 2, 2], {"probabilistic_rand": 2 / 6}),
        ([1, 1, 5, 2], [4, 4, 9, 2**64 - 3], {"probabilistic_rand": 1.0}),
    )


class TestSegmentationCovering(MetricConformance):
    """The best overlap of each object."""

    name = "segmentation-covering"
    symmetric = ()
    known = (
        ([9, 9, 4, 4], [5, 5, 5, 5], {"segmentation_covering": 1 / 2}),
        ([1, 2, 1, 2], [7, 7, 6, 6], {"segmentation_covering": 1 / 3}),
        ([1, 1, 1, 2], [5, 5, 6, 6], {"segmentation_covering": 7 / 12}),
        ([1, 1, 5, 2], [4, 4, 9, 2**64 - 3], {"segmentation_covering": 1.0}),
    )
