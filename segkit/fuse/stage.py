"""Make fragments and a merge tree of raw data by blocks (`segkit fuse`); affinities stay in memory."""

from collections.abc import Mapping

import numpy as np

from segkit.agglomerate.pieces import Linkage
from segkit.agglomerate.stage import Merged, agglomerate_files
from segkit.blockwise.component import ComponentSpec
from segkit.blockwise.store import fingerprint
from segkit.blockwise.work import Work
from segkit.errors import InvalidParameter, sentence
from segkit.fragment.stage import fragment_files, halo_of
from segkit.fuse.fused import FusedAffinities
from segkit.infer.stage import Predicted
from segkit.io import Output
from segkit.io.address import as_address
from segkit.io.lookup import AnyAddress


def fuse_files(
    affinities: Predicted,
    fragments: AnyAddress,
    out: AnyAddress | Output,
    fragmenter: ComponentSpec,
    agglomerator: ComponentSpec,
    *,
    mask: AnyAddress | None = None,
    notes: Mapping[str, object] | None = None,
    work: Work,
) -> Merged:
    """Cut what a network predicts into fragments and merge them, with each block predicted once and never written.

    Fragments and tree are those that the three stages give one after the other, bit for bit where the affinities of a
    voxel do not depend on the block (:func:`segkit.infer.stage.infer_files`). Predicted are blocks with the halo of the
    fragments: for blocks of 256 and a halo of 16 up to 1.42 times the volume. On disk lie meanwhile the graphs of the
    blocks, and planes of affinities at their faces.

    Parameters
    ----------
    affinities
        As :func:`segkit.infer.stage.predicted` makes them.
    fragments, fragmenter, mask
        As of :func:`segkit.fragment.stage.fragment_files`.
    out, agglomerator, notes
        As of :func:`segkit.agglomerate.stage.agglomerate_files`.
    work
        By blocks.

    Raises
    ------
    InvalidParameter
        For a `work` of the whole volume, or an agglomerator that does not work on graphs.
    InvalidInput, BlocksFailed
        As the stages do.
    """
    if work.whole:
        raise InvalidParameter(sentence("work", "must be by blocks", next_step="give a size of blocks"))
    for each in (fragmenter, agglomerator):
        each.check_files()  # what is wrong with either is said before the work
    fragmenter.load()
    Linkage(agglomerator.load()).check_neighborhood(affinities.neighborhood)
    lattice = work.lattice(affinities.shape, halo_of(fragmenter, work.halo))
    inputs = [affinities.identity, np.asarray(affinities.neighborhood).tolist()]
    methods = [fragmenter.identity(), agglomerator.identity()]
    key = fingerprint(stage="fuse", inputs=inputs, methods=methods, block=lattice.block, halo=lattice.halo)
    folder = work.folder_for(as_address(fragments), "fuse", key)
    source = None if mask is None else work.source(mask, "mask")
    fused = FusedAffinities(affinities, lattice, agglomerator, fragmenter, source, folder)
    fragment_files(fused, fragments, fragmenter, mask=mask, work=work)
    merged = agglomerate_files(fused, fragments, out, agglomerator, notes=notes, work=work)
    work.clear(folder)
    return merged
