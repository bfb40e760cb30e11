"""List the entries of a batch of any layout: tables beside files, tables of samples, or class folders.

In every layout a level of folders called after splits is the split.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from tasks.data.raw import class_folders, label_table, parquet_table, text_file, text_table
from tasks.data.raw.entries import NOT_A_SAMPLE, Entry, defect, targets_among
from tasks.data.raw.files import file_entry, walk
from tasks.data.raw.label_rows import read_columns
from tasks.data.raw.nearest import Files
from tasks.data.raw.options import TextTables
from tasks.data.raw.usual_names import (
    OTHER_TABLE_ENDINGS,
    PATH,
    TABLE_ENDINGS,
    TABLE_STEMS,
    companion,
    has_ending,
    is_table_of_labels,
    split_called,
)
from tasks.data.samples.contents import read_start
from tasks.data.samples.parquet_cells import BROKEN, UnreadableTableError, layout_of, stamp_of

logger = logging.getLogger("graftline")

UNREAD = (*(ending for ending in TABLE_ENDINGS if ending != parquet_table.ENDING), *OTHER_TABLE_ENDINGS)
EXPECTED = (
    "expected labels.csv or metadata.csv (or .tsv, .jsonl, .parquet) with a column path and a column for each target"
)
EXPECTED_TEXTS = f"expected a table of texts ({', '.join(text_table.ENDINGS)}) with a column of the text"
SHARD = re.compile(r"[-_.]\d.*")  # behind the split, in the name of a Parquet file: train-00000-of-00002.parquet
MOST_WRAPPERS = 3  # folders around all of a batch
MOST_LINES = 20  # of a text, that show whether it lists files
LONGEST_START = 2**16  # bytes of a text that are looked at
COCO = re.compile(r'^\s*\[\s*\{|"(?:file_?names?|image_?paths?)"\s*:|"(?:images|annotations)"\s*:\s*\[', re.IGNORECASE)
JSON_TEXT = re.compile(r'"([^"\\]{1,300})"')
PACKED = (".gz", ".zip", ".bz2", ".xz")


@dataclass(frozen=True, kw_only=True)
class Finder:
    """The form of a batch's samples: the endings of their files, and the tables that hold them.

    `texts` are the options for reading tables of texts; None looks for Parquet files of images.
    """

    endings: tuple[str, ...]
    texts: TextTables | None

    @property
    def table_endings(self) -> tuple[str, ...]:
        """Return the endings of the tables whose rows are samples."""
        return (parquet_table.ENDING,) if self.texts is None else text_table.ENDINGS

    def is_table(self, file: Path) -> bool:
        """Return whether the rows of a file are samples."""
        return parquet_table.is_parquet(file) if self.texts is None else text_table.is_table(file)

    def rows(self, file: Path, *, prefix: str) -> Iterator[Entry]:
        """Yield the entries of the rows of a table."""
        if self.texts is None:
            return parquet_table.find_rows(file, prefix=prefix)
        return text_table.find_rows(file, prefix=prefix, options=self.texts)

    def file(self, batch: Path, entry: Entry) -> Entry:
        """Return the entry of a file. Its path names the encoding, unless the file is UTF-8 or has a mark."""
        if self.texts is None or self.texts.encoding is None:
            return entry
        return text_file.with_encoding(batch, entry, endings=self.endings, otherwise=self.texts.encoding)


def find_entries(batch: Path, *, endings: tuple[str, ...] = (), texts: TextTables | None = None) -> list[Entry]:
    """Return an entry for everything in a batch, which is a folder or a single table. Nothing is skipped.

    With a table of labels at the top, the files that its rows name are the samples. Otherwise every other file belongs
    to its class folder. The rows of tables of texts, and without a table of labels those of Parquet files of images,
    are samples too, wherever the table lies.

    Args:
        endings: of a sample's name.
        texts: how tables of texts are read, where the batch is of texts.

    Raises:
        ValueError: a file at the top can only be a table of labels, but cannot be read; there are several tables; a
            folder may be a class or a split; or a table of texts would lose samples.
    """
    try:
        return list(_find(batch, Finder(endings=endings, texts=texts)))
    except ValueError as error:
        raise ValueError(f"{batch}: {error}") from error


def _find(batch: Path, finder: Finder) -> Iterator[Entry]:
    endings = finder.endings
    if batch.is_file():
        if finder.is_table(batch):
            yield from finder.rows(batch, prefix="")
        else:
            kinds = "a Parquet file" if finder.texts is None else f"a table ({', '.join(text_table.ENDINGS)})"
            yield defect(batch.name, "unreadable_table", f"expected a folder, or {kinds}")
        return
    paths, unread = walk(batch)
    yield from unread
    base = _base(paths, endings)
    tables = _tables(batch, paths, base, finder)
    of_samples = [path for path in paths if path not in tables and _holds_samples(batch, path, finder)]
    if tables:
        splits = _splits_of_folders(paths, base)
        files = paths if finder.texts is None else sorted(set(paths) - set(of_samples))
        entries = [
            finder.file(batch, entry)
            for entry in label_table.find_rows(batch, tables, Files(batch, files, endings=endings))
        ]
        if finder.texts is not None:
            entries += [entry for path in of_samples for entry in finder.rows(batch / path, prefix=f"{path}/")]
        yield from _with_splits(entries, lambda path: splits.get(path.removeprefix(base).split("/")[0]))
        return
    others = sorted(set(paths) - set(of_samples))
    _refuse_unread_tables(batch, others, of_samples, base=base, finder=finder)
    splits = class_folders.split_folders(paths, base=base)
    if splits:
        logger.info("%s: %s", batch, ", ".join(f"the folder {name!r} is {split}" for name, split in splits.items()))
    entries = [entry for path in of_samples for entry in finder.rows(batch / path, prefix=f"{path}/")]
    found = class_folders.find_files(batch, others, base=base, splits=splits)
    entries += [finder.file(batch, entry) for entry in found]
    filled = [*paths, *(entry.path for entry in unread)]
    entries += class_folders.find_empty_folders(batch, filled, base=base, splits=splits)
    yield from _with_splits(_said_once(entries), _split_of(paths, base, splits, finder))


def _base(paths: Sequence[str], endings: tuple[str, ...]) -> str:
    """Return the folder that holds the whole batch, with a slash behind it, where its content shows that; or ""."""
    base = ""
    for _ in range(MOST_WRAPPERS):
        inside = [path.removeprefix(base) for path in paths if not companion(path) and "/." not in f"/{path}"]
        tops = {path.split("/")[0] for path in inside if "/" in path}
        if len(tops) != 1 or any(
            has_ending(path, endings) or is_table_of_labels(path) for path in inside if "/" not in path
        ):
            return ""
        [top] = tops
        if split_called(top):
            return ""
        base += f"{top}/"
        within = [path for path in paths if path.startswith(base)]
        if any(is_table_of_labels(path.removeprefix(base)) for path in within):
            return base
        folders = [path.removeprefix(base).split("/")[:-1] for path in within]
        if any(len(parts) > 1 and split_called(parts[0]) for parts in folders):
            return base
    return ""


def _tables(batch: Path, paths: Sequence[str], base: str, finder: Finder) -> list[str]:
    """Return the tables of labels: the one at the top, else one for each split.

    Raises:
        ValueError: two tables may be the one.
    """

    def names_files(table: Path) -> bool:
        is_of_texts = finder.texts is not None and text_table.has_texts(table, finder.texts)
        has_files = any(has_ending(path, finder.endings) for path in paths)
        return _has_paths(table) and (has_files or not is_of_texts)

    at_top = [path for path in paths if path.startswith(base) and "/" not in path.removeprefix(base)]
    usual = [
        path
        for path in at_top
        if is_table_of_labels(path.removeprefix(base))
        and _may_be_table(batch, path, names_files, is_of_images=finder.texts is None)
    ]
    for stem in TABLE_STEMS:
        alike = [path for path in usual if PurePosixPath(path).stem.lower() == stem]
        preferred = [path for path in alike if path.lower().endswith(f"{TABLE_STEMS[0]}.csv")] or alike
        if len(preferred) > 1:
            raise ValueError(f"{' and '.join(preferred)} may both be the table of labels: keep one of them")
        if preferred:
            return preferred
    return [
        path
        for path in paths
        if path.startswith(base) and _is_of_split(path.removeprefix(base)) and names_files(batch / path)
    ]


def _is_of_split(path: str) -> bool:
    """Return whether a table lies in a folder called after a split, as Hugging Face datasets writes it."""
    folder, _, name = path.partition("/")
    return bool(split_called(folder)) and is_table_of_labels(name)


def _may_be_table(batch: Path, path: str, names_files: Callable[[Path], bool], *, is_of_images: bool) -> bool:
    """Return whether a file can be a table of paths. Beside images, labels.… counts as one even if it is damaged."""
    is_parquet = path.lower().endswith(parquet_table.ENDING)
    if is_of_images and PurePosixPath(path.lower()).stem == TABLE_STEMS[0] and not is_parquet:
        return True
    return not file_entry(batch, path, {}, is_walked=True).reason and names_files(batch / path)


def _has_paths(table: Path) -> bool:
    try:
        return PATH in read_columns(table)
    except BROKEN:
        return False


def _refuse_unread_tables(
    batch: Path, others: Sequence[str], of_samples: Sequence[str], *, base: str, finder: Finder
) -> None:
    """Raise ValueError where a file at the top can only be a table of the `others`, and no table was read."""
    files = Files(batch, others)
    for path in (*others, *(of_samples if finder.texts is None else ())):
        name = path.removeprefix(base)
        if not path.startswith(base) or "/" in name or path.startswith(".") or companion(path):
            continue
        if file_entry(batch, path, {}, is_walked=True).reason:
            continue
        bare = name[: name.rfind(".")] if has_ending(name, PACKED) else name
        is_table = has_ending(bare, UNREAD) if path not in of_samples else others and not _has_images(batch / path)
        if is_table or (not has_ending(path, finder.endings) and _lists_files(batch / path, files)):
            expected = EXPECTED if finder.texts is None else EXPECTED_TEXTS
            raise ValueError(
                f"{path}{_columns(batch / path)} is not read as a table of labels; {expected}: "
                "rename it so, or move it out of the batch"
            )


def _has_images(table: Path) -> bool:
    try:
        return bool(layout_of(table, stamp_of(table)))
    except BROKEN:
        return False


def _columns(table: Path) -> str:
    """Return the columns of a table for a message; "" where it has none that can be read."""
    if not has_ending(table.name, TABLE_ENDINGS):
        return ""
    try:
        names = [name for name in read_columns(table) if name.isprintable()]
    except BROKEN:
        return ""
    return f" (columns {', '.join(names)[:200]})" if names else ""


def _lists_files(path: Path, files: Files) -> bool:
    """Return whether a text is a list of files, one a line, names files in JSON, or describes them as COCO does."""
    if not has_ending(path.name, ("", ".txt", ".lst", ".list", ".dat", ".json")):
        return False
    try:
        start = read_start(path, LONGEST_START).decode("utf-8", "replace")
    except (OSError, UnreadableTableError):
        return False

    def fits(name: str) -> bool:
        return bool(files.find(name) or files.nearest(name)[0])

    if path.suffix.lower() == ".json":
        texts = JSON_TEXT.findall(start)[: 2 * MOST_LINES]
        num_fitting = sum(fits(name) for name in texts if "." in name or "/" in name)  # not "1", the number of a class
        return bool(COCO.search(start)) or (num_fitting > 1 and num_fitting > len(texts) / 3)
    lines = [line for line in start.splitlines() if line.strip()][:MOST_LINES]
    cells = [re.split(r"[\s,;]+", line.strip(), maxsplit=1) for line in lines]
    fitting = [parts for parts in cells if len(parts) > 1 and fits(parts[0])]
    return len(fitting) > len(lines) / 2


def _holds_samples(batch: Path, path: str, finder: Finder) -> bool:
    """Return whether the rows of a file are samples, and it is neither hidden nor a link that leaves the batch."""
    if not has_ending(path, finder.table_endings) or file_entry(batch, path, {}, is_walked=True).reason:
        return False
    return finder.is_table(batch / path) and not (finder.texts is not None and companion(path))


def _splits_of_folders(paths: Sequence[str], base: str) -> dict[str, str]:
    """Return the folders called after splits, which cannot be classes: a table has the classes."""
    folders = {path.removeprefix(base).split("/")[0] for path in paths if "/" in path.removeprefix(base)}
    return {name: split for name in folders if (split := split_called(name))}


def _split_of(paths: Sequence[str], base: str, splits: dict[str, str], finder: Finder) -> Callable[[str], str | None]:
    """Return a function that returns the split that a path stands below, or that its table is called after."""
    has_inner = not splits and class_folders.has_inner_splits(paths, base=base)
    if not (splits or has_inner or any(has_ending(path, finder.table_endings) for path in paths)):
        return lambda path: None

    def split_of(path: str) -> str | None:
        parts = path.removeprefix(base).split("/")
        if split := splits.get(parts[0]):
            return split
        if has_inner and len(parts) > 1:
            return split_called(parts[1])
        shard = next((part for part in parts if has_ending(part, finder.table_endings)), None)
        return split_called(SHARD.sub("", PurePosixPath(shard.lower()).stem)) if shard else None

    return split_of


def _with_splits(entries: Sequence[Entry], split_of: Callable[[str], str | None]) -> Iterator[Entry]:
    """Yield the entries with the split of their place, where they name none themselves.

    Where all samples with a label are `train`, no side is left to judge on: then a hash divides them, as usual.
    """
    named = [entry.said.get("split") or split_of(entry.path) for entry in entries]
    labelled = {split for entry, split in zip(entries, named, strict=True) if targets_among(entry.said)}
    for entry, split in zip(entries, named, strict=True):
        if split is None or "split" in entry.said or (split == "train" and labelled == {"train"}):
            yield entry
        else:
            yield replace(entry, said={**entry.said, "split": split})


def _said_once(entries: Sequence[Entry]) -> list[Entry]:
    """Leave out a shard's remark on a column that an earlier shard made already."""
    seen: set[str] = set()
    kept = []
    for entry in entries:
        if entry.reason != NOT_A_SAMPLE or entry.detail not in seen:
            kept.append(entry)
        if entry.reason == NOT_A_SAMPLE:
            seen.add(entry.detail)
    return kept
