"""A folder so deep that a program which follows it by recursion fails; so does pytest, which would remove it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def deep_folder(place: Path, *, depth: int = 990, file: bytes | None = None) -> Iterator[None]:
    """Make `place`/d/d/… and, in the last one, a file 1.png if it is given; remove all of it when the block ends."""
    descriptor = os.open(place, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        descriptor, above = os.open("d", os.O_RDONLY, dir_fd=descriptor), descriptor
        os.close(above)
    if file is not None:
        with open("1.png", "wb", opener=lambda path, flags: os.open(path, flags, dir_fd=descriptor)) as opened:
            opened.write(file)
    os.close(descriptor)
    try:
        yield
    finally:
        subprocess.run(["rm", "-rf", place / "d"], check=True)
