"""The description of a bundle: read model.json and check that every value is possible.

Nothing is built from model.json before that check.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from io import BufferedReader
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasks.models.domains import check_name_of_domain
from tasks.models.options import Library
from tasks.targets.kinds import targets_of

MOST_BYTES = 64 * 2**20  # of model.json: the names of 100,000 classes are a few MB
MOST_TARGETS = 1_000  # one head each; building this many takes half a second
MOST_TERMS = 2**24  # of a vocabulary; those that are made here have fewer
MOST_DOMAINS = 1_000  # that a classifier is adapted to
MOST_ADAPTED = 10_000  # heads of all domains together
MOST_REFERENCES = 100_000  # vectors to which samples are compared to find unlike ones; a training keeps fewer
MOST_COMPONENTS = 4096  # of these
NAMED = ("classes", "temperatures", "trunks", "domains", "statistics")  # where targets, classes and domains are named
SHOWN = 60  # characters of a stranger's text that a message repeats

Name = Annotated[str, Field(min_length=1, max_length=10_000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # SHA-256
# wide enough for any model; a value outside leads to numbers that are not finite, or to meaningless probabilities
Mean = Annotated[float, Field(ge=-1e3, le=1e3, allow_inf_nan=False)]
Scale = Annotated[float, Field(ge=1e-3, le=1e3, allow_inf_nan=False)]


class Strict(BaseModel):
    """A part of model.json that refuses values of another type."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class TransformFields(Strict):
    """The fields of `tasks.images.transform.Transform`; sizes in px."""

    resize_size: Annotated[int, Field(ge=1, le=2048)]
    crop_size: Annotated[int, Field(ge=1, le=1024)]
    mean: Annotated[list[Mean], Field(min_length=3, max_length=3)]
    std: Annotated[list[Scale], Field(min_length=3, max_length=3)]
    interpolation: Literal["nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos"] = "bilinear"
    decode: Literal["full", "scaled"] = "full"
    resize: Literal["shorter_side", "squash"] = "shorter_side"


class EncoderFields(Strict):
    """The parts of a text encoder besides its weights: its config.json, the pooling and the transform."""

    config: dict[str, Any]
    pooling: Literal["mean", "cls", "max"]
    is_normalised: bool
    max_tokens: Annotated[int, Field(ge=8, le=1_048_576)]
    long: Literal["head", "head_tail", "windows"]
    tokenizer_sha256: Digest


class FactorFields(Strict):
    """The fields of `tasks.targets.head.Factors`."""

    of_vector: Annotated[float, Field(ge=0, le=1)]
    of_words: Annotated[float, Field(ge=0, le=1e3, allow_inf_nan=False)]


class WordFields(Strict):
    """The words that a classifier of texts reads: how many terms its vocabulary has, and how much they count."""

    num_terms: Annotated[int, Field(ge=1, le=MOST_TERMS)]
    factors: Annotated[dict[str, FactorFields], Field(max_length=MOST_TARGETS)]


class UnlikeFields(Strict):
    """The settings of the test for samples unlike those of the training. Its vectors are tensors beside model.json."""

    num_references: Annotated[int, Field(ge=1, le=MOST_REFERENCES)]
    num_components: Annotated[int, Field(ge=1, le=MOST_COMPONENTS)]
    level: Annotated[float, Field(gt=0, lt=1)]


class Description(Strict):
    """The content of model.json that a model of either modality has."""

    architecture: Name
    classes: Annotated[dict[Name, Any], Field(max_length=MOST_TARGETS)]  # the facts of each target
    hidden_features: Annotated[int, Field(ge=1, le=65536)] | None
    temperatures: Annotated[dict[str, Scale], Field(max_length=MOST_TARGETS)]
    trunks: Annotated[dict[str, int], Field(max_length=MOST_TARGETS)] = {}  # the number of each target's, if several
    # the targets that have a head of each domain; the order is that of the heads
    domains: Annotated[dict[Name, Annotated[list[Name], Field(min_length=1)]], Field(max_length=MOST_DOMAINS)] = {}
    # the domains that have statistics of normalisation layers of their own, in the order of the statistics
    statistics: Annotated[list[str], Field(max_length=MOST_DOMAINS)] = []
    unlike: UnlikeFields | None = None
    lineage: dict[str, Any]
    weights_sha256: Digest
    description_sha256: Digest

    @model_validator(mode="after")
    def _agree(self) -> "Description":
        targets = targets_of(self.classes)
        if empty := [name for name, target in targets.items() if not target.num_outputs]:
            raise ValueError(f"the target {empty[0][:SHOWN]!r} has no labels")
        if unknown := set(self.temperatures) - set(self.classes):
            raise ValueError(f"temperatures name the unknown target {min(unknown)[:SHOWN]!r}")
        if missing := set(self.classes) - set(self.temperatures):
            raise ValueError(f"temperatures lack the target {min(missing)[:SHOWN]!r}")
        if self.trunks and self.trunks.keys() != self.classes.keys():
            raise ValueError("trunks and classes do not name the same targets")
        self._check_domains()
        numbers = set(self.trunks.values())
        if self.trunks and (len(numbers) < 2 or numbers != set(range(len(numbers)))):
            raise ValueError(f"trunks are numbered {sorted(numbers)[:5]}, expected 0, 1 and so on, each with a target")
        return self

    def _check_domains(self) -> None:
        if list(self.domains) != sorted(self.domains):
            raise ValueError("domains are not in alphabetical order, which is that of the heads")
        if (num := sum(map(len, self.domains.values()))) > MOST_ADAPTED:
            raise ValueError(f"domains have {num} heads, expected at most {MOST_ADAPTED}")
        check_name_of_domain(*self.domains)
        for domain, adapted in self.domains.items():
            if unknown := set(adapted) - set(self.classes):
                raise ValueError(f"the domain {domain[:SHOWN]!r} names the unknown target {min(unknown)[:SHOWN]!r}")
            if len(set(adapted)) < len(adapted):
                raise ValueError(f"the domain {domain[:SHOWN]!r} names a target twice")
        if self.statistics != sorted(set(self.statistics) & set(self.domains)):
            raise ValueError("statistics name a domain twice, out of order, or one that domains lack")

    @property
    def num_trunks(self) -> int:
        """Return how many trunks the model has."""
        return len(set(self.trunks.values())) or 1


class ImageDescription(Description):
    """The content of model.json for images."""

    library: Library = "torchvision"
    config: Annotated[dict[str, Any], Field(max_length=1000)] = {}
    features: Literal["penultimate", "pooled"] | Annotated[list[Name], Field(min_length=1, max_length=1000)]
    power: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    flip: bool = False
    resolutions: Annotated[list[Annotated[int, Field(ge=8, le=1024)]], Field(max_length=4)] = []
    transform: TransformFields


class TextDescription(Description):
    """The content of model.json for text."""

    encoder: EncoderFields
    words: WordFields | None = None

    @model_validator(mode="after")
    def _words_agree(self) -> "TextDescription":
        if self.words and not set(self.words.factors) <= set(self.classes):
            raise ValueError("words.factors has a target that classes lack")
        return self


# a bundle that states no modality is of images
KINDS: dict[str, type[Description]] = {"images": ImageDescription, "text": TextDescription}


def read_description(file: BufferedReader) -> Description:
    """Return the checked description.

    Raises ValueError naming the first fault: the file is not JSON, is too large, has a path that leads out of the
    bundle, lacks a value, has an impossible value, or was changed after it was saved.
    """
    if (size := os.fstat(file.fileno()).st_size) > MOST_BYTES:
        raise ValueError(f"{file.name} has {size} bytes, expected at most {MOST_BYTES}")
    try:
        content = json.loads(file.read().decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file.name} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} holds {type(content).__name__}, expected names and values")
    modality = str(content.get("modality", "images"))
    if modality not in KINDS:
        raise ValueError(f"{file.name}: modality {modality[:SHOWN]!r} is unknown, expected {' or '.join(KINDS)}")
    for text in _texts(_without_names(content)):
        if _leads_out(text):
            raise ValueError(f"{file.name} names {text[:SHOWN]!r}, which leads out of the bundle")
    try:
        description = KINDS[modality].model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:SHOWN]
        message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        raise ValueError(" ".join(f"{file.name}: {place} {message}".split())) from None
    if with_digest(content) != content:
        raise ValueError(f"{file.name} is torn, or was changed: its SHA-256 is not its description_sha256")
    return description


def with_digest(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of model.json with `description_sha256`, the SHA-256 of everything else in it.

    The digest detects torn files and careless edits. It does not detect a forgery: a forger can compute it anew.
    """
    others = {key: value for key, value in content.items() if key != "description_sha256"}
    canonical = json.dumps(others, sort_keys=True, separators=(",", ":"))
    return others | {"description_sha256": hashlib.sha256(canonical.encode()).hexdigest()}


def _without_names(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content without the names of targets, classes and domains, which may be any text: they are shown."""
    content = {key: value for key, value in content.items() if key not in NAMED}
    lineage = content.get("lineage")
    return content | (
        {"lineage": lineage | {"trunks": None, "shares": None, "adapt": None}} if isinstance(lineage, dict) else {}
    )


def _texts(value: Any) -> Iterator[str]:
    """Yield every text inside a JSON value, keys too. Depth costs nothing extra.

    Raises ValueError for a number that is not finite, which JSON does not have.
    """
    remaining = [value]
    while remaining:
        part = remaining.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            remaining += [*part, *part.values()]
        elif isinstance(part, list):
            remaining += part
        elif isinstance(part, float) and not math.isfinite(part):
            raise ValueError(f"a number is {part}, expected a finite one")


def _leads_out(text: str) -> bool:
    return bool(re.match(r"[/\\~]|[A-Za-z]:[/\\]|file:", text)) or ".." in re.split(r"[/\\]", text)
