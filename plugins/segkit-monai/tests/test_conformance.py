"""All components pass the suites of segkit."""

from segkit.testing import LossConformance, ModelConformance

SMALL = {"features": [4, 8, 8], "strides": [[1, 2, 2], [2, 2, 2]]}
KERNELS = [[1, 3, 3], [3, 3, 3], [3, 3, 3]]


class TestMonaiUNet(ModelConformance):
    name = "monai-unet"
    parameters = (SMALL, {**SMALL, "normalisation": "batch"}, {**SMALL, "normalisation": "none", "residual_units": 0})


class TestMonaiDynUNet(ModelConformance):
    name = "monai-dynunet"
    parameters = (
        {**SMALL, "kernels": KERNELS, "normalisation": "batch"},
        {**SMALL, "kernels": KERNELS, "residual": True},
    )


class TestMonaiSegResNet(ModelConformance):
    name = "monai-segresnet"
    parameters = (
        {"features": 4, "blocks_down": [1, 1], "blocks_up": [1]},
        {"features": 4, "blocks_down": [1, 1, 1], "blocks_up": [1, 1], "normalisation": "batch"},
        {"features": 4, "blocks_down": [1, 1], "blocks_up": [1], "normalisation": "batch", "upsampling": "learned"},
    )


class TestMonaiMedNeXt(ModelConformance):
    name = "monai-mednext"
    parameters = (
        {"features": 4, "blocks": [1, 1], "expansion": [2, 2]},
        {"features": 2, "blocks": [2, 1, 1], "expansion": [2, 3, 1], "kernel": 5},
    )


class TestMonaiDice(LossConformance):
    name = "monai-dice"
    parameters = ({}, {"of": "boundaries", "squared": True})


class TestMonaiTversky(LossConformance):
    name = "monai-tversky"
    parameters = ({}, {"of": "boundaries"})


class TestMonaiFocal(LossConformance):
    name = "monai-focal"
    parameters = ({}, {"gamma": 0.5, "alpha": 0.25})
