"""Places in buckets and on web servers, with the part of `pathlib.Path` that reading and writing need.

Objects are listed, read and written through obstore; credentials are those of the usual places, see `credentials_of`.
Plain web servers do not say what they hold, and take nothing: there a folder is what has a file that says so.
"""

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from segkit.errors import BrokenComponent, InvalidInput, MissingFile, SegkitError, StorageError, sentence

THEIRS = (
    r"\b(5\d\d|429)\b|UNAVAILABLE|DEADLINE|UNKNOWN|ABORTED|[Tt]imed? ?out|connect|sending request|body|retries"
    r"|Range request|Content-Length"
)
"""What is said of requests that failed by the server, or on the way."""
NO_BUCKET = re.compile("NoSuchBucket|bucket does not exist", re.IGNORECASE)
"""What is said where there is no such bucket."""
SCHEMES = ("s3", "gs", "http", "https")
"""What a URL of an object begins with. (``file://`` is a path.)"""
URL = re.compile(rf"(?:{'|'.join(SCHEMES)})://[^/]+(?:/.*)?", re.DOTALL)
VERSION = re.compile("v-[0-9a-f]{16}")
"""Names of the folders that the files of objects in buckets lie in, see :mod:`segkit.io.bucket`."""
RETRIES = 5
"""So often a request is repeated that failed by the server or on the way."""
LONGEST_PAUSE = 5.0
"""Seconds between two tries at most; the first is repeated after 0.2 s, and each pause is twice the last."""
TIMEOUT = 60.0
"""Seconds that a request may take."""
PIECE = 2**24
"""Bytes of a file that are fetched by one request: all of it would take longer than `TIMEOUT`."""
MOST_PARTS = 9999
"""Parts of a file that is put into a bucket: S3 takes one more."""
FOLDER_FILES = ("zarr.json", ".zgroup", ".zarray", "info", "attributes.json", "datasource-properties.json")
"""Files that make a folder of a web server one that holds a volume."""
HOW = {
    "s3": "credentials are those of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or of AWS_PROFILE with boto3 installed"
    " (roles of machines too); without any, a bucket is read as anyone may",
    "gs": "credentials are those of GOOGLE_APPLICATION_CREDENTIALS, or of `gcloud auth application-default login`;"
    " without any, a bucket is read as anyone may",
    "http": "segkit sends no credentials to web servers",
}
"""Scheme -> where credentials come from, for messages."""


@dataclass(frozen=True, order=True)
class Remote:
    """A place in a bucket or on a web server: a file, a folder, or nothing yet."""

    root: str
    """``s3://bucket``, ``gs://bucket`` or ``https://host``."""
    key: str = ""
    """Where in it, without a slash at either end."""

    @classmethod
    def parse(cls, url: str) -> "Remote":
        """The place that a URL spells; queries, as signed URLs have them, are refused."""
        parts = urlsplit(url)
        if not parts.netloc or "@" in parts.netloc or (parts.scheme.startswith("http") and parts.query):
            rule = "must be a plain address of a bucket or a server, without a query or a password"
            shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"  # they may be secret
            raise InvalidInput(sentence("the URL", rule, repr(shown), "fetch the file, and name your copy"))
        key = "/".join(word for word in url.split("://", 1)[1].split("/")[1:] if word)
        if ".." in key.split("/"):
            raise InvalidInput(sentence("the URL", "must not lead out of its folder", repr(url), "leave out '..'"))
        return cls(f"{parts.scheme}://{parts.netloc}", unquote(key) if parts.scheme.startswith("http") else key)

    @property
    def scheme(self) -> str:
        """s3, gs or http (of https too)."""
        return self.root.split("://")[0].removesuffix("s") if self.root.startswith("http") else self.root[:2]

    @property
    def listed(self) -> bool:
        """Whether the server says what it holds, and takes what is written."""
        return self.scheme != "http"

    @property
    def name(self) -> str:
        """Last part of the place."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Ending of the name, with the dot."""
        return Path(self.name).suffix

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return Path(self.name).stem

    @property
    def parent(self) -> "Remote":
        """The folder that it lies in."""
        return Remote(self.root, self.key.rpartition("/")[0])

    @property
    def parents(self) -> tuple["Remote", ...]:
        """All folders that it lies in, from the nearest one."""
        return () if not self.key else (self.parent, *self.parent.parents)

    def __truediv__(self, name: str) -> "Remote":
        return Remote(self.root, "/".join(word for word in f"{self.key}/{name}".split("/") if word and word != "."))

    def __str__(self) -> str:
        key = self.key if self.listed else re.sub(r"[%?:,\[\]]", lambda found: quote(found[0]), self.key)
        return f"{self.root}/{key}"  # which means the same when it is parsed again

    def __fspath__(self) -> str:
        next_step = "fetch it, and name your copy"
        raise InvalidInput(sentence(f"{self}", "must lie on this machine here", next_step=next_step))

    def with_name(self, name: str) -> "Remote":
        """The place of that name beside it."""
        return self.parent / name

    def absolute(self) -> "Remote":
        """Itself."""
        return self

    def exists(self) -> bool:
        """Whether there is a file or a folder."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is an object."""
        return bool(self.key) and self.etag() is not None

    def is_dir(self) -> bool:
        """Whether there are objects below; of a web server, whether one of `FOLDER_FILES` is there."""
        if not self.listed:
            return any((self / name).is_file() for name in FOLDER_FILES)
        return bool(self.first(1))

    def first(self, number: int) -> "list[Remote]":
        """So many of the objects below it, at any depth; in no order."""
        if not self.listed:
            return []
        with self._asking("read"):
            stream = _obstore().list(self._store(), f"{self.key}/" if self.key else None, chunk_size=number)
            found: Any = next(iter(stream), [])
            return [Remote(self.root, each["path"]) for each in islice(found, number)]

    def iterdir(self) -> "Iterator[Remote]":
        """What lies in a folder, by name."""
        yield from sorted(place for place, _ in self.entries())

    def entries(self) -> "list[tuple[Remote, bool]]":
        """What lies in a folder, and whether it is a folder itself."""
        if not self.listed:
            rule, next_step = "cannot be listed, as web servers do not say what they hold", "name what is in it"
            raise StorageError(sentence(f"{self}", rule, next_step=f"{next_step}, as {self}:DATASET"))
        with self._asking("read"):
            found = _obstore().list_with_delimiter(self._store(), f"{self.key}/" if self.key else None)
        folders = [(Remote(self.root, each.rstrip("/")), True) for each in found["common_prefixes"]]
        return folders + [(Remote(self.root, each["path"]), False) for each in found["objects"]]

    def head(self) -> Mapping[str, Any] | None:
        """What the server says of the object: its size, e_tag, last_modified; None if there is none."""
        obstore = _obstore()
        with self._asking("read"):
            try:
                return obstore.head(self._store(), self.key)
            except FileNotFoundError as error:
                if "status code: 405" not in str(error):
                    return None
            try:  # a server that answers no HEAD
                return obstore.get(self._store(), self.key).meta
            except FileNotFoundError:
                return None

    def etag(self) -> str | None:
        """What differs once the object is another one; None if there is none."""
        found = self.head()
        return None if found is None else f"{found['e_tag']} {found['size']} {found['last_modified']}"

    def state(self) -> str:
        """What differs once the file, or the metadata of something in the folder, are others.

        Chunks are too many to be asked for.
        """
        return self.etag() or " ".join(sorted(self._states()))

    def _states(self, depth: int = 6) -> Iterator[str]:
        if not self.listed:
            yield from filter(None, ((self / name).etag() for name in FOLDER_FILES))
            return
        entries = self.entries()
        for place, folder in entries:
            if not folder and place.name in FOLDER_FILES:
                yield f"{place} {place.etag()}"
        if not any(place.name in (".zarray", "info") for place, _ in entries) and depth:
            for place, folder in entries:
                if folder and place.name != "c" and not place.name.isdecimal():
                    yield from place._states(depth - 1)

    def read_bytes(self) -> bytes:
        """All of the object. Raises FileNotFoundError if there is none."""
        with self._asking("read"):
            found = _obstore().get(self._store(), self.key)
            content = bytes(found.bytes())
            return gzip.decompress(content) if self._is_packed(found) else content

    def pieces(self, size: int) -> Iterator[bytes]:
        """The object of `size` bytes, piece by piece. Raises StorageError if it has others."""
        first, count, unpack = None, 0, None
        with self._asking("read"):
            for found in self._answers(size):
                if first is None:
                    first, unpack = found.meta, zlib.decompressobj(31) if self._is_packed(found) else None
                if found.meta["e_tag"] != first["e_tag"]:
                    raise StorageError(sentence(f"{self}", "was replaced while it was fetched", next_step="try again"))
                for piece in found.stream():
                    count += len(piece)
                    yield unpack.decompress(piece) if unpack else bytes(piece)
            if count != size:
                raise self.failed("read", OSError(f"connection closed after {count} of {size} bytes"))

    def _answers(self, size: int) -> Iterator[Any]:
        """The answers to a request for each piece; to one for all of it if it is small, or the server has no parts."""
        obstore = _obstore()
        for start in range(0, max(size, 1), PIECE):
            part: Any = {"range": (start, min(start + PIECE, size))} if size > PIECE else None
            try:
                yield obstore.get(self._store(), self.key, options=part)
            except obstore.exceptions.NotSupportedError:
                if start:
                    raise
                yield obstore.get(self._store(), self.key)
                return

    def _is_packed(self, answer: Any) -> bool:
        """Whether what is sent is packed for the way. (Of a file .gz servers say so too.)"""
        return "gzip" in answer.attributes.get("Content-Encoding", "") and self.suffix != ".gz"

    def read_text(self) -> str:
        """All of the object, as text in UTF-8."""
        return self.read_bytes().decode()

    def write_bytes(self, content: bytes | memoryview) -> None:
        """Put an object there, in one step; what was there is replaced."""
        with self._asking("written"):
            _obstore().put(self._store(), self.key, bytes(content))

    def create(self, content: bytes) -> bool:
        """Put an object there if there is none; whether there was none."""
        obstore = _obstore()
        with self._asking("written"):
            try:
                obstore.put(self._store(), self.key, content, mode="create")
            except obstore.exceptions.AlreadyExistsError:
                return False
        return True

    def upload(self, file: Path) -> None:
        """Put a file there, in one step; what was there is replaced."""
        parts = max(5 * 2**20, -(-file.stat().st_size // MOST_PARTS))
        with self._asking("written"):
            _obstore().put(self._store(), self.key, file, chunk_size=parts)

    def unlink(self) -> None:
        """Remove the object, which is there."""
        with self._asking("written"):
            _obstore().delete(self._store(), self.key)

    def remove(self) -> None:
        """Remove the object, and all below it."""
        obstore = _obstore()
        with self._asking("written"):
            for found in obstore.list(self._store(), f"{self.key}/", chunk_size=1000):
                obstore.delete(self._store(), [each["path"] for each in found])

    def store(self) -> Any:
        """What lies below it, as a store of obstore."""
        return _store_of(self.root, self.key, os.getpid(), _settings())

    def _store(self) -> Any:
        return _store_of(self.root, "", os.getpid(), _settings())

    @contextmanager
    def _asking(self, action: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if NO_BUCKET.search(str(error)):
                raise self.failed(action, error) from error
            raise
        except StorageError:
            raise
        except Exception as error:  # obstore has a dozen exceptions, most of them without a base but Exception
            raise self.failed(action, error) from error

    def failed(self, action: str, error: Exception) -> SegkitError:
        """The error to raise where `action` ("read" or "written") failed: whose fault it is, and what to do."""
        text = " ".join(re.split(r"Debug source:|\[tensorstore_spec", str(error))[0].split())
        cause = text if len(text) < 300 else f"{text[:300]} ..."
        if NO_BUCKET.search(text):
            rule = f"cannot be {action}: there is no bucket {self.root}"
            return MissingFile(sentence(f"{self}", rule, next_step="check the spelling, and the endpoint"))
        if re.search(r"\b40[13]\b|PERMISSION_DENIED|UNAUTHENTICATED|Unauthenticated|credential", text):
            rule = f"cannot be {action} (access is denied: {cause})"
            return StorageError(sentence(f"{self}", rule, next_step=HOW[self.scheme]))
        if re.search(r"\b(404|NOT_FOUND)\b", text):
            rule = f"cannot be {action} (it is not there: {cause})"
            return MissingFile(sentence(f"{self}", rule, next_step="check the address"))
        if re.search(r"HTTP code 30\d", text):
            rule = f"cannot be {action}: it has moved ({cause})"
            return StorageError(sentence(f"{self}", rule, next_step="name the address that it leads to"))
        if re.search(THEIRS, text):
            rule = f"cannot be {action} (the server fails, or cannot be reached: {cause})"
            return StorageError(sentence(f"{self}", rule, next_step="try again later; what is finished is kept"))
        next_step = "it seems damaged: copy or make it again" if action == "read" else "write elsewhere"
        return StorageError(sentence(f"{self}", f"cannot be {action} ({cause})", next_step=next_step))


AnyPath = Path | Remote


def as_place(text: str) -> "Path | Remote":
    """The place that a path or a URL names."""
    if text.startswith("file://"):
        host, slash, path = text.removeprefix("file://").partition("/")
        if host not in ("", "localhost"):
            raise InvalidInput(sentence("the URL", "must name a file of this machine", repr(text), "write file:///..."))
        return Path(unquote(slash + path))
    return Remote.parse(text) if URL.fullmatch(text) else Path(text)


def credentials_of(scheme: str) -> str:
    """Which credentials there are: "environment", "default" (what the libraries of the cloud find) or "anonymous"."""
    if scheme == "s3":
        if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
            return "anonymous"
        if os.environ.get("AWS_ACCESS_KEY_ID"):
            return "environment"
        return "default" if _boto3_credentials() is not None else "anonymous"
    named = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH")
    settings = Path(os.environ.get("CLOUDSDK_CONFIG", "~/.config/gcloud")).expanduser()
    known = any(map(os.environ.get, named)) or (settings / "application_default_credentials.json").exists()
    return "default" if known and not emulator() else "anonymous"


def endpoint() -> str | None:
    """Where S3 is, if it is not that of Amazon: what AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL says."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def emulator() -> str | None:
    """Where Google's storage is, if it is not that of Google: what STORAGE_EMULATOR_HOST says."""
    host = os.environ.get("STORAGE_EMULATOR_HOST")
    return host if not host or "://" in host else f"http://{host}"


@lru_cache(maxsize=64)
def region_of(bucket: str) -> str:
    """The region of a bucket: what AWS_REGION or AWS_DEFAULT_REGION says, else what S3 says."""
    stated = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if stated or endpoint():
        return stated or "us-east-1"
    from urllib.request import Request, urlopen  # which takes its time to import

    try:
        with urlopen(Request(f"https://{bucket}.s3.amazonaws.com", method="HEAD"), timeout=10) as answer:
            headers = answer.headers
    except OSError as error:  # a bucket that must not be listed tells its region all the same
        headers = getattr(error, "headers", None) or {}
    return headers.get("x-amz-bucket-region") or "us-east-1"


@lru_cache(maxsize=1)
def _boto3_credentials() -> Any:
    try:
        import boto3
    except ImportError:
        return None
    return boto3.Session().get_credentials()


def _settings() -> tuple[str, ...]:
    """What the environment says of buckets; a store that was opened with something else is not used again."""
    names = ("AWS_", "GOOGLE_", "STORAGE_EMULATOR_HOST")
    return tuple(f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(names))


@lru_cache(maxsize=64)
def _store_of(root: str, prefix: str, process: int, settings: tuple[str, ...]) -> Any:
    """The store of a folder in a bucket or on a server; another in each process, for threads do not survive a fork."""
    store = _obstore().store
    scheme, bucket = root.split("://", 1)
    more: dict[str, Any] = {
        "client_options": {"allow_http": True, "connect_timeout": "10s", "timeout": f"{TIMEOUT:.0f}s"},
        "retry_config": {
            "max_retries": RETRIES,
            "backoff": {
                "init_backoff": timedelta(seconds=0.2),
                "max_backoff": timedelta(seconds=LONGEST_PAUSE),
                "base": 2,
            },
            "retry_timeout": timedelta(seconds=TIMEOUT),
        },
    }
    if scheme.startswith("http"):
        return store.HTTPStore.from_url(f"{root}/{quote(prefix)}", **more)
    found = credentials_of(scheme)
    if scheme == "gs":
        return store.GCSStore(bucket, prefix=prefix or None, config=_of_gs(found), **more)
    config: dict[str, Any] = {"region": region_of(bucket)} | ({"endpoint": endpoint()} if endpoint() else {})
    if found == "anonymous":
        config["skip_signature"] = True
    elif found == "default":
        from obstore.auth.boto3 import Boto3CredentialProvider

        more["credential_provider"] = Boto3CredentialProvider()
    return store.S3Store(bucket, prefix=prefix or None, config=config, **more)


def _of_gs(found: str) -> dict[str, Any]:
    if emulator():  # which asks for nothing, while requests that write are signed in any case
        account = {"gcs_base_url": emulator(), "disable_oauth": True, "client_email": "", "private_key": ""}
        account |= {"private_key_id": ""}
        return {"service_account_key": json.dumps(account)}
    return {"skip_signature": True} if found == "anonymous" else {}


def _obstore() -> ModuleType:
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        rule, next_step = "needs the package obstore", "pip install 'segkit-em[cloud]'"
        raise BrokenComponent(sentence("a volume at a URL", rule, next_step=next_step)) from error
    return obstore
