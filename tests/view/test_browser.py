"""The page in a real browser: what its pixels show, and what keys and clicks do."""

import numpy as np
import pytest

from segkit import io
from segkit.segment import segment
from segkit.segment.uncertainty import joining_merge
from segkit.view import Session, things

pytestmark = pytest.mark.browser
SCALE = 0.125
"""Voxels a pixel."""


@pytest.fixture
def session(folder):
    return Session(things([str(folder / name) for name in ("d.h5", "a.h5", "t.h5")]), threshold=0.6)


def show(session, section, *names):
    """One panel with these layers alone, so near that every voxel has many pixels."""
    with session.viewer.txn() as state:
        state.layout, state.cross_section_scale, state.show_scale_bar = "xy", SCALE, False
        state.position = [24, 20, section + 0.5]
        for layer in state.layers:
            layer.visible = layer.name in names
        state.show_default_annotations, state.selected_layer.visible = False, False


def at(pixels, y, x):
    """The colour in the middle of a voxel."""
    height, width = pixels.shape[:2]
    return pixels[int(height / 2 + (y + 0.5 - 20) / SCALE), int(width / 2 + (x + 0.5 - 24) / SCALE)].astype(int)


VOXELS = [(y, x) for y in (2, 9, 17, 21, 30, 37) for x in (1, 8, 20, 25, 33, 45)]


def test_every_layer_shows_what_its_file_holds(folder, session, page):
    raw = io.read_volume(folder / "d.h5").array
    affinities = io.read_affinities(folder / "a.h5").array
    with page(session) as seen:
        show(session, 5, "raw")
        pixels = seen.pixels()
        for y, x in VOXELS:
            assert np.abs(at(pixels, y, x) - raw[5, y, x]).max() <= 3
        show(session, 5, "affinities")
        pixels = seen.pixels()
        for y, x in VOXELS:
            assert np.abs(at(pixels, y, x) - 255 * affinities[:, 5, y, x]).max() <= 3
        for name, labels in (
            ("truth", io.read_labels(folder / "d.h5").array),
            ("fragments", io.read_labels(folder / "f.h5", "fragments").array),
        ):
            show(session, 5, name)
            pixels = seen.pixels()
            colours = {}
            for y, x in VOXELS:
                colours.setdefault(int(labels[5, y, x]), set()).add(tuple(at(pixels, y, x)))
            assert all(len(found) == 1 for found in colours.values()), name
            assert len(set.union(*colours.values())) == len(colours) >= 3, name


def test_keys_move_the_threshold_and_the_segments_follow(folder, session, page):
    tree, fragments = io.read_merge_tree(folder / "t.h5"), io.read_labels(folder / "f.h5", "fragments")
    with page(session) as seen:
        show(session, 5, "segments")
        kinds = []
        up, down = ("]", "BracketRight"), ("[", "BracketLeft")
        for presses in ((), ((up, False, 0.61), (up, True, 0.71)), ((down, True, 0.61), (down, True, 0.51))):
            for key, shift, expected in presses:
                seen.press(*key, shift)
                seen.until(lambda expected=expected: session.threshold == expected)
            cut = segment(tree, fragments, session.threshold).array
            names = [int(cut[5, y, x]) for y, x in VOXELS]

            def shown_as_cut(names=names):  # the page draws a little after the session knows
                pixels = seen.pixels()
                groups = {}
                for name, (y, x) in zip(names, VOXELS, strict=True):
                    groups.setdefault(name, set()).add(tuple(at(pixels, y, x)))
                return all(len(found) == 1 for found in groups.values()) and len(set.union(*groups.values())) == len(
                    groups
                )

            seen.until(shown_as_cut)
            kinds.append(len(set(names)))
        assert kinds[1] < kinds[0] < kinds[2], "some were merged, and parted again"


def test_keys_step_from_mistake_to_mistake(session, page):
    with page(session) as seen:
        assert len(session.marks) > 3
        for key, code, number in ((".", "Period", 0), (".", "Period", 1), (",", "Comma", 0), (",", "Comma", -1)):
            seen.press(key, code)
            expected = np.array(session.marks[number].position[::-1]) / (4, 4, 40)
            seen.until(lambda expected=expected: np.allclose(session.viewer.state.position, expected, atol=1e-3))


def test_two_clicks_say_which_merge_joins_them(folder, session, page):
    fragments, tree = io.read_labels(folder / "f.h5", "fragments").array, io.read_merge_tree(folder / "t.h5")
    first, second = (int(fragments[5, y, x]) for y, x in ((17, 20), (30, 33)))
    assert first != second
    merge = joining_merge(tree, first, second)
    with page(session) as seen:
        show(session, 5, "segments")
        seen.pixels()
        middle = [length / 2 for length in seen.size()]
        for y, x in ((17, 20), (30, 33)):
            shifts = ((x + 0.5 - 24) / SCALE, (y + 0.5 - 20) / SCALE)
            seen.click(*(int(m + shift) for m, shift in zip(middle, shifts, strict=True)))

        def said():
            return session.viewer.config_state.state.status_messages.to_json().get("join", "")

        seen.until(lambda: f"altitude {tree.altitudes[merge]:.3f}" in said() and "at voxel" in said())
        assert f"{first} and {second} are joined" in said()
