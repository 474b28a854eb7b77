"""Volumes larger than memory, measured: python benchmarks/by_blocks.py INPUT.h5 [--repeat 4] [--part NAME ...].

INPUT has affinities and true labels, of 256^3 voxels say. Of it are made volumes on disk: it is repeated along all axes
with ids of its own in each copy, and moved by some voxels, so that copies do not end where blocks do.

- large: from affinities to scores on the largest volume: megavoxels a second and peak memory a worker for each stage.
- memory: the same on a volume with an eighth of the voxels: peaks must not grow with the volume.
- workers: fragments and region graph by one process and by two.
- overhead: fragments and tree by blocks, in one process of one thread, against the whole volume at once.
- seams: fragments of INPUT by small blocks, with several halos, against those of the whole.
- fused: what `segkit fuse` keeps on disk in place of affinities, and what these take as uint8, of an eighth of the
  voxels.
- graph: what the last step of agglomeration holds, with merges inside the blocks and without.

Writes benchmarks/results/blockwise.json after each part, and rewrites the tables in
docs/results/benchmarks.md.
"""

import argparse
import json
import subprocess
import time
from pathlib import Path

import numpy as np
from recipes import keep, publish, read
from report import PAGES

from segkit import io
from segkit.agglomerate.stage import agglomerate_files
from segkit.benchmark.measure import machine
from segkit.benchmark.process import in_fresh_process
from segkit.blockwise import ComponentSpec, Work, open_executor, rows
from segkit.blockwise.blocks import Lattice
from segkit.data.affinities import as_levels
from segkit.evaluate.stage import evaluate_files
from segkit.fragment.stage import HALO, fragment_files
from segkit.fuse.fused import FusedAffinities
from segkit.io import Form, RegionSource
from segkit.io.shard_target import ShardTarget
from segkit.registry import load
from segkit.segment import segment
from segkit.segment.stage import segment_files

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "blockwise.json"
SHIFT = 100
"""Voxels by which copies are moved against blocks."""
THRESHOLD = 0.5
HALOS = (8, 16, 24)
PARTS = ("large", "memory", "workers", "overhead", "seams", "graph", "fused")


def copies(source: Path, out: Path, repeat: int, block: int) -> Path:
    """A Zarr store of affinities and truth, `repeat` times as long along each axis; not made again."""
    path = out / f"copies-{repeat}.zarr"
    if not io_done(path):
        affinities, truth = io.read_affinities(source), io.read_labels(source)
        shape = tuple(repeat * size for size in truth.shape)
        lattice = Lattice(shape, (block,) * 3)
        place = {"shard": lattice.block, "key": f"{source.name} {SHIFT}"}
        values = ShardTarget.create(path, Form("affinities", shape, truth.grid, affinities.neighborhood), **place)
        labels = ShardTarget.create(path, Form("truth", shape, truth.grid), **place)
        for each in lattice:
            values.write(each.inner, wrapped(affinities.array, each.inner)[0])
            ids, copy = wrapped(truth.array, each.inner)
            labels.write(each.inner, np.where(ids, ids + copy * np.uint64(2**32), 0))
        values.finish()
        labels.finish()
    return path


def io_done(path: Path) -> bool:
    """Whether both volumes are there."""
    return path.exists() and io.exists(path, "affinities") and io.exists(path, "truth")


def wrapped(array: np.ndarray, box) -> tuple[np.ndarray, np.ndarray]:
    """A box of the endless repetition of an array, and which copy each voxel belongs to, numbered from 0."""
    copy = np.zeros((1, 1, 1), np.uint64)
    for axis, part in enumerate(box):
        size = array.shape[axis - 3]
        positions = np.arange(part.start, part.stop) + SHIFT
        array = array.take(positions % size, axis - 3)
        number = (positions // size).astype(np.uint64).reshape([-1 if a == axis else 1 for a in range(3)])
        copy = copy * np.uint64(2**10) + number
    return array, copy


def pipeline(store: Path, out: Path, workers: int, block: int, *, until: str = "scores") -> dict:
    """Affinities to scores by blocks. The rows of all stages, and the scores."""
    made = {name: out / f"{name}.zarr" for name in ("fragments", "tree", "segmentation")}
    with open_executor(f"local:{workers}", workers) as executor:  # one thread each
        work = Work((block,) * 3, executor=executor)
        warm_up(executor, out)
        fragment_files(store, made["fragments"], ComponentSpec("fragmenters", "watershed"), work=work)
        mean = ComponentSpec("agglomerators", "python", {"score": "mean"})
        found = agglomerate_files(store, made["fragments"], made["tree"], mean, work=work)
        result = counted(found)
        if until == "scores":
            segment_files(made["tree"], made["segmentation"], [THRESHOLD], fragments=made["fragments"], work=work)
            metrics = {"cremi": load("metrics", "cremi")}
            result["scores"] = evaluate_files(made["segmentation"], [store], metrics, work=work).scores
            paths = {"affinities": store / "volumes" / "affinities", **made}  # not with the truth
            result["bytes"] = {name: stored(path) for name, path in paths.items()}
    return result | {"stages": rows(work.ended)}


def counted(found) -> dict:
    """Fragments and merges of a tree that was made by blocks, and the sizes of its graphs."""
    tree = found.tree
    return {"fragments": len(tree.leaf_ids), "merges": len(tree.altitudes), "graph": found.graph}


def warm_up(executor, out: Path) -> None:
    """Let every process load the compiled kernels: on a small volume, that is no part of the measurement."""
    rng = np.random.default_rng(0)
    small = out / "warm.zarr"
    from segkit import Affinities, Grid

    values = Affinities(rng.random((3, 32, 32, 64), np.float32), [(-1, 0, 0), (0, -1, 0), (0, 0, -1)], Grid())
    io.write(small, values)
    work = Work((32, 32, 64 // max(2 * executor.workers, 1)), executor=executor)
    fragment_files(small, out / "warm-fragments.zarr", ComponentSpec("fragmenters", "watershed"), work=work)
    mean = ComponentSpec("agglomerators", "python", {"score": "mean"})
    agglomerate_files(small, out / "warm-fragments.zarr", out / "warm-tree.zarr", mean, work=work)


def stored(path: Path) -> int:
    """Bytes of all files in a store."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def fresh(folder: Path) -> Path:
    """An empty folder."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.mkdir(parents=True)
    return folder


def large(options) -> dict:
    """The largest volume, by two processes."""
    store = copies(options.input, options.work, options.repeat, options.block)
    return pipeline(store, fresh(options.work / "large"), 2, options.block)


def memory(options) -> dict:
    """An eighth of it."""
    store = copies(options.input, options.work, max(options.repeat // 2, 1), options.block)
    return pipeline(store, fresh(options.work / "memory"), 2, options.block)


def workers(options) -> dict:
    """Fragments and region graph by one process of one thread, and by two."""
    store = copies(options.input, options.work, max(options.repeat // 2, 1), options.block)
    found = {}
    for count in (1, 2):
        out = fresh(options.work / f"workers-{count}")
        found[str(count)] = pipeline(store, out, count, options.block, until="tree")["stages"]
    return found


def overhead(options) -> dict:
    """The volume at once, and by blocks, each in a process of its own with one thread."""
    store = copies(options.input, options.work, max(options.repeat // 2, 1), options.block)
    found = {}
    for how in ("whole", "blocks"):
        asked = {"how": how, "store": str(store), "out": str(fresh(options.work / how)), "size": options.block}
        found[how] = in_fresh_process("by_blocks:whole_or_blocks", asked)
        if "error" in found[how]:
            raise RuntimeError(found[how]["error"])
    return found


def whole_or_blocks(*, how: str, store: str, out: str, size: int) -> dict:
    """Fragments, tree and segmentation written to disk: seconds and peak memory; called in a fresh process."""
    from segkit.blockwise import open_executor
    from segkit.memory import peak
    from segkit.threads import set_thread_limit

    set_thread_limit(1)
    folder = Path(out)
    with open_executor() as executor:
        warm_up(executor, folder)
        begin = time.perf_counter()
        work = Work((size,) * 3, executor=executor)
        if how == "whole":
            affinities = io.read_affinities(store)
            fragments = load("fragmenters", "watershed").fragment(affinities)
            io.write(folder / "fragments.zarr", fragments, "fragments")
            tree = load("agglomerators", "python").agglomerate(affinities, fragments)
            io.write(folder / "tree.zarr", tree)
            io.write(folder / "segmentation.zarr", segment(tree, fragments, THRESHOLD), "segmentation")
        else:
            made = {name: folder / f"{name}.zarr" for name in ("fragments", "tree", "segmentation")}
            fragment_files(store, made["fragments"], ComponentSpec("fragmenters", "watershed"), work=work)
            mean = ComponentSpec("agglomerators", "python", {"score": "mean"})
            agglomerate_files(store, made["fragments"], made["tree"], mean, work=work)
            segment_files(made["tree"], made["segmentation"], [THRESHOLD], fragments=made["fragments"], work=work)
        seconds = time.perf_counter() - begin
    return {"seconds": seconds, "peak_bytes": peak(), "stages": rows(work.ended)}


def seams(options) -> list[dict]:
    """How far fragments by blocks are from those of the whole volume."""
    affinities, truth = io.read_affinities(options.input), io.read_labels(options.input)
    out, found = fresh(options.work / "seams"), []
    for name in ("watershed", "affinity-watershed"):
        whole = load("fragmenters", name).fragment(affinities)
        expected = merged_scores(affinities, whole, truth)
        for halo in HALOS:
            block = truth.shape[0] // 2
            spec, made = ComponentSpec("fragmenters", name), out / f"{name}-{halo}.zarr"
            fragment_files(options.input, made, spec, work=Work((block,) * 3, (halo,) * 3))
            fragments = io.read_labels(made, role="fragments")
            scores = merged_scores(affinities, fragments, truth)
            change = sum(scores[key] - expected[key] for key in ("voi_split", "voi_merge"))
            ends = [across(labels.array, block) for labels in (fragments, whole)]
            row = {"fragmenter": name, "block": block, "halo": halo, "voi_change": change}
            found.append(row | {"across_faces": ends[0], "across_faces_of_the_whole": ends[1]})
    return found


def merged_scores(affinities, fragments, truth) -> dict:
    """Of the segmentation at the threshold, by mean affinity."""
    tree = load("agglomerators", "python").agglomerate(affinities, fragments)
    return load("metrics", "voi").score(segment(tree, fragments, THRESHOLD), truth)


def across(labels: np.ndarray, block: int) -> int:
    """How many fragments end at the faces of blocks or go through: those beside each face, on either side, counted."""
    count = 0
    for axis in range(3):
        for place in range(block, labels.shape[axis], block):
            planes = labels.take([place - 1, place], axis)
            count += len(np.setdiff1d(np.unique(planes), [0]))
    return count


def graph(options) -> dict:
    """The last step of agglomeration with the graphs reduced before, and with the graph of the whole volume."""
    store = copies(options.input, options.work, max(options.repeat // 2, 1), options.block)
    out = fresh(options.work / "graph")
    block = (options.block // 2,) * 3
    spec = ComponentSpec("fragmenters", "affinity-watershed")
    with open_executor("local:2") as executor:
        fragment_files(store, out / "fragments.zarr", spec, work=Work(block, executor=executor))
    found = {}
    for name, parameters in (("mean", {}), ("quantile", {"score": "quantile", "quantile": 0.75})):
        for whole in (True, False):
            with open_executor("local:1", 1) as executor:  # a process of its own, whose memory nobody used before
                work = Work(block, executor=executor)
                backend = ComponentSpec("agglomerators", "python", parameters)
                places = (store, out / "fragments.zarr", out / f"{name}-{whole}.zarr", backend)
                outcome = agglomerate_files(*places, whole_graph=whole, work=work)
            found[f"{name}, {'whole' if whole else 'reduced'}"] = counted(outcome) | {"stages": rows(work.ended)}
    return found


def fused(options) -> dict:
    """Bytes of affinities as uint8, and of what is kept without them until there is a region graph; and its graphs.

    The affinities on disk stand for those of a network.
    """
    store = copies(options.input, options.work, max(options.repeat // 2, 1), options.block)
    out, source = fresh(options.work / "fused"), RegionSource(store, "affinities")
    lattice = Lattice(source.shape, (options.block,) * 3, (HALO,) * 3)
    form = Form("affinities", source.shape, source.grid, source.neighborhood, np.dtype(np.uint8))
    levels = ShardTarget.create(out / "levels.zarr", form, lattice.block, key="levels")
    for each in lattice:
        levels.write(each.inner, as_levels(source.read(each.inner)))
    levels.finish()
    watershed = ComponentSpec("fragmenters", "watershed")
    mean = ComponentSpec("agglomerators", "python", {"score": "mean"})
    passing = FusedAffinities(source, lattice, mean, watershed, None, out / "kept")
    with open_executor("local:2", 2) as executor:
        work = Work(lattice.block, executor=executor)
        warm_up(executor, out)
        fragment_files(passing, out / "fragments.zarr", watershed, work=work)
        kept = {name: stored(out / "kept" / name) for name in ("inside", "leaving", "seats")}
        found = agglomerate_files(passing, out / "fragments.zarr", out / "tree.zarr", mean, work=work)
    sizes = {
        "voxels": int(np.prod(source.shape)),
        "blocks_along": lattice.counts[0],
        "uint8": stored(out / "levels.zarr"),
        "kept": kept,
    }
    return counted(found) | sizes | {"stages": rows(work.ended)}


def table(results: dict) -> str:
    """The Markdown of the largest volume, and what else was measured in sentences."""
    lines = [
        "Made by `python benchmarks/by_blocks.py INPUT.h5` (see its first lines for the input), on "
        f"{results['machine']['cores']} cores.",
        "",
    ]
    found = results["parts"]
    if "large" in found:
        voxels = "x".join(map(str, results["shapes"]["large"]))
        lines += [
            f"{voxels} voxels, two processes, blocks of {results['block']}:",
            "",
            "| stage | blocks | seconds | megavoxels/s | peak a worker, MB |",
            "|---|--:|--:|--:|--:|",
        ]
        for row in found["large"]["stages"]:
            speed = f"{row['megavoxels_per_second']:.2f}" if row["megavoxels_per_second"] else ""
            peak = (row["peak_bytes"] or 0) / 1e6
            lines.append(f"| {row['stage']} | {row['blocks']} | {row['seconds']:.1f} | {speed} | {peak:.0f} |")
        lines.append("")
    return "\n".join(lines + sentences(found))


PETAVOXEL = 1e15
HOURS = 3600


def plan(results: dict) -> str:
    """The Markdown of what a petavoxel would cost, from the largest volume that was measured."""
    large, voxels = results["parts"]["large"], float(np.prod(results["shapes"]["large"]))
    blocks, factor = PETAVOXEL / results["block"] ** 3, PETAVOXEL / voxels
    fragments = large["fragments"] * factor
    edges = large["graph"]["region graph"]["total_edges"] * factor
    size = {name: count * factor / 1e12 for name, count in large["bytes"].items()}
    lines = [
        f"From {voxels / 1e6:.0f} megavoxels by two workers of one thread, blocks of {results['block']} "
        f"({blocks / 1e6:.0f} million blocks a stage):",
        "",
        "| stage | seconds of a worker a block | core years |",
        "|---|--:|--:|",
    ]
    for row in large["stages"]:
        each = row["work_seconds"] / row["blocks"]
        years = row["work_seconds"] * factor / HOURS / 24 / 365
        lines.append(f"| {row['stage']} | {each:.2f} | {years:.1f} |")
    stored = ", ".join(f"{name} {count:,.0f} TB" for name, count in size.items())
    lines += [
        "",
        f"Objects: {fragments:.1e} fragments, {edges:.1e} edges of the region graph (counted in each block "
        f"that has them). Storage, compressed as here: {stored}. The driver's tree, at 150 bytes a fragment: "
        f"{150 * fragments / 1e12:,.0f} TB.",
    ]
    if "fused" in results["parts"]:
        found = results["parts"]["fused"]
        each = PETAVOXEL / found["voxels"] / 1e12
        along = found["blocks_along"]  # the first of them has no face with another before it
        faces = (found["kept"]["leaving"] * along / (along - 1) + found["kept"]["seats"]) * each
        lines += [
            "",
            f"Affinities as uint8 (`segkit infer --dtype uint8`) take {found['uint8'] * each:,.0f} TB. Without "
            "affinities on disk (`segkit fuse`) there are, until the region graph is made, "
            f"{found['kept']['inside'] * each:,.0f} TB of graphs of blocks and {faces:,.0f} TB of affinities at their "
            "faces; the network computes up to 1.42 times the voxels.",
        ]
    return "\n".join(lines)


def sentences(found: dict) -> list[str]:
    """What the other parts came to."""
    lines = []
    if {"memory", "large"} <= set(found):
        small, big = (peak_of(found[part]["stages"]) for part in ("memory", "large"))
        lines.append(f"- Peak memory of a worker: {small:.0f} MB, and {big:.0f} MB for 8 times the voxels.")
    if "workers" in found:
        one, two = (seconds_of(found["workers"][count]) for count in "12")
        lines.append(
            f"- Fragments and region graph: {one:.1f} s by one process, {two:.1f} s by two ({one / two:.2f}x)."
        )
    if "overhead" in found:
        whole, blocks = (found["overhead"][how]["seconds"] for how in ("whole", "blocks"))
        at_once, parts = found["overhead"]["whole"]["peak_bytes"] / 1e6, found["overhead"]["blocks"]["stages"]
        lines.append(
            f"- In one process of one thread: {whole:.1f} s for the whole volume at once, {blocks:.1f} s by blocks "
            f"({100 * (blocks / whole - 1):+.0f} %); memory {at_once:.0f} MB and {peak_of(parts):.0f} MB."
        )
    for row in found.get("seams", ()):
        lines.append(
            f"- {row['fragmenter']}, blocks of {row['block']}, halo {row['halo']}: the VOI after agglomeration changes "
            f"by {row['voi_change']:+.4f} bits; {row['across_faces']:,} fragments lie at faces, and "
            f"{row['across_faces_of_the_whole']:,} at the same planes of the whole volume."
        )
    for name in ("mean", "quantile") if "graph" in found else ():
        sizes = [last_step(found["graph"][f"{name}, {how}"]) for how in ("whole", "reduced")]
        text = ", ".join(f"{edges} edges and {peak / 1e6:.0f} MB" for edges, peak in sizes)
        lines.append(f"- The last step of agglomeration by {name}, without and with merges inside the blocks: {text}.")
    return lines


def seconds_of(stages: list[dict]) -> float:
    """Of fragments, their ids, and region graph, by the clock."""
    return sum(row["seconds"] for row in stages if not row["stage"].startswith("reduce"))


def peak_of(stages: list[dict]) -> float:
    """The most memory of any worker in any stage, in MB."""
    return max(row["peak_bytes"] or 0 for row in stages) / 1e6


def last_step(outcome: dict) -> tuple[int, int]:
    """Edges and peak memory."""
    row = outcome["stages"][-1]
    return outcome["graph"][row["stage"]]["edges"], row["peak_bytes"] or 0


def main() -> None:
    """Measure, keep and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="a file with affinities and truth")
    parser.add_argument("--repeat", type=int, default=4, help="copies along each axis in the largest volume")
    parser.add_argument("--block", type=int, default=256, help="edge of a block, voxels")
    parser.add_argument("--work", type=Path, default=HERE / "inputs" / "blockwise", help="where volumes are made")
    parser.add_argument("--part", dest="parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--no-page", action="store_true", help="leave the tables as they are")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    results = read(RESULTS) or {"parts": {}}
    edge = io.shape_of(options.input, "truth")
    shapes = {"large": [options.repeat * size for size in edge]}
    results |= {"machine": machine(), "block": options.block, "shapes": shapes}
    for part in options.parts:
        results["parts"][part] = globals()[part](options)
        keep(RESULTS, results)
        print(json.dumps({part: results["parts"][part]}, indent=2))
    if not options.no_page:
        publish(PAGES / "benchmarks.md", table(results), "blockwise")
        if "large" in results["parts"]:
            publish(PAGES / "benchmarks.md", plan(results), "plan")


if __name__ == "__main__":
    main()
