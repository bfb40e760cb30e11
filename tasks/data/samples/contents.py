"""Read the bytes of a sample by its path: those of a file, or of a row of a Parquet file."""

from pathlib import Path

from tasks.data.samples.parquet_cells import read_picture


def read_content(path: Path) -> bytes:
    """Return the bytes of the file at `path`, or of a row of a Parquet file, such as `…/images.parquet/17`.

    Raises:
        FileNotFoundError: there is no such file, and no such Parquet file.
        UnreadableTableError: the row cannot be read.
    """
    try:
        return path.read_bytes()
    except NotADirectoryError:
        if not (path.name.isdigit() and path.parent.is_file()):
            raise FileNotFoundError(path) from None
        return read_picture(path.parent, int(path.name))
