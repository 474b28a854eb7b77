"""Imports components in processes of their own, so that whatever an import does becomes a sentence about it.

One process a distribution, with a time limit: an import that hangs, calls os._exit or crashes the interpreter costs
no other component anything, and what is printed reaches nobody's stdout. Run as a program, this module is that process.
"""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from segkit.errors import BrokenComponent
from segkit.protocols import API_VERSION
from segkit.registry.component import Component
from segkit.registry.contract import lapses
from segkit.threads import thread_count

TIMEOUT = 60.0
"""Seconds that the imports of one distribution may take."""
REFERENCE = re.compile(
    r"\b(?:doi:\s*|https?://(?:dx\.)?doi\.org/)?(10\.\d{4,9}/[^\s,;()\]]+(?:\([^\s()]*\)[^\s,;()\]]*)*)|\b(arXiv:\d{4}\.\d{4,5})",
    re.I,
)


@dataclass(frozen=True)
class Examination:
    """What came of importing a component."""

    usable: bool
    problems: tuple[str, ...] = ()
    """Why it cannot be used or, if it can, what is wrong nevertheless; each says how to mend it."""
    description: dict[str, Any] = field(default_factory=dict)
    """What `describe` says of it, if it can be used."""


def examine(
    components: Sequence[Component], timeout: float = TIMEOUT, progress: Callable[[int, int], None] | None = None
) -> list[Examination]:
    """Import components, each distribution's in a process of its own, several at a time.

    `timeout` is in seconds a process; `progress` is called with the number of distributions done, and that of all.
    """
    order = sorted(range(len(components)), key=lambda index: components[index].distribution)
    groups = [list(part) for _, part in groupby(order, key=lambda index: components[index].distribution)]
    found: dict[int, Examination] = {}
    with ThreadPoolExecutor(thread_count()) as pool:
        jobs = pool.map(lambda group: _distribution([components[index] for index in group], timeout), groups)
        for done, (group, findings) in enumerate(zip(groups, jobs, strict=True), start=1):
            found.update(zip(group, findings, strict=True))
            if progress:
                progress(done, len(groups))
    return [found[index] for index in range(len(components))]


def describe(component: Component) -> dict[str, Any]:
    """What a class says of itself, for programs: where it is, its parameters, its docstring and what that cites."""
    loaded = component.load()
    text = inspect.getdoc(loaded) or ""
    return {
        "segkit_api": str(getattr(loaded, "segkit_api", API_VERSION)),
        "file": getattr(sys.modules.get(loaded.__module__), "__file__", None),
        "description": text,
        "references": references(text),
        "parameters": [
            {
                "parameter": parameter.name,
                "type": parameter.type_name,
                "choices": None if parameter.choices is None else list(parameter.choices),
                "required": parameter.required,
                "default": None if parameter.required else repr(parameter.default),
                "description": parameter.description,
            }
            for parameter in component.parameters().values()
            if (component.kind, parameter.name) != ("models", "channels")  # follows from the neighborhood
        ],
    }


def references(text: str) -> list[str]:
    """The DOIs and arXiv numbers in a text, each once, in order.

    >>> references("Funke et al. 2018 (doi:10.1109/TPAMI.2018.2835450), also arXiv:1709.02974.")
    ['doi:10.1109/TPAMI.2018.2835450', 'arXiv:1709.02974']
    """
    found = (f"doi:{doi.rstrip('.')}" if doi else arxiv for doi, arxiv in REFERENCE.findall(text))
    return list(dict.fromkeys(found))


def _distribution(components: list[Component], timeout: float) -> list[Examination]:
    """All findings on one distribution; after an import that ended the process, a new one goes on with the rest."""
    findings: list[Examination] = []
    fatal: dict[str, str] = {}
    while len(findings) < len(components):
        component = components[len(findings)]
        if component.module in fatal:
            findings.append(Examination(False, (component.broken(fatal[component.module]),)))
            continue
        done, end = _process(components[len(findings) :], timeout)
        findings += done
        if len(findings) < len(components):
            fatal[components[len(findings)].module] = end
    return findings


def _process(components: Sequence[Component], timeout: float) -> tuple[list[Examination], str]:
    """The findings of one process, and how it ended if it did not come to the last component."""
    with TemporaryDirectory(prefix="segkit-") as folder:
        jobs, records, output = (Path(folder, name) for name in ("jobs", "records", "output"))
        jobs.write_text(json.dumps([asdict(component) for component in components]), encoding="utf-8")
        with output.open("wb") as stream:
            end = _run([str(jobs), str(records), str(output)], stream, timeout)
        lines = records.read_text(encoding="utf-8").splitlines() if records.exists() else []
        said = output.read_text(encoding="utf-8", errors="replace") if not lines else ""
    found = [json.loads(line) for line in lines]
    findings = [Examination(each["usable"], tuple(each["problems"]), each["description"]) for each in found]
    return findings, f"{end}: {_shortened(said)}" if said.strip() else end


def _run(arguments: list[str], stream: IO[bytes], timeout: float) -> str:
    command = [sys.executable, "-P", "-m", "segkit.registry.quarantine", *arguments]
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    environment = os.environ | {"PYTHONPATH": path, "PYDANTIC_DISABLE_PLUGINS": "__all__"}
    try:
        code = subprocess.run(
            command,
            env=environment,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        ).returncode
    except subprocess.TimeoutExpired:
        return f"its import does not end within {timeout:g} s"
    if code < 0:
        return f"its import crashes the interpreter, {signal.Signals(-code).name}"
    return f"its import ends the interpreter, exit code {code}"


def _examine_here(component: Component, output: Path) -> Examination:
    """Import a component in this process, whose stdout and stderr go to the file `output`."""
    before = _flushed(output)
    with warnings.catch_warnings(record=True) as warned:
        try:
            description, problem = describe(component), None
        except BrokenComponent as error:
            description, problem = {}, str(error)
        except BaseException as error:  # KeyboardInterrupt, or a class that cannot be inspected
            description, problem = {}, component.broken(f"{type(error).__name__}: {error}")
    _flushed(output)
    said = output.read_bytes()[before:].decode("utf-8", "replace")
    notes = (
        [problem] if problem else [f"{lapse}; ask its authors" for lapse in lapses(component.kind, component.load())]
    )
    if said.strip():
        notes.append(f"it prints when it is imported ({_shortened(said)}); ask its authors to remove that")
    for each in list(warned)[:1]:
        what = f"{each.category.__name__}: {_shortened(str(each.message))}"
        notes.append(f"it warns when it is imported ({what}); upgrade it, or ask its authors")
    return Examination(problem is None, tuple(notes), description)


def _flushed(output: Path) -> int:
    """The size of the file that takes all output, when all has arrived there."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return output.stat().st_size


def _shortened(text: str, length: int = 120) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= length else text[:length] + " ...")


def _main(jobs: str, records: str, output: str) -> None:
    """Examine the components in the file `jobs`, one line of `records` for each."""
    for job in json.loads(Path(jobs).read_text(encoding="utf-8")):
        line = json.dumps(asdict(_examine_here(Component(**job), Path(output))), default=str)
        with open(records, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    os._exit(0)  # threads that an import has started must not keep the process


if __name__ == "__main__":
    _main(*sys.argv[1:])
