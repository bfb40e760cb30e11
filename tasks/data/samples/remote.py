"""Read a file at an address that fsspec knows, such as s3://bucket/key, by the parts that are asked for."""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import pyarrow as pa

READ_BYTES = 2**23  # of a request: a row group is smaller, and its neighbour is often next
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file at an address."""

    address: str
    size: int  # bytes

    @property
    def name(self) -> str:
        return self.address.rpartition("/")[2]

    def open(self) -> pa.PythonFile:
        """Return the file for reading. Nothing is read yet."""
        return pa.PythonFile(_Parts(self), mode="r")

    def read(self) -> bytes:
        """Return the whole content. Raises OSError as `files_at` does."""
        files, path = store_of(self.address)
        content: bytes = asked(self.address, lambda: files.cat_file(path))
        return content


def walk_address(address: str) -> Iterator[RemoteFile]:
    """Yield the file at an address, or all files below it, with the names of one folder at a time in memory.

    They come as those of a folder of this machine do: a folder's files before its folders, both in sorted order.

    Raises:
        OSError: the address does not answer, has nothing, or may not be read.
        ValueError: its kind needs a package that is not installed.
    """
    files, root = store_of(address)
    info = asked(address, lambda: files.info(root))
    if info["type"] == "file":
        yield RemoteFile(address=address, size=int(info["size"] or 0))
        return
    pending = [root]
    while pending:
        folder = pending.pop()
        entries = {entry["name"].rstrip("/"): entry for entry in _listed(files, folder, address)}
        children = sorted(name for name in entries if name.startswith(f"{folder}/"))
        for name in children:
            if entries[name]["type"] == "file":
                yield RemoteFile(address=address.rstrip("/") + name[len(root) :], size=int(entries[name]["size"] or 0))
        pending += [name for name in reversed(children) if entries[name]["type"] == "directory"]


def _listed(files: Any, folder: str, address: str) -> list[dict[str, Any]]:
    listing: list[dict[str, Any]] = asked(address, lambda: files.ls(folder, detail=True))
    return listing


def files_at(address: str) -> dict[str, int]:
    """Return the files directly below an address, with their sizes in bytes.

    Raises:
        OSError: the address does not answer, has nothing, or may not be read.
        ValueError: its kind needs a package that is not installed.
    """
    files, root = store_of(address)
    listing = asked(address, lambda: files.find(root, maxdepth=1, detail=True))
    if not listing:  # drivers list an address that they cannot reach as empty
        asked(address, lambda: files.ls(root, detail=True))
    return {name.rpartition("/")[2]: int(info.get("size") or 0) for name, info in listing.items()}


def store_of(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path in it. The driver repeats failed requests itself.

    Raises:
        ValueError: its kind needs a package that is not installed.
    """
    return _store_of(address, os.getpid())  # a connection does not outlive a fork


@lru_cache(maxsize=64)
def _store_of(address: str, process: int) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        files, path = asked(address, lambda: url_to_fs(address, use_listings_cache=False))
    except ImportError as error:
        raise ValueError(f"{address} needs a package that is not installed: {error}") from error
    return files, str(path).rstrip("/")


def asked(address: str, ask: Callable[[], Result]) -> Result:
    """Return the answer of a driver; an error of its own class becomes an OSError that names the address."""
    try:
        return ask()
    except ImportError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise OSError(f"{address}: {said}: check the address, the network and the permission to read it") from error


class _Parts(io.RawIOBase):
    """A remote file as Arrow reads it: it seeks, then reads so many bytes."""

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self.at = 0
        self.start, self.held = 0, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.file.size}[whence]
        return self.at

    def read(self, size: int = -1) -> bytes:
        end = self.file.size if size < 0 else min(self.at + size, self.file.size)
        if not self.start <= self.at <= end <= self.start + len(self.held):
            files, path = store_of(self.file.address)
            last = min(max(end, self.at + READ_BYTES), self.file.size)
            self.held = asked(self.file.address, lambda: files.cat_file(path, start=self.at, end=last))
            self.start = self.at
        part = self.held[self.at - self.start : end - self.start]
        self.at += len(part)
        return part
