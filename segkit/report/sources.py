"""What there is to report: which files of a folder hold affinities, fragments, tree, segmentations and the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from segkit import io
from segkit.errors import MissingFile, SegkitError, sentence
from segkit.io import Address
from segkit.io.formats import FORMATS
from segkit.io.json_file import read_json_object
from segkit.run.record import FinishedStage, located, read_stages

ROLES = ("raw", "truth", "affinities", "fragments", "merge_tree", "segmentation")


@dataclass(frozen=True)
class Sources:
    """Where everything lies; what is None, or empty, is not known."""

    folder: Path
    stages: tuple[FinishedStage, ...] = ()
    runs: tuple[Path, ...] = ()
    """Folders of training runs, the one that matters first."""
    raw: Address | None = None
    truth: Address | None = None
    affinities: Address | None = None
    fragments: Address | None = None
    merge_tree: Address | None = None
    segmentations: Mapping[str, Address] = field(default_factory=dict)
    """By title, the one that the pictures show first."""
    threshold: float | None = None
    """Where the tree was cut."""
    border: float = 0.0
    """Voxels so near (nm) to a true boundary are not scored."""
    per_section: bool = False
    """Whether the recipe scores section by section."""


def find_sources(folder: Path, given: Mapping[str, str] | None = None) -> Sources:
    """What a folder holds: by the record of a recipe if there is one, else by looking into its files.

    `given` are addresses by role, which count before what is found. Raises MissingFile if there is no such folder.
    """
    if not folder.is_dir():
        rule, next_step = "must be the folder of a training run or of a recipe", "`segkit run` and `train` make them"
        raise MissingFile(sentence("FOLDER", rule, repr(str(folder)), next_step))
    stages = read_stages(folder)
    found = _of_stages(folder, stages) if stages else _of_files(folder)
    known = {role: io.parse_address(text) for role, text in (given or {}).items()}
    if "segmentation" in known:
        shown = known.pop("segmentation")
        others = {title: at for title, at in found.segmentations.items() if at != shown}
        others = {"segmentation before" if title == "segmentation" else title: at for title, at in others.items()}
        found = replace(found, segmentations={"segmentation": shown, **others})
    found = replace(found, **known)  # type: ignore[arg-type]
    found = replace(found, raw=found.raw or _of_same_file(found.truth, "raw"))
    if found.merge_tree and not found.fragments:
        found = replace(
            found, fragments=io.fragments_of(found.merge_tree, io.read_notes(found.merge_tree, "merge_tree"))
        )
    return replace(found, threshold=found.threshold or _noted_threshold(found.merge_tree))


def _of_stages(folder: Path, stages: Sequence[FinishedStage]) -> Sources:
    """Follow the last affinities through their first tree to the segmentation and its scores."""

    def at(text: str | None) -> Address | None:
        return located(text, folder) if text else None

    def of(*verbs: str) -> list[FinishedStage]:
        return [stage for stage in stages if stage.verb in verbs]

    inferred, merged = of("infer"), of("agglomerate")
    affinities = inferred[-1].option("--out") if inferred else merged[-1].given.get("affinities") if merged else None
    merged = [stage for stage in merged if stage.given.get("affinities") == affinities][:1]
    tree = merged[0].option("--out") if merged else None
    cut = [stage for stage in of("segment") if tree and _same(stage.given.get("merge_tree"), tree)]
    scored = [stage for stage in of("evaluate") if "--sweep" not in stage.command]
    truth = _first(scored[-1].given.get("truth")) if scored else None
    scored = [stage for stage in scored if _first(stage.given.get("truth")) == truth]
    main = (cut[-1].option("--out") if cut else tree) or ""
    last = next((stage for stage in scored if _same(stage.given.get("segmentation"), main)), None)
    titles = {stage.name.removeprefix("evaluate-"): str(stage.given["segmentation"]) for stage in scored}
    titles = {"segmentation" if name == "evaluate" else name: text for name, text in titles.items()}
    found = {name: located(text, folder) for name, text in titles.items()}
    if (
        main
        and not any(_same(text, main) for text in titles.values())
        and io.exists(located(main, folder), "segmentation")
    ):
        found = {"segmentation": located(main, folder)} | found
    ordered = sorted(found, key=lambda name: not _same(titles.get(name, main), main))
    fragments = merged[0].given.get("fragments", affinities) if merged else None
    threshold = (cut or merged)[-1].option("--threshold") if cut or merged else None
    last = last or (scored[-1] if scored else None)
    return Sources(
        folder,
        tuple(stages),
        _runs_of(stages, inferred, folder),
        raw=at(_first(inferred[-1].given.get("raw"))) if inferred else None,
        truth=_one(at(truth)),
        affinities=at(affinities),
        fragments=at(_first(fragments)),
        merge_tree=at(tree),
        segmentations={name: found[name] for name in ordered},
        threshold=_number(threshold),
        border=_number(last.option("--border")) or 0.0 if last else 0.0,
        per_section=bool(last and "--per-section" in last.command),
    )


def _runs_of(stages: Sequence[FinishedStage], inferred: Sequence[FinishedStage], folder: Path) -> tuple[Path, ...]:
    """The folders of its training runs, that of the last inference first."""
    folders = [
        Path(located(out, folder).path) for stage in stages if stage.verb == "train" and (out := stage.option("--out"))
    ]
    used = inferred[-1].option("--run") if inferred else None
    first = Path(located(used, folder).path) if used else None
    return tuple(sorted(folders, key=lambda path: path != first))


def _of_files(folder: Path) -> Sources:
    """What the files of a folder hold, one object a role; where several could be meant, none is taken."""
    runs = [path for path in (folder, *sorted(folder.iterdir())) if (path / "metrics.jsonl").is_file()]
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in FORMATS]
    holders = {role: [path for path in files if _holds(path, role)] for role in ROLES}
    one = {role: Address(paths[0]) for role, paths in holders.items() if len(paths) == 1}
    tree = one.get("merge_tree")
    validated = _validated(folder) if "affinities" in one else {}
    return Sources(
        folder,
        raw=validated.get("raw"),
        truth=validated.get("truth"),
        runs=tuple(runs),
        affinities=one.get("affinities"),
        fragments=None if tree else one.get("fragments"),
        merge_tree=tree,
        segmentations={path.stem: Address(path) for path in holders["segmentation"]},
    )


def _validated(run: Path) -> dict[str, Address]:
    """Raw data and truth of the first validation volume of a training run; nothing where its card names none."""
    try:
        source = read_json_object(run / "card.json")["source"]
        raw, truth = (located(io.part_for(source["validation"][0], role), run) for role in ("raw", "truth"))
        labels = _one(io.named(truth, source.get("labels_dataset")))
        found = {"raw": io.named(raw, source.get("raw_dataset")), "truth": labels}
    except (SegkitError, LookupError, TypeError):
        return {}
    return {role: address for role, address in found.items() if address and _holds(address, role)}


def _holds(path: Path | Address, role: str) -> bool:
    try:
        return io.exists(path, role)
    except SegkitError:
        return False


def _of_same_file(address: Address | None, role: str) -> Address | None:
    """The object of another role in the file of an address, with the same crop, if there is one."""
    if address is None:
        return None
    other = replace(address, dataset=None)
    return other if _holds(other, role) else None


def _noted_threshold(tree: Address | None) -> float | None:
    """The threshold that training chose, as a tree notes it."""
    if tree is None or not tree.path.exists():
        return None
    chosen: Any = io.read_notes(tree, "merge_tree").get("chosen") or {}
    return chosen.get("threshold")


def _one(address: Address | None) -> Address | None:
    """The first of the datasets that an address with wildcards names."""
    return io.matching(address, "truth")[0] if address and address.path.exists() else address


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and value else value


def _same(text: Any, other: str) -> bool:
    """Whether an address is in this file, and no other dataset of it than the segmentation."""
    return str(text).removesuffix(":volumes/segmentation") == other


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
