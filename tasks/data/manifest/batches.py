"""Read the list of batches, data/batches.yaml, which is the version of the dataset."""

import re
from datetime import date
from pathlib import Path
from typing import Any

from tasks.machine.yaml_text import parse_yaml, read_yaml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read_batches(path: Path) -> list[str]:
    """Return the batches, in the order in which they landed.

    Raises:
        ValueError: the list is empty, lists a batch twice, or has a name that is unsafe in a path or a shell.
    """
    batches = list_batches(path)
    if not batches:
        raise ValueError(f"{path} lists no batches: put samples in data/raw/<batch>/ and list <batch>")
    for batch in batches:
        if kind := _other_kind(batch):
            raise ValueError(f'{path} lists {batch}, which YAML takes for a {kind}: write "{batch}", in quotes')
        if not isinstance(batch, str) or not NAME.fullmatch(batch):
            raise ValueError(f"{path} lists {batch!r}, expected a name of letters, digits, '.', '_' and '-'")
    if len(set(batches)) < len(batches):
        raise ValueError(f"{path} lists a batch twice, expected each once: {', '.join(batches)}")
    return batches


def list_batches(path: Path) -> list[str]:
    """Return the list in the file, which may be empty, without checking its names.

    Raises:
        ValueError: the file has no list `batches`.
    """
    return _listed(read_yaml(path), path=path)


def parse_batches(text: str, *, path: Path) -> list[str]:
    """Return the list in the text of the file at `path`.

    Raises:
        ValueError: the text has no list `batches`.
    """
    return _listed(parse_yaml(text, path=path), path=path)


def _listed(content: Any, *, path: Path) -> list[str]:
    batches = content.get("batches") if isinstance(content, dict) else None
    if not isinstance(batches, list):
        raise ValueError(
            f"{path} has no list `batches`, expected `batches: []` or the names of the folders of data/raw/"
        )
    return batches


def _other_kind(name: Any) -> str:
    """Return the type that YAML reads a name without quotes as; "" for text."""
    kinds = {"yes or no": bool, "date": date, "number": int | float}
    return next((kind for kind, its_type in kinds.items() if isinstance(name, its_type)), "")
