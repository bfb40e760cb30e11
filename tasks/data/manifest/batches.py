"""Read the list of batches, data/batches.yaml, which is the version of the dataset."""

import re
from pathlib import Path

import yaml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read_batches(path: Path) -> list[str]:
    """Return the batches, in the order in which they landed.

    Raises:
        ValueError: the list is empty, lists a batch twice, or has a name that is unsafe in a path or a shell.
    """
    batches = list_batches(path)
    if not batches:
        raise ValueError(f"{path} lists no batches: put images in data/raw/<batch>/<class>/ and list <batch>")
    for batch in batches:
        if not isinstance(batch, str) or not NAME.fullmatch(batch):
            raise ValueError(
                f"{path} lists {batch!r}, expected a name of letters, digits, '.', '_' and '-' "
                "(in quotes if it is a number)"
            )
    if len(set(batches)) < len(batches):
        raise ValueError(f"{path} lists a batch twice, expected each once: {', '.join(batches)}")
    return batches


def list_batches(path: Path) -> list[str]:
    """Return the list in the file, which may be empty, without checking its names.

    Raises:
        ValueError: the file has no list `batches`.
    """
    try:
        return parse_batches(path.read_text("utf-8"), path=path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from error


def parse_batches(text: str, *, path: Path) -> list[str]:
    """Return the list in the text of the file at `path`.

    Raises:
        ValueError: the text has no list `batches`.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    batches = content.get("batches") if isinstance(content, dict) else None
    if not isinstance(batches, list):
        raise ValueError(
            f"{path} has no list `batches`, expected `batches: []` or the names of the folders of data/raw/"
        )
    return batches
