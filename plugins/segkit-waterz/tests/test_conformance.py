"""The components pass the suites of segkit."""

from segkit.testing import AgglomeratorConformance, FragmenterConformance


class TestWaterz(AgglomeratorConformance):
    name = "waterz"
    parameters = ({}, {"score": "median"}, {"score": "quantile", "quantile": 0.85, "histogram_init": "max"})


class TestWaterzInBins(AgglomeratorConformance):
    name = "waterz"
    parameters = ({"queue_bins": 256},)
    ties_by_id = True


class TestWaterzOrder(AgglomeratorConformance):
    name = "waterz-order"
    parameters = (
        {},
        {"score": "max"},
        {"score": "median"},
        {"score": "quantile", "quantile": 0.85, "histogram_init": "max", "queue_bins": 0},
    )


class TestWaterzWatershed(FragmenterConformance):
    name = "waterz"
    equivariant = True
