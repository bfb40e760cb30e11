"""Where batches land: the address of a local folder or of anything fsspec knows in, the files below it and their bytes out."""

import math
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from flows.workspace.hashes import BLOCK_BYTES
from flows.workspace.redaction import in_a_line, refuse_secrets
from tasks.machine.files import write_whole

VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "created")
TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file of a landing, or a folder: its path below the landing, parts joined by "/", or why it cannot be taken."""

    path: str
    size: int  # bytes
    version: str  # differs where the content may
    changed: float  # seconds since the epoch; infinite where nobody knows
    is_folder: bool = False
    problem: str = ""


class Store(Protocol):
    address: str

    def find(self, below: str = "") -> Iterator[Found]:
        """What lies below a path, and the path itself; in no order."""

    def blocks(self, path: str) -> Iterator[bytes]:
        """The content of a file."""

    def denies(self, file: Found, digest: str) -> bool:
        """Whether it says that a file's bytes have another MD5."""

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError where there is none."""

    def write(self, path: str, content: bytes) -> None: ...


def open_store(address: str) -> Store:
    """Raises ValueError or OSError, in a line, where there is no such place."""
    refuse_secrets(address)
    scheme, _, path = address.rpartition("://")
    if scheme in ("", "file", "local"):
        return LocalFolder(Path(path).expanduser())
    return RemoteStore(address)


class LocalFolder:
    """A folder of this machine. No link leads out of a batch, whenever it is put there."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no landing at {folder}: expected a folder, or an address such as s3://…")
        self.root = folder.resolve()
        self.address = str(self.root)

    def find(self, below: str = "") -> Iterator[Found]:
        pending = [below]
        while pending:
            path = pending.pop()
            try:
                found = self._look_at(path)
                if found.is_folder:
                    names = os.listdir(self.root / path)  # noqa: PTH208 (names alone)
                    pending += [f"{path}/{name}" if path else name for name in names]
            except OSError as error:
                if not path:
                    raise
                if isinstance(error, FileNotFoundError | NotADirectoryError):
                    continue  # it went while this looked: the next listing tells
                problem = f"cannot be read ({error.strerror})"
                found = Found(path=path, size=0, version="", changed=0, problem=problem)
            if path:
                yield found

    def blocks(self, path: str) -> Iterator[bytes]:
        with os.fdopen(self._open(path), "rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def denies(self, file: Found, digest: str) -> bool:
        return False

    def read(self, path: str) -> bytes:
        return b"".join(self.blocks(path))

    def write(self, path: str, content: bytes) -> None:
        place = self.root / path
        place.parent.mkdir(exist_ok=True)
        if place.parent.is_symlink():
            raise OSError(f"{place.parent} is a link")
        write_whole(place, content)

    def _look_at(self, path: str) -> Found:
        place = self.root / path
        status = place.lstat()
        is_folder = stat.S_ISDIR(status.st_mode)
        problem = ""
        if stat.S_ISLNK(status.st_mode):
            # a link to nothing; RuntimeError is what Python 3.11 says of a circle
            with suppress(OSError, RuntimeError):
                target = place.resolve(strict=True)
                if "/" in path and target.is_relative_to(self.root / path.split("/")[0]):
                    status = target.stat()
            if not stat.S_ISREG(status.st_mode):
                problem = "is a link that leads to no file of the batch"
        elif not is_folder and not stat.S_ISREG(status.st_mode):
            problem = "is no regular file"
        return Found(
            path=path,
            size=status.st_size,
            version=str(status.st_mtime_ns),
            # copying may keep an old mtime, and a camera's clock may be ahead; the ctime is this machine's own
            changed=max(status.st_ctime, status.st_mtime if status.st_mtime <= time.time() else 0),
            is_folder=is_folder,
            problem=problem,
        )

    def _open(self, path: str) -> int:
        """A descriptor, come to step by step, so that no folder becomes a link meanwhile."""
        parts = (self.root / path).resolve().relative_to(self.root).parts
        if parts[0] != path.split("/")[0]:
            raise OSError(f"{path} is a link that leaves its batch: put the file itself there")
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        for number, part in enumerate(parts, start=1):
            kind = os.O_DIRECTORY if number < len(parts) else os.O_NONBLOCK  # a pipe would wait for a writer
            try:
                deeper = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | kind, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = deeper
        return descriptor


class RemoteStore:
    """What fsspec reads: S3, GCS, Azure, SFTP, … Settings come from where its driver looks; drivers try again themselves."""

    def __init__(self, address: str) -> None:
        from fsspec.core import url_to_fs
        from fsspec.registry import known_implementations

        if not address.rpartition("://")[2].strip("/"):
            raise ValueError(
                f"the landing's address is {address}, expected one with a path, such as s3://bucket/prefix"
            )
        self.address = address.rstrip("/")
        protocol = address.split("::")[0].split("://")[0]
        try:
            with self._in_a_line():
                self.files, root = url_to_fs(self.address, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            package = str(known_implementations[protocol]["class"]).split(".")[0]
            hint = f"pip install {package}" if package != "fsspec" else str(error)
            raise ValueError(f"{protocol}:// needs a package that is not installed: {hint}") from error
        self.root = str(root).rstrip("/")

    def find(self, below: str = "") -> Iterator[Found]:
        with self._in_a_line():
            listed = self.files.find(f"{self.root}/{below}" if below else self.root, detail=True)
            if not (listed or below or self.files.exists(self.root)):  # drivers list what they cannot reach as empty
                raise FileNotFoundError("nothing is there, expected batches: check the address and that it answers")
        for name, info in listed.items():
            path = name.removeprefix(self.root).removeprefix("/")
            if path:
                yield _describe(path, info)

    def blocks(self, path: str) -> Iterator[bytes]:
        size = 8 * BLOCK_BYTES  # of a request; what is read once needs no cache
        with (
            self._in_a_line(),
            self.files.open(f"{self.root}/{path}", "rb", block_size=size, cache_type="none") as file,
        ):
            while block := file.read(size):
                yield block

    def denies(self, file: Found, digest: str) -> bool:
        tag = file.version.strip('"')
        if "s3" not in self.files.protocol or not re.fullmatch("[0-9a-f]{32}", tag) or tag == digest:
            return False
        bucket, _, key = f"{self.root}/{file.path}".partition("/")
        with self._in_a_line():
            head = self.files.call_s3("head_object", Bucket=bucket, Key=key)
        # docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html: under other encryptions an ETag is no MD5
        return head.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in head

    def read(self, path: str) -> bytes:
        with self._in_a_line():
            return bytes(self.files.cat_file(f"{self.root}/{path}"))

    def write(self, path: str, content: bytes) -> None:
        with self._in_a_line():
            try:
                self.files.pipe_file(f"{self.root}/{path}", content)
            except FileNotFoundError:  # a server with folders, such as SFTP
                self.files.makedirs(f"{self.root}/{path}".rsplit("/", 1)[0], exist_ok=True)
                self.files.pipe_file(f"{self.root}/{path}", content)

    @contextmanager
    def _in_a_line(self) -> Iterator[None]:
        """Drivers raise classes of their own, such as botocore's: any becomes an OSError that names the landing."""
        try:
            yield
        except ImportError:
            raise
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.address}: {in_a_line(error)}") from error
        except Exception as error:
            raise OSError(
                f"{self.address}: {in_a_line(error)}: check the address, the network and the credentials"
            ) from error


def _describe(path: str, info: dict[str, Any]) -> Found:
    size = int(info.get("size") or 0)
    is_folder = info.get("type") == "directory" or (path.endswith("/") and size == 0)  # consoles make these for folders
    parts = (path.rstrip("/") if is_folder else path).split("/")
    problem = ""
    if {"", ".", ".."} & set(parts) or "\0" in path:
        problem = "is a key that is no path"
    elif "?versionId=" in path:
        problem = "is a key that the driver takes for another's version"
    return Found(
        path="/".join(parts),
        size=size,
        version=str(next((info[key] for key in VERSIONS if info.get(key)), "")),
        changed=_seconds(info),
        is_folder=is_folder,
        problem=problem,
    )


def _seconds(info: dict[str, Any]) -> float:
    value = next((info[key] for key in TIMES if info.get(key)), math.inf)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return math.inf
    return value.timestamp() if isinstance(value, datetime) else float(value)
