"""A function in a fresh process: what it returned, or why it ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from segkit.benchmark.measure import Row
from segkit.errors import SegkitError

THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PROGRAM = "import sys; from segkit.benchmark.process import main; main(sys.argv[1])"


@dataclass(frozen=True)
class Limits:
    """How often a call is timed, and what its process may take."""

    repeat: int = 3
    timeout: float | None = None
    """Seconds after which the process is stopped; None: never."""
    threads: int | None = None
    """None: all cores."""


def in_fresh_process(function: str, options: Mapping[str, Any], limits: Limits = Limits()) -> Row:
    """Call ``module:name`` with the keywords `options` in a process of its own; both they and its result are JSON.

    The process finds the modules that this one finds, and uses at most `limits.threads` threads. Returns {"error":
    reason}, a sentence, where the function raised, the process was killed, or it was not done after `limits.timeout`.
    """
    with TemporaryDirectory(prefix="segkit-benchmark-") as temporary:
        folder = Path(temporary)
        (folder / "call.json").write_text(json.dumps({"function": function, "options": options}))
        with open(folder / "output.txt", "wb") as output:
            try:
                done = subprocess.run(
                    [sys.executable, "-P", "-c", PROGRAM, str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=_environment(limits.threads),
                    timeout=limits.timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return {"error": f"it was not done after {limits.timeout:g} s; give it longer with --timeout"}
        row = folder / "row.json"
        return json.loads(row.read_text()) if row.exists() else {"error": _reason(done.returncode, folder)}


def main(folder: str) -> None:
    """Make the call that FOLDER/call.json asks for, and write FOLDER/row.json: this runs in the fresh process."""
    asked = json.loads(Path(folder, "call.json").read_text())
    module, _, name = asked["function"].partition(":")
    try:
        row = getattr(import_module(module), name)(**asked["options"])
    except SegkitError as error:
        row = {"error": str(error)}
    except MemoryError as error:
        row = {"error": f"the memory is not enough ({error})" if str(error) else "the memory is not enough"}
    except Exception as error:
        row = {"error": f"{type(error).__name__}: {error}"}
    temporary = Path(folder, "row.tmp")
    temporary.write_text(json.dumps(row))
    temporary.replace(Path(folder, "row.json"))


def _environment(threads: int | None) -> dict[str, str]:
    limits = dict.fromkeys(THREAD_VARIABLES, str(threads)) if threads else {}
    before = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    path = os.pathsep.join([*(entry for entry in sys.path if entry), *before])
    return os.environ | limits | {"PYTHONPATH": path}


def _reason(code: int, folder: Path) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}"
    lines = (folder / "output.txt").read_text(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return f"its process ended with exit code {code}: {last}"
