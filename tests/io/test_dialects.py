"""What files of other tools state of axes, voxel size and place, in every dialect that is known."""

import json
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from segkit import Grid, io
from segkit.convert import convert
from segkit.errors import InvalidInput, SegkitWarning
from segkit.io.dialects import read_placement
from segkit.io.ome import image_of, place_of_scale
from segkit.io.placement import NANOMETERS, axis_letters, nanometers
from segkit.io.schemas import parse_xml
from tests.io.dialect_files import ARRAY, OFFSET, PLACED, VOXEL, WRITERS

GOLDEN = Path(__file__).parent / "golden" / "dialects"
ADDRESSES = json.loads((GOLDEN / "addresses.json").read_text())


def check(folder: Path, name: str, address: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = io.read_volume(f"{folder}/{address}")
        crop = io.read_volume(f"{folder}/{address}[1:2,1:,:3]")
    np.testing.assert_array_equal(found.array, ARRAY)
    np.testing.assert_array_equal(crop.array, ARRAY[1:2, 1:, :3])
    np.testing.assert_allclose(found.grid.voxel_size, VOXEL, rtol=1e-6)
    np.testing.assert_allclose(found.grid.offset, OFFSET if name in PLACED else (0, 0, 0), rtol=1e-6)
    assert found.grid.unit == "nm"


@pytest.mark.parametrize("name", WRITERS)
def test_files_that_were_made_once(name):
    check(GOLDEN, name, ADDRESSES[name])


@pytest.mark.parametrize("name", WRITERS)
def test_files_of_the_library_that_is_installed(tmp_path, name):
    try:
        address = WRITERS[name](tmp_path)
    except ImportError as error:
        pytest.skip(f"needs the library of this dialect ({error.name})")
    check(tmp_path, name, address)


def test_levels_of_big_data_viewer():
    found = io.read_volume(f"{GOLDEN}/bdv.h5:t00000/s00/1/cells")
    np.testing.assert_allclose(found.grid.voxel_size, (40, 16, 8))


@pytest.mark.parametrize(
    ("size", "factors", "message"),
    [
        ("a 8 40", [1.0, 1, 1], "voxelSize.size.0 must be a valid number"),
        ("4 40", [1.0, 1, 1], "voxelSize.size must be"),
        ("4 8 40", [1.0, 1], "voxelSize.resolutions must be"),
        ("4 8 40", [b"a", b"b", b"c"], "voxelSize.resolutions.0 must be a valid number"),
    ],
)
def test_sizes_of_big_data_viewer_that_are_none(tmp_path, size, factors, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["s00/resolutions"], file["t00000/s00/0/cells"] = np.array([factors]), ARRAY
    setup = f"<ViewSetup><id>0</id><voxelSize><unit>nm</unit><size>{size}</size></voxelSize></ViewSetup>"
    (tmp_path / "a.xml").write_text(f"<SpimData>{setup}</SpimData>")
    with pytest.raises(InvalidInput, match=message):
        io.read_volume(f"{tmp_path}/a.h5:t00000/s00/0/cells")


def test_an_xml_file_of_big_data_viewer_in_the_encoding_that_it_states(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["s00/resolutions"], file["t00000/s00/0/cells"] = np.ones((1, 3)), ARRAY
    setup = "<ViewSetup><id>0</id><voxelSize><unit>µm</unit><size>0.004 0.008 0.04</size></voxelSize></ViewSetup>"
    text = f"<?xml version='1.0' encoding='ISO-8859-1'?><SpimData>{setup}</SpimData>"
    (tmp_path / "a.xml").write_bytes(text.encode("latin-1"))
    assert io.read_volume(f"{tmp_path}/a.h5:t00000/s00/0/cells").grid.same_voxel_size(Grid(VOXEL))
    (tmp_path / "a.xml").write_text(text.replace("ISO-8859-1", "no-such"))
    with pytest.raises(InvalidInput, match=r"a\.xml must be valid \(.*encoding"):
        io.read_volume(f"{tmp_path}/a.h5:t00000/s00/0/cells")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_in_any_encoding(encoding):
    text = f"<?xml version='1.0' encoding='{encoding}'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"
    with pytest.raises(InvalidInput, match="it defines entities"):
        parse_xml(text.encode(encoding), "a.xml")


def pyramid(path: Path, first: float, steps: list[tuple[float, float | None]]) -> Path:
    """OME-Zarr whose levels have the scales and, if stated, the translations of `steps`."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    levels = []
    for number, (scale, place) in enumerate(steps):
        group.create_array(f"s{number}", data=ARRAY)
        transformations = [{"type": "scale", "scale": [scale] * 3}]
        if place is not None:
            transformations.append({"type": "translation", "translation": [place] * 3})
        levels.append({"path": f"s{number}", "coordinateTransformations": transformations})
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]
    return path


@pytest.mark.parametrize(
    ("steps", "offsets"),
    [
        ([(10, None), (20, 5), (40, 15)], [0, 0, 0]),  # means of 2 x 2 x 2 voxels, places of their centres
        ([(10, 100), (20, 105)], [100, 100]),
        ([(10, None), (20, None)], [0, -5]),  # every second voxel: the first one is where it was, and twice as large
    ],
)
def test_levels_of_a_pyramid_lie_as_the_specification_says(tmp_path, steps, offsets):
    path = pyramid(tmp_path / "a.zarr", 10, steps)
    for number, ((scale, _), offset) in enumerate(zip(steps, offsets, strict=True)):
        assert io.read_volume(f"{path}:s{number}").grid == Grid((scale,) * 3, (offset,) * 3)
    assert io.read_volume(path).grid == Grid((10,) * 3, (offsets[0],) * 3)


def ome_06(path: Path, steps: list[dict]) -> Path:
    group = zarr.open_group(str(path), mode="w")
    group.create_array("0", data=ARRAY.transpose(2, 0, 1))
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "xzy"]
    image = {
        "coordinateSystems": [{"name": "physical", "axes": axes}],
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
        "coordinateTransformations": [{"type": "rotation", "input": "physical", "output": "atlas"}],
    }
    group.attrs["ome"] = {"version": "0.6", "multiscales": [image]}
    return path


@pytest.mark.parametrize("nested", [True, False])
def test_coordinate_systems(tmp_path, nested):
    steps = [
        {"type": "scale", "scale": [0.004, 0.04, 0.008]},
        {"type": "translation", "translation": [0.008, 0.4, 0.08]},
    ]
    if nested:
        steps = [{"type": "sequence", "input": "0", "output": "physical", "transformations": steps}]
    found = io.read_volume(ome_06(tmp_path / "a.zarr", steps))
    np.testing.assert_array_equal(found.array, ARRAY)
    np.testing.assert_allclose(found.grid.voxel_size, VOXEL)
    np.testing.assert_allclose(found.grid.offset, OFFSET)


@pytest.mark.parametrize(
    "step",
    [
        {"type": "rotation", "rotation": [[0, 1, 0], [1, 0, 0], [0, 0, 1]]},
        {"type": "affine", "affine": [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]},
        {"type": "scale"},
        {"type": "scale", "scale": [1, 2]},
    ],
)
def test_transformations_that_are_no_scale_are_refused(tmp_path, step):
    with pytest.raises(InvalidInput, match="coordinateTransformations"):
        io.read_volume(ome_06(tmp_path / "a.zarr", [step]))


def test_an_affine_map_along_the_axes_is_followed(tmp_path):
    step = {"type": "affine", "affine": [[0.004, 0, 0, 0.008], [0, 0.04, 0, 0.4], [0, 0, 0.008, 0.08]]}
    found = io.read_volume(ome_06(tmp_path / "a.zarr", [step]))
    np.testing.assert_allclose((found.grid.voxel_size, found.grid.offset), (VOXEL, OFFSET))


@pytest.mark.parametrize("unit", [None, "", " ", "pixel", "Voxels"])
def test_a_size_without_a_unit_is_doubted(unit):
    found = read_placement({"axis_names": ["z", "y", "x"], "voxel_size": VOXEL, "units": [unit] * 3}, 3)
    assert found.voxel_size == VOXEL and not found.certain and "taken to be nanometers" in found.doubts[0]


@pytest.mark.parametrize("unit", ["nm", "Nanometer", "NANOMETERS", " nanometre "])
def test_spellings_of_a_unit(unit):
    assert nanometers(unit) == 1


def test_units_of_ome_and_their_sizes():
    assert (NANOMETERS["angstrom"], NANOMETERS["micrometer"], NANOMETERS["inch"]) == (0.1, 1000, 25.4e6)
    assert nanometers("µm") == nanometers("\u03bcm") == nanometers("micron") == 1000


def test_what_is_no_unit_of_length_can_only_be_corrected():
    found = read_placement({"resolution": VOXEL, "unit": "furlong"}, 3)
    with pytest.raises(InvalidInput, match=r"unit must be a unit of length.*furlong.*--voxel-size"):
        found.grid()


@given(st.permutations("zyx"), st.sampled_from(["axes", "axis_names"]), st.booleans())
def test_numbers_go_with_the_axes_beside_them(order, attribute, upper):
    """The same volume stated in any order of axes lies at the same place."""
    at = ["zyx".index(axis) for axis in order]
    size = "resolution" if attribute == "axes" else "voxel_size"
    stated = {attribute: [axis.upper() if upper else axis for axis in order], "units": ["nm"] * 3}
    stated |= {size: [VOXEL[i] for i in at], "offset": [OFFSET[i] for i in at]}
    found = read_placement(stated, 3)
    assert (found.axes, found.voxel_size, found.offset) == ("".join(order), VOXEL, OFFSET)


@given(st.permutations("zyx"))
def test_what_segkit_wrote_is_z_y_x_whatever_the_axes(order):
    stated = {"axes": "".join(order), "resolution": VOXEL, "offset": OFFSET, "unit": "nm"}
    found = read_placement(stated, 3, ours=True)
    assert (found.axes, found.voxel_size, found.offset) == ("".join(order), VOXEL, OFFSET)


@pytest.mark.parametrize("output", ["physical", {"name": "physical"}])
def test_the_axes_of_an_array_are_those_its_transformation_leads_to(output):
    systems = [{"name": "world", "axes": [{"name": axis, "unit": "micrometer"} for axis in "xyz"]}]
    systems += [{"name": "physical", "axes": [{"name": axis, "unit": "nanometer"} for axis in "zyx"]}]
    steps = [{"type": "scale", "scale": list(VOXEL), "input": "0", "output": output}]
    stated = {"coordinateSystems": systems, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    image = image_of({"multiscales": [stated]})
    found = place_of_scale(image, image.datasets[0], 3)
    assert (found.axes, found.voxel_size) == ("zyx", VOXEL)


def test_axes_of_an_image_may_have_long_names():
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in ("width", "Height", "depth")]
    steps = [{"type": "scale", "scale": VOXEL[::-1]}]
    stated = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    image = image_of({"multiscales": [stated]})
    found = place_of_scale(image, image.datasets[0], 3)
    assert (found.axes, found.voxel_size) == ("xyz", VOXEL)


def test_a_size_beside_axes_of_another_tool_is_doubted():
    found = read_placement({"resolution": VOXEL}, 3, names={"dimension_names": ["x", "y", "z"]})
    assert found.voxel_size == VOXEL and "taken as z, y, x" in found.doubts[0]
    assert not read_placement({"resolution": VOXEL}, 3, names={"dimension_names": ["z", "y", "x"]}).doubts
    assert not read_placement({"resolution": [8, 8, 8]}, 3, names={"dimension_names": ["x", "y", "z"]}).doubts


@pytest.mark.parametrize(
    "stated",
    [
        {"axes": "x y z"},
        {"axes": ["xyz"]},
        {"axes": "(x, y, z)"},
        {"axes": [{"name": axis, "type": "space"} for axis in "xyz"]},
        {"axis_order": "xyz"},
        {"dims": ["X", "Y", "Z"]},
    ],
)
def test_axes_are_followed_however_they_are_written(stated):
    assert read_placement(stated, 3).axes == "xyz"


def test_axes_of_another_number_than_the_array_has():
    with pytest.raises(InvalidInput, match="axes must be 4, as many as the array has, not x, y, z"):
        read_placement({"axes": "xyz"}, 4)
    assert read_placement({"axes": "zyx"}, 4).axes is None


@pytest.mark.parametrize("units", [{"unit": ["um", "nm", "nm"]}, {"units": "um, nm, nm"}])
def test_units_an_axis(units):
    assert read_placement({"resolution": [0.04, 8, 4]} | units, 3).voxel_size == (40, 8, 4)


def coordinates_along(y: np.ndarray, units: str | None, **attributes):
    """What is read of an array whose coordinates along y are `y`, and 0, 1, 2 along the others."""

    def along(axis):
        return (y if axis == "y" else np.arange(3)), {"units": units}

    return read_placement(attributes, 3, names={"dimension_names": list("zyx")}, coordinates=along)


def test_coordinates_that_decrease_are_refused():
    with pytest.raises(InvalidInput, match="the coordinates along y must increase evenly"):
        coordinates_along(np.arange(3)[::-1], "nm")


def test_coordinates_that_count_voxels_say_nothing_of_their_size():
    assert coordinates_along(np.arange(3), None, resolution=VOXEL).voxel_size == VOXEL
    assert coordinates_along(np.arange(3), None).voxel_size is None
    assert coordinates_along(np.arange(3), "nm").voxel_size == (1, 1, 1)


def test_statements_that_contradict_each_other():
    with pytest.raises(InvalidInput, match=r"must agree, not x, y, z \(axes\) and z, y, x \(dimension_names\)"):
        read_placement({"axes": "xyz"}, 3, names={"dimension_names": ["z", "y", "x"]})
    found = read_placement({"resolution": VOXEL, "element_size_um": [0.03, 0.008, 0.004]}, 3)
    assert found.voxel_size == VOXEL and "the former is followed" in found.doubts[0]


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"resolution": "4,4,40"}, "resolution must be a valid list, not '4,4,40'"),
        ({"resolution": [4, 4]}, "resolution must be 3 numbers, z, y, x"),
        ({"resolution": [4, 4, "wide"]}, "resolution.2 must be a valid number"),
        ({"voxel_size": [4, None, 4]}, "voxel_size.1 must be a valid number"),
        ({"resolution": [4, 4, 4], "offset": [1]}, "offset must have as many numbers"),
        ({"pixelResolution": {"dimensions": [4, 4]}}, "pixelResolution"),
        ({"transform": {"scale": [1, 1, 1]}}, "transform.axes must be stated"),
        ({"axistags": "{"}, "axistags"),
        ({"units": ["nm", None, "nm"], "voxel_size": [1, 1, 1], "axis_names": list("zyx")}, "for all axes or for none"),
    ],
)
def test_metadata_of_the_wrong_type_name_the_field(stated, message):
    with pytest.raises(InvalidInput, match=message):
        read_placement(stated, 3).grid()


def test_names_of_axes():
    assert axis_letters(["dim_0", "dim_1", "dim_2"]) is None
    assert axis_letters(["Depth", "Height", "Width"]) == "zyx"
    assert axis_letters(["c^", "z", "y", "x"]) == "czyx"
    assert axis_letters(["b", "z", "y", "x"]) == "?zyx"


@pytest.mark.parametrize(("pick", "index"), [("c=0", 0), ("c=1,z=1:2", 1)])
def test_one_channel_is_picked(tmp_path, pick, index):
    both = np.stack([ARRAY, ARRAY + 100])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=both).attrs.update({"axes": "czyx", "resolution": [1, *VOXEL]})
    with pytest.raises(InvalidInput, match=r"a\.h5:raw: the image has 2 channels; pick one as ADDRESS\[c=0\]"):
        io.read_volume(f"{tmp_path}/a.h5:raw")
    found = io.read_volume(f"{tmp_path}/a.h5:raw[{pick}]")
    np.testing.assert_array_equal(found.array, both[index][1:2] if "z" in pick else both[index])
    assert found.grid.voxel_size == VOXEL
    with pytest.raises(InvalidInput, match="c must be an index of 2 channels, not 2"):
        io.read_volume(f"{tmp_path}/a.h5:raw[c=2]")
    with pytest.raises(InvalidInput, match="must include t"):
        io.read_volume(f"{tmp_path}/a.h5:raw[t=0,c=0]")


def test_axes_that_nobody_states_are_said_by_the_address(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=ARRAY.transpose(2, 1, 0)[..., np.newaxis])
    with pytest.warns(SegkitWarning, match="1 nm"):
        found = io.read_volume(f"{tmp_path}/a.h5:raw[axes=xyzc]")
    np.testing.assert_array_equal(found.array, ARRAY)
    with pytest.raises(InvalidInput, match="order of the axes is not stated"):
        io.read_volume(f"{tmp_path}/a.h5:raw[c=0]")


def test_a_single_section(tmp_path):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    array = group.create_array("raw", data=np.stack([ARRAY[0], ARRAY[1]]), dimension_names=["t", "y", "x"])
    array.attrs["resolution"] = VOXEL
    found = io.read_volume(f"{tmp_path}/a.zarr:raw[t=1]")
    np.testing.assert_array_equal(found.array, ARRAY[1:])
    with pytest.raises(InvalidInput, match="must include each of z, y, x once"):
        io.read_volume(f"{tmp_path}/a.zarr:raw")


@pytest.mark.parametrize(("axes", "pick"), [("yx", ""), ("cyx", "[c=1]")])
def test_a_single_section_of_ome_zarr(tmp_path, axes, pick):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("0", data=ARRAY[1] if axes == "yx" else ARRAY[:2])
    stated = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in axes]
    stated = [axis | ({"type": "channel", "unit": None} if axis["name"] == "c" else {}) for axis in stated]
    steps = [{"type": "scale", "scale": [1, 8, 4][-len(axes) :]}, {"type": "translation", "translation": [0, 16, 8]}]
    steps[1]["translation"] = steps[1]["translation"][-len(axes) :]
    scale = {"path": "0", "coordinateTransformations": steps}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": stated, "datasets": [scale]}]}
    with pytest.warns(SegkitWarning, match="no voxel size along z is stated; it is taken to be 1 nm"):
        found = io.read_volume(f"{tmp_path}/a.zarr{pick}")
    np.testing.assert_array_equal(found.array, ARRAY[1:2])
    assert found.grid == Grid((1, 8, 4), (0, 16, 8))
    assert not io.states_voxel_size(f"{tmp_path}/a.zarr{pick}", "raw")


def test_sizes_along_two_axes_only():
    for attributes in (
        {"axes": "yx", "resolution": [8, 4]},
        {"axis_names": ["y", "x"], "voxel_size": [8, 4], "units": ["nm", "nm"]},
        {"dims": "yx", "resolution": [8, 4]},
        {"transform": {"axes": ["y", "x"], "scale": [8, 4], "units": ["nm", "nm"]}},
    ):
        found = read_placement(attributes, 2)
        assert (found.axes, found.voxel_size, found.certain) == ("yx", (1, 8, 4), False)
    assert read_placement({"axes": ["b", "y", "x"], "resolution": [40, 8, 4]}, 3).refusal


@pytest.mark.parametrize("first", [1, 5])
def test_four_numbers_of_an_array_with_channels(tmp_path, first):
    both = np.stack([ARRAY, ARRAY + 100])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stated = {"resolution": [first, *VOXEL], "offset": [0, 80, 16, 8]}
        file.create_dataset("raw", data=both).attrs.update(stated)
        file.create_dataset("last", data=np.moveaxis(both, 0, 3)).attrs.update(
            {"dims": "zyxc", "resolution": [*VOXEL, first]}
        )
    found = io.read_volume(f"{tmp_path}/a.h5:raw[axes=czyx,c=1]")
    np.testing.assert_array_equal(found.array, both[1])
    assert found.grid == Grid(VOXEL, (80, 16, 8))
    assert io.read_volume(f"{tmp_path}/a.h5:last[c=0]").grid == Grid(VOXEL)
    with pytest.raises(InvalidInput, match=r"a voxel size of 4 numbers must be along c, z, y, x .*, not x, y, z, c"):
        io.read_volume(f"{tmp_path}/a.h5:raw[axes=xyzc,c=1]")
    convert(f"{tmp_path}/a.h5:raw[c=1]", tmp_path / "b.h5", "raw", axes="cyzx", voxel_size=VOXEL)
    assert io.read_volume(tmp_path / "b.h5").grid == Grid(VOXEL)
    with pytest.raises(InvalidInput, match="resolution must be 3 numbers"):
        read_placement({"resolution": [first, *VOXEL]}, 3)


def test_four_numbers_of_affinities(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("affinities", data=np.zeros((3, 2, 2, 2), np.float32)).attrs["resolution"] = [5, 40, 4, 4]
    found = io.read_affinities(f"{tmp_path}/a.h5:affinities", [[-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    assert found.grid == Grid((40, 4, 4))


@pytest.mark.parametrize("where", ["DIMENSION_NAMES", "Dimension_Labels", "_ARRAY_DIMENSIONS", "AXES"])
def test_axes_are_followed_in_letters_of_any_case(tmp_path, where):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=ARRAY.T).attrs.update({where: ["X", "Y", "Z"], "resolution": [4, 4, 4]})
    np.testing.assert_array_equal(io.read_volume(f"{tmp_path}/a.h5:raw").array, ARRAY)


def test_axes_of_the_address_beside_those_of_the_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=ARRAY).attrs.update({"axes": "zyx", "resolution": VOXEL})
    with pytest.warns(SegkitWarning, match=r"a\.h5 states the axes zyx; xyz are followed"):
        found = io.read_volume(f"{tmp_path}/a.h5:raw[axes=xyz]")
    np.testing.assert_array_equal(found.array, ARRAY.T)
