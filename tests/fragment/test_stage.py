"""Fragments by blocks, beside those of the whole volume."""

import pickle
import random
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit import io
from segkit.agglomerate.greedy import GreedyMerging
from segkit.blockwise.blocks import Lattice
from segkit.blockwise.component import ComponentSpec
from segkit.blockwise.executor import Inline
from segkit.blockwise.work import Work
from segkit.data import NEAREST, Affinities, Grid, Labels, Volume, edge_mask
from segkit.data.affinities import cut_leaving
from segkit.errors import BlocksFailed, InvalidInput, InvalidParameter, MissingDataset
from segkit.evaluate.contingency import contingency
from segkit.evaluate.voi import voi_scores
from segkit.fragment.stage import fragment_files
from segkit.fragment.tasks import FaceTask, FragmentTask, IdTask
from segkit.infer.oracle import oracle_affinities
from segkit.io.reader import RegionSource
from segkit.segment import segment
from segkit.testing.phantoms import neurites

METHODS = ("watershed", "affinity-watershed", "higra-watershed", "threshold")
SPEC = ComponentSpec("fragmenters", "watershed", {"seed_distance": 6})


@pytest.fixture(scope="module")
def truth():
    """Of (40, 64, 72) voxels that lie somewhere."""
    return Labels(neurites((40, 64, 72), count=30, seed=3).truth.array, Grid((10.0, 10.0, 10.0), (0.0, 500.0, 20.0)))


@pytest.fixture(scope="module")
def affinities(truth):
    """With borders and noise as of a network."""
    return oracle_affinities(truth, seed=1)


@pytest.fixture
def store(tmp_path, affinities):
    """A Zarr store with these affinities, in which there is room for fragments."""
    io.write(tmp_path / "vol.zarr", affinities, "affinities")
    return tmp_path / "vol.zarr"


def blockwise(store, spec=SPEC, **settings):
    """Fragments that are written beside the affinities, read again, and the number that was reported."""
    work, others = work_of(settings)
    count = fragment_files(store, store, spec, **others, work=work)
    return io.read_labels(store, "fragments"), count


def work_of(settings, block=(24, 32, 40)):
    """The work that block, halo and executor make, and the other settings."""
    given = {"block": block} | settings
    chosen = {name: given.pop(name) for name in ("block", "halo", "executor") if name in given}
    return Work(**chosen), given


def ended(source, out, spec=SPEC, **settings):
    """The reports of the stages of a run."""
    work, _ = work_of(settings)
    fragment_files(source, out, spec, work=work)
    return work.ended


def same_partition(first, second):
    pairs = set(zip(first.ravel().tolist(), second.ravel().tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def cut_by_faces(labels, block):
    """Fragments on both sides of the planes between blocks, over all these planes."""
    count = 0
    for axis, step in enumerate(block):
        for face in range(step, labels.shape[axis], step):
            count += len(np.unique(labels.take([face - 1, face], axis)))
    return count


@pytest.mark.parametrize("block", [None, (64, 64, 128)])
@pytest.mark.parametrize("method", METHODS)
def test_one_block_gives_what_the_fragmenter_gives(store, affinities, method, block):
    spec = ComponentSpec("fragmenters", method)
    found, count = blockwise(store, spec, block=block)
    whole = spec.load().fragment(affinities)
    assert np.array_equal(found.array, whole.array) and count == whole.array.max() > 20
    assert found.grid == whole.grid
    assert io.read_notes(store, "fragments") == {"fragmenter": spec.settings()}


@pytest.mark.parametrize("method", METHODS)
def test_ids_are_numbered_from_1_without_gaps(store, method):
    found, count = blockwise(store, ComponentSpec("fragmenters", method), halo=(2, 3, 4))
    assert found.ids().tolist() == list(range(1, count + 1)) and count > 20


def test_there_are_no_seams(store, affinities):
    """With the usual halo faces cut hardly more fragments than the same planes of the whole volume; without, many."""
    whole = SPEC.load().fragment(affinities)
    block = (20, 32, 36)
    expected = cut_by_faces(whole.array, block)
    found, _ = blockwise(store, block=block)
    assert expected <= cut_by_faces(found.array, block) * 1.05 <= 1.15 * expected
    scores = voi_scores(contingency(found, whole))
    assert scores["voi_split"] < 0.05 and scores["voi_merge"] < 0.05
    apart, _ = blockwise(store, block=block, halo=(0, 0, 0))
    assert cut_by_faces(apart.array, block) > 1.5 * expected


def test_agglomeration_makes_of_them_what_it_makes_of_the_whole(store, affinities, truth):
    found, _ = blockwise(store, block=(20, 32, 36))
    scores = []
    for fragments in (found, SPEC.load().fragment(affinities)):
        segments = segment(GreedyMerging(score="mean").agglomerate(affinities, fragments), fragments, 0.5)
        scores.append(sum(voi_scores(contingency(segments, truth)).values()))
    assert scores[0] == pytest.approx(scores[1], abs=0.02) and scores[1] < 2


def test_without_a_halo_fragments_end_at_faces(store):
    found, _ = blockwise(store, block=(20, 64, 72), halo=(0, 0, 0))
    assert not set(np.unique(found.array[:20])) & set(np.unique(found.array[20:]))


@pytest.mark.parametrize("block", [(1, 64, 72), (17, 64, 72)])
def test_sections_apart_are_those_of_the_whole_volume(store, affinities, block):
    """They need no halo along z, and nothing joins along z."""
    spec = ComponentSpec("fragmenters", "watershed", {"per_section": True})
    whole = spec.load().fragment(affinities)
    found, _ = blockwise(store, spec, block=block, halo=(9, 9, 9))
    assert same_partition(found.array, whole.array)


@pytest.mark.parametrize("method", METHODS)
def test_fragments_lie_where_the_fragmenter_puts_them(store, affinities, method):
    """Which voxels belong to any is seen from the neighbours of a voxel; and nothing lies outside the mask."""
    mask = np.random.default_rng(0).random(affinities.shape) < 0.97
    mask[:, 20:44, 20:44] = False
    mask[24:, 32:, :] = False
    io.write(f"{store}:masks/inside", Volume(mask, affinities.grid), "mask")
    spec = ComponentSpec("fragmenters", method)
    found, _ = blockwise(store, spec, mask=f"{store}:masks/inside", halo=(12, 12, 12))
    whole = spec.load().fragment(affinities, Volume(mask, affinities.grid))
    assert np.array_equal(found.array > 0, whole.array > 0) and not found.array[~mask].any()
    assert (whole.array[mask] > 0).mean() > 0.3


class Shuffled(Inline):
    """Blocks go through pickle, as to another process, and end in any order."""

    room = 5

    def submit(self, job, number):
        super().submit(pickle.loads(pickle.dumps(job)), number)

    def next(self, timeout):
        random.Random(len(self._todo)).shuffle(self._todo)
        return super().next(timeout)


def undisturbed(store, executor=None):
    """The same fragments beside the others, made without trouble."""
    address = f"{store}:volumes/undisturbed"
    ended(store, address, halo=(4, 4, 4), executor=executor)
    return io.read_labels(address, "fragments").array


def test_the_order_of_blocks_and_their_process_leave_no_trace(store):
    found, _ = blockwise(store, halo=(4, 4, 4))
    assert np.array_equal(found.array, undisturbed(store, Shuffled()))


@dataclass
class Stopped(Inline):
    """The user stops the run after so many blocks of all stages."""

    left: int

    def __post_init__(self):
        super().__init__()

    def next(self, timeout):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().next(timeout)


@pytest.mark.parametrize("blocks", [*(pytest.param(blocks, marks=pytest.mark.slow) for blocks in (0, 8, 9, 10)), 3, 13])
def test_a_run_that_was_stopped_goes_on(store, blocks):
    """8 blocks, one task for all faces, one for the ids, and 8 blocks again."""
    expected = undisturbed(store)
    with pytest.raises(KeyboardInterrupt):
        blockwise(store, halo=(4, 4, 4), executor=Stopped(blocks))
    with pytest.raises(MissingDataset):
        io.read_labels(store, "fragments")
    reports = ended(store, store, halo=(4, 4, 4))
    assert sum(report.kept for report in reports) == (blocks if blocks < 10 else blocks - 9)
    assert np.array_equal(io.read_labels(store, "fragments").array, expected)


def test_the_same_command_again_mends_what_is_damaged(store):
    expected, _ = blockwise(store, halo=(4, 4, 4))
    shard = store / "volumes/fragments/0/c/1/0/1"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    (ids, write) = ended(store, store, halo=(4, 4, 4))
    assert (ids.kept, write.kept) == (1, 7)
    assert np.array_equal(io.read_labels(store, "fragments").array, expected.array)
    assert sorted(path.name for path in store.iterdir()) == ["volumes", "zarr.json"]


def test_damaged_pieces_are_made_again(store):
    expected = undisturbed(store)
    with pytest.raises(KeyboardInterrupt):
        blockwise(store, halo=(4, 4, 4), executor=Stopped(10))
    pieces = sorted(store.rglob("pieces/*/*.npz"))
    assert len(pieces) == 8
    pieces[2].write_bytes(pieces[2].read_bytes()[:-9])
    pieces[5].unlink()
    found, _ = blockwise(store, halo=(4, 4, 4))
    assert np.array_equal(found.array, expected)


@pytest.mark.parametrize("changed", [{"halo": (4, 4, 5)}, {"spec": ComponentSpec("fragmenters", "threshold")}])
def test_other_settings_compute_anew(store, changed):
    blockwise(store, halo=(4, 4, 4))
    found, _ = blockwise(store, **{"halo": (4, 4, 4)} | changed)
    out, spec, halo = f"{store}:volumes/fresh", changed.get("spec", SPEC), changed.get("halo", (4, 4, 4))
    fresh = ended(store, out, spec, halo=halo)
    assert len(fresh) == 4 and np.array_equal(found.array, io.read_labels(out, "fragments").array)


def test_a_section_and_a_crop(store, affinities):
    """A single section of a crop, blocks larger than it along two axes."""
    found = ended(f"{store}:volumes/affinities[7:8,10:60,3:70]", f"{store}:volumes/part", block=(256, 256, 40))
    part = Affinities.convert(affinities.array[:, 7:8, 10:60, 3:70], NEAREST, affinities.grid.crop((7, 10, 3)))
    whole = SPEC.load().fragment(part)
    fragments = io.read_labels(f"{store}:volumes/part", "fragments")
    assert fragments.grid == part.grid and len(found[-1].results) == 2
    assert voi_scores(contingency(fragments, whole))["voi_merge"] < 0.2
    assert np.array_equal(fragments.array[:, :, :5] > 0, whole.array[:, :, :5] > 0)


@given(
    offset=st.tuples(*[st.integers(-4, 4)] * 3).filter(any),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
)
def test_edges_that_leave_a_box_are_cut(offset, shape):
    array = np.ones((1, *shape), np.float32)
    cut_leaving(array, np.array([offset]))
    assert np.array_equal(array > 0, edge_mask(shape, [offset]))


def test_faces_are_the_same_in_any_groups(tmp_path, store):
    fragments = FragmentTask(
        RegionSource(store, "affinities"), None, SPEC, Lattice((40, 64, 72), (20, 30, 30), (4, 4, 4)), tmp_path / "all"
    )
    tables = []
    for group in (1, 5, 64):
        faces = FaceTask(fragments, fragments.lattice, tmp_path / f"pairs {group}", group)
        pairs = sum(faces.run(number)["pairs"] for number in range(len(faces)))
        ids = IdTask(faces, tmp_path / f"ids {group}")
        result = ids.run(0)
        assert 0 < result["pieces"] - result["fragments"] <= pairs
        tables.append(ids.digest(0))
    assert tables[0] == tables[1] == tables[2] is not None


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"halo": (1, 2)}, InvalidParameter, "halo must be three numbers of voxels"),
        ({"halo": (1, 2, -1)}, InvalidParameter, "halo must be three numbers of voxels"),
        ({"block": (0, 8, 8)}, InvalidParameter, "block must be three numbers of voxels"),
        ({"spec": ComponentSpec("fragmenters", "watershed", {"threshold": 2.0})}, InvalidParameter, "must lie in 0..1"),
        ({"mask": "elsewhere"}, InvalidInput, "must lie at the same place"),
    ],
)
def test_wrong_calls_are_refused_before_anything_is_written(store, affinities, settings, error, message):
    if "mask" in settings:
        settings = {"mask": f"{store}:masks/moved"}
        io.write(settings["mask"], Volume(np.ones(affinities.shape, bool), Grid((10.0,) * 3)), "mask")
    with pytest.raises(error, match=message):
        blockwise(store, **settings)
    assert not (store / "volumes" / ".fragments.partial").exists()


def test_an_error_of_the_fragmenter_names_the_block(store, affinities):
    lacking = Affinities(affinities.array[1:].copy(), NEAREST[1:], affinities.grid)
    io.write(f"{store}:volumes/lacking", lacking, "affinities")
    executor = Inline()
    executor.patience = type(executor.patience)(tries=1, pause=0.0)
    with pytest.raises(BlocksFailed, match="must have the edge to the next voxel along z"):
        ended(f"{store}:volumes/lacking", store, executor=executor)
