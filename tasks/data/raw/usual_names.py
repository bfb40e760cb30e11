"""The usual names of files and folders in a batch: splits, tables of labels, and files that are no samples."""

from functools import lru_cache
from pathlib import PurePosixPath

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "heldout": "heldout", "held-out": "heldout", "held_out": "heldout",
    "holdout": "heldout", "hold-out": "heldout", "hold_out": "heldout",
    "test": "heldout", "testing": "heldout",
    "eval": "heldout", "evaluation": "heldout",  # as Hugging Face datasets takes them
}  # fmt: skip

MOST_FOLDERS = 100  # around a file of a batch; deeper ones are made by mistake, or to exhaust a program

# of a table of labels, the first that is there wins; keras and Hugging Face datasets write the others
TABLE_STEMS = ("labels", "metadata")
TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
TEXT_TABLE_ENDINGS = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet")  # of tables whose rows are texts
# endings of files that can only be a table, but that are not read
OTHER_TABLE_ENDINGS = (".ndjson", ".tab", ".xlsx", ".xls", ".xlsm", ".ods", ".feather", ".arrow", ".sqlite")

# written by programs beside the files of their user, by the lower-case name
COMPANIONS = {
    ".ds_store": "the settings of a folder on macOS",
    ".localized": "the settings of a folder on macOS",
    "icon\r": "the picture of a folder on macOS",
    "thumbs.db": "the previews of a folder on Windows",
    "ehthumbs.db": "the previews of a folder on Windows",
    "desktop.ini": "the settings of a folder on Windows",
    ".directory": "the settings of a folder on KDE",
    ".gitkeep": "a file that keeps an empty folder in git",
    ".gitignore": "a file of git",
    ".gitattributes": "a file of git",
    ".picasa.ini": "the settings of Picasa",
    "_success": "the marker of a job that ended",
}
APPLE_DOUBLE = "._"  # begins the names of the files that macOS writes beside others on a foreign disk
# the same of folders, with all that is in them
COMPANION_FOLDERS = {
    "__macosx": "of an archive that macOS packed",
    "@eadir": "of previews on a Synology disk",
    "$recycle.bin": "of removed files on Windows",
    "system volume information": "of Windows",
    "lost+found": "of a disk that was repaired",
    "__pycache__": "of Python",
    ".ipynb_checkpoints": "of Jupyter",
    ".thumbnails": "of previews",
    ".@__thumb": "of previews on a QNAP disk",
    ".git": "of git",
    ".cache": "of a cache",
    ".trashes": "of removed files on macOS",
    ".spotlight-v100": "of an index on macOS",
    ".fseventsd": "of an index on macOS",
    ".appledouble": "of companions on macOS",
}


def split_called(name: str) -> str | None:
    """Return the split that a folder, or a word in a table, is called after; None if there is no such split."""
    return SPLIT_NAMES.get(name.strip().lower())


PATH = "path"  # the column that names the file of a sample, and its other usual names
PATHS = (PATH, "file_name", "filename", "file_path", "filepath", "image_path", "img_path", "file")


def companion(path: str) -> str:
    """Return the kind of a file that a program wrote beside its user's files; "" for every other file."""
    folder, _, name = path.rpartition("/")
    return _companion_folder(folder) or COMPANIONS.get(name.lower(), "")


@lru_cache(maxsize=2**12)
def _companion_folder(path: str) -> str:
    for folder in path.lower().split("/"):
        if what := COMPANION_FOLDERS.get(folder):
            return f"in the folder {folder} {what}"
    return ""


def is_table_of_labels(name: str) -> bool:
    """Return whether a file at the top is called like the table that labels its neighbours."""
    return "/" not in name and has_ending(name, TABLE_ENDINGS) and PurePosixPath(name.lower()).stem in TABLE_STEMS


def has_ending(path: str, endings: tuple[str, ...]) -> bool:
    """Return whether the name of a file ends in one of the endings, such as ".csv", or in none if "" is among them."""
    name = path.rpartition("/")[2].lower()
    dot = name.rfind(".")
    return (name[dot:] if 0 < dot < len(name) - 1 else "") in endings  # as `PurePath.suffix`, which takes far longer
