"""What a bundle says of itself: model.json in, a description whose every value is possible out. Nothing is built on its word before."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasks.files import read_json

MOST_BYTES = 64 * 2**20  # of model.json: the names of 100,000 classes are a few MB
MOST_CLASSES = 1_000_000  # of a target
SHOWN = 60  # characters of what a stranger wrote

Name = Annotated[str, Field(min_length=1, max_length=10_000)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class TransformFields(Part):
    """See `tasks.models.transform.Transform`; px."""

    resize_size: Annotated[int, Field(ge=1, le=8192)]
    crop_size: Annotated[int, Field(ge=1, le=4096)]
    mean: Annotated[list[Finite], Field(min_length=3, max_length=3)]
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)]
    interpolation: Literal["nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos"] = "bilinear"
    decode: Literal["full", "scaled"] = "full"


class Description(Part):
    """model.json. What has a default was not in bundles of before there was such."""

    architecture: Name
    features: Literal["penultimate", "pooled"] | Annotated[list[Name], Field(min_length=1, max_length=1000)]
    transform: TransformFields
    classes: dict[Name, Annotated[list[Name], Field(min_length=1, max_length=MOST_CLASSES)]]
    hidden_features: Annotated[int, Field(ge=1, le=65536)] | None = None
    temperatures: dict[str, Positive] | None = None
    lineage: dict[str, Any]
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _agree(self) -> "Description":
        for target, names in self.classes.items():
            if len(set(names)) < len(names):
                raise ValueError(f"target {target[:SHOWN]!r} has a class twice")
        if unknown := set(self.temperatures or {}) - set(self.classes):
            raise ValueError(f"temperatures name the unknown target {min(unknown)[:SHOWN]!r}")
        return self


def read_description(path: Path) -> Description:
    """Raises ValueError naming the first thing that is wrong: it is missing, no JSON, too large, leads out of the bundle, or
    has a value that is missing or impossible."""
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, expected at most {MOST_BYTES}")
    try:
        content = read_json(path)
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path.name} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds {type(content).__name__}, expected names and values")
    # the names of classes are shown, and never opened: any text may be one
    for text in _texts({key: value for key, value in content.items() if key not in ("classes", "temperatures")}):
        if _leads_out(text):
            raise ValueError(f"{path.name} names {text[:SHOWN]!r}, which leads out of the bundle")
    try:
        return Description.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:SHOWN]
        message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        raise ValueError(" ".join(f"{path.name}: {place} {message}".split())) from None


def _texts(value: Any) -> Iterator[str]:
    """Every text in it, keys too; a number that JSON does not have is refused on the way."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a number is {value}, expected a finite one")


def _leads_out(text: str) -> bool:
    return bool(re.match(r"[/\\~]|[A-Za-z]:[/\\]|file:", text)) or ".." in re.split(r"[/\\]", text)
