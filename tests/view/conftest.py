"""A small volume from raw to a merge tree, and a page in a real browser."""

import asyncio
import io as streams
import json
import socket
import time
from contextlib import contextmanager
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from segkit import io
from segkit.fragment.watershed import Watershed
from segkit.infer.oracle import oracle_affinities
from segkit.registry import load
from segkit.testing.phantoms import neurites


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Raw and truth in d.h5, affinities in a.h5, fragments in f.h5, a merge tree in t.h5; voxels of 40 x 4 x 4 nm."""
    folder = tmp_path_factory.mktemp("view")
    phantom = neurites((12, 40, 48), count=8, seed=2, voxel_size=(40, 4, 4))
    affinities = oracle_affinities(phantom.truth, noise=0.25, seed=1)
    fragments = Watershed(seed_distance=3).fragment(affinities)
    io.write_all(folder / "d.h5", {"raw": phantom.raw, "truth": phantom.truth})
    io.write(folder / "a.h5", affinities)
    io.write(folder / "f.h5", fragments, "fragments")
    tree = load("agglomerators", "python").agglomerate(affinities, fragments)
    io.write(folder / "t.h5", tree, notes={"fragments": str(folder / "f.h5")})
    return folder


class Page:
    """A page in a browser, and its DevTools."""

    def __init__(self, session, port: int) -> None:
        self.session, self.port = session, port

    def wait(self) -> None:
        """Until all is drawn that the state says."""
        self.session.wait()
        self.session.viewer.screenshot()

    def pixels(self) -> np.ndarray:
        """What is seen, uint8 (Y, X, 3)."""
        self.session.wait()
        image = Image.open(streams.BytesIO(self.session.viewer.screenshot(size=[600, 480]).screenshot.image))
        return np.asarray(image.convert("RGB"))

    def press(self, key: str, code: str, shift: bool = False) -> None:
        """Press a key, as a user does."""
        described = {"key": key, "code": code, "modifiers": 8 * shift}
        for kind in ("keyDown", "keyUp"):
            self._send({"method": "Input.dispatchKeyEvent", "params": {"type": kind, **described}})

    def size(self) -> tuple[int, int]:
        """Of the window, width and height."""
        expression = {"expression": "[innerWidth, innerHeight]", "returnByValue": True}
        (reply,) = self._send({"method": "Runtime.evaluate", "params": expression})
        return tuple(reply["result"]["result"]["value"])

    def click(self, x: int, y: int) -> None:
        """Move there and click with shift (8) held down."""
        place = {"x": x, "y": y, "button": "left", "clickCount": 1, "modifiers": 8}
        kinds = ("mouseMoved", "mousePressed", "mouseReleased")
        self._send({"method": "Input.dispatchMouseEvent", "params": {"type": kinds[0], "x": x, "y": y}})
        time.sleep(0.5)  # the page looks at what lies under the mouse
        self._send(*({"method": "Input.dispatchMouseEvent", "params": {"type": kind, **place}} for kind in kinds[1:]))

    def until(self, holds, seconds: float = 20) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "it did not come to that"
            time.sleep(0.05)

    def _send(self, *messages: dict) -> list[dict]:
        from tornado.websocket import websocket_connect

        async def talk() -> list[dict]:
            targets = json.load(urlopen(f"http://127.0.0.1:{self.port}/json"))
            (target,) = [each for each in targets if each["type"] == "page"]
            talking, replies = await websocket_connect(target["webSocketDebuggerUrl"]), []
            for number, message in enumerate(messages):
                await talking.write_message(json.dumps({"id": number, **message}))
                replies.append(json.loads(await talking.read_message()))
            talking.close()
            return replies

        return asyncio.run(talk())


@pytest.fixture
def page():
    """A callable(session) that opens its page in a browser without a window, as a context."""
    from segkit.view.browser import opened

    @contextmanager
    def open_page(session):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with opened(session.url, (600, 480), (f"--remote-debugging-port={port}",)):
            found = Page(session, port)
            with session.viewer.config_state.txn() as config:
                config.show_ui_controls = config.show_panel_borders = False
            found.wait()
            yield found

    return open_page
