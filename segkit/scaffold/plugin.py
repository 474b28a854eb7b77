"""What is to be made."""

import datetime
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources

from segkit import __version__
from segkit.errors import InvalidParameter, sentence
from segkit.parameters import nearest
from segkit.protocols import GROUPS
from segkit.registry.component import SINGULAR
from segkit.scaffold.names import check_name, class_of, package_of

KINDS = {singular: plural for plural, singular in SINGULAR.items()}
"""Kind of a plugin -> its key in segkit.protocols.GROUPS."""
SUMMARIES = {
    "model": "A network of two convolutions",
    "loss": "A balanced squared error",
    "fragmenter": "Connected components of strong edges",
    "agglomerator": "Agglomeration by mean affinity",
    "metric": "The overlap of boundaries",
}
LIBRARIES = {
    "model": ("torch>=2.4",),
    "loss": ("torch>=2.4",),
    "fragmenter": ("numpy>=1.26", "scipy>=1.11"),
    "agglomerator": ("numpy>=1.26",),
    "metric": ("numpy>=1.26",),
}
"""What the working example of each kind imports beside segkit."""
USES = {
    "model": "segkit train DATA --model {} --out run",
    "loss": "segkit train DATA --loss {} --out run",
    "fragmenter": "segkit benchmark fragment AFFINITIES --method {} --method watershed",
    "agglomerator": "segkit benchmark agglomerate AFFINITIES --fragments FRAGMENTS --backend {} --backend python",
    "metric": "segkit evaluate SEGMENTATION TRUTH --metric {}",
}
TEMPLATES = resources.files("segkit.scaffold") / "templates"


@dataclass(frozen=True)
class Plugin:
    """A distribution with one component. Raises InvalidParameter for a name that cannot be taken.

    >>> plugin = Plugin("my-agglomerator", "agglomerator", author="Ada", year=2030)
    >>> plugin.package, plugin.class_name, plugin.use.split()[-3:-2]
    ('my_agglomerator', 'MyAgglomerator', ['my-agglomerator'])
    """

    name: str
    """Of the distribution and of the component."""
    kind: str
    """One of KINDS."""
    author: str = ""
    """Who holds the copyright; "the authors of NAME" if empty."""
    year: int = field(default_factory=lambda: datetime.date.today().year)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            guess = nearest(self.kind, KINDS)
            hint = f"did you mean {guess!r}?" if guess else None
            raise InvalidParameter(sentence("kind", f"must be one of {', '.join(KINDS)}", repr(self.kind), hint))
        check_name(self.name, KINDS[self.kind])
        if not self.author.isprintable():
            raise InvalidParameter(sentence("author", "must be printable, in one line", repr(self.author)))
        object.__setattr__(self, "author", self.author.strip() or f"the authors of {self.name}")

    @property
    def package(self) -> str:
        """The package to import."""
        return package_of(self.name)

    @cached_property
    def class_name(self) -> str:
        """The class of the component."""
        words = re.findall(r"\w+", self.template("component.py") + self.template("test.py"))
        return class_of(self.name, set(words))

    @property
    def use(self) -> str:
        """The command that uses the component; words in capitals are the user's files."""
        return USES[self.kind].format(self.name)

    def template(self, name: str) -> str:
        """The text of a template of this kind, or of one that all share."""
        own = TEMPLATES / self.kind / f"{name}.in"
        return (own if own.is_file() else TEMPLATES / "common" / f"{name}.in").read_text(encoding="utf-8")

    def values(self) -> dict[str, str]:
        """What the templates call ``@word@``."""
        plural = KINDS[self.kind]
        segkit = f"segkit-em>={'.'.join(__version__.split('.')[:2])}"
        return {
            "name": self.name,
            "package": self.package,
            "class": self.class_name,
            "kind": self.kind,
            "plural": plural,
            "group": GROUPS[plural],
            "summary": SUMMARIES[self.kind],
            "author": self.author,
            "quoted_author": json.dumps(self.author, ensure_ascii=False),
            "year": str(self.year),
            "dependencies": json.dumps(sorted([*LIBRARIES[self.kind], segkit])),
        }
