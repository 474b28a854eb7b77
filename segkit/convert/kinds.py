"""What the array is that is converted, and which role it plays: as the user says, else as its file does."""

from dataclasses import replace

from segkit.errors import InvalidInput, sentence
from segkit.io import ROLES, Address
from segkit.io.formats import Store
from segkit.io.lookup import UNNAMED, open_file
from segkit.io.missing import missing_dataset
from segkit.io.records import KINDS as RECORDED
from segkit.io.records import Stored, located

LABELS = ("truth", "fragments", "segmentation")
"""Roles that labels play."""
KINDS = ("raw", *LABELS, "labels", "affinities", "mask")
"""What `kind` may be: a role, or "labels" for that of the labels that the file holds."""


def identify(address: Address, kind: str | None) -> tuple[Address, str]:
    """The address, with the dataset where the file has one, and the role of what lies there.

    `kind` is a role; "labels" for whichever role of labels the dataset has by its name (truth if by none); or None for
    what the file says: by the usual name of a role, or by the attribute `kind`. Raises InvalidInput if `kind`
    contradicts the file or if the file leaves open what is meant, MissingDataset if there is no such dataset.
    """
    if kind is not None and kind not in KINDS:
        raise InvalidInput(sentence("kind", f"must be one of {', '.join(KINDS)}", repr(kind)))
    role = kind if kind in ROLES else None
    with open_file(address, role) as store:
        name = _name(address, store, kind)
        if name is None:
            raise missing_dataset(address, role or ("truth" if kind else None), store)
        found = replace(address, dataset=name or None)
        with located(found):
            stored = store.array(name)
            _check(stored, kind)
            return replace(address, dataset=name or None), role or _role(name, stored, kind)


def _name(address: Address, store: Store, kind: str | None) -> str | None:
    """The name of the dataset, "" for a file that is one array; None if it is not there."""
    if address.dataset is not None:
        return store.find(address.dataset, False)
    if kind in ROLES:
        return store.find(ROLES[kind][0], True)
    if store.find(UNNAMED, True) == "":
        return ""
    known = [name for name in store.names() if store.about(name).kind != "merge_tree"]
    if kind == "labels":
        known = [name for name in known if name in {ROLES[role][0] for role in LABELS}]
    if len(known) > 1:
        next_step = f"name one as {address.path}:DATASET, or say its --kind"
        raise InvalidInput(sentence(f"{address.path}", f"holds {', '.join(known)}", next_step=next_step))
    return next(iter(known), None)


def _check(stored: Stored, kind: str | None) -> None:
    """Raise InvalidInput if the file says that this is of another kind."""
    stated = stored.about.kind
    allowed = {"labels": ("labels",), "mask": ("volume", "labels")}
    allowed |= {role: (recorded,) for role, (_, recorded) in ROLES.items() if role != "mask"}
    if kind is not None and stated in RECORDED.values() and stated not in allowed[kind]:
        rule = f"must agree with the file, which says that this is of kind {stated}"
        raise InvalidInput(sentence("--kind", rule, kind, "leave it out, or name another dataset"))


def _role(name: str, stored: Stored, kind: str | None) -> str:
    usual = {dataset: role for role, (dataset, _) in ROLES.items()}
    if name in usual and (kind is None or usual[name] in LABELS):
        return usual[name]
    stated = "labels" if kind else stored.about.kind
    if stated == "volume":
        return "mask" if stored.dtype is not None and stored.dtype.kind == "b" else "raw"
    roles = {"labels": "truth", "affinities": "affinities"}
    if stated not in roles:
        next_step = f"say what it is: --kind {', '.join(KINDS)}"
        raise InvalidInput(sentence("the kind of the array", "is not stated by the file", next_step=next_step))
    return roles[str(stated)]
