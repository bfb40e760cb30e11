"""DVC's hashes of files and folders."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

BLOCK_BYTES = 1 << 20


def sizes(path: Path) -> dict[str, int]:
    """The bytes of each file below a path; "" is the path itself where that is a file. Empty where nothing is."""
    if path.is_file():
        return {"": path.stat().st_size}
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in path.rglob("*") if file.is_file()}


def hash_of(path: Path) -> str:
    """DVC's hash of what is there; empty where nothing is."""
    hashes = {inside: md5(path / inside) for inside in sizes(path)}
    return hashes.get("") or (content_hash(hashes) if hashes else "")


def content_hash(hashes: dict[str, str]) -> str:
    """DVC's hash of a folder, from path -> hash of each of its files: that of its listing (dvc_data.hashfile.tree.Tree)."""
    listing = [{"md5": digest, "relpath": path} for path, digest in sorted(hashes.items())]
    return hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest() + ".dir"


def md5(path: Path) -> str:
    """DVC's hash of a file."""
    with path.open("rb") as file:
        return md5_of(iter(lambda: file.read(BLOCK_BYTES), b""))


def md5_of(blocks: Iterable[bytes]) -> str:
    """Return DVC's hash of a file's content."""
    digest = hashlib.md5(usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()
