"""Keeps the bytecode of templates: to compile those of the page takes longer than to fill them."""

import hashlib
import marshal
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import jinja2
from jinja2.bccache import Bucket

from tasks.machine.files import write_whole

DIGEST_BYTES = 32
PACKAGES = ("jinja2", "markupsafe")


class CompiledTemplates(jinja2.BytecodeCache):
    """A file of bytecode a template in `folder`, which is compiled anew once anything that it depends on has changed.

    Args:
        code: the files that make the environment of the templates, on which their bytecode depends, too.
    """

    def __init__(self, folder: Path, *, code: Iterable[Path]) -> None:
        self.folder = folder
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in code]
        self._facts = repr([sys.version, *map(version, PACKAGES), *digests])

    def load_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            content = self._file(bucket).read_bytes()
            bytecode = content[DIGEST_BYTES:]
            if content == self._digest(bucket, bytecode) + bytecode:
                bucket.code = marshal.loads(bytecode)  # noqa: S302  as Python trusts the bytecode beside it

    def dump_bytecode(self, bucket: Bucket) -> None:
        if not sys.dont_write_bytecode:
            bytecode = marshal.dumps(bucket.code)
            with suppress(OSError):  # a folder where this user may not write
                write_whole(self._file(bucket), self._digest(bucket, bytecode) + bytecode)

    def _file(self, bucket: Bucket) -> Path:
        return self.folder / f"{bucket.key}.jinja"

    def _digest(self, bucket: Bucket, bytecode: bytes) -> bytes:
        """Return the SHA-256 of the bytecode and of all that it depends on; `checksum` is that of the source."""
        return hashlib.sha256(f"{self._facts} {bucket.key} {bucket.checksum}".encode() + bytecode).digest()
