"""``python -m segkit.benchmark.worker FOLDER``: measures the job in FOLDER/job.json, writes FOLDER/row.json."""

import json
import sys
from pathlib import Path

from segkit.errors import SegkitError


def main(folder: Path) -> None:
    """Measure, or write down why it could not be done."""
    try:
        row = run(folder)
    except SegkitError as error:
        row = {"error": str(error)}
    except MemoryError as error:
        row = {"error": f"the memory is not enough ({error})" if str(error) else "the memory is not enough"}
    except Exception as error:
        row = {"error": f"{type(error).__name__}: {error}"}
    temporary = folder / "row.tmp"
    temporary.write_text(json.dumps(row))
    temporary.replace(folder / "row.json")


def run(folder: Path) -> dict:
    """The columns of the row."""
    from segkit.benchmark.job import Job
    from segkit.benchmark.measure import measure
    from segkit.benchmark.tasks import make_task

    job = Job.load(folder)
    task = make_task(job)
    costs, result = measure(task.call, job.repeat, then=task.then)
    return task.finish(result, folder) | costs  # a metric may call a score as it likes


if __name__ == "__main__":
    main(Path(sys.argv[1]))
