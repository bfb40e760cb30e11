"""Name the encoding of a file of one text in its path, where the file alone does not show it."""

from dataclasses import replace
from pathlib import Path

from tasks.data.raw.entries import Entry
from tasks.data.raw.usual_names import has_ending
from tasks.data.samples.contents import read_file, size_of
from tasks.data.samples.parquet_cells import UnreadableTableError
from tasks.data.samples.text_cells import place_of_file
from tasks.data.samples.text_encoding import UTF_8, encoding_of, mark_of

MOST_BYTES = 2**30  # a larger file is no text


def with_encoding(batch: Path, entry: Entry, *, endings: tuple[str, ...], otherwise: str) -> Entry:
    """Return the entry, with the encoding `otherwise` in its path if the file has no mark and is not UTF-8."""
    file = batch / entry.path
    if entry.reason or not (entry.is_named or has_ending(entry.path, endings)):
        return entry
    try:
        content = b"" if size_of(file) > MOST_BYTES else read_file(file)
    except (OSError, UnreadableTableError):
        return entry  # the inspection reports what is wrong with it
    encoding = UTF_8 if mark_of(content) else encoding_of(content, otherwise=otherwise)
    return replace(entry, path=place_of_file(entry.path, encoding=encoding), is_named=True)
