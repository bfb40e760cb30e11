"""Name the kind of a file that is no text, and what to do with it."""

from tasks.data.samples.text_encoding import is_utf8, is_wide

SAVE = "save it as text"
# by the first bytes
KINDS = {
    b"%PDF": ("a PDF document", SAVE),
    b"PK\3\4": ("a zip archive, or a document of an office program", f"unpack it, or {SAVE}"),
    b"\xd0\xcf\x11\xe0": ("a document of an office program", SAVE),
    b"\x1f\x8b": ("packed by gzip", "unpack it"),
    b"BZh": ("packed by bzip2", "unpack it"),
    b"\x28\xb5\x2f\xfd": ("packed by zstd", "unpack it"),
    b"SQLite format 3": ("an SQLite database", "write its rows as a table"),
    b"PAR1": ("a Parquet table", "let its name end in .parquet"),
    b"\x89PNG": ("an image", "set modality: images, or remove it"),
    b"\xff\xd8\xff": ("an image", "set modality: images, or remove it"),
    b"\x7fELF": ("a program", "remove it"),
    b"MZ": ("a program", "remove it"),
    b"\0\5\x16\7": ("macOS's notes about another file (AppleDouble)", "remove it"),
}


def what_it_is(content: bytes) -> str:
    """Return the kind of a file that is no text, and what to do with it: "a PDF document: save it as text"."""
    for start, kind in KINDS.items():
        if content.startswith(start):
            return ": ".join(kind)
    if is_wide(content):
        return "it looks like UTF-16 without a mark: name its encoding in scan.encoding, or save it as UTF-8"
    if is_utf8(content):
        return "the bytes are no list of cells"
    return "it is not UTF-8: name its encoding in scan.encoding, such as cp1252, or save it as UTF-8"
