"""A step of training from a bucket beside one from a folder: python benchmarks/train_from_bucket.py [--size 192].

The volume is that of train_memory.py; the bucket is on an S3 server of this machine (moto's, in this process). `segkit
benchmark train` is called for both in turn, with a cache that holds a third of the volume and with one that holds all.
Prints JSON, or writes it to `--out`: medians of the seconds of a step of the loop, of those in which it waits for
patches, and of a step that reads its patches itself, nothing beside it.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]  # the server of the tests, and the volume

from train_memory import make  # noqa: E402

from segkit.benchmark.measure import machine  # noqa: E402
from tests.io.servers import BUCKET, Faults, put_all, s3_server  # noqa: E402

SETTINGS = ["model.features=4", "model.growth=2", "model.pooling=[[2,2,2]]", "model.padding=same", "patch=[56,56,56]"]


def steps(volume: str, cache: int, repeat: int) -> dict[str, float]:
    """The seconds of a step as `segkit benchmark train` tells them."""
    words = [str(Path(sys.executable).with_name("segkit")), "benchmark", "train", volume, "--loss", "bce", "--json"]
    words += ["--cache", f"{cache}", "--repeat", f"{repeat}", "--device", "cpu", "--threads", "1"]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    seconds = {row["part"]: row["seconds"] for row in found["rows"]}
    return {"step": seconds["loop"], "waiting": found["waiting"], "step_that_reads": seconds["reading"]}


def main() -> None:
    """Measure, and print or write the JSON."""
    parser = argparse.ArgumentParser(description="Time a step of training from a bucket and from a folder.")
    parser.add_argument("--size", type=int, default=192, help="voxels a side")
    parser.add_argument("--rounds", type=int, default=3, help="how often both are measured, in turn")
    parser.add_argument("--repeat", type=int, default=10, help="steps of each")
    parser.add_argument("--out", type=Path, help="a file for the JSON")
    given = parser.parse_args()
    voxels = 5 * given.size**3  # bytes in memory: uint8 and uint32
    rows = []
    with TemporaryDirectory() as folder, s3_server(Faults()):
        make(Path(folder), given.size)
        put_all(Path(folder), "train")
        places = {"folder": f"{folder}/volume.zarr", "bucket": f"s3://{BUCKET}/train/volume.zarr"}
        for name, cache in (("a third", voxels // 3), ("all", 4 * voxels)):
            found: dict[str, list] = {place: [] for place in places}
            for _ in range(given.rounds):
                for place, volume in places.items():
                    found[place].append(steps(volume, cache, given.repeat))
            row: dict = {"cache": name, "cache_bytes": cache}
            for place, each in found.items():
                row[place] = {key: statistics.median(one[key] for one in each) for key in each[0]}
            row["ratio"] = row["bucket"]["step"] / row["folder"]["step"]
            rows.append(row)
    text = json.dumps({"size": given.size, "rounds": given.rounds, "rows": rows, "machine": machine()}, indent=2)
    if given.out:
        given.out.write_text(f"{text}\n")
    print(text)


if __name__ == "__main__":
    main()
