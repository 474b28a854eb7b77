"""What there is to be seen: files, runs and results of recipes, each thing as what it is."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segkit.errors import InvalidInput, MissingFile, sentence
from segkit.io.address import ROLES, Address, parse_address, part_for
from segkit.io.formats import EXCHANGE, module_of
from segkit.io.json_file import read_json_if_whole
from segkit.io.lookup import fragments_of, named, open_file, read_notes
from segkit.io.missing import missing_file
from segkit.run.record import located, read_stages

ROLE = re.compile(rf"({'|'.join(ROLES)})=(.+)", re.DOTALL)
OF_THE_PAGE = re.compile(r"(?!(?:file|https?|s3|gs)://[^|]+$)\w[\w+.-]*://.+")
"""A URL that neuroglancer reads by itself, with the format before or behind it; other URLs are addresses."""
NAMED = (
    (re.compile(r"(.*/)?neuron_ids.*|(.*/)?truth.*"), "truth"),
    (re.compile(r"(.*/)?fragments.*"), "fragments"),
    (re.compile(r"(.*/)?raw.*"), "raw"),
    (re.compile(r"(.*/)?mask.*"), "mask"),
)
"""How datasets are called -> what they are, among those of a kind that may be several things."""
OF_KIND = {"volume": ("raw", "mask"), "labels": ("truth", "fragments", "segmentation")}
"""Kind of an object -> roles that it may play."""
ORDER = tuple(ROLES)


@dataclass(frozen=True)
class Thing:
    """One object, and what it is."""

    role: str
    """"raw", "affinities", "fragments", "segmentation", "truth", "mask" or "merge_tree"."""
    address: Address | str
    """Where it lies; the URL of what neuroglancer reads by itself."""
    name: str = ""
    """What its layer is called."""
    shown: bool = True
    """Whether it is seen at once, or when it is asked for."""

    @property
    def key(self) -> str:
        """What is the same for two things that are one object in one role."""
        if isinstance(self.address, str):
            return f"{self.role} {self.address}"
        at = self.address
        return f"{self.role} {replace(at, path=at.path.absolute(), dataset=at.at(self.role))}"


def things(words: Sequence[str]) -> list[Thing]:
    """Find all that `words` name, in the order of the pipeline, each object once and with a name of its own.

    A word is the address of an object, a file or store (all objects in it), the folder of a training run (the volumes
    that it trains on and validates), or the folder of a recipe's results (all stages); also a URL with its format
    before it, which neuroglancer reads. ``ROLE=`` before an address says what the object is where the file does not.

    Raises MissingFile if there is no such file, InvalidInput for a folder in which nothing is to be seen, and for an
    object that might be several things.
    """
    found: dict[str, Thing] = {}
    for word in words:
        for thing in _of_word(word):
            found.setdefault(thing.key, thing)
    ordered = sorted(found.values(), key=lambda thing: ORDER.index(thing.role))
    if not ordered:
        rule = "must hold something to be seen"
        raise InvalidInput(sentence(" ".join(words), rule, None, "name volumes, as FILE or FILE:DATASET"))
    return _named(ordered)


def _of_word(word: str) -> Iterator[Thing]:
    role, text = None, word
    if (stated := ROLE.fullmatch(word)) and not Path(word).exists():
        role, text = stated.groups()
    if OF_THE_PAGE.fullmatch(text):
        if role is None:
            next_step = f"such as raw={text} or segmentation={text}"
            raise InvalidInput(sentence("a URL", "must say what it is", repr(text), next_step))
        yield Thing(role, text)
        return
    address = parse_address(text)
    if not address.path.exists():
        raise missing_file(address.path)
    if role is not None:
        yield from _with_fragments(Thing(role, address))
    elif isinstance(address.path, Path) and (address.path / "stages.json").is_file():
        yield from _of_recipe(address.path)
    elif isinstance(address.path, Path) and (address.path / "config.json").is_file():
        yield from _of_run(address.path)
    elif not module_of(address.path) and address.path.is_dir():
        rule = "must be a training run, the results of a recipe, a store, or one of sections"
        raise InvalidInput(sentence("a folder", rule, repr(text), "name the files in it"))
    else:
        yield from _of_file(address)


def _of_recipe(folder: Path) -> Iterator[Thing]:
    """The volumes that a recipe was given, and what its stages made; of each role, the last is shown."""
    found: list[Thing] = []
    for stage in read_stages(folder):
        for role in ("raw", "truth"):
            texts = stage.given.get(role, [])
            for text in [texts] if isinstance(texts, str) else texts:
                if address := _there(text, folder):
                    found.append(Thing(role, address))
        out = stage.option("--out")
        address = _there(out, folder) if out else None
        if address is not None and not (address.path / "config.json").is_file():
            found += _of_file(address)
    last = {thing.role: thing for thing in found}
    for thing in found:
        yield replace(thing, shown=thing.key == last[thing.role].key)


def _of_run(folder: Path) -> Iterator[Thing]:
    """The volumes that a run was trained on, those that it is validated on first; what the last validation made."""
    made = folder / "validation.h5"
    if made.is_file():
        yield from _of_file(Address(made))
    source = read_json_if_whole(folder / "card.json").get("source") or {}
    seen = False
    for text in [*source.get("validation", ()), *source.get("data", ())]:
        for role, dataset in (("raw", source.get("raw_dataset")), ("truth", source.get("labels_dataset"))):
            address = _there(part_for(text, role), folder)
            if address is not None:
                yield Thing(role, named(address, dataset), shown=not seen)
        seen = seen or address is not None


def _there(text: str, folder: Path) -> Address | None:
    """What an address that was given when a run was made means now, if it still exists."""
    address = located(text, folder)
    return address if address.path.exists() else None


def _of_file(address: Address) -> Iterator[Thing]:
    """The objects in a file, or the one that is named."""
    if module_of(address.path) in EXCHANGE.values():
        yield Thing(_role(address, None, "raw") or "raw", address)
        return
    with open_file(address) as store:
        names = [address.dataset] if address.dataset else store.names()
        whole = not names and store.find("", True) is not None
    for name in names:
        one = replace(address, dataset=name)
        role = _role(one, name, None)
        if role is not None:
            yield from _with_fragments(Thing(role, one))
    if whole:
        yield Thing("raw", address)


def _with_fragments(thing: Thing) -> Iterator[Thing]:
    """The thing; a merge tree with the fragments that it merges, without which it cannot be seen."""
    if thing.role == "merge_tree" and isinstance(thing.address, Address):
        fragments = fragments_of(thing.address, read_notes(thing.address, "merge_tree"))
        if not fragments.path.exists():
            rule, next_step = "needs its fragments", f"they were in {fragments}: name the tree where they lie"
            raise MissingFile(sentence(f"the merge tree {thing.address}", rule, None, next_step))
        yield Thing("fragments", fragments)
    yield thing


def _role(address: Address, name: str | None, otherwise: str | None) -> str | None:
    """What an object is, by its kind, its name and its type; None for what is nothing to be seen."""
    usual = {dataset: role for role, (dataset, _) in ROLES.items()}
    with open_file(address) as store:
        found = store.find(name or "", name is None or name == "")
        kind = store.about(found).kind if found is not None else None
        if kind == "merge_tree":
            return "merge_tree"
        stored = store.array(found or "")
    if kind == "affinities" or name == ROLES["affinities"][0]:
        return "affinities"
    if len(stored.shape) != 3:
        return None if otherwise is None else otherwise
    if name in usual:
        return usual[name]
    dtype = np.dtype(stored.dtype) if stored.dtype is not None else None
    if kind not in OF_KIND:
        kind = "labels" if dtype is not None and dtype.kind in "iu" and dtype.itemsize >= 4 else "volume"
        if dtype == np.uint16:
            next_step = f"call it raw={address}, or segmentation={address}"
            raise InvalidInput(sentence(f"{address}", "may be images or labels, being uint16", None, next_step))
    roles = OF_KIND[kind]
    guess = next((role for pattern, role in NAMED if role in roles and pattern.fullmatch(name or "")), None)
    if guess == "mask" or (kind == "volume" and dtype is not None and dtype.kind == "b"):
        return "mask"
    return guess or ("raw" if kind == "volume" else "segmentation")


def _named(found: Sequence[Thing]) -> list[Thing]:
    """Each with a name of its own: its role; its file beside it, its dataset too, where there are several."""
    names: list[str] = []
    for thing in found:
        alike = [other for other in found if other.role == thing.role]
        name = thing.role.replace("_", " ")
        if len(alike) > 1 and isinstance(thing.address, Address):
            files = [other.address.path.name for other in alike if isinstance(other.address, Address)]
            name += f" ({thing.address.path.stem})"
            if files.count(thing.address.path.name) > 1:
                name = name[:-1] + f", {thing.address.at(thing.role)})"
        while name in names:
            name += "'"
        names.append(name)
    return [replace(thing, name=name) for thing, name in zip(found, names, strict=True)]
