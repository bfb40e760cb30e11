"""Read the bytes of a sample by its path: those of a file, packed or not, or of a row of a Parquet file."""

from pathlib import Path

from tasks.data.samples.packed import packed_file
from tasks.data.samples.parquet_cells import read_picture


def read_content(path: Path) -> bytes:
    """Return the bytes of the file at `path`, or of a row of a Parquet file, such as `…/images.parquet/17`.

    Raises:
        FileNotFoundError: there is no such file, and no such Parquet file.
        UnreadableTableError: the row, or the packed file, cannot be read.
    """
    try:
        return read_file(path)
    except NotADirectoryError:
        if not (path.name.isdigit() and path.parent.is_file()):
            raise FileNotFoundError(path) from None
        return read_picture(path.parent, int(path.name))


def read_file(path: Path) -> bytes:
    """Return the bytes of a file, which may be packed.

    Raises:
        OSError: there is no such file, or it cannot be read.
        UnreadableTableError: the packed file cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if found := packed_file(path):
            return found.read()
        raise


def read_start(path: Path, num_bytes: int) -> bytes:
    """Return the first bytes of a file, which may be packed. Raises what `read_file` raises."""
    try:
        with path.open("rb") as file:
            return file.read(num_bytes)
    except FileNotFoundError:
        return read_file(path)[:num_bytes]


def size_of(path: Path) -> int:
    """Return the bytes of a file, which may be packed; 0 for a row of a table, whose size is known once it is read.

    Raises:
        OSError: there is no such file, or it may not be looked at.
    """
    try:
        return path.stat().st_size
    except NotADirectoryError:
        return 0
    except FileNotFoundError:
        # behind the path of a packed text may stand its encoding
        if found := packed_file(path) or packed_file(path.parent):
            return found.size
        raise


def is_file(path: Path) -> bool:
    """Return whether there is a file at `path`, packed or not."""
    return path.is_file() or (not path.exists() and packed_file(path) is not None)
