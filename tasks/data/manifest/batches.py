"""The version of the dataset: data/batches.yaml in, the names of its batches in the order in which they landed out."""

import re
from pathlib import Path

import yaml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read_batches(path: Path) -> list[str]:
    """Raises ValueError where there is none, or one whose name is not fit for a path and a shell, or one twice."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    batches = content.get("batches") if isinstance(content, dict) else None
    if not isinstance(batches, list):
        raise ValueError(f"{path} has no list `batches`, expected the names of the folders of data/raw/ to use")
    if not batches:
        raise ValueError(f"{path} lists no batches: put images in data/raw/<batch>/<class>/ and list <batch>")
    for batch in batches:
        if not isinstance(batch, str) or not NAME.fullmatch(batch):
            raise ValueError(
                f"{path} lists {batch!r}, expected a name of letters, digits, '.', '_' and '-' (in quotes where it is a number)"
            )
    if len(set(batches)) < len(batches):
        raise ValueError(f"{path} lists a batch twice, expected each once: {', '.join(batches)}")
    return batches
