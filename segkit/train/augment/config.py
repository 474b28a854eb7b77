"""The settings of augmentation. All lengths are voxels of the volume, all triples z, y, x."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segkit.parameters import as_numbers

Share = Annotated[float, Field(ge=0, le=1)]
Length = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Spacing = Annotated[float, Field(ge=2, allow_inf_nan=False)]
Angle = Annotated[float, Field(ge=0, le=180)]
Part = Annotated[float, Field(ge=0, le=0.5)]


class StrictSettings(BaseModel):
    """Knows its fields and what their docstrings say, takes no others, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, values: object) -> object:
        """Take 48,48,48 for [48,48,48], as parameters of components do."""
        if not isinstance(values, Mapping):
            return values
        types = {name: field.annotation for name, field in cls.model_fields.items()}
        return {name: as_numbers(value, types.get(name)) for name, value in values.items()}


class AffineSettings(StrictSettings):
    """Rotation, scaling and shearing about the centre of the patch; given as augmentation.affine.NAME."""

    probability: Share = 0.0
    """Share of the patches that are changed so."""
    rotation: tuple[Angle, Angle, Angle] = (15.0, 15.0, 15.0)
    """Largest angle about z, y, x, degrees, either way. Where voxels are anisotropic, and with 2-D networks, about z
    only."""
    scale: tuple[Part, Part, Part] = (0.0, 0.1, 0.1)
    """Objects grow or shrink along z, y, x by up to this share."""
    shear: Part = 0.0
    """Largest shear, the tangent of its angle, of y and x along each other; of all axes where they are rotated so."""


class ElasticSettings(StrictSettings):
    """A smooth random deformation, a cubic B-spline; given as augmentation.elastic.NAME."""

    probability: Share = 0.0
    """Share of the patches that are deformed."""
    spacing: tuple[Spacing, Spacing, Spacing] = (16.0, 32.0, 32.0)
    """Distance of control points along z, y, x, in voxels."""
    magnitude: tuple[Length, Length, Length] = (0.0, 6.0, 6.0)
    """Control points move along z, y, x by up to this, in voxels, either way; less than half the spacing, or the
    deformation would fold. Not along z with 2-D networks."""

    @model_validator(mode="after")
    def _does_not_fold(self) -> "ElasticSettings":
        for axis, spacing, magnitude in zip("zyx", self.spacing, self.magnitude, strict=True):
            if 2 * magnitude >= spacing:
                rule = f"along {axis} must be less than half the spacing of control points, {spacing / 2:g}"
                raise ValueError(f"magnitude {rule}, or objects would fold over each other")
        return self


class IntensitySettings(StrictSettings):
    """Contrast and brightness of all voxels together; given as augmentation.intensity.NAME."""

    scale: Share = 0.1
    """Contrast is multiplied by up to 1 plus or minus this."""
    shift: Share = 0.1
    """Brightness, in -1..1, is moved by up to plus or minus this."""
    gamma: Length = 0.0
    """Intensities, in 0..1, are raised to a power between exp(-gamma) and exp(gamma)."""


class NoiseSettings(StrictSettings):
    """Gaussian noise; given as augmentation.noise.NAME."""

    probability: Share = 0.0
    """Share of the patches that get noise."""
    sigma: Length = 0.1
    """Largest standard deviation, where intensities are -1..1; each patch has one between 0 and this."""


class BlurSettings(StrictSettings):
    """Gaussian blur of all voxels; given as augmentation.blur.NAME."""

    probability: Share = 0.0
    """Share of the patches that are blurred."""
    sigma: tuple[Length, Length, Length] = (0.0, 1.0, 1.0)
    """Largest standard deviation along z, y, x, in voxels; each patch has one between 0 and this along each axis. With
    2-D networks not along z."""


class SectionSettings(StrictSettings):
    """What serial sections suffer, along z; given as augmentation.sections.NAME.

    A share is the probability of each section, counted one by one; the intensities of a section change, its labels do
    not, but for `slip` and `shift`, which labels follow: the target is what is seen.
    """

    missing: Share = 0.0
    """Nothing is left of a section but `fill`. Networks that see a single section lose none."""
    fill: Share = 0.0
    """Intensity of missing sections, 0 = black, 1 = white."""
    dark: Share = 0.0
    """All intensities of a section move towards black."""
    darkness: Share = 0.7
    """Largest share of the way to black that a dark section moves."""
    contrast: Share = 0.0
    """All intensities of a section move towards their mean."""
    contrast_loss: Share = 0.9
    """Largest share of the way to their mean that the intensities of a section move."""
    blur: Share = 0.0
    """A round spot of a section is blurred, a quarter to the whole of its shorter side wide."""
    blur_sigma: Length = 3.0
    """Largest standard deviation in the middle of the spot, in voxels."""
    slip: Share = 0.0
    """A section is displaced, raw and labels together; the next lies right again."""
    shift: Share = 0.0
    """All sections from this one on are displaced together."""
    displacement: tuple[Length, Length] = (8.0, 8.0)
    """Largest displacement along y, x, in voxels, either way, for `slip` and `shift`."""


class AugmentationSettings(StrictSettings):
    """Random changes of training patches, each drawn anew for every patch; given as augmentation.NAME."""

    flips: tuple[Share, Share, Share] = (0.5, 0.5, 0.5)
    """Share of the patches that are mirrored along z, y, x; none where a network sees further to one side."""
    transposes: bool = True
    """Exchange y and x in half of the patches, if these and voxels are square; z, y and x where both are cubes."""
    affine: AffineSettings = AffineSettings()
    """Rotation, scaling, shearing."""
    elastic: ElasticSettings = ElasticSettings()
    """Smooth deformation."""
    intensity: IntensitySettings = IntensitySettings()
    """Contrast and brightness."""
    noise: NoiseSettings = NoiseSettings()
    """Gaussian noise."""
    blur: BlurSettings = BlurSettings()
    """Gaussian blur."""
    sections: SectionSettings = SectionSettings()
    """What serial sections suffer."""


def setting_names(settings: type[BaseModel], prefix: str = "augmentation") -> list[str]:
    """The full names of all settings, those of nested tables included."""
    names = []
    for name, field in settings.model_fields.items():
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        names += setting_names(field.annotation, f"{prefix}.{name}") if nested else [f"{prefix}.{name}"]
    return names
