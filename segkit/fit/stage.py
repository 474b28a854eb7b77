"""Learn how to merge fragments from volumes in files, and write what was learned (`segkit fit`)."""

from collections.abc import Sequence
from pathlib import Path

from numpy.typing import ArrayLike

from segkit import io
from segkit.blockwise.component import ComponentSpec
from segkit.data import check_aligned
from segkit.errors import InvalidParameter, sentence
from segkit.io.atomic import check_folder, storage_errors
from segkit.io.lock import writing
from segkit.io.lookup import AnyAddress
from segkit.protocols import Fitted, LearningAgglomerator, Sample
from segkit.registry import calls

Addresses = tuple[AnyAddress, AnyAddress, AnyAddress]
"""Those of affinities, fragments and truth."""


def learner(agglomerator: ComponentSpec) -> LearningAgglomerator:
    """Load an agglomerator. Raises InvalidParameter for one that does not learn, or that has learned already."""
    if files := agglomerator.files():
        rule, value = "must not be given, for it names what was learned", ", ".join(map(str, files.values()))
        raise InvalidParameter(sentence(f"the parameter {', '.join(files)}", rule, value, "use --out"))
    component = agglomerator.load()
    if not isinstance(component, LearningAgglomerator):
        rule = "must be an agglomerator that learns"
        raise InvalidParameter(sentence("--backend", rule, repr(agglomerator.name), "choose 'learned', say"))
    return component


def read_sample(addresses: Addresses, neighborhood: ArrayLike | None = None) -> Sample:
    """Read a volume whole. Raises InvalidInput unless all three are aligned."""
    affinities = io.read_affinities(addresses[0], neighborhood)
    fragments = io.read_labels(addresses[1], "fragments")
    truth = io.read_labels(addresses[2], "truth")
    check_aligned(affinities=affinities, fragments=fragments, truth=truth)
    return Sample(affinities, fragments, truth)


def fit_files(
    samples: Sequence[Addresses],
    out: Path,
    agglomerator: ComponentSpec,
    *,
    neighborhood: ArrayLike | None = None,
) -> Fitted:
    """Learn from the volumes at these addresses, all in memory at once, and write the model to the file `out`.

    `neighborhood` is as of :func:`segkit.io.read_affinities`. Raises what the agglomerator raises, InvalidInput for
    volumes that are not aligned, and StorageError where `out` cannot be written.
    """
    component = learner(agglomerator)
    check_folder(out)
    if out.is_dir():  # said before the work, which may take hours
        raise InvalidParameter(sentence("--out", "must be a file", f"the folder {out}", "name a file in it"))
    fitted = calls.fit(component, [read_sample(each, neighborhood) for each in samples])
    with storage_errors("written", out), writing(out) as temporary:
        temporary.write_text(fitted.model, encoding="utf-8")
    return fitted
