"""Name the kind of a file that is no image in a known format, and what to do with it."""

import re

SAVE = "save it as JPEG or PNG"
UNPACK = "unpack it"
LONGEST_TEXT = 4096  # bytes that are looked at
SHOWN = 40  # characters of a text that a message repeats

# by the first bytes
KINDS = {
    b"%PDF": ("a PDF document", "save its pages as images"),
    b"PK\3\4": ("a zip archive, or a document of an office program", UNPACK),
    b"\x1f\x8b": ("packed by gzip", UNPACK),
    b"BZh": ("packed by bzip2", UNPACK),
    b"\xfd7zXZ": ("packed by xz", UNPACK),
    b"\x28\xb5\x2f\xfd": ("packed by zstd", UNPACK),
    b"7z\xbc\xaf": ("a 7z archive", UNPACK),
    b"Rar!": ("a RAR archive", UNPACK),
    b"\xff\x0a": ("a JPEG XL image", SAVE),
    b"\0\0\0\x0cJXL ": ("a JPEG XL image", SAVE),
    b"8BPS": ("a Photoshop document", SAVE),
    b"gimp xcf": ("a GIMP document", SAVE),
    b"qoif": ("a QOI image", SAVE),
    b"\0\0\1\0": ("an icon (ICO)", SAVE),
    b"DDS ": ("a texture (DDS)", SAVE),
    b"\x76\x2f\x31\x01": ("an OpenEXR image", SAVE),
    b"#?RADIANCE": ("a Radiance HDR image", SAVE),
    b"SIMPLE  =": ("a FITS image", SAVE),
    b"%!PS": ("a PostScript document", SAVE),
    b"FUJIFILMCCD-RAW": ("a raw photograph of a camera", SAVE),
    b"\x93NUMPY": ("a NumPy array", "save its images as PNG"),
    b"\x89HDF": ("an HDF5 file", "save its images as PNG"),
    b"MATLAB 5.0": ("a MATLAB file", "save its images as PNG"),
    b"\x5c\x01\0\0": ("a NIfTI volume", "save its slices as PNG"),
    b"SQLite format 3": ("an SQLite database", "write its rows as Parquet"),
    b"PAR1": (
        "a Parquet table",
        "a table of images is read if its name ends in .parquet and the batch has no labels.csv at the top",
    ),
    **dict.fromkeys(
        (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"),  # its protocols
        ("a Python pickle, which is never loaded", "save its images as PNG"),
    ),
    b"\x7fELF": ("a program", "remove it"),
    b"MZ": ("a program", "remove it"),
    b"\xd0\xcf\x11\xe0": ("a document of an office program, or Thumbs.db", "remove it"),
    b"\0\5\x16\7": ("macOS's notes about another file (AppleDouble)", "remove it"),
    b"\0\0\0\1Bud1": ("macOS's notes about a folder (.DS_Store)", "remove it"),
    b"\x1aE\xdf\xa3": ("a video (Matroska or WebM)", "save its frames as images"),
    b"ID3": ("a sound (MP3)", "remove it"),
    b"OggS": ("a sound or video (Ogg)", "remove it"),
    b"fLaC": ("a sound (FLAC)", "remove it"),
}
RIFFS = {b"WAVE": ("a sound (WAV)", "remove it"), b"AVI ": ("a video (AVI)", "save its frames as images")}
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# texts, by a pattern of their beginning
TEXTS = {
    r"version https?://(git-lfs|hawser)\.": ("a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    r"/annex/objects/|.*/annex/objects/\S+\s*$": ("a git-annex pointer, not the file itself", "run `git annex get`"),
    r"outs:\s*\n": ("a DVC pointer, not the file itself", "run `dvc pull`"),
    r"<!doctype html|<html|<head|<body": (
        "a web page (HTML), often what a server answers instead of the file",
        "download the file again",
    ),
    r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!doctype svg[^>]*>\s*)?<svg": ("a drawing (SVG)", "save it as PNG"),
    r"<\?xml|<error": ("XML, often what a server answers instead of the file", "download the file again"),
    r"[{\[]": ("text (JSON)", "remove it, or download the file again"),
    r"From \S+@|begin \d{3} ": ("mail", "save its attachments"),
}

# the endings of files that a user means as pictures, whether they can be read or not: each is a sample or a loss.
# Archives are among them, because they may hold pictures
ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".ico"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".pcx", ".sgi", ".jp2", ".j2k", ".jpx", ".jxl", ".avif", ".heic"),
    *(".heif", ".svg", ".psd", ".eps", ".exr", ".hdr", ".dds", ".icns"),
    *(".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),  # of cameras
    *(".dcm", ".dicom", ".nii", ".mha", ".mhd", ".svs", ".ndpi", ".fits", ".npy", ".npz", ".mat"),
    *(".mp4", ".mov", ".avi", ".mkv", ".webm"),
    *(".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".parquet", ".tfrecord"),
)


def what_it_is(content: bytes) -> str:
    """Return the kind of the bytes and what to do: "a PDF document: save its pages as images"; "" if unknown."""
    kind = _kind(content)
    return ": ".join(kind) if kind else ""


def _kind(content: bytes) -> tuple[str, ...] | None:
    for start, kind in KINDS.items():
        if content.startswith(start):
            return kind
    if content[4:8] == b"ftyp":
        return _of_brand(content[8:12])
    if content[:4] == b"RIFF" and content[8:12] in RIFFS:
        return RIFFS[content[8:12]]
    if content[128:132] == b"DICM":
        return ("a DICOM image", "save its pixels as PNG")
    if content[257:262] == b"ustar":
        return ("a tar archive", UNPACK)
    if content and not any(content[:LONGEST_TEXT]) and not any(content):
        return ("nothing but zeros, as a broken copy leaves them", "copy it again")
    return _of_text(content)


def _of_brand(brand: bytes) -> tuple[str, ...]:
    if brand in HEIC:
        return ("a HEIC image", SAVE)
    if brand == b"crx ":
        return ("a raw photograph of a camera", SAVE)
    return ("a video (MP4 and its like)", "save its frames as images")


def _of_text(content: bytes) -> tuple[str, ...] | None:
    """Return the kind of a text in UTF-8 or UTF-16; None for anything else."""
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    # the cut at the end may leave half a character
    text = content[:LONGEST_TEXT].decode(encoding, "replace")
    if not text.strip() or any(not (c.isprintable() or c.isspace()) or c == "\ufffd" for c in text[:-4] or text):
        return None
    for pattern, kind in TEXTS.items():
        if re.match(pattern, text.lstrip(), re.IGNORECASE | re.DOTALL):
            return kind
    return (f"text that begins with {' '.join(text.split())[:SHOWN]!r}",)
