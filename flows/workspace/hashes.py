"""DVC's hashes of files and folders."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

BLOCK_BYTES = 1 << 20


def sizes(path: Path) -> dict[str, int]:
    """Return the size in bytes of each file below a path, by relative path. A path that is a file has the key ""."""
    if path.is_file():
        return {"": path.stat().st_size}
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in path.rglob("*") if file.is_file()}


def hash_of(path: Path) -> str:
    """Return DVC's hash of a file or folder; empty if the path is missing."""
    hashes = {inside: md5(path / inside) for inside in sizes(path)}
    return hashes.get("") or (content_hash(hashes) if hashes else "")


def content_hash(hashes: dict[str, str]) -> str:
    """Return DVC's hash of a folder from the hash of each file, by path.

    It is the hash of the folder's listing (dvc_data.hashfile.tree.Tree).
    """
    listing = [{"md5": digest, "relpath": path} for path, digest in sorted(hashes.items())]
    return hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest() + ".dir"


def md5(path: Path) -> str:
    """Return DVC's hash of a file."""
    with path.open("rb") as file:
        return md5_of(iter(lambda: file.read(BLOCK_BYTES), b""))


def md5_of(blocks: Iterable[bytes]) -> str:
    """Return DVC's hash of a file's content."""
    digest = hashlib.md5(usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()
