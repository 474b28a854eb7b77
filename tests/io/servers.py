"""Servers on the loopback address: S3 (moto's), and a plain web server that knows ranges; both can be made to fail."""

import gzip
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

BUCKET = "bucket"


class Faults:
    """What goes wrong: the next `number` requests for what `matches` end as `kind` says."""

    def __init__(self) -> None:
        self.kind, self.number, self.matches = "", 0, ""
        self.seen: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def plan(self, kind: str, number: int = 10**9, matches: str = "") -> None:
        """Fail so: "500", "403", "404", "302", "slow", "silent" or "cut"."""
        self.kind, self.number, self.matches = kind, number, matches

    def now(self, method: str, path: str) -> str:
        """The kind of fault of this request, or nothing."""
        with self._lock:
            self.seen.append((method, path))
            if self.number and re.search(self.matches, f"{method} {path}"):
                self.number -= 1
                return self.kind
        return ""


@contextmanager
def s3_server(faults: Faults) -> Iterator[str]:
    """S3 with an empty bucket; its URL. Raises ImportError where moto is not installed."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    application = DomainDispatcherApplication(create_backend_app)

    def faulty(environ: dict, start_response: Callable) -> object:
        kind = faults.now(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if kind == "slow":
            time.sleep(0.3)
        elif kind == "cut":
            start_response("200 OK", [("Content-Length", "100000"), ("ETag", '"x"')])
            return [b"not all of it"]
        elif kind:
            codes = {"403": ("AccessDenied", "403 Forbidden"), "404": ("NoSuchKey", "404 Not Found")}
            code, status = codes.get(kind, ("InternalError", "500 Internal Server Error"))
            start_response(status, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>as planned</Message></Error>".encode()]
        return application(environ, start_response)

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: object) -> None:
            """Say nothing."""

    server = make_server("127.0.0.1", 0, faulty, threaded=True, request_handler=Quiet)
    with _served(server):
        url = f"http://127.0.0.1:{server.server_port}"
        with s3_settings(url):
            import boto3

            boto3.client("s3").create_bucket(Bucket=BUCKET)
            yield url


@contextmanager
def s3_settings(url: str, key: str = "key") -> Iterator[None]:
    """The environment of who uses that server."""
    settings = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "secret"}
    settings |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def web_server(folder: Path, faults: Faults, oddity: str = "") -> Iterator[str]:
    """A web server of the files in a folder; its URL.

    `oddity`: "no head" (which is refused), "packed" (gzip, whatever is asked for), "no version" (neither ETag nor
    time), "pages" (in place of 404).
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kind = faults.now(self.command, self.path)
            if kind in ("slow", "silent"):
                time.sleep(0.3 if kind == "slow" else 100)
            elif kind in ("302", "403", "404", "500"):
                self._answer(int(kind), b"as planned")
                return
            file = folder / unquote(self.path).lstrip("/")
            if not file.is_file() or (oddity == "no head" and self.command == "HEAD"):
                status = 405 if oddity == "no head" and self.command == "HEAD" else 200 if oddity == "pages" else 404
                self._answer(status, b"<html>nothing</html>")
                return
            content = file.read_bytes()
            more = {"ETag": f'"{file.stat().st_mtime_ns:x}-{len(content):x}"', "Accept-Ranges": "bytes"}
            if oddity == "no version":
                more = {}
            if oddity == "packed":
                self._answer(200, gzip.compress(content), more | {"Content-Encoding": "gzip"})
                return
            asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if not asked:
                self._answer(200, content, more, cut=kind == "cut")
                return
            first, last = asked.groups()
            start = int(first) if first else max(0, len(content) - int(last))
            stop = min(int(last) + 1, len(content)) if first and last else len(content)
            more["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            self._answer(206, content[start:stop], more, cut=kind == "cut")

        do_HEAD = do_GET

        def _answer(self, status: int, content: bytes, more: dict | None = None, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(more or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with _served(server):
        yield f"http://127.0.0.1:{server.server_port}"


@contextmanager
def _served(server: object) -> Iterator[None]:
    server.daemon_threads = True  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)  # type: ignore[attr-defined]
    thread.start()
    try:
        yield
    finally:
        server.shutdown()  # type: ignore[attr-defined]
        with suppress(OSError):
            server.server_close()  # type: ignore[attr-defined]
        thread.join()


def put_all(folder: Path, prefix: str) -> None:
    """Put all files of a folder into the bucket."""
    from segkit.io.remote import Remote

    for file in sorted(folder.rglob("*")):
        if file.is_file():
            (Remote(f"s3://{BUCKET}", prefix) / str(file.relative_to(folder))).write_bytes(file.read_bytes())
