"""What a bundle says of itself: model.json in, a description whose every value is possible out. Nothing is built on its word before."""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from io import BufferedReader
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MOST_BYTES = 64 * 2**20  # of model.json: the names of 100,000 classes are a few MB
MOST_TARGETS = 1_000  # each a head: so many are built in half a second
MOST_CLASSES = 1_000_000  # of a target
SHOWN = 60  # characters of what a stranger wrote

Name = Annotated[str, Field(min_length=1, max_length=10_000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # SHA-256
# wide enough for any model; what lies outside makes numbers that are not finite, or probabilities that say nothing
Mean = Annotated[float, Field(ge=-1e3, le=1e3, allow_inf_nan=False)]
Scale = Annotated[float, Field(ge=1e-3, le=1e3, allow_inf_nan=False)]


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class TransformFields(Part):
    """See `tasks.images.transform.Transform`; px."""

    resize_size: Annotated[int, Field(ge=1, le=2048)]
    crop_size: Annotated[int, Field(ge=1, le=1024)]
    mean: Annotated[list[Mean], Field(min_length=3, max_length=3)]
    std: Annotated[list[Scale], Field(min_length=3, max_length=3)]
    interpolation: Literal["nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos"] = "bilinear"
    decode: Literal["full", "scaled"] = "full"


class Description(Part):
    """model.json."""

    architecture: Name
    features: Literal["penultimate", "pooled"] | Annotated[list[Name], Field(min_length=1, max_length=1000)]
    transform: TransformFields
    classes: Annotated[
        dict[Name, Annotated[list[Name], Field(min_length=1, max_length=MOST_CLASSES)]], Field(max_length=MOST_TARGETS)
    ]
    hidden_features: Annotated[int, Field(ge=1, le=65536)] | None
    temperatures: Annotated[dict[str, Scale], Field(max_length=MOST_TARGETS)]
    lineage: dict[str, Any]
    weights_sha256: Digest
    description_sha256: Digest

    @model_validator(mode="after")
    def _agree(self) -> "Description":
        for target, names in self.classes.items():
            if len(set(names)) < len(names):
                raise ValueError(f"target {target[:SHOWN]!r} has a class twice")
        if unknown := set(self.temperatures) - set(self.classes):
            raise ValueError(f"temperatures name the unknown target {min(unknown)[:SHOWN]!r}")
        if missing := set(self.classes) - set(self.temperatures):
            raise ValueError(f"temperatures lack the target {min(missing)[:SHOWN]!r}")
        return self


def read_description(file: BufferedReader) -> Description:
    """Raises ValueError naming the first thing that is wrong: it is no JSON, too large, leads out of the bundle, has a value
    that is missing or impossible, or was changed after it was saved."""
    if (size := os.fstat(file.fileno()).st_size) > MOST_BYTES:
        raise ValueError(f"{file.name} has {size} bytes, expected at most {MOST_BYTES}")
    try:
        content = json.loads(file.read().decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file.name} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} holds {type(content).__name__}, expected names and values")
    # the names of classes are shown, and never opened: any text may be one
    for text in _texts({key: value for key, value in content.items() if key not in ("classes", "temperatures")}):
        if _leads_out(text):
            raise ValueError(f"{file.name} names {text[:SHOWN]!r}, which leads out of the bundle")
    try:
        description = Description.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:SHOWN]
        message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        raise ValueError(" ".join(f"{file.name}: {place} {message}".split())) from None
    if with_digest(content) != content:
        raise ValueError(f"{file.name} is torn, or was changed: it has another SHA-256 than its description_sha256")
    return description


def with_digest(content: dict[str, Any]) -> dict[str, Any]:
    """The content of model.json with `description_sha256`, that of all else in it. It finds tearing and careless edits; whoever
    forges a bundle can make it again."""
    others = {key: value for key, value in content.items() if key != "description_sha256"}
    canonical = json.dumps(others, sort_keys=True, separators=(",", ":"))
    return others | {"description_sha256": hashlib.sha256(canonical.encode()).hexdigest()}


def _texts(value: Any) -> Iterator[str]:
    """Every text in it, keys too, each at the same cost however deep; a number that JSON does not have is refused on the way."""
    remaining = [value]
    while remaining:
        each = remaining.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            remaining += [*each, *each.values()]
        elif isinstance(each, list):
            remaining += each
        elif isinstance(each, float) and not math.isfinite(each):
            raise ValueError(f"a number is {each}, expected a finite one")


def _leads_out(text: str) -> bool:
    return bool(re.match(r"[/\\~]|[A-Za-z]:[/\\]|file:", text)) or ".." in re.split(r"[/\\]", text)
