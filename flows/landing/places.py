"""The places where batches land: a local folder, or an address of any store that fsspec knows."""

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
class LandedFile:
    """A file of a landing, or a folder."""

    path: str  # below the landing; parts are joined by "/"
    size: int  # bytes
    version: str  # another version means that the content may differ
    changed: float  # seconds since the epoch; infinite if the store does not know
    is_folder: bool = False
    problem: str = ""  # why it cannot be taken; or empty


class Store(Protocol):
    address: str

    def find(self, below: str = "") -> Iterator[LandedFile]:
        """Yield the path itself and everything below it, in no order."""

    def blocks(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file."""

    def denies(self, file: LandedFile, digest: str) -> bool:
        """Return whether the store states another MD5 for a file's bytes."""

    def read(self, path: str) -> bytes:
        """Return the content of a file. Raises FileNotFoundError where it is missing."""

    def write(self, path: str, content: bytes) -> None:
        """Write a file."""


def open_store(address: str) -> Store:
    """Return the store at an address. Raises ValueError or OSError, in one line, where there is none."""
    refuse_secrets(address)
    scheme, _, path = address.rpartition("://")
    if scheme in ("", "file", "local"):
        return LocalFolder(Path(path).expanduser())
    return RemoteStore(address)


class LocalFolder:
    """A folder of this machine. No link leads out of a batch, even if it is put there while the batch is copied."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no landing at {folder}: expected a folder, or an address such as s3://…")
        self.root = folder.resolve()
        self.address = str(self.root)

    def find(self, below: str = "") -> Iterator[LandedFile]:
        pending = [below]
        while pending:
            path = pending.pop()
            try:
                file = self._look_at(path)
                if file.is_folder:
                    names = os.listdir(self.root / path)  # noqa: PTH208 (names alone)
                    pending += [f"{path}/{name}" if path else name for name in names]
            except OSError as error:
                if not path:
                    raise
                if isinstance(error, FileNotFoundError | NotADirectoryError):
                    continue  # it disappeared meanwhile: the next listing shows that
                problem = f"cannot be read ({error.strerror})"
                file = LandedFile(path=path, size=0, version="", changed=0, problem=problem)
            if path:
                yield file

    def blocks(self, path: str) -> Iterator[bytes]:
        with os.fdopen(self._open(path), "rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def denies(self, file: LandedFile, digest: str) -> bool:
        return False

    def read(self, path: str) -> bytes:
        return b"".join(self.blocks(path))

    def write(self, path: str, content: bytes) -> None:
        place = self.root / path
        place.parent.mkdir(exist_ok=True)
        if place.parent.is_symlink():
            raise OSError(f"{place.parent} is a link")
        write_whole(place, content)

    def _look_at(self, path: str) -> LandedFile:
        place = self.root / path
        status = place.lstat()
        is_folder = stat.S_ISDIR(status.st_mode)
        problem = ""
        if stat.S_ISLNK(status.st_mode):
            # OSError: the link leads nowhere; RuntimeError: it leads in a circle (Python 3.11)
            with suppress(OSError, RuntimeError):
                target = place.resolve(strict=True)
                if "/" in path and target.is_relative_to(self.root / path.split("/")[0]):
                    status = target.stat()
            if not stat.S_ISREG(status.st_mode):
                problem = "is a link that leads to no file of the batch"
        elif not is_folder and not stat.S_ISREG(status.st_mode):
            problem = "is not a regular file"
        return LandedFile(
            path=path,
            size=status.st_size,
            version=str(status.st_mtime_ns),
            # copying may keep an old mtime, and a camera's clock may be ahead; the ctime comes from this machine's
            # clock
            changed=max(status.st_ctime, status.st_mtime if status.st_mtime <= time.time() else 0),
            is_folder=is_folder,
            problem=problem,
        )

    def _open(self, path: str) -> int:
        """Return a descriptor of a file, opened folder by folder, so that no folder becomes a link meanwhile."""
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
    """A store that fsspec reads: S3, GCS, Azure, SFTP, …

    Its driver finds settings in the places that its users know, and repeats failed requests itself.
    """

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
            with self._errors_in_one_line():
                self.files, root = url_to_fs(self.address, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            package = str(known_implementations[protocol]["class"]).split(".")[0]
            hint = f"pip install {package}" if package != "fsspec" else str(error)
            raise ValueError(f"{protocol}:// needs a package that is not installed: {hint}") from error
        self.root = str(root).rstrip("/")

    def find(self, below: str = "") -> Iterator[LandedFile]:
        with self._errors_in_one_line():
            listing = self.files.find(f"{self.root}/{below}" if below else self.root, detail=True)
            if not (listing or below or self.files.exists(self.root)):  # drivers list unreachable places as empty
                raise FileNotFoundError("nothing is there, expected batches: check the address, and that it answers")
        for name, info in listing.items():
            path = name.removeprefix(self.root).removeprefix("/")
            if path:
                yield _describe(path, info)

    def blocks(self, path: str) -> Iterator[bytes]:
        size = 8 * BLOCK_BYTES  # of a request; the file is read once, so it needs no cache
        with (
            self._errors_in_one_line(),
            self.files.open(f"{self.root}/{path}", "rb", block_size=size, cache_type="none") as file,
        ):
            while block := file.read(size):
                yield block

    def denies(self, file: LandedFile, digest: str) -> bool:
        tag = file.version.strip('"')
        if "s3" not in self.files.protocol or not re.fullmatch("[0-9a-f]{32}", tag) or tag == digest:
            return False
        bucket, _, key = f"{self.root}/{file.path}".partition("/")
        with self._errors_in_one_line():
            head = self.files.call_s3("head_object", Bucket=bucket, Key=key)
        # docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html: under other encryptions an ETag is not an MD5
        return head.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in head

    def read(self, path: str) -> bytes:
        with self._errors_in_one_line():
            return bytes(self.files.cat_file(f"{self.root}/{path}"))

    def write(self, path: str, content: bytes) -> None:
        with self._errors_in_one_line():
            try:
                self.files.pipe_file(f"{self.root}/{path}", content)
            except FileNotFoundError:  # a server with folders, such as SFTP
                self.files.makedirs(f"{self.root}/{path}".rsplit("/", 1)[0], exist_ok=True)
                self.files.pipe_file(f"{self.root}/{path}", content)

    @contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        """Turn errors of a driver's own classes, such as botocore's, into an OSError that names the landing."""
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


def _describe(path: str, info: dict[str, Any]) -> LandedFile:
    size = int(info.get("size") or 0)
    is_folder = info.get("type") == "directory" or (path.endswith("/") and size == 0)  # consoles make these for folders
    parts = (path.rstrip("/") if is_folder else path).split("/")
    problem = ""
    if {"", ".", ".."} & set(parts) or "\0" in path:
        problem = "is a key that is not a path"
    elif "?versionId=" in path:
        problem = "is a key that the driver mistakes for a version of another key"
    return LandedFile(
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
