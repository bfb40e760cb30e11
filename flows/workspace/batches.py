"""The batches that the project has: data/raw/*.dvc and data/batches.yaml in; names, contents and one more of them out."""

import json
import os
import re
import unicodedata
from pathlib import Path

import yaml

from flows.workspace import paths
from tasks.data.manifest.batches import list_batches, parse_batches
from tasks.machine.files import write_whole

LONGEST_NAME = 100  # characters; what is made of a batch is named after it, with endings


def fit_name(name: str) -> str:
    """The name, made of letters, digits, '.', '_' and '-' as data/batches.yaml wants it."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem, ending = _split(re.sub(r"[^A-Za-z0-9._-]+", "-", plain))
    if stem.endswith(".dvc"):  # git would take it for one of DVC's files
        stem = f"{stem[:-4]}-dvc"
    return (stem.lstrip("._-")[: LONGEST_NAME - len(ending)].rstrip("-") or "batch") + ending


def free_name(name: str, digest: str) -> str:
    """The name, or one with the content's hash in it where other content has the name. Raises ValueError where that is taken too."""
    for free in _names(name, digest):
        if not os.path.lexists(paths.raw() / free) and not os.path.lexists(_dvc_file(free)) and free not in listed():
            return free
    raise ValueError(f"{paths.raw() / free} is there, and DVC does not know it: `dvc add` it, or move it away")


def namesakes(name: str) -> list[str]:
    """The batches here that had this name when they landed."""
    return [batch for digest, batch in tracked().items() if batch in _names(name, digest)]


def tracked() -> dict[str, str]:
    """What DVC knows of: content hash -> batch."""
    return {digest: file.stem for file in sorted(paths.raw().glob("*.dvc")) if (digest := digest_of(file.stem))}


def loose_ends() -> list[str]:
    """Sentences on the .dvc files that are torn or of batches that are not listed."""
    told = []
    names = listed()
    for file in sorted(paths.raw().glob("*.dvc")):
        try:
            _read_digest(file)
        except ValueError as error:
            told.append(str(error))
            continue
        if file.stem not in names:
            told.append(
                f"{file.stem} is in {paths.raw()}, but {paths.batches()} does not list it: list it, or remove its .dvc file"
            )
    return told


def digest_of(batch: str) -> str:
    """The content hash that DVC has of a batch; empty where it has none."""
    try:
        return _read_digest(_dvc_file(batch))
    except (FileNotFoundError, ValueError):
        return ""


def extent_of(batch: str) -> tuple[int, int]:
    """The number of files, and of their bytes, that DVC has of a batch that it tracks."""
    out = yaml.safe_load(_dvc_file(batch).read_text("utf-8"))["outs"][0]
    return int(out.get("nfiles", 1)), int(out.get("size", 0))


def forget(batch: str) -> None:
    """Remove DVC's record of a batch, whole or torn."""
    _dvc_file(batch).unlink(missing_ok=True)


def listed() -> list[str]:
    """The batches that data/batches.yaml lists; its other rules are checked where it is used."""
    return list_batches(paths.batches())


def append(batch: str) -> None:
    """List the batch, last, once; every other byte of the file stays.

    Raises:
        ValueError: the file has no list `batches`.
    """
    file = paths.batches()
    text = file.read_bytes().decode("utf-8")
    names = parse_batches(text, path=file)
    if batch in names:
        return
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    [node] = [value for key, value in root.value if key.value == "batches"]
    quoted = json.dumps(batch)
    if not node.value:
        at, addition = node.end_mark.index - 1, quoted
    elif node.flow_style:
        at, addition = node.value[-1].end_mark.index, f", {quoted}"
    else:
        last = node.value[-1]
        start = text.rindex("\n", 0, last.start_mark.index) + 1
        end = text.find("\n", last.end_mark.index)
        at = len(text) if end < 0 else end
        newline = "\r\n" if text[at - 1] == "\r" else "\n"
        at -= len(newline) - 1
        addition = f"{newline}{text[start : last.start_mark.index]}{quoted}"
    changed = text[:at] + addition + text[at:]
    if parse_batches(changed, path=file) != [*names, batch]:
        raise ValueError(f"{file} is written in a way that cannot be appended to: add {quoted} to `batches` by hand")
    write_whole(file, changed.encode())


def _names(name: str, digest: str) -> tuple[str, str]:
    stem, ending = _split(name)
    return name, f"{stem}-{digest[:8]}{ending}"


def _split(name: str) -> tuple[str, str]:
    """A Parquet file keeps its ending."""
    return (name.removesuffix(".parquet"), ".parquet") if name.endswith(".parquet") else (name, "")


def _dvc_file(batch: str) -> Path:
    return paths.raw() / f"{batch}.dvc"


def _read_digest(file: Path) -> str:
    try:
        return str(yaml.safe_load(file.read_text("utf-8"))["outs"][0].get("md5", ""))
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no file of DVC's: restore it with git, or remove it") from error
