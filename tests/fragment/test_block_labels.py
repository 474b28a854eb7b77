"""What a block keeps until its fragments have ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.blockwise.blocks import Lattice
from segkit.errors import InvalidInput, StorageError
from segkit.fragment.block_labels import AFTER, BEFORE, BlockLabels, BlockLabelsFile, seam_name, seams_of
from segkit.fragment.stitch import seam

LATTICE = Lattice((6, 7, 8), (3, 4, 5), (2, 1, 3))


def numbered(array):
    """The same partition, ids in the order of the old ones, from 1; 0 stays."""
    return np.unique(np.concatenate([[0], array.ravel()]), return_inverse=True)[1][1:].reshape(array.shape)


def outer_labels(number, values):
    """Labels of all that a block sees: a cut of those of a volume, numbered from 1 without gaps."""
    return numbered(values[LATTICE[number].outer]).astype(np.uint64)


def random_volume(seed, highest):
    return np.random.default_rng(seed).integers(0, highest + 1, LATTICE.shape)


SOME = {"seed": st.integers(0, 2**32 - 1), "highest": st.integers(0, 300), "number": st.integers(0, len(LATTICE) - 1)}


@given(**SOME)
def test_they_are_the_labels_of_the_block(seed, highest, number):
    outer, block = outer_labels(number, random_volume(seed, highest)), LATTICE[number]
    kept = BlockLabels.of(outer, LATTICE, number)
    inner = outer[block.within]
    names = np.arange(int(outer.max()) + 1)
    assert np.array_equal(kept.named(names, block.shape), numbered(inner))
    assert kept.count == len(np.unique(inner[inner > 0]))
    assert kept.lengths.sum() == inner.size and (np.diff(kept.labels.astype(np.int64)) != 0).all()


@given(**SOME)
def test_seams_have_the_names_of_the_block(seed, highest, number):
    """What has voxels in the block has the same name there and in all seams; what has none has a higher one."""
    outer, block = outer_labels(number, random_volume(seed, highest)), LATTICE[number]
    kept = BlockLabels.of(outer, LATTICE, number)
    inner = kept.named(np.arange(int(outer.max()) + 1), block.shape)
    names = dict(zip(outer[block.within].ravel().tolist(), inner.ravel().tolist(), strict=True))
    for name, part in seams_of(LATTICE, number).items():
        moved = tuple(slice(a.start - o.start, a.stop - o.start) for a, o in zip(part, block.outer, strict=True))
        for old, new in zip(outer[moved].ravel().tolist(), kept.seams[name].ravel().tolist(), strict=True):
            assert names.setdefault(old, new) == new
            assert (old == 0) == (new == 0)
    assert len(set(names.values())) == len(names)


def test_the_seam_of_a_face_is_kept_by_both_its_blocks():
    for number in range(len(LATTICE)):
        for axis in range(3):
            other, part = LATTICE.neighbour(number, axis), seam(LATTICE, number, axis)
            if other is not None:
                assert seams_of(LATTICE, number)[seam_name(axis, AFTER)] == part
                assert seams_of(LATTICE, other)[seam_name(axis, BEFORE)] == part
    assert [len(seams_of(LATTICE, number)) for number in range(8)] == [3] * 8


def test_no_fragments_are_labels_of_zero():
    none, zero = BlockLabels.none(LATTICE, 0), BlockLabels.of(np.zeros((5, 5, 8), np.uint64), LATTICE, 0)
    assert none.count == zero.count == 0 and none.seams.keys() == zero.seams.keys()
    assert all(np.array_equal(none.seams[name], zero.seams[name]) for name in none.seams)
    assert not none.named(np.array([0]), (3, 4, 5)).any() and not zero.named(np.array([0]), (3, 4, 5)).any()


def test_a_fragmenter_that_leaves_gaps_is_refused():
    with pytest.raises(InvalidInput, match="from 1 without gaps"):
        BlockLabels.of(np.full((5, 5, 8), 10**6, np.uint64), LATTICE, 0)


@pytest.fixture
def stored(tmp_path):
    kept = BlockLabels.of(outer_labels(0, random_volume(0, 30)), LATTICE, 0)
    kept.save(tmp_path / "new" / "0.npz")
    return kept, tmp_path / "new" / "0.npz"


def test_labels_are_read_as_they_were_written(stored):
    kept, path = stored
    with BlockLabelsFile(path) as file:
        again = file.without_seams()
        assert file.count == again.count == kept.count
        assert np.array_equal(again.labels, kept.labels) and np.array_equal(again.lengths, kept.lengths)
        assert all(np.array_equal(file.seam(name), kept.seams[name]) for name in kept.seams)


def test_damage_is_seen(stored):
    """A flipped bit anywhere in the values, a cut file, a missing one: an error, never other labels."""
    kept, path = stored
    whole = path.read_bytes()
    place = whole.index(kept.labels.tobytes())
    for damaged in (whole[: len(whole) // 2], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :], b""):
        path.write_bytes(damaged)
        with pytest.raises(StorageError, match="cannot be read"), BlockLabelsFile(path) as file:
            file.without_seams()
    entry = whole.index(b"PK\x01\x02")  # in the list of all arrays, the first: its flags and its method follow
    for place in (entry + 8, entry + 10):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(StorageError, match="cannot be read"), BlockLabelsFile(path) as file:
            _ = file.count
    path.unlink()
    with pytest.raises(StorageError, match="cannot be read"):
        BlockLabelsFile(path)
