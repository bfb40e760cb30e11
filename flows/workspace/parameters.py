"""Check params.yaml and the list of batches before a run, and write a proposal into params.yaml."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from flows.workspace import paths
from flows.workspace.verbs import run_verb
from tasks.machine.files import write_whole

PARAMS = Path("params.yaml")
MODALITIES = ("images", "text")
STARTS = ("backbone", "in_use")  # where a training starts
MARK = "# graftline train: "  # begins the line that gives the reason of a proposed value
MARKS = {"train": MARK, "choose": "# graftline choose: "}  # by the command that proposes

Change = dict[str, Any]  # key, such as backbone.image_size or preset; value; why


def modality() -> str:
    """Return the modality that params.yaml names. Raises ValueError where it names none, or cannot be read."""
    return _one_of(MODALITIES, _content().get("modality"), key="modality")


def training_start() -> str:
    """Return where a training starts: `backbone` or `in_use`. Raises ValueError as `modality` does."""
    section = _content().get("finetune")
    return _one_of(STARTS, section.get("start") if isinstance(section, dict) else None, key="finetune.start")


def _one_of(names: tuple[str, ...], named: Any, *, key: str) -> str:
    if named not in names:
        raise ValueError(f"{PARAMS}: {key} is {named!r}, expected {' or '.join(names)}")
    return str(named)


def pack_above() -> int | None:
    """Return the number of files above which a batch is packed as it comes in; None if none is packed.

    Raises:
        ValueError: params.yaml has no such number, or cannot be read.
    """
    named = _content().get("ingest")
    most = named.get("pack_above", False) if isinstance(named, dict) else False
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise ValueError(f"{PARAMS}: ingest.pack_above is not a number of files from 1 on, or null: correct it")
    return most


def check_parameters(*, has_batches: bool = True) -> None:
    """Check params.yaml, though no stage may be stale; and the list of batches, unless it is still empty.

    Raises:
        ValueError: one of them is wrong.
    """
    options = ["--batches", str(paths.batches())] if has_batches else []
    run_verb("check", *options)


def proposal(batch: Path | None) -> dict[str, Any]:
    """Return the output of `tasks.propose` for a batch; without a batch it only checks that the weights are available.

    Raises:
        ValueError: params.yaml is wrong, or weights are neither here nor to be downloaded.
    """
    options = ["--raw", str(batch)] if batch else []
    content: dict[str, Any] = json.loads(run_verb("propose", "--backbones", "backbones", *options).stdout)
    return content


def values_of(section: str) -> dict[str, Any]:
    """Return the values of a section of params.yaml; none where it has none."""
    values = yaml.safe_load(PARAMS.read_text("utf-8")).get(section)
    return dict(values) if isinstance(values, dict) else {}


def set_parameters(changes: Iterable[Change], *, by: str = "train") -> None:
    """Write values into params.yaml, each with its reason in a line above it; every other byte of the file stays.

    `by` is the command that proposes them, one of MARKS.

    Raises:
        ValueError: the file is written in a way in which a value cannot be replaced.
    """
    before = PARAMS.read_bytes().decode("utf-8")
    text = before
    for change in changes:
        text = _replaced(text, change["key"].split("."), value=change["value"], why=change["why"], mark=MARKS[by])
    if text != before:
        write_whole(PARAMS, text.encode())


def _content() -> dict[str, Any]:
    try:
        content = yaml.safe_load(PARAMS.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{PARAMS} cannot be read ({type(error).__name__}): restore it with git") from error
    return content if isinstance(content, dict) else {}


def _replaced(text: str, key: list[str], *, value: Any, why: str, mark: str) -> str:
    node, owner = yaml.compose(text), yaml.safe_load(text)
    expected = owner
    for part in key:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        entries = [(name, content) for name, content in pairs if name.value == part]
        if len(entries) != 1:
            raise ValueError(f"{PARAMS} has no {'.'.join(key)}: add it")
        [(name, node)] = entries
        owner = owner if part == key[-1] else owner[part]
    assert node is not None
    line = text.rindex("\n", 0, name.start_mark.index) + 1 if "\n" in text[: name.start_mark.index] else 0
    above = text[:line].splitlines(keepends=True)
    while above and above[-1].strip().startswith(tuple(MARKS.values())):  # the reason of an earlier proposal
        above.pop()
    reason = f"{' ' * name.start_mark.column}{mark}{' '.join(why.split())}\n"
    between, after = text[line : node.start_mark.index], text[node.end_mark.index :]
    changed = "".join(above) + reason + between + _as_yaml(value) + after
    owner[key[-1]] = value
    if yaml.safe_load(changed) != expected:
        raise ValueError(
            f"{PARAMS} is written in a way in which {'.'.join(key)} cannot be set: set it to {_as_yaml(value)} by hand"
        )
    return changed


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
