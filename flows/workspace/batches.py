"""The batches of this project: their names, their DVC files, and the list that decides on the training data."""

import json
import os
import re
import unicodedata
from pathlib import Path, PurePosixPath

import yaml

from flows.workspace import paths
from tasks.data.manifest.batches import list_batches, parse_batches
from tasks.data.raw.usual_names import TEXT_TABLE_ENDINGS
from tasks.machine.files import write_whole

LONGEST_NAME = 100  # characters; artifacts of a batch have its name with an ending


def fit_name(name: str) -> str:
    """Return the name with only the letters, digits, '.', '_' and '-' that the list of batches allows."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem, ending = _split(re.sub(r"[^A-Za-z0-9._-]+", "-", plain))
    if stem.endswith(".dvc"):  # git would take it for a file of DVC's
        stem = f"{stem[:-4]}-dvc"
    return (stem.lstrip("._-")[: LONGEST_NAME - len(ending)].rstrip("-") or "batch") + ending


def free_name(name: str, digest: str) -> str:
    """Return the name, or the name with the content's hash in it if other content has the name.

    Raises:
        ValueError: both are taken.
    """
    for possible in _possible_names(name, digest):
        is_there = os.path.lexists(paths.raw() / possible) or os.path.lexists(_dvc_file(possible))
        if not is_there and possible not in listed():
            return possible
    raise ValueError(f"{paths.raw() / possible} exists, and DVC does not track it: `dvc add` it, or move it away")


def namesakes(name: str) -> list[str]:
    """Return the tracked batches that had this name when they landed."""
    return [batch for digest, batch in tracked().items() if batch in _possible_names(name, digest)]


def tracked() -> dict[str, str]:
    """Return the batches that DVC tracks, by content hash."""
    files = sorted(paths.raw().glob("*.dvc"))
    return {digest: file.stem for file in files if (digest := digest_of(file.stem))}


def loose_ends() -> list[str]:
    """Return a sentence on each DVC file that is damaged, and on each whose batch is not listed."""
    warnings = []
    names = listed()
    for file in sorted(paths.raw().glob("*.dvc")):
        try:
            _read_digest(file)
        except ValueError as error:
            warnings.append(str(error))
            continue
        if file.stem not in names:
            warnings.append(
                f"{file.stem} is in {paths.raw()}, but {paths.batches()} does not list it: "
                "list it, or remove its .dvc file"
            )
    return warnings


def digest_of(batch: str) -> str:
    """Return the content hash that DVC has of a batch; empty if it has none."""
    try:
        return _read_digest(_dvc_file(batch))
    except (FileNotFoundError, ValueError):
        return ""


def extent_of(batch: str) -> tuple[int, int]:
    """Return the number of files of a tracked batch, and their size in bytes."""
    out = yaml.safe_load(_dvc_file(batch).read_text("utf-8"))["outs"][0]
    return int(out.get("nfiles", 1)), int(out.get("size", 0))


def forget(batch: str) -> None:
    """Remove the DVC file of a batch, whole or torn."""
    _dvc_file(batch).unlink(missing_ok=True)


def listed() -> list[str]:
    """Return the listed batches; the stages check their names."""
    return list_batches(paths.batches())


def append(batch: str) -> None:
    """Add the batch to the end of the list, unless it is listed; every other byte of the file stays.

    Raises:
        ValueError: the file has no list `batches`, or writes it in a way that cannot be appended to.
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


def _possible_names(name: str, digest: str) -> tuple[str, str]:
    stem, ending = _split(name)
    return name, f"{stem}-{digest[:8]}{ending}"


def _split(name: str) -> tuple[str, str]:
    """Split a name into stem and ending; only that of a table counts as an ending."""
    ending = PurePosixPath(name).suffix
    return (name.removesuffix(ending), ending) if ending.lower() in TEXT_TABLE_ENDINGS else (name, "")


def _dvc_file(batch: str) -> Path:
    return paths.raw() / f"{batch}.dvc"


def _read_digest(file: Path) -> str:
    try:
        return str(yaml.safe_load(file.read_text("utf-8"))["outs"][0].get("md5", ""))
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is not a DVC file: restore it with git, or remove it") from error
