"""What will happen to a patch: drawn from its own random numbers, small, and independent of where it is carried out."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from segkit.data import Grid
from segkit.train.augment.config import AugmentationSettings, SectionSettings
from segkit.train.augment.symmetry import IDENTITY, Symmetry, draw_symmetry, exchangeable, mirrorable
from segkit.train.augment.warp import Warp, draw_warp
from segkit.train.patch import Patch, Shape

Kind = Literal["blur", "contrast", "dark", "missing"]


@dataclass(frozen=True)
class Defect:
    """What befell one section."""

    kind: Kind
    section: int
    """Number of the section in the input of the network, before its axes are mirrored or exchanged."""
    amount: float
    """Share of the contrast or brightness that is lost, standard deviation of the blur, or what fills the section."""
    spot: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Centre along y, x and radius, in voxels, of what is blurred."""


@dataclass(frozen=True, eq=False)
class Plan:
    """All that will be done to a patch; without arguments beyond the second it is cut and nothing else."""

    patch: Patch
    rim: Shape
    """How far around the output labels are needed, in voxels, z, y, x."""
    warp: Warp | None = None
    """How it is deformed; None = not."""
    symmetry: Symmetry = IDENTITY
    """How axes are exchanged and mirrored, after all else."""
    blur: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Standard deviation along z, y, x, in voxels."""
    defects: tuple[Defect, ...] = ()
    """What befell sections."""
    gamma: float = 1.0
    """The power of intensities in 0..1."""
    scale: float = 1.0
    """The factor of contrast."""
    shift: float = 0.0
    """What is added to brightness in -1..1."""
    noise: float = 0.0
    """Standard deviation of the noise."""
    seed: int = 0
    """Of the noise."""

    @property
    def raw_box(self) -> tuple[Shape, Shape]:
        """First voxel and shape of the raw data of the undeformed patch; (0, 0, 0) is the first of the output."""
        z, y, x = self.patch.before
        return (-z, -y, -x), self.patch.input

    @property
    def label_box(self) -> tuple[Shape, Shape]:
        """The same of the labels."""
        z, y, x = self.rim
        depth, height, width = self.patch.output
        return (-z, -y, -x), (depth + 2 * z, height + 2 * y, width + 2 * x)

    def needs(self, box: tuple[Shape, Shape]) -> tuple[np.ndarray, np.ndarray]:
        """First and one past the last voxel to be cut for a box, int64 (3,) each."""
        return (np.array(box[0]), np.add(*box)) if self.warp is None else self.warp.bounds(*box)

    def words(self) -> str:
        """What was drawn, for people."""
        order, mirrored = self.symmetry
        said = [f"axes {''.join('zyx'[axis] for axis in order)}"] if order != (0, 1, 2) else []
        said += [f"mirrored {''.join('zyx'[axis] for axis in mirrored)}"] if mirrored else []
        if self.warp is not None:
            said += ["affine"] if not np.array_equal(self.warp.matrix, np.eye(3)) else []
            said += ["elastic"] if self.warp.control is not None else []
            said += ["misaligned"] if self.warp.moves is not None else []
        said += ["blurred"] if any(self.blur) else []
        said += [f"noise {self.noise:.2f}"] if self.noise else []
        for kind in dict.fromkeys(defect.kind for defect in self.defects):
            sections = [str(defect.section) for defect in self.defects if defect.kind == kind]
            said.append(f"{kind} section{'s' * (len(sections) > 1)} {' '.join(sections)}")
        return ", ".join(said) or "as it is"


def draw_plan(
    rng: np.random.Generator, settings: AugmentationSettings, patch: Patch, grid: Grid, rim: Shape = (0, 0, 0)
) -> Plan:
    """A random plan for a patch of a volume with the voxels of `grid`."""
    axes = exchangeable(patch, grid) if settings.transposes else ()
    symmetry = draw_symmetry(rng, np.multiply(settings.flips, mirrorable(patch)), axes)
    scale, shift, power = rng.uniform(-1, 1, 3)
    box = _hull(Plan(patch, rim))
    warp = draw_warp(rng, settings, patch, grid, *box)
    blurred, blur = rng.random() < settings.blur.probability, rng.random(3) * settings.blur.sigma
    noisy, noise, seed = rng.random() < settings.noise.probability, rng.random(), int(rng.integers(2**63))
    blur[0] *= patch.ndim == 3
    return Plan(
        patch,
        rim,
        warp=warp,
        symmetry=symmetry,
        blur=tuple((blur * blurred).tolist()),
        defects=_draw_defects(rng, settings.sections, patch),
        gamma=float(np.exp(power * settings.intensity.gamma)),
        scale=float(1 + scale * settings.intensity.scale),
        shift=float(shift * settings.intensity.shift),
        noise=float(noise * settings.noise.sigma * noisy),
        seed=seed,
    )


def _hull(plan: Plan) -> tuple[Shape, Shape]:
    """The smallest box around those of raw data and labels."""
    lows, shapes = np.array([plan.raw_box, plan.label_box]).transpose(1, 0, 2)
    low, high = lows.min(axis=0), (lows + shapes).max(axis=0)
    return tuple(low.tolist()), tuple((high - low).tolist())


def _draw_defects(rng: np.random.Generator, settings: SectionSettings, patch: Patch) -> tuple[Defect, ...]:
    sections, *plane = patch.input
    missing = settings.missing if sections > 1 else 0.0  # a network that sees one section learns nothing from none
    kinds: dict[Kind, tuple[float, float | None]] = {
        "blur": (settings.blur, settings.blur_sigma),
        "contrast": (settings.contrast, settings.contrast_loss),
        "dark": (settings.dark, settings.darkness),
        "missing": (missing, None),
    }
    found = []
    for kind, (share, most) in kinds.items():
        chosen, amounts, spots = rng.random(sections) < share, rng.random(sections), rng.random((sections, 3))
        spots = spots * [plane[0] - 1, plane[1] - 1, 3 / 8 * min(plane)] + [0, 0, min(plane) / 8]
        for section in np.flatnonzero(chosen):
            amount = settings.fill if most is None else float(amounts[section] * most)
            found.append(Defect(kind, int(section), amount, tuple(spots[section].tolist())))
    return tuple(found)
