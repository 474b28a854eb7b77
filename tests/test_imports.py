"""What imports what: the layers, the places of heavy libraries, and how much a fresh process loads."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import segkit

ROOT = Path(segkit.__file__).parent
LAYERS = [
    {"errors", "threads", "timing", "memory", "system", "picture", "curves", "kernels"},
    {"data"},
    {"parameters"},
    {"protocols"},
    {"registry"},
    {"io"},
    {"blockwise"},
    {"models", "losses", "health"},
    {"infer", "fragment", "fit", "agglomerate", "segment", "evaluate"},
    {"fuse"},  # the three stages in one
    {"train"},  # it scores networks by what the other stages make of them
    {"run", "benchmark", "convert", "scaffold", "tune"},
    {"view", "report"},
    {"testing"},
    {"demo"},
    {"cli"},
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
EXCEPTIONS = {("protocols", "segkit.agglomerate.rag")}
"""A plug point that builds the graph for its implementations, when it is called."""
PLACES = {
    "torch": {
        "models",
        "losses",
        "train",
        "infer",
        "agglomerate/gpu.py",
        "benchmark/infer.py",
        "benchmark/loss_step.py",
        "benchmark/train_step.py",
        "testing/predictions.py",
        "testing/pytest_plugin.py",
        "testing/conformance/models.py",
        "testing/conformance/losses.py",
    },
    "lightning_fabric": {"train/fabric.py"},
    "lightning": set(),  # its trainer, which is slow to import
    "click": {"cli"},
    "rich": {"cli"},
    "pytest": {"testing"},
    "hypothesis": {"testing"},
    "h5py": {"io"},
    "zarr": {"io"},
    "tifffile": {"io"},
    "tensorstore": {"io"},
    "hdf5plugin": {"io"},
    "mrcfile": {"io"},
    "nibabel": {"io"},
    "nrrd": {"io"},
    "kimimaro": {"evaluate/skeletonize.py"},
    "dask": {"blockwise"},
    "neuroglancer": {"view"},
    "distributed": {"blockwise"},
    "dask_jobqueue": {"blockwise"},
    "entrypoints": {"registry"},
    "jinja2": {"report"},
    "matplotlib": {"report", "tune/plot.py"},
    "optuna": {"tune/trials.py"},
}
"""Library -> the packages, or single modules, that may import it."""
MODULES = sorted(ROOT.rglob("*.py"))


@cache
def imports(path):
    """Absolute names of all modules that a file imports, nested imports included, those for type checkers not."""
    return list(names_imported(path))


def names_imported(path):
    tree = ast.parse(path.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            skipped |= {id(inner) for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from [f"segkit.{alias.name}" for alias in node.names] if node.module == "segkit" else [node.module]


def package_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_imports_point_left():
    places = {package_of(path) for path in MODULES} - {"__init__"}
    assert places <= LAYER.keys(), f"the places of {', '.join(sorted(places - LAYER.keys()))} are not stated"
    offences = [offence for path in MODULES for offence in imports_to_the_right(path)]
    assert not offences, "\n".join(offences)


def imports_to_the_right(path):
    """A sentence for each import of a package that lies beside or to the right of the file's own."""
    package = package_of(path)
    for name in imports(path) if package in LAYER else ():
        head, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if head != "segkit" or other == package or other not in LAYER or (package, name) in EXCEPTIONS:
            continue
        if LAYER[other] >= LAYER[package]:
            yield f"{path.relative_to(ROOT)} imports {name}, which lies beside segkit.{package} or to its right"


def test_libraries_stay_in_their_places():
    offences = [offence for path in MODULES for offence in misplaced_libraries(path)]
    assert not offences, "\n".join(offences)


def misplaced_libraries(path):
    """A sentence for each import of a library that belongs elsewhere."""
    places = {package_of(path), str(path.relative_to(ROOT))}
    for library in {name.partition(".")[0] for name in imports(path)}:
        if library == "numba" and not path.name.startswith("_kernels") and "kernels" not in places:
            yield f"numba belongs into segkit/kernels/ and files named _kernels*.py, not {path.relative_to(ROOT)}"
        if not places & PLACES.get(library, places):
            yield f"{library} is imported by {path.relative_to(ROOT)}"


def loaded(code):
    """The libraries that a fresh process has loaded after `code`."""
    program = f"import sys\n{code}\nprint('LOADED', *sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


HEAVY = {
    "torch",
    "lightning_fabric",
    "numba",
    "dask",
    "scipy",
    "skimage",
    "higra",
    "h5py",
    "zarr",
    "pydantic",
    "matplotlib",
    "jinja2",
}


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import segkit", HEAVY | {"numpy"}),
        ("import segkit.data, segkit.protocols, segkit.registry, segkit.io", HEAVY),
        ("import segkit.registry; segkit.registry.components('models')", HEAVY),
        ("from segkit.cli.main import main; main(['--help'], standalone_mode=False)", HEAVY),
        ("import segkit.train.run", {"lightning_fabric", "lightning", "tensorboard"}),
    ],
)
def test_a_fresh_process_loads_little(code, unwanted):
    assert not loaded(code) & unwanted


@pytest.mark.parametrize("normalisation", ["none", "instance", "batch", "group"])
def test_a_network_is_built_and_used_without_a_compiler(normalisation):
    """Whose import takes longer than that of torch, and which has nothing to do where tensors have no values."""
    code = f"""
import torch
from segkit.infer.memory import bytes_of_pass
from segkit.models.size import check_size
from segkit.registry import find
parameters = dict(features=2, growth=1, pooling=[[1, 2, 2]], padding="same", normalisation={normalisation!r})
check_size(find("models", "unet3d"), parameters)
module = find("models", "unet3d").create(**parameters)
assert bytes_of_pass(module, (1, 1, 4, 16, 16))[1] == 3 * 4 * 4 * 16 * 16
with torch.inference_mode():
    module.eval()(torch.zeros(1, 1, 4, 16, 16))
"""
    assert not loaded(code) & {"sympy", "triton"}


def test_this_test_sees_what_is_loaded():
    assert {"numpy", "h5py"} <= loaded("import segkit.io.hdf5")


def test_the_top_level():
    assert set(segkit.__all__) <= set(dir(segkit))
    for name in segkit.__all__:
        assert getattr(segkit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = segkit.nonsense
