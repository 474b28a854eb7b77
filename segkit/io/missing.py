"""What to say where a file, or an object in it, is not there: what is, what was meant, and which verb makes it."""

from pathlib import Path

from segkit.errors import MissingDataset, MissingFile, SegkitError, sentence
from segkit.io.address import MADE_BY, ROLES, Address, role_of
from segkit.io.formats import FORMATS, Store, module_of, reading
from segkit.io.records import Stored
from segkit.io.remote import Remote
from segkit.parameters import nearest

WORDS = {"raw": "raw data", "truth": "ground truth", "merge_tree": "merge tree"}
"""Role -> what it is called, where that is not its own name."""
HINTS = {
    "raw": ("raw", "image", "img", "grey", "gray", "data"),
    "truth": ("truth", "gt", "neuron", "label", "annot"),
    "mask": ("mask",),
    "affinities": ("aff",),
    "fragments": ("frag", "super", "watershed"),
    "segmentation": ("seg",),
    "merge_tree": ("tree",),
}
"""Role -> what the names of such datasets contain in files of other tools."""
LOOKED_AT = 50
"""Files of a folder that are opened at most in search of an object."""
NAMED = 5
"""Files that a message names at most."""


def missing_file(path: Path | Remote, role: str | None = None) -> MissingFile:
    """The error for a file that is not there: it names the nearest in its folder, or those that hold the role."""
    if isinstance(path, Remote):
        return MissingFile(sentence(f"{path}", "does not exist", next_step="check the spelling"))
    folder = path.absolute().parent
    if not folder.is_dir():
        return MissingFile(sentence(f"{path}", "does not exist", next_step=f"there is no folder {folder} either"))
    there = [item for item in sorted(folder.iterdir()) if not item.name.startswith(".") and module_of(item)]
    holders = [item.name for item in there[:LOOKED_AT] if role and _holds(item, role)]
    guess = nearest(path.name, holders) or nearest(path.name, [item.name for item in there])
    if guess:
        next_step = f"did you mean {path.with_name(guess)}?"
    elif holders and role:
        next_step = f"files with {_article(role)} there are {', '.join(holders[:NAMED])}"
    else:
        next_step = "check the spelling"
    return MissingFile(sentence(f"{path}", "does not exist", next_step=next_step))


def missing_dataset(address: Address, role: str | None, store: Store) -> MissingDataset:
    """The error for an object that is not in the open file `store`: it says what is, and what is like it."""
    known = store.names()
    alike = [name for name in known if role is None or _resembles(store, name, role)]
    if role is None:
        guess, rule = nearest(address.dataset or "", alike), f"has no dataset {address.dataset!r}"
    elif address.dataset is not None:
        guess, rule = nearest(address.dataset, alike), f"has no dataset {address.dataset!r}"
    else:
        guess, rule = _likely(alike, known, role), f"has no {WORDS.get(role, role)} (dataset {role_of(role)[0]!r})"
    asked = f"did you mean {address.path}:{guess}? " if guess else ""
    made_by = "" if role is None or (guess and address.dataset is not None) else f"; {MADE_BY[role]}"
    next_step = f"{asked}it holds {', '.join(known) or 'nothing'}{made_by}"
    return MissingDataset(sentence(f"{address.path}", rule, next_step=next_step))


def _likely(alike: list[str], known: list[str], role: str) -> str | None:
    """The dataset, of those `alike`, that most likely plays the role: its name says so, or there is no other.

    Labels may be anything from synapses to glia: without a name that says more, only those are taken that are alone.
    """
    others = {dataset for other, (dataset, _) in ROLES.items() if other != role}
    free = [name for name in alike if name not in others]
    named = [name for name in free if any(hint in name.lower() for hint in HINTS[role])]
    alone = len(free) == 1 and (role_of(role)[1] != "labels" or len(known) == 1)
    return next(iter(named), free[0] if alone else None)


def _resembles(store: Store, name: str, role: str) -> bool:
    """Whether an object may play a role: by the kind that it states, else by its axes and its dtype."""
    kind = role_of(role)[1]
    try:
        stated = store.about(name).kind
        if stated is not None or kind == "merge_tree":
            return str(stated) == kind
        return _fits(store.array(name), role)
    except SegkitError:
        return False


def _fits(stored: Stored, role: str) -> bool:
    dtype = stored.dtype
    if dtype is None or len(stored.shape) != (4 if role == "affinities" else 3):
        return False
    if role == "mask":
        return dtype.kind in "bu" and dtype.itemsize == 1
    if role_of(role)[1] == "labels":
        return dtype.kind in "ui" and dtype.itemsize > 1
    return dtype.kind == "f" or (dtype.kind == "u" and dtype.itemsize <= 2)


def _holds(path: Path, role: str) -> bool:
    """Whether a file of segkit's own formats has the usual dataset of a role; damaged ones have none."""
    if path.suffix.lower() not in FORMATS:
        return False
    try:
        with reading(path) as store:
            return store.find(role_of(role)[0], False) is not None
    except SegkitError:
        return False


def _article(role: str) -> str:
    word = WORDS.get(role, role)
    return f"a {word}" if role in ("merge_tree", "mask", "segmentation") else word
