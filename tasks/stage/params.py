"""Read the sections of params.yaml, one for each stage. An unknown, missing or impossible value is refused by name.

The dataclasses of the sections stand in the rooms that use them, in `options.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from tasks.choosing.options import ChooseOptions
from tasks.data.admission.options import ValidateOptions
from tasks.data.health.options import HealthOptions, MarkLimits, TwinOptions
from tasks.data.raw.options import PackOptions, ReadingLimits, TextTables
from tasks.embedding.options import PlanOptions
from tasks.gate.options import GateOptions
from tasks.images.options import SizeLimits
from tasks.machine.bounds import Count, MinibatchSize
from tasks.machine.options import ScaleOptions
from tasks.machine.yaml_text import read_yaml
from tasks.metrics.options import MeasureOptions
from tasks.models.options import BackboneOptions
from tasks.page.options import PageOptions
from tasks.reviewing.options import LabelOptions
from tasks.stage.modality import Modality
from tasks.text.options import TextLimits
from tasks.training.alignment.options import AdaptOptions
from tasks.training.finetuning.options import FinetuneOptions
from tasks.training.heads.options import HeadOptions

Section = TypeVar("Section")
SHORT = Repr()  # aliases of YAML may stand for gigabytes
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 3, 200, 200, 200


@dataclass(frozen=True, kw_only=True)
class ScanParams(TextLimits, TextTables, ReadingLimits, SizeLimits):
    """The section `scan`."""


@dataclass(frozen=True, kw_only=True)
class EmbedParams(PlanOptions):
    """The section `embed`."""

    num_probed: Count


@dataclass(frozen=True, kw_only=True)
class AuditParams(HealthOptions, MarkLimits, TwinOptions):
    """The section `audit`."""


@dataclass(frozen=True, kw_only=True)
class EvaluateParams(MeasureOptions):
    """The section `evaluate`."""

    minibatch_size: MinibatchSize | None
    slices: list[str]
    perturbations: list[str]
    forms: list[Literal["onnx", "int8"]]


@dataclass(frozen=True, kw_only=True)
class Params:
    """The sections of params.yaml."""

    preset: Literal["small", "photographs", "text", "custom"]
    modality: Modality
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    scan: ScanParams
    validate_: Annotated[ValidateOptions, Field(alias="validate")]
    backbone: BackboneOptions
    choose: ChooseOptions
    label: LabelOptions
    embed: EmbedParams
    audit: AuditParams
    train_head: HeadOptions
    finetune: FinetuneOptions
    adapt: AdaptOptions
    evaluate: EvaluateParams
    regression: GateOptions
    report: PageOptions
    ingest: PackOptions
    scale: ScaleOptions


def load_params(path: Path) -> Params:
    """Read and check params.yaml. Raises ValueError naming each wrong key, its value and what was expected."""
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise ValueError(f"there is no {path}: run from the root of the repository") from None
    if not isinstance(content, Mapping):
        held = "is empty" if content is None else "holds no sections"
        raise ValueError(f"{path} {held}, expected sections: {', '.join(_keys(_model(Params)))}: restore it with git")
    try:
        return checked(Params, content)
    except ValidationError as error:
        raise ValueError(f"{path}: " + "; ".join(_describe(detail) for detail in error.errors())) from None


def checked(section: type[Section], content: Any) -> Section:
    """Return a section, as a dataclass, of the content that params.yaml has for it.

    Raises pydantic's ValidationError unless every key is there, no other one is, and every value has its type.
    """
    value: Section = checker(section).validate_python(content)  # type: ignore[arg-type]
    return value


@cache
def checker(section: Any) -> TypeAdapter[Any]:
    """Return the check of a section's content, or of all sections. To make it takes longer than to check."""
    return TypeAdapter(_strict(section))


def section(params: Params, name: str) -> Any:
    """Return a section (or `seed`, `preset` or `modality`) by the name that it has in params.yaml."""
    return getattr(params, {"validate": "validate_"}.get(name, name))


def _strict(hint: Any) -> Any:
    """Return a type as pydantic checks it: a dataclass becomes a model, whose values make the dataclass."""
    section, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if not isinstance(section, type) or not is_dataclass(section):
        return hint
    return Annotated[_model(section), *metadata, AfterValidator(lambda model: section(**dict(model)))]


@cache
def _model(section: type) -> type[BaseModel]:
    hints = get_type_hints(section, include_extras=True)
    content: dict[str, Any] = {field.name: (_strict(hints[field.name]), ...) for field in fields(section)}
    return create_model(section.__name__, __config__=ConfigDict(extra="forbid", strict=True), **content)


def _describe(error: Any) -> str:
    # pydantic adds the branch of a union to the place; params.yaml has only the rest
    place = [str(part) for part in error["loc"] if "[" not in str(part) and part not in ("int", "constrained-int")]
    key = ".".join(place)
    if error["type"] == "extra_forbidden":
        return f"{key} is unknown, expected one of {', '.join(_keys(_owner(place)))}: correct the spelling or remove it"
    if error["type"] == "missing":
        return f"{key} is missing: add it"
    if error["type"] == "model_type" and error["input"] is None:
        return f"{key} is empty, expected the keys {', '.join(_keys(_section(place)))}: restore them with git"
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if error["type"] in ("float_type", "int_type") and _is_number(error["input"]):
        message += " (YAML takes 1e-3 for text: write 0.001 or 1.0e-3)"
    return (
        f"{key} is {SHORT.repr(error['input'])}, {message}"
        if place and not isinstance(error["input"], dict)
        else f"{key}: {message}"
    )


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return isinstance(text, str)


def _owner(place: list[str]) -> type[BaseModel]:
    """Return the model of the section that the last key of a place belongs to."""
    return _section(place[:-1])


def _section(place: list[str]) -> type[BaseModel]:
    """Return the model of the section at a place; of all sections at no place."""
    owner = _model(Params)
    for part in place:
        field = next(field for name, field in owner.model_fields.items() if (field.alias or name) == part)
        assert isinstance(field.annotation, type)
        owner = field.annotation
    return owner


def _keys(owner: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in owner.model_fields.items()]
