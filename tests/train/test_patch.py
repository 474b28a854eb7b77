import math

import pytest

from segkit.errors import InvalidParameter, InvalidShape
from segkit.train.patch import Patch, fit_patch


class Lattice:
    """Loses `loss` voxels an axis; outputs are multiples of `step`."""

    def __init__(self, ndim=3, sections=1, step=4, loss=6):
        self.ndim, self.sections, self.step, self.loss = ndim, sections, step, loss

    def input_shape(self, output):
        return tuple(math.ceil(size / self.step) * self.step + self.loss for size in output)

    def output_shape(self, needed):
        return tuple(size - self.loss for size in needed)


def test_input_follows_from_the_output():
    assert fit_patch(Lattice(), [4, 8, 8]) == Patch((4, 8, 8), (10, 14, 14), 3)
    assert fit_patch(Lattice(), [4, 8, 8]).before == (3, 3, 3)


@pytest.mark.parametrize("wanted", [[8, 12], [1, 8, 12]])
def test_2d_networks_have_one_section_out_and_several_in(wanted):
    patch = fit_patch(Lattice(ndim=2, sections=3), wanted)
    assert patch == Patch((1, 8, 12), (3, 14, 18), 2)
    assert patch.before == (1, 3, 3)


def test_an_invalid_size_names_its_neighbours():
    with pytest.raises(InvalidShape, match=r"not \[8, 9, 8\].*nearest.*\[8, 8, 8\] or \[8, 12, 8\]"):
        fit_patch(Lattice(), [8, 9, 8])
    with pytest.raises(InvalidShape, match=r"can give is \[4, 4, 4\]$"):
        fit_patch(Lattice(), [3, 4, 4])


def test_the_default_is_made_valid():
    assert fit_patch(Lattice(step=10), None).output == (60, 60, 60)


@pytest.mark.parametrize(("ndim", "wanted"), [(3, [8, 8]), (2, [2, 8, 8]), (2, [8])])
def test_a_wrong_number_of_sizes_is_refused(ndim, wanted):
    with pytest.raises(InvalidParameter, match="patch"):
        fit_patch(Lattice(ndim=ndim), wanted)
