"""The built-in components pass the suites that plugins are held to."""

import pytest

from segkit.registry import components
from segkit.testing import (
    AgglomeratorConformance,
    FragmenterConformance,
    LossConformance,
    MetricConformance,
    ModelConformance,
)
from segkit.testing.conformance._base import Conformance


class TestReference(AgglomeratorConformance):
    name = "reference"


class TestPython(AgglomeratorConformance):
    name = "python"
    parameters = (
        {},
        {"score": "max"},
        {"score": "median"},
        {"score": "quantile", "quantile": 0.85, "histogram_init": "max"},
        {"mutex_above": 1.0},
    )


class TestPythonWithRepulsion(AgglomeratorConformance):
    name = "python"
    parameters = ({"long_range": "both"}, {"long_range": "against", "mutex_above": 0.9})
    merges_all = False


class TestPythonWithALargestSize(AgglomeratorConformance):
    name = "python"
    parameters = ({"max_size": 60},)
    merges_all = False


class TestHigra(AgglomeratorConformance):
    name = "higra"
    parameters = ({}, {"linkage": "single"}, {"linkage": "complete"}, {"linkage": "exponential"})


class TestGpu(AgglomeratorConformance):
    name = "gpu"
    parameters = ({"device": "cpu"}, {"device": "cpu", "score": "max"})


class TestThreshold(FragmenterConformance):
    name = "threshold"
    parameters = ({}, {"per_section": True, "min_size": 3, "statistic": "min", "threshold": 0.1})

    @pytest.fixture(autouse=True)
    def claims(self, values):
        self.equivariant = not values


class TestWatershed(FragmenterConformance):
    name = "watershed"
    parameters = ({}, {"per_section": True, "fill": False}, {"anisotropic": True, "statistic": "min"})


class TestAffinityWatershed(FragmenterConformance):
    name = "affinity-watershed"
    parameters = ({}, {"size_threshold": 0}, {"dust": 5, "merge_threshold": 0.9})
    equivariant = True


class TestHigraWatershed(FragmenterConformance):
    name = "higra-watershed"
    parameters = ({}, {"hierarchy": "none"}, {"hierarchy": "dynamics"})


class TestRand(MetricConformance):
    name = "rand"


class TestVOI(MetricConformance):
    name = "voi"


class TestCremi(MetricConformance):
    name = "cremi"
    parameters = ({}, {"ignore_background": False})


class TestNerl(MetricConformance):
    """Its skeletons need objects of some length, and turn out otherwise where a volume is turned."""

    name = "nerl"
    parameters = ({"dust": 0, "const": 1.0}, {"dust": 0, "const": 1.0, "tolerances": [0, 3]})
    test_finite_scores = test_perfect = test_one_voxel = test_orientation = None

    @pytest.fixture(autouse=True)
    def kimimaro(self):
        pytest.importorskip("kimimaro", reason="needs kimimaro")


class TestMSE(LossConformance):
    name = "mse"
    additive_parts = True


class TestBCE(LossConformance):
    name = "bce"
    parameters = ({}, {"balanced": False})
    additive_parts = True


class TestMalis(LossConformance):
    name = "malis"
    parameters = ({}, {"balanced": False})
    additive_parts = True


class TestConstrainedMalis(LossConformance):
    name = "constrained-malis"
    additive_parts = True


class TestMalisHigra(LossConformance):
    name = "malis-higra"
    parameters = ({}, {"constrained": False})
    additive_parts = True


class TestFCN(ModelConformance):
    name = "fcn"


class TestUNet2D(ModelConformance):
    name = "unet2d"
    parameters = ({"features": 2, "levels": 3},)


class TestUNet2DPadded(ModelConformance):
    name = "unet2d-padded"
    parameters = ({"features": 2, "levels": 2},)


class TestUNet2D3Sections(ModelConformance):
    name = "unet2d-3sections"
    parameters = ({"features": 2, "levels": 2},)


class TestUNet3D(ModelConformance):
    name = "unet3d"
    parameters = (
        {"features": 2, "growth": 2, "pooling": [[1, 2, 2], [1, 3, 3]]},
        {"features": 2, "growth": 2, "pooling": [[2, 2, 2]], "upsampling": "constant", "normalisation": "batch"},
        {"features": 2, "growth": 2, "pooling": [[1, 2, 2]], "padding": "same"},
        {"features": 2, "growth": 2, "pooling": "auto", "voxel_size": [8, 4, 4], "levels": 3, "padding": "same"},
    )


class TestUNet3DNormalisedByTile(ModelConformance):
    name = "unet3d"
    parameters = ({"features": 4, "growth": 2, "pooling": [[1, 2, 2]], "normalisation": "group"},)
    shift_equivariant = False


def test_every_built_in_component_has_a_suite():
    suites = [value for value in globals().values() if isinstance(value, type) and issubclass(value, Conformance)]
    tried = {(suite.kind, suite.name) for suite in suites if suite.name}
    kinds = {suite.kind for suite in suites if suite.name}
    declared = {
        (each.kind, each.name) for kind in kinds for each in components(kind) if each.distribution == "segkit-em"
    }
    assert len(kinds) == 5 and tried == declared
