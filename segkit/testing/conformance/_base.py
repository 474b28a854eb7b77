"""What every component promises, whatever its kind."""

import json
import pickle
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from segkit import threads
from segkit.errors import InvalidInput, SegkitError
from segkit.parameters import convert, parameters, parse_assignments
from segkit.protocols import API_VERSION
from segkit.registry import find
from segkit.testing.conformance._compare import LAYOUTS, assert_apart, assert_same, laid_out, snapshot

THREADS = (1, 2, 5)
SETTINGS = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors, HealthCheck.too_slow],
)
"""For tests on any volume: the same examples each time."""


def core(test: Callable) -> Callable:
    """Mark a test of a suite that runs with each of `parameters`, since its outcome may depend on them."""
    test.core = True  # type: ignore[attr-defined]  # any function takes attributes
    return test


class Conformance:
    """A suite that a plugin's test class inherits; it states `name`, or overrides `create` or the fixture `component`.

    Every test runs with the first of `parameters`. With the others the core of the suite does the same: results are
    valid and right, inputs stay as they are, equal inputs give equal results in any memory layout and with any number
    of threads. The rest (messages, files, odd inputs) is marked `slow` for them, so that ``pytest`` runs all and
    ``pytest -m "not slow"`` leaves out what seldom depends on parameters.

    >>> class TestMine(Conformance):  # from one of the suites that segkit.testing offers
    ...     name = "my-agglomerator"
    """

    kind: ClassVar[str]
    """One of segkit.protocols.GROUPS."""
    name: ClassVar[str] = ""
    """The registered name, or ``distribution:name``."""
    parameters: ClassVar[Sequence[Mapping[str, object]]] = ({},)
    """What components are made with: every test runs with the first, the core with each, the rest with each if slow."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run every test with each of `parameters`; what is not core is slow with all but the first."""
        if "values" in metafunc.fixturenames:
            names = [", ".join(f"{k}={v}" for k, v in values.items()) or "defaults" for values in self.parameters]
            marks = () if hasattr(metafunc.function, "core") else pytest.mark.slow
            first, *others = self.parameters
            cases = [first, *(pytest.param(values, marks=marks) for values in others)]
            metafunc.parametrize("values", cases, ids=names)

    def create(self, **values: Any) -> Any:
        """The component with these parameters."""
        return find(self.kind, self.name).create(**values)

    @pytest.fixture(autouse=True)
    def one_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Small volumes are done sooner without other threads; the tests of threads ask for more."""
        monkeypatch.setattr(threads, "_limit", [1])

    @pytest.fixture
    def component(self, values: Mapping[str, object]) -> Any:
        """The component that is tested."""
        return self.create(**values)

    @pytest.fixture(autouse=True)
    def claims(self, component: Any) -> None:
        """What the component's `segkit_claims` say goes before the attributes of the class."""
        for name, value in getattr(component, "segkit_claims", {}).items():
            known = hasattr(type(self), name) and name not in ("kind", "name", "parameters")
            assert known and not callable(getattr(self, name)), f"segkit_claims: {name!r} is no claim of this suite"
            setattr(self, name, value)

    def example(self, component: Any, seed: int = 0) -> tuple:
        """Inputs that it takes; other seeds give others of the same size."""
        raise NotImplementedError

    def call(self, component: Any, *inputs: Any) -> Any:
        """What it makes of them."""
        raise NotImplementedError

    def rearranged(self, inputs: tuple, layout: str) -> tuple:
        """The same inputs in another memory layout."""
        return laid_out(inputs, layout)

    tolerance: ClassVar[float] = 0.0
    """By how much results may differ from run to run, relative and absolute."""
    layout_tolerance: ClassVar[float] = 0.0
    """By how much they may differ where inputs have other strides."""

    def test_parameters(self, component: Any) -> None:
        """Its parameters are explicit, typed and have defaults."""
        for parameter in parameters(type(component)).values():
            assert not parameter.required, f"parameter {parameter.name!r} has no default"

    def test_defaults(self, component: Any) -> None:
        """Its defaults, written as --set NAME=VALUE, come back the same."""
        known = parameters(type(component))
        written = {p.name: _as_text(p.default) for p in known.values() if p.default is not None and not p.required}
        values = parse_assignments(f"{name}={text}" for name, text in written.items())
        try:
            convert(known, values, "the component")
        except SegkitError as error:
            pytest.fail(f"a default is refused: {error}")
        for name, value in values.items():
            default = json.loads(json.dumps(known[name].default))
            assert value == default, f"{name} = {default!r} comes back as {value!r}"

    def test_api_version(self, component: Any) -> None:
        """It was written for this version of the plug points."""
        stated = getattr(component, "segkit_api", API_VERSION)
        assert stated == API_VERSION, f"segkit_api is {stated!r}, and the plug points have version {API_VERSION!r}"

    def test_prints_nothing(self, component: Any, capfd: pytest.CaptureFixture[str]) -> None:
        """It prints nothing."""
        self.call(component, *self.example(component))
        sys.stdout.flush()
        printed = "".join(capfd.readouterr())
        assert not printed, f"it printed {printed[:80]!r}"

    def test_writes_no_file(self, component: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It writes no file where it is called."""
        monkeypatch.chdir(tmp_path)
        self.call(component, *self.example(component))
        written = sorted(path.name for path in tmp_path.iterdir())
        assert not written, f"it wrote {', '.join(written)}"

    @core
    def test_random_state(self, component: Any) -> None:
        """It leaves the global random numbers alone."""
        inputs = self.example(component)
        before = _random_states()
        self.call(component, *inputs)
        for library, state in _random_states().items():
            assert before.get(library, state) == state, f"it took random numbers of {library}, seeded for all"

    @core
    def test_input_unchanged(self, component: Any) -> None:
        """It changes no input."""
        inputs = self.example(component)
        before = snapshot(inputs)
        self.call(component, *inputs)
        assert_same(before, snapshot(inputs), "an input changed")

    @core
    def test_nothing_shared(self, component: Any) -> None:
        """What it returns shares no memory with an input or an earlier result."""
        inputs = self.example(component)
        first = self.call(component, *inputs)
        assert_apart(first, inputs, "an input")
        second = self.call(component, *inputs)
        assert_apart(second, first, "an earlier result")

    @core
    def test_repeats(self, component: Any) -> None:
        """Equal inputs give equal results, whatever came between, and earlier results stay as they were."""
        inputs = self.example(component)
        first = self.call(component, *inputs)
        kept = snapshot(first)
        self.call(component, *self.example(component, seed=1))
        assert_same(kept, first, "an earlier result changed", 0)
        assert_same(kept, self.call(component, *inputs), "the second result differs", self.tolerance)

    @core
    def test_thread_limit(self, component: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The result is the same at any number of threads."""
        inputs = self.example(component)
        results = []
        for count in THREADS:
            monkeypatch.setattr(threads, "_limit", [count])
            with _torch_threads(count):
                results.append(self.call(component, *inputs))
        for count, result in zip(THREADS, results, strict=True):
            assert_same(results[0], result, f"with {count} threads instead of 1", self.tolerance)

    @core
    def test_calls_at_once(self, component: Any) -> None:
        """Calls from several threads at once do not disturb each other."""
        examples = [self.example(component, seed) for seed in (0, 1)]
        with ThreadPoolExecutor(len(examples)) as pool:
            results = list(pool.map(lambda inputs: self.call(component, *inputs), examples))
        for inputs, result in zip(examples, results, strict=True):
            assert_same(self.call(component, *inputs), result, "at the same time as others", self.tolerance)

    @core
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_memory_layout(self, component: Any, layout: str) -> None:
        """Fortran order, strides and reversed views make no difference."""
        inputs, tolerance = self.example(component), max(self.tolerance, self.layout_tolerance)
        result = self.call(component, *self.rearranged(inputs, layout))
        assert_same(self.call(component, *inputs), result, f"with {layout} inputs", tolerance)

    def test_pickle(self, component: Any) -> None:
        """A pickled copy, in a worker process say, works the same."""
        try:
            copy = pickle.loads(pickle.dumps(component))
        except Exception as error:
            pytest.fail(f"it cannot be pickled: {error}")
        inputs = self.example(component)
        assert_same(self.call(component, *inputs), self.call(copy, *inputs), "the copy differs", self.tolerance)


def refused(call: Callable, *inputs: Any, names: Sequence[str]) -> None:
    """Fail unless the call raises an error of segkit whose sentence holds one of `names`."""
    try:
        call(*inputs)
    except SegkitError as error:
        assert any(name in str(error) for name in names), f"the error names none of {', '.join(names)}: {error}"
    except Exception as error:
        pytest.fail(f"it raised {type(error).__name__}, which is no error of segkit: {error}")
    else:
        pytest.fail("it was taken without an error")


def same_or_refused(
    expected: Any, call: Callable, *inputs: Any, what: str, compare: Callable[[Any, Any, str], None] = assert_same
) -> None:
    """Fail if the call succeeds with another result; refusing is fair."""
    try:
        found = call(*inputs)
    except InvalidInput:
        return
    compare(expected, found, what)


def _as_text(default: object) -> str:
    return json.dumps(default) if isinstance(default, str | bool | list | tuple) else str(default)


def _random_states() -> dict[str, object]:
    states: dict[str, object] = {"random": random.getstate(), "numpy.random": pickle.dumps(np.random.get_state())}  # noqa: NPY002
    torch = sys.modules.get("torch")
    return states if torch is None else states | {"torch": torch.get_rng_state().tolist()}


class _torch_threads:
    """Let torch, where it is loaded, use so many threads."""

    def __init__(self, count: int) -> None:
        self.torch, self.count = sys.modules.get("torch"), count

    def __enter__(self) -> None:
        if self.torch is not None:
            self.before = self.torch.get_num_threads()
            self.torch.set_num_threads(self.count)

    def __exit__(self, *_: object) -> None:
        if self.torch is not None:
            self.torch.set_num_threads(self.before)
