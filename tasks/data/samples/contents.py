"""The bytes of a sample, from its path: a file's, or those of a row of a Parquet file."""

from pathlib import Path

from tasks.data.samples.parquet_cells import read_picture


def read_content(path: Path) -> bytes:
    """`path` leads to a file, or through a Parquet file to the number of a row: `…/pictures.parquet/17`.

    Raises FileNotFoundError where there is neither, and UnreadableTableError where the row cannot be read.
    """
    try:
        return path.read_bytes()
    except NotADirectoryError:
        if not (path.name.isdigit() and path.parent.is_file()):
            raise FileNotFoundError(path) from None
        return read_picture(path.parent, int(path.name))
