"""What segkit does on a GPU, in nine minutes: python benchmarks/gpu_check.py [--wheels FOLDER] [--data FILE.h5].

Needs Python with a torch that sees one CUDA GPU; no network. With --wheels, all else is installed from that folder
into an environment of its own, which uses the torch of the Python that runs this. Each part runs in a process of its
own, and is ended when its time is up, so that a part that fails leaves the others; the first parts are those that
matter most, and what no time is left for is said to be skipped. --device cpu --tiny tries the same on small inputs,
where times have no verdict.

Written are a table, and with --out a JSON report; the exit code is 1 if a part failed or a bar was missed. Bars: the
tests pass; constrained MALIS takes at most 10 ms on 84^3 voxels and 30 ms on 128^3, and copies less than a byte a voxel
to the host; `gpu` and `python` give equal trees.
"""

import argparse
import json
import os
import re
import signal
import site
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
MINUTES = 9.0
RESERVE = 8.0
"""Seconds that are kept for the end: the table, and the processes that are still to go."""
LEAST = 10.0
"""Seconds without which a part is not begun."""
INSTALLING = 150.0
"""Seconds that each step of the installation has."""
MALIS_BARS = {84: 10.0, 128: 30.0}
"""Milliseconds of a step by the edge of the cube."""
INPUT = (84, 268, 268)
"""Of the network of Funke et al. 2018, which gives 56x56x56."""
NOT_OURS = re.compile(r"torch|triton|nvidia|cuda")
"""Pins that --wheels leaves to the machine."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for, and where the parts work."""

    device: str
    tiny: bool
    data: str | None
    python: str
    folder: Path
    seconds: float = 0.0
    """That a part has, at most."""


@dataclass
class Finding:
    """A figure, and what it is held against."""

    name: str
    value: object
    unit: str = ""
    bar: str = ""
    verdict: str = ""
    """met, missed, not measured; empty where there is no bar."""


@dataclass
class Outcome:
    """What became of a part."""

    part: str
    state: str
    """done, failed, skipped."""
    seconds: float = 0.0
    reason: str = ""
    findings: list[Finding] = field(default_factory=list)


class Failed(Exception):
    """A sentence that says why a part did not come to its end."""


def segkit(*words: object) -> dict:
    """What a verb returns, called in this process, which is the part's own; it raises its errors."""
    from segkit.cli.main import main as command

    return command.main([*map(str, words), "--json"], prog_name="segkit", standalone_mode=False)


def last_line(said: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")


def bar(wanted: Wanted, name: str, value: float | None, unit: str, most: float) -> Finding:
    """A figure that must not be above `most`; times of a CPU have no verdict."""
    measured = value is not None and wanted.device == "cuda" and not wanted.tiny
    verdict = "not measured" if not measured else "met" if value <= most else "missed"
    return Finding(name, value, unit, f"at most {most:g}", verdict)


def marked_tests(wanted: Wanted) -> list[Finding]:
    """The tests marked gpu."""
    found = wanted.folder / "tests.xml"
    where = ["tests/agglomerate/test_gpu.py"] if wanted.tiny else ["tests", "benchmarks"]
    options = ["-m", "gpu", "-n", 0, "-q", "-p", "no:cacheprovider", f"--junitxml={found}"]
    command = [wanted.python, "-m", "pytest", *map(str, options), *where]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    if not found.exists():
        raise Failed(f"pytest wrote no report: {last_line(said)}")
    cases = list(ElementTree.parse(found).getroot().iter("testcase"))
    bad = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skips = [case.find("skipped").get("message", "") for case in cases if case.find("skipped") is not None]
    passed = len(cases) - len(bad) - len(skips)
    verdict = "missed" if bad else "met" if passed else "not measured"
    findings = [Finding("passed", passed, "tests", "all, at least one", verdict), Finding("failed", len(bad), "tests")]
    findings += [Finding("failed", name) for name in bad]
    return findings + [Finding("skipped", skips.count(why), "tests", f"({why})") for why in sorted(set(skips))]


def malis(wanted: Wanted) -> list[Finding]:
    """Time and transfers of constrained MALIS, from logits to gradient, all of it on the device."""
    findings = []
    for size, most in {20: 10.0}.items() if wanted.tiny else MALIS_BARS.items():
        trace = wanted.folder / f"malis-{size}.json"
        asked = ["--loss", "constrained-malis", "--backend", "gpu", "--size", size, "--device", wanted.device]
        asked += ["--repeat", 2 if wanted.tiny else 15, "--trace", trace]
        (row,) = segkit("benchmark", "loss", *asked)["rows"]
        if "error" in row:
            raise Failed(f"at {size}^3: {row['error']}")
        findings.append(bar(wanted, f"step at {size}^3", 1e3 * row["seconds"], "ms", most))
        findings.append(bar(wanted, f"copied to the host at {size}^3", row.get("bytes_to_host"), "bytes", size**3 - 1))
        if row.get("device_peak_bytes") is not None:
            findings.append(Finding(f"memory at {size}^3", row["device_peak_bytes"] / 1e6, "MB"))
    return findings


def unet_step(wanted: Wanted) -> list[Finding]:
    """A step of training of `unet3d` in bfloat16: its parts, and how busy the device is."""
    import torch

    from segkit.benchmark.train_step import Parts, measure_training
    from segkit.train import TrainConfig

    settings = {"model": "unet3d", "loss": "constrained-malis+0.1*mse", "device": wanted.device, "precision": "bf16"}
    settings |= {"patch": [56, 56, 56], "workers": 4}
    if wanted.tiny:
        settings |= {"patch": [4, 8, 8], "workers": 0}
        settings["model_parameters"] = {"features": 2, "growth": 2, "pooling": [[1, 2, 2]]}
    config, volumes = TrainConfig(**settings), [synthetic((24, 40, 40) if wanted.tiny else (96, 280, 280))]
    device = torch.device(wanted.device)
    parts = Parts(config, volumes, device)
    shape = "x".join(map(str, parts.fixed["raw"].shape[-3:]))
    busy = None if device.type == "cpu" else kernel_share(parts.steps["augmentation"])
    del parts
    costs = measure_training(config, volumes, repeat=2 if wanted.tiny else 5)
    loss, step = costs.seconds("loss") - costs.seconds("optimiser"), costs.seconds("loop")
    expected = "" if wanted.tiny else "x".join(map(str, INPUT))
    findings = [
        Finding("input", shape, "voxels", expected, "" if wanted.tiny else "met" if shape == expected else "missed"),
        Finding("step of the loop", 1e3 * step, "ms"),
        Finding("bare network", 1e3 * costs.seconds("network"), "ms"),
        Finding("share of the loss", 100 * loss / step, "%"),
        Finding("share of waiting for patches", 100 * costs.waiting / step, "%"),
    ]
    if busy is not None:
        findings.append(Finding("kernels' time of the step's", 100 * busy, "%"))
    if costs.utilisation is not None:
        findings.append(Finding("utilisation, as the driver says", 100 * costs.utilisation, "%"))
    if device.type == "cuda":
        findings.append(Finding("memory, most", torch.cuda.max_memory_allocated() / 1e9, "GB"))
    return findings


def synthetic(shape: tuple[int, int, int]):
    """Neurites, mirrored to fill `shape`, to train on."""
    import numpy as np

    from segkit import Labels, Volume
    from segkit.testing.phantoms import neurites
    from segkit.train import TrainingVolume

    small = tuple(min(side, 96) for side in shape)
    found = neurites(small, count=max(int(np.prod(small)) // 20_000, 4), seed=1)
    pads = [(0, side - length) for side, length in zip(shape, small, strict=True)]
    raw, truth = (np.pad(each.array, pads, mode="symmetric") for each in (found.raw, found.truth))
    return TrainingVolume(Volume(raw, found.raw.grid), Labels(truth, found.truth.grid))


def kernel_share(step: Callable[[], None], times: int = 5) -> float:
    """The time in which at least one kernel or copy ran, as a share of that of some steps, by torch's profiler."""
    import torch

    for _ in range(3):
        step()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        begin = time.perf_counter()
        for _ in range(times):
            step()
        torch.cuda.synchronize()
        wall = time.perf_counter() - begin
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        return covered(json.loads(trace.read_text())["traceEvents"]) / wall


def covered(events: list[dict]) -> float:
    """Seconds in which at least one of the device's events of a trace ran.

    >>> event = {"cat": "kernel", "ts": 0, "dur": 2e6}
    >>> covered([event, event | {"ts": 1e6}, event | {"ts": 5e6, "cat": "gpu_memcpy"}, event | {"cat": "cpu_op"}])
    5.0
    """
    kinds = ("kernel", "gpu_memcpy", "gpu_memset")
    spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event.get("cat") in kinds)
    total, reached = 0.0, float("-inf")
    for begin, end in spans:
        total += max(end - max(begin, reached), 0.0)
        reached = max(reached, end)
    return total / 1e6


def inference(wanted: Wanted) -> list[Finding]:
    """Megavoxels a second of `unet3d`, from file to file, beside the bare network."""
    from segkit import io

    raw = wanted.folder / "raw.h5"
    io.write(raw, synthetic((12, 32, 32) if wanted.tiny else (112, 224, 224)).raw)
    asked = ["--model", "unet3d", "--precision", "bf16", "--device", wanted.device, "--repeat", 1 if wanted.tiny else 3]
    if wanted.tiny:
        asked += ["--set", "features=2", "--set", "growth=2", "--set", "pooling=[[1,2,2]]", "--tile", 8, 16, 16]
    else:
        asked += ["--memory", "8GB"]
    report = segkit("benchmark", "infer", raw, *asked)
    rates = {row["part"]: row["megavoxels_per_second"] for row in report["rows"]}
    return [
        Finding("input tile", "x".join(map(str, report["input_tile"])), "voxels"),
        Finding("bare network", rates["network"], "megavoxels a second"),
        Finding("from file to file", rates["file"], "megavoxels a second"),
        Finding("of the bare network", 100 * rates["file"] / rates["network"], "%"),
    ]


def agglomeration(wanted: Wanted) -> list[Finding]:
    """`gpu` beside `python` on the fragments of make_inputs.py: trees and times."""
    import numpy as np

    from segkit import io
    from segkit.benchmark.measure import time_in_turn
    from segkit.registry import load

    file = wanted.folder / "agglomeration.h5"
    command = [wanted.python, "benchmarks/make_inputs.py", str(file), "--size", "24" if wanted.tiny else "128"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if made.returncode:
        raise Failed(f"make_inputs.py ended with {made.returncode}: {last_line(made.stderr)}")
    affinities, findings = io.read_affinities(file), []
    for kind in ("3d", "xy"):
        fragments = io.read_labels(f"{file}:volumes/fragments_{kind}", role="fragments")
        ways = {"python": load("agglomerators", "python", score="mean")}
        ways["gpu"] = load("agglomerators", "gpu", score="mean", device=wanted.device)
        trees: dict = {}
        calls = {name: keeping(trees, name, way, affinities, fragments) for name, way in ways.items()}
        seconds = {name: sorted(found)[len(found) // 2] for name, found in time_in_turn(calls, 3).items()}
        one, other = trees["python"], trees["gpu"]
        pairs = ((getattr(one, name), getattr(other, name)) for name in ("leaf_ids", "parents", "altitudes"))
        equal = all(np.array_equal(*pair) for pair in pairs)
        what = f"{kind}, {len(one.leaf_ids)} fragments"
        findings.append(Finding(f"{what}: equal trees", equal, "", "True", "met" if equal else "missed"))
        findings += [Finding(f"{what}: {name}", 1e3 * found, "ms") for name, found in seconds.items()]
    return findings


def keeping(results: dict, name: str, way: object, *given: object) -> Callable[[], None]:
    """A call that keeps what it made."""

    def call() -> None:
        results[name] = way.agglomerate(*given)

    return call


def training(wanted: Wanted) -> list[Finding]:
    """The recipe fib25-small as long as there is time, on the data or on a phantom, and its score."""
    data, changes = wanted.data, {}
    if data is None:
        from segkit import io

        data = wanted.folder / "phantom.h5"
        made = synthetic((24, 24, 24) if wanted.tiny else (150, 160, 160))
        io.write_all(data, {"raw": made.raw, "truth": made.labels})
    minutes = min(5.0, max(wanted.seconds - 90, wanted.seconds / 3) / 60)
    changes["train.set.max_minutes"] = f"{minutes:.2f}"
    if wanted.tiny:
        changes |= {"data.train": f"{data}[0:16]", "data.test": f"{data}[16:24]", "train.steps": 2}
        changes |= {"train.set.patch": "[8,8,8]", "train.set.warmup_steps": 1, "train.set.model.features": 2}
        changes |= {"train.set.model.pooling": "[[2,2,2]]", "infer-tune.augment": "none", "infer.augment": "none"}
    for stage in ("train", "infer-tune", "infer"):
        changes[f"{stage}.device"] = wanted.device
    out = wanted.folder / "run"
    options = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    found = segkit("run", "fib25-small", "--set", f"data.file={data}", *options, "--out", out)
    findings = [Finding("training", minutes, "minutes at most"), Finding("steps", found["train"].get("steps"))]
    findings.append(Finding("data", str(wanted.data or "a phantom")))
    units = {
        "cremi_score": "0 = perfect",
        "voi_split": "bits",
        "voi_merge": "bits",
        "adapted_rand_error": "0 = perfect",
    }
    score = found["evaluate"]
    return findings + [Finding(name, score[name], unit) for name, unit in units.items() if name in score]


PARTS: dict[str, tuple[Callable[[Wanted], list[Finding]], float]] = {
    "tests": (marked_tests, 120),
    "malis": (malis, 70),
    "unet-step": (unet_step, 90),
    "inference": (inference, 60),
    "agglomeration": (agglomeration, 90),
    "training": (training, 420),
}
"""Part -> what it does, and the seconds that it has at most; those that matter most come first."""


def install(wheels: Path, folder: Path) -> str:
    """Make an environment from a folder of wheels; return its Python. Torch is that of the Python that runs this.

    The pins are those of constraints.txt but for torch and what comes with it. Raises Failed.
    """
    home = folder / "environment"
    environment = [sys.executable, "-m", "venv", "--without-pip", str(home)]
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pins = folder / "pins.txt"
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins.write_text("\n".join(line for line in lines if line[:1] != "#" and not NOT_OURS.match(line)) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-index", "--no-deps"]
    commands = [environment, [*pip, "--find-links", str(wheels), "-r", str(pins)]]
    own = [word for place in (ROOT, *sorted(ROOT.glob("plugins/*/"))) for word in ("--editable", str(place))]
    commands.append([*pip, "--no-build-isolation", *own])
    for command in commands:
        try:
            found = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLING)
        except subprocess.TimeoutExpired:
            raise Failed(f"installing took longer than {INSTALLING:.0f} s") from None
        if found.returncode:
            raise Failed(f"{' '.join(command[1:3])} ended with {found.returncode}: {last_line(found.stderr)}")
        if command is environment:
            (packages,) = home.glob("Lib/site-packages" if os.name == "nt" else "lib/python*/site-packages")
            places = [*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_path("purelib")]
            (packages / "machine.pth").write_text("\n".join(dict.fromkeys(places)) + "\n")
    return str(python)


def attempt(name: str, wanted: Wanted) -> Outcome:
    """Run a part in a process of its own, which is ended with all that it started when its time is up."""
    begin, answer, log = time.monotonic(), wanted.folder / f"{name}.answer", wanted.folder / f"{name}.log"
    asked = json.dumps(vars(wanted) | {"folder": str(wanted.folder)})
    command = [wanted.python, __file__, "--part", name, "--asked", asked]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, cwd=ROOT)
        try:
            code = process.wait(wanted.seconds)
            reason = "" if code == 0 else f"signal {-code}" if code < 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            reason = f"not done within {wanted.seconds:.0f} s"
        finally:
            end(process)
    said = last_line(log.read_text(errors="replace"))
    seconds = time.monotonic() - begin
    if reason or not answer.exists():
        return Outcome(name, "failed", seconds, f"{reason or 'no answer'}: {said}")
    return Outcome(name, "done", seconds, "", [Finding(**each) for each in json.loads(answer.read_text())])


def end(process: subprocess.Popen) -> None:
    """End a process and, where the system has groups of them, all that it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()


def check(names: list[str], wanted: Wanted, until: float) -> list[Outcome]:
    """Run the parts one after the other, each within its time and what is left of the whole."""
    outcomes = []
    for name in names:
        seconds = min(PARTS[name][1], until - time.monotonic())
        if seconds < LEAST:
            outcomes.append(Outcome(name, "skipped", reason="no time was left"))
        else:
            given = vars(wanted) | {"seconds": seconds}
            outcomes.append(attempt(name, Wanted(**given)))
        print(f"{name}: {outcomes[-1].state}, {outcomes[-1].seconds:.0f} s", file=sys.stderr, flush=True)
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """Part, figure, bar and verdict, a line each."""
    rows = [("part", "figure", "value", "bar", "verdict")]
    for outcome in outcomes:
        state = outcome.state if outcome.state != "done" else f"{outcome.seconds:.0f} s"
        rows.append((outcome.part, outcome.reason, state, "", "" if outcome.state == "done" else "not measured"))
        for found in outcome.findings:
            value = f"{found.value:.4g}" if isinstance(found.value, float) else str(found.value)
            rows.append(("", found.name, f"{value} {found.unit}".strip(), found.bar, found.verdict))
    widths = [max(len(row[column]) for row in rows if column != 1 or row[0] in ("", "part")) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def succeeded(outcomes: list[Outcome]) -> bool:
    """Whether no part failed and no bar was missed."""
    return not any(o.state == "failed" or any(f.verdict == "missed" for f in o.findings) for o in outcomes)


def answer_part(name: str, asked: dict) -> int:
    """In the process of a part: leave its findings beside its log, or say in a line why there are none."""
    wanted = Wanted(**asked | {"folder": Path(asked["folder"])})
    try:
        findings = PARTS[name][0](wanted)
    except Exception as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " ")[:500], file=sys.stderr)
        return 1
    (wanted.folder / f"{name}.answer").write_text(json.dumps([vars(each) for each in findings]))
    return 0


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", type=Path, help="folder to install from; else this Python has segkit")
    parser.add_argument("--data", help="a volume of 150 sections and more, raw and labels, as fib25.h5")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; repeatable")
    parser.add_argument("--out", type=Path, help="file for the JSON report")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small inputs, to try the parts")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--asked", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Print the table, and write the report."""
    begin, arguments = time.monotonic(), parsed()
    if arguments.part:
        return answer_part(arguments.part, arguments.asked)
    names = [name for name in PARTS if name in (arguments.only or PARTS)]
    with TemporaryDirectory(prefix="segkit-gpu-check-", ignore_cleanup_errors=True) as name:
        python, folder = sys.executable, Path(name)
        data = str(Path(arguments.data).absolute()) if arguments.data else None
        try:
            python = install(arguments.wheels.absolute(), folder) if arguments.wheels else python
            wanted = Wanted(arguments.device, arguments.tiny, data, python, folder)
            outcomes = check(names, wanted, begin + 60 * arguments.minutes - RESERVE)
        except Failed as error:
            outcomes = [Outcome("install", "failed", time.monotonic() - begin, str(error))]
    print(table(outcomes))
    if arguments.out:
        report = {"device": arguments.device, "tiny": arguments.tiny, "seconds": time.monotonic() - begin}
        report |= {"succeeded": succeeded(outcomes), "parts": outcomes}
        arguments.out.write_text(json.dumps(report, default=vars, indent=2) + "\n")
    return 0 if succeeded(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
