"""Fresh processes, one after the other, and why they ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
WORKER = (sys.executable, "-m", "segkit.benchmark.worker")


def run_worker(
    folder: Path, *, command: Sequence[str] = WORKER, timeout: float | None = None, threads: int | None = None
) -> dict:
    """Run ``command FOLDER`` and return what it left in FOLDER/row.json; {"error": reason} if it left nothing."""
    limits = dict.fromkeys(THREAD_VARIABLES, str(threads)) if threads else {}
    with open(folder / "output.txt", "wb") as output:
        try:
            done = subprocess.run(
                [*command, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | limits,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"it was not done after {timeout:g} s; give it longer with --timeout"}
    row = folder / "row.json"
    return json.loads(row.read_text()) if row.exists() else {"error": _reason(done.returncode, folder)}


def _reason(code: int, folder: Path) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}"
    lines = (folder / "output.txt").read_text(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return f"its process ended with exit code {code}: {last}"
