"""A view: the layers, and what keys and clicks do."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import RLock

import neuroglancer
import numpy as np

from segkit.errors import InvalidInput, SegkitError, sentence
from segkit.io import RegionSource, fragments_of, read_merge_tree, read_notes
from segkit.io.address import Address
from segkit.io.lock import writing
from segkit.segment.uncertainty import contacts, joining_merge
from segkit.view.browser import opened
from segkit.view.layers import SLIDER, labels_layer, layer_of, layer_of_url, marks_layer, show_few
from segkit.view.marks import UNSURE, Mark, Scored, unsure
from segkit.view.served import METERS, Cut, Served
from segkit.view.things import Thing

FAR = 0.7
"""Voxels a pixel at first, at most: of a large volume less is read then."""
PANEL = 370
"""Pixels of a panel, about."""
STEP = 0.01
"""By how much a key moves the threshold; with shift, ten times that."""
KEYS = {
    "bracketleft": "lower",
    "bracketright": "higher",
    "shift+bracketleft": "much-lower",
    "shift+bracketright": "much-higher",
    "period": "next-mistake",
    "comma": "previous-mistake",
}
CUT = "segments"
"""The layer of the segmentation that follows the threshold."""
PLACES = "places to look at"
"""The layer of the marks."""


class Session:
    """What is shown, at :attr:`url`, for as long as the object lives.

    Parameters
    ----------
    found
        What :func:`segkit.view.things` found.
    threshold
        Where the first merge tree is cut at first, 0..1; None for the one that its run chose, or else 0.5.
    at
        The voxel in the middle of the view, z, y, x, counted from 0 in the first volume; None for its middle.
    position
        A place in the world instead, z, y, x in nm.
    bind, port
        Address and port to listen at; 0 for any that is free. Whoever knows the address with its token sees the data.
    """

    def __init__(
        self,
        found: Sequence[Thing],
        *,
        threshold: float | None = None,
        at: Sequence[int] | None = None,
        position: Sequence[float] | None = None,
        bind: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        neuroglancer.set_server_bind_address(bind, port)
        self.viewer = neuroglancer.Viewer()
        self.sources: dict[str, RegionSource] = {}
        self.volumes: dict[str, Served] = {}
        self.cut: Cut | None = None
        self.marks: list[Mark] = []
        self._mark = -1
        self._first: tuple[int, np.ndarray] | None = None
        self._scored: Scored | None = None
        self._seen: set[str] = set()
        self._identities: dict[str, str] = {}
        self._worker = ThreadPoolExecutor(1)
        self._moving = RLock()  # so that nobody sees the threshold moved and the slider not yet
        self._layers(found, threshold)
        self._place(at, position)
        self._keys()
        self._say("threshold", self._status_line())
        self._later(self._look_for_mistakes)

    @property
    def url(self) -> str:
        """The address of the page, with its token."""
        return str(self.viewer.get_viewer_url())

    @property
    def threshold(self) -> float | None:
        """Where the merge tree is cut; None if there is none."""
        return self.cut.threshold if self.cut else None

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        with self._moving:
            if self.cut is None or threshold == self.cut.threshold:
                return
            self.cut.threshold = threshold
            self.volumes[CUT].invalidate()
            with self.viewer.txn() as state:
                self._slide(state)
        self._say("threshold", self._status_line())
        self._later(self._look_for_mistakes)

    def save(self, path: Path, size: tuple[int, int] = (1400, 1000)) -> None:
        """Take a picture of `size` (width, height) pixels without a window, and write it as PNG; needs Chromium."""
        with self.viewer.txn() as state:
            state.selected_layer.visible = False
        with opened(self.url, size):
            found = self.viewer.screenshot(size=list(size))
        with writing(path) as half:
            half.write_bytes(found.screenshot.image)

    def refresh(self, found: Sequence[Thing] = ()) -> None:
        """Show anew what was written anew since it was read, and what of `found` was not there before."""
        new = [thing for thing in found if thing.role != "merge_tree" and isinstance(thing.address, Address)]
        new = [thing for thing in new if thing.key not in self._seen]
        if new:
            with self.viewer.txn() as state:
                for thing in new:
                    self._layer(state, thing)
        for name, source in self.sources.items():
            identity = source.identity
            if self._identities.setdefault(name, identity) != identity:
                self._identities[name] = identity
                self.volumes[name].invalidate()

    def select_largest(self, count: int) -> list[int]:
        """Select the largest segments of the layer that is shown, so that 3-D shows their surfaces; returns their ids.

        They are counted at the resolution of the surfaces.
        """
        with self.viewer.txn() as state:
            labels = (layer for layer in state.layers if layer.visible and layer.name in self.volumes)
            name = next((each.name for each in labels if isinstance(each.layer, neuroglancer.SegmentationLayer)), None)
            if name is None:
                return []
            ids, counts = np.unique(self.volumes[name].overview()[0], return_counts=True)
            largest = [int(ids[k]) for k in np.argsort(-counts, kind="stable") if ids[k]][:count]
            state.layers[name].layer.segments = set(largest)
        return largest

    def wait(self) -> None:
        """Wait until all work in the background is done: scores, marks, places."""
        self._worker.submit(lambda: None).result()

    def go_to(self, number: int) -> None:
        """Move the view to a mark, counted from 0, round and round."""
        if not self.marks:
            self._say("mark", "nothing is marked (yet)")
            return
        self._mark = number % len(self.marks)
        mark = self.marks[self._mark]
        with self.viewer.txn() as state:
            state.position = self._to_view(mark.position)
        self._say("mark", f"{self._mark + 1} of {len(self.marks)}: {mark.text}")

    def _layers(self, found: Sequence[Thing], threshold: float | None) -> None:
        with self.viewer.txn() as state:
            for thing in found:
                if isinstance(thing.address, str):
                    state.layers.append(name=thing.name, layer=layer_of_url(thing), visible=thing.shown)
                elif thing.role == "merge_tree":
                    if self.cut is None or thing.shown:
                        self._open_tree(thing, threshold)
                else:
                    self._layer(state, thing)
            if self.cut is not None:
                self.volumes[CUT] = Served(self.sources[CUT], self.cut, np.uint64, labels=True)
                self.volumes[CUT].complain = self._complain
                state.layers.append(name=CUT, layer=labels_layer(self.volumes[CUT]))
            show_few(state, CUT)
            self._slide(state)

    def _layer(self, state: neuroglancer.ViewerState, thing: Thing) -> None:
        source = self.sources[thing.name] = RegionSource(thing.address, thing.role)
        self._seen.add(thing.key)
        self.volumes[thing.name], layer = layer_of(thing, source)
        self.volumes[thing.name].complain = self._complain
        state.layers.append(name=thing.name, layer=layer, visible=thing.shown and thing.role != "mask")

    def _open_tree(self, thing: Thing, threshold: float | None) -> None:
        notes = read_notes(thing.address, "merge_tree")
        chosen = notes.get("chosen")
        if threshold is None:
            threshold = float(chosen["threshold"]) if isinstance(chosen, Mapping) else 0.5
        self.cut = Cut(read_merge_tree(thing.address), threshold)
        self.sources[CUT] = RegionSource(fragments_of(thing.address, notes), "fragments")

    def _slide(self, state: neuroglancer.ViewerState) -> None:
        """Let the slider stand at the threshold."""
        if self.cut is None or (name := self._slider(state)) is None:
            return
        layer = state.layers[name].layer
        controls = dict(layer.shader_controls.to_json() if layer.shader_controls else {})
        layer.shader, layer.shader_controls = SLIDER, controls | {"threshold": self.cut.threshold}

    def _slider(self, state: neuroglancer.ViewerState) -> str | None:
        """The layer that has the slider."""
        return next((layer.name for layer in state.layers if layer.name.startswith("raw")), None)

    def _place(self, at: Sequence[int] | None, place: Sequence[float] | None) -> None:
        """Look at the middle of the first volume, so near that voxels are seen, so far that much is."""
        if not self.sources:
            return
        source = next(iter(self.sources.values()))
        self.grid, shape = source.grid, source.shape
        middle = [size / 2 for size in shape] if at is None else [index + 0.5 for index in at]
        if at is not None and not all(0 <= index < size for index, size in zip(at, shape, strict=True)):
            rule = f"must be a voxel z,y,x of the first volume, which has {','.join(map(str, shape))}"
            raise InvalidInput(sentence("at", rule, ",".join(map(str, at))))
        size = np.array(self.grid.voxel_size)
        position = np.array(self.grid.offset) + np.array(middle) * size if place is None else np.array(place)
        extent = np.array(shape) * size / size.min()
        with self.viewer.txn() as state:
            z, y, x = (length * METERS for length in size)
            state.dimensions = neuroglancer.CoordinateSpace(names=["x", "y", "z"], units="m", scales=[x, y, z])
            state.position = self._to_view(position)
            state.cross_section_scale = min(max(extent[1:].max() / PANEL, 0.2), FAR)
            state.projection_scale = float(extent.max()) * 1.6
            state.layout = "4panel"
            state.show_axis_lines, state.show_scale_bar = False, True
            state.cross_section_background_color = "#101418"
            if self.cut is not None and (name := self._slider(state)) is not None:
                state.selected_layer.layer, state.selected_layer.visible = name, True

    def _to_view(self, position: Sequence[float] | np.ndarray) -> list[float]:
        """A place in the world, z, y, x in nm, in the coordinates of the page."""
        return [float(place / size) for place, size in zip(position[::-1], self.grid.voxel_size[::-1], strict=True)]

    def _keys(self) -> None:
        actions: dict[str, Callable] = {
            "next-mistake": lambda _: self.go_to(self._mark + 1),
            "previous-mistake": lambda _: self.go_to(max(self._mark, 0) - 1),
            "join": self._clicked,
        }
        for name, step in (("lower", -1), ("higher", 1), ("much-lower", -10), ("much-higher", 10)):
            actions[name] = lambda _, step=step: self._move(step)
        for name, action in actions.items():
            self.viewer.actions.add(name, action)
        with self.viewer.config_state.txn() as config:
            for key, name in KEYS.items():
                config.input_event_bindings.viewer[key] = name
            config.input_event_bindings.data_view["shift+mousedown0"] = "join"
        self.viewer.shared_state.add_changed_callback(self._slider_was_moved)

    def _move(self, steps: int) -> None:
        if self.cut is not None:
            self.threshold = float(np.clip(round(self.cut.threshold + steps * STEP, 6), 0, 1))

    def _slider_was_moved(self) -> None:
        if self._slider_value() not in (None, self.threshold):
            self._later(self._follow_slider)

    def _follow_slider(self) -> None:
        with self._moving:
            value = self._slider_value()
            if value is not None:
                self.threshold = value

    def _slider_value(self) -> float | None:
        """Where the slider stands, if there is one."""
        state = self.viewer.state
        name = self._slider(state) if self.cut is not None else None
        controls = state.layers[name].layer.shader_controls if name else None
        value = (controls.to_json() if controls else {}).get("threshold")
        return float(value) if isinstance(value, int | float) else None

    def _clicked(self, action: neuroglancer.viewer_config_state.ActionState) -> None:
        """The first or the second of two places: which merge joins them?"""
        if self.cut is None or action.mouse_voxel_coordinates is None:
            return
        source = self.sources[CUT]
        place = np.array(action.mouse_voxel_coordinates, np.float64)[::-1] * self.grid.voxel_size
        voxel = np.floor((place - source.grid.offset) / source.grid.voxel_size).astype(int)
        if (voxel < 0).any() or (voxel >= source.shape).any():
            return
        z, y, x = voxel.tolist()
        fragment = int(source.read((slice(z, z + 1), slice(y, y + 1), slice(x, x + 1))).item())
        if self._first is None:
            self._first = (fragment, place)
            self._say("join", f"fragment {fragment}; shift+click another one")
            return
        (first, begin), self._first = self._first, None
        self._later(lambda: self._tell_merge(first, fragment, begin, place))

    def _tell_merge(self, first: int, second: int, begin: np.ndarray, end: np.ndarray) -> None:
        """Say what joins two fragments, and mark where."""
        assert self.cut is not None
        tree, source = self.cut.tree, self.sources[CUT]
        merge = joining_merge(tree, first, second)
        if merge is None:
            self._say("join", f"nothing joins {first} and {second}" if first != second else "that is one fragment")
            return
        altitude = float(tree.altitudes[merge])
        done = "done" if altitude < self.cut.threshold else "not done"
        text = f"{first} and {second} are joined by a merge of altitude {altitude:.3f} ({done})"
        self._say("join", f"{text}; looking for the place")
        (voxel,) = contacts(tree, source.read, source.shape, [merge])
        if voxel is None:
            self._say("join", f"{text}; its sides do not touch")
            return
        where = source.grid.centre(voxel)
        self._say("join", f"{text}, at voxel z, y, x = {', '.join(map(str, voxel))}")
        with self.viewer.txn() as state:
            points = [self._to_view(each) for each in (begin, where, where, end)]
            lines = [
                neuroglancer.LineAnnotation(id=str(n), point_a=points[2 * n], point_b=points[2 * n + 1]) for n in (0, 1)
            ]
            state.layers["merge"] = neuroglancer.LocalAnnotationLayer(
                dimensions=state.dimensions, annotations=lines, annotation_color=UNSURE
            )
            state.position = points[1]

    def _look_for_mistakes(self) -> None:
        """Mark the worst splits and merges, or, without a truth, the merges on which most hangs; say the scores."""
        threshold = self.threshold
        truth = next((name for name in self.sources if name.startswith("truth")), None)
        labels = CUT if self.cut else next((n for n in self.sources if n.startswith("segmentation")), None)
        if truth and labels:
            self._scored = self._scored or Scored(self.sources[labels], self.sources[truth])
            self.marks = self._scored.worst(self.cut)
        elif self.cut is not None:
            self.marks = unsure(self.cut, self.sources[CUT])
        if threshold != self.threshold:  # the next one is waiting already
            return
        self._say("threshold", self._status_line())
        with self.viewer.txn() as state:
            if self.marks or PLACES in state.layers:
                points = [self._to_view(mark.position) for mark in self.marks]
                state.layers[PLACES] = marks_layer(self.marks, points, state.dimensions)

    def _status_line(self) -> str:
        """The threshold, and the scores there if they are known."""
        if self.cut is None:
            return ""
        text = f"threshold {self.cut.threshold:.2f}  ([ and ] move it, with shift by 0.1; , and . go to places)"
        if self._scored is not None and self._scored.sweep is not None:
            (row,) = self._scored.sweep.at([self.cut.threshold])
            scores = (("VOI split", "voi_split"), ("merge", "voi_merge"), ("CREMI", "cremi_score"))
            text += "  " + ", ".join(f"{title} {row[name]:.3f}" for title, name in scores)
        return text

    def _say(self, key: str, text: str) -> None:
        with self.viewer.config_state.txn() as config:
            if text:
                config.status_messages[key] = text

    def _complain(self, problem: str) -> None:
        self._say("error", problem)

    def _later(self, work: Callable[[], None]) -> None:
        """Do it in the background, one thing after the other; an error is said on the page."""

        def done() -> None:
            try:
                work()
            except Exception as error:  # or nobody would hear of it
                self._say("error", str(error) if isinstance(error, SegkitError) else f"unexpected {error!r}")

        self._worker.submit(done)
