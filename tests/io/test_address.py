from pathlib import Path

import pytest

from segkit.errors import InvalidInput
from segkit.io import ROLES, Address, parse_address

WHOLE = slice(None)


@pytest.mark.parametrize(
    ("text", "path", "dataset", "crop"),
    [
        ("a.h5", "a.h5", None, None),
        ("/data/a.h5:volumes/raw", "/data/a.h5", "volumes/raw", None),
        ("a.h5:/volumes/raw/", "a.h5", "volumes/raw", None),
        ("a.h5[110:150]", "a.h5", None, (slice(110, 150), WHOLE, WHOLE)),
        ("a.h5:raw[1:2,3:4,5:6]", "a.h5", "raw", (slice(1, 2), slice(3, 4), slice(5, 6))),
        ("a.zarr:raw[ 1 : , : 4, :]", "a.zarr", "raw", (slice(1, None), slice(None, 4), WHOLE)),
        ("x:y.h5:raw", "x:y.h5", "raw", None),
    ],
)
def test_parsing(text, path, dataset, crop):
    assert parse_address(text) == Address(Path(path), dataset, crop)


@pytest.mark.parametrize("text", ["a.h5", "a.h5:volumes/raw", "a.h5[1:2,:,3:]", "a.h5:v[:5,:,:]"])
def test_text_and_back(text):
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text", ["a[5]", "a[1:2:3]", "a[-1:2]", "a[1:2,]", "a[:,:,:,:]", "a[x:y]", "a[]", "", "a:", ":raw"]
)
def test_nonsense_is_refused(text):
    with pytest.raises(InvalidInput):
        parse_address(text)


def test_a_file_that_exists_is_no_dataset_or_crop(tmp_path):
    odd = tmp_path / "odd:name[1:2].h5"
    odd.touch()
    assert parse_address(str(odd)) == Address(odd)
    assert parse_address(f"{odd}[0:3]") == Address(odd, None, (slice(0, 3), WHOLE, WHOLE))


@pytest.mark.parametrize("crop", ["[0:6]", "[5:6]", "[2:2]", "[3:1]", "[:,0:99]"])
def test_a_crop_must_lie_inside(crop):
    with pytest.raises(InvalidInput, match=r"0:5 along z|0:7 along y"):
        parse_address("a.h5" + crop).bounds((5, 7, 9))


def test_bounds_fills_in_the_ends():
    bounds = parse_address("a.h5[1:,:3]").bounds((5, 7, 9))
    assert bounds == (slice(1, 5), slice(0, 3), slice(0, 9))


def test_usual_names():
    assert {role: Address(Path("a.h5")).at(role) for role in ROLES} == {
        "raw": "volumes/raw",
        "truth": "volumes/labels/neuron_ids",
        "mask": "volumes/labels/mask",
        "affinities": "volumes/affinities",
        "fragments": "volumes/fragments",
        "segmentation": "volumes/segmentation",
        "merge_tree": "merge_tree",
    }
    assert Address(Path("a.h5"), "mine").at("raw") == "mine"
    with pytest.raises(InvalidInput, match="did you mean 'fragments'"):
        Address(Path("a.h5")).at("fragment")


@pytest.mark.parametrize("folder", ["2026-11-30T12:00", "br[0:1]", "a::b", "plain"])
@pytest.mark.parametrize(("rest", "dataset"), [("out.h5", None), ("out.h5:raw", "raw"), ("out.zarr:a/b", "a/b")])
def test_colons_of_folders_separate_nothing(tmp_path, folder, rest, dataset):
    (tmp_path / folder).mkdir()
    file = rest.partition(":")[0]
    assert parse_address(f"{tmp_path}/{folder}/{rest}") == Address(tmp_path / folder / file, dataset)
    cropped = parse_address(f"{tmp_path}/{folder}/{rest}[0:2]")
    assert cropped == Address(tmp_path / folder / file, dataset, (slice(0, 2), WHOLE, WHOLE))


@pytest.mark.parametrize(
    ("text", "crop", "picks", "axes", "options"),
    [
        ("a.h5[c=0]", None, (("c", 0),), None, ()),
        ("a.h5:raw[t=3,c=1,z=0:10]", (slice(0, 10), WHOLE, WHOLE), (("t", 3), ("c", 1)), None, ()),
        ("a.h5[axes=xyzc,x=5:]", (WHOLE, WHOLE, slice(5, None)), (), "xyzc", ()),
        ("a.h5[missing=0,links=follow]", None, (), None, (("missing", "0"), ("links", "follow"))),
    ],
)
def test_what_brackets_say(text, crop, picks, axes, options):
    found = parse_address(text)
    assert (found.crop, found.picks, found.axes, found.options) == (crop, picks, axes, options)
    assert parse_address(str(found)) == found


@pytest.mark.parametrize(
    "inside", ["c=a", "c=0,c=1", "q=0", "axes=1", "missing=7", "z=3", "z=0:1,z=0:1", "0:1,c=0", "links=yes"]
)
def test_nonsense_in_brackets(inside):
    with pytest.raises(InvalidInput, match="what stands in brackets must be made of"):
        parse_address(f"a.h5[{inside}]")
