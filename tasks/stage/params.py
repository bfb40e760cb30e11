"""The typed, strict mirror of params.yaml: a section a stage. An unknown, missing or impossible value is refused by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
MinibatchSize = Annotated[int, Field(ge=1, le=65536)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ScanParams(Section):
    min_image_size: Count
    max_image_pixels: Count
    max_file_bytes: Count
    max_decode_seconds: Positive


class QuarantineParams(Section):
    overall: Fraction
    batch: Fraction
    class_: Fraction = Field(alias="class")


class LimitParams(Section):
    limit: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    severity: Literal["error", "warning"]


class ExpectationsParams(Section):
    min_samples: LimitParams
    min_samples_per_batch: LimitParams
    min_classes: LimitParams
    min_class_fraction: LimitParams
    max_class_fraction: LimitParams
    max_missing_labels: LimitParams
    max_label_drift: LimitParams
    max_aspect_ratio: LimitParams


class ValidateParams(Section):
    targets: Annotated[list[str], Field(min_length=1)] | None
    classes: dict[str, Annotated[list[str], Field(min_length=1)]]
    min_samples_per_class: Count
    split_salt: str
    val_fraction: OpenFraction
    heldout_fraction: OpenFraction
    max_quarantined: QuarantineParams
    drift_significance: OpenFraction
    expectations: ExpectationsParams

    @model_validator(mode="after")
    def _leave_some_to_train_on(self) -> "ValidateParams":
        if self.val_fraction + self.heldout_fraction >= 1:
            raise ValueError("val_fraction + heldout_fraction must be below 1, so that samples are left to train on")
        return self


class BackboneParams(Section):
    architecture: str
    weights: str
    features: Literal["penultimate", "pooled"] | Annotated[list[str], Field(min_length=1)]
    image_size: Annotated[int, Field(ge=8, le=4096)] | None
    decode: Literal["scaled", "full"]


class EmbedParams(Section):
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "bf16", "fp32"]
    execution: Literal["auto", "fused", "compiled", "eager"]
    minibatch_size: MinibatchSize | None
    num_probed: Count


class AuditParams(Section):
    recall: OpenFraction
    max_false_alarms: OpenFraction


class TrainHeadParams(Section):
    head: Literal["logistic", "centroid", "mlp"]
    class_weights: Literal["none", "balanced"]
    hidden_features: Annotated[int, Field(ge=1, le=65536)]
    l2_strengths: Annotated[list[Positive], Field(min_length=1)]
    max_iterations: Count


class FinetuneParams(Section):
    unfreeze: Literal["all"] | Annotated[int, Field(ge=0)]
    gradual: bool
    epochs: Annotated[int, Field(ge=0)] | None
    minibatch_size: MinibatchSize
    head_learning_rate: Positive
    backbone_learning_rate: Positive
    learning_rate_decay: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    decay_towards: Literal["zero", "start"]
    warmup_fraction: Fraction
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    mixup: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    averaging: Annotated[float, Field(ge=0, lt=1)]
    gradient_norm: Positive | None
    max_rotation_degrees: Annotated[float, Field(ge=0, le=180)]
    max_shift_fraction: Fraction
    max_scale_fraction: Annotated[float, Field(ge=0, lt=1)]
    flip: bool
    patience_epochs: Count | None
    update_statistics: bool
    significance: OpenFraction
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "bf16", "fp32"]
    num_views: Count
    cache_gigabytes: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class EvaluateParams(Section):
    minibatch_size: MinibatchSize
    calibration_bins: Count
    confidence: OpenFraction
    num_resamples: Count
    slices: list[str]
    perturbations: list[Literal["flipped", "shifted", "recompressed"]]


class RegressionParams(Section):
    min_accuracy: Fraction
    min_class_recall: Fraction
    max_calibration_error: Fraction
    min_unchanged: Fraction
    max_bundle_megabytes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    max_latency_milliseconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    significance: OpenFraction
    min_slice_samples: Count
    max_negative_flips: Fraction | None
    max_decisions: Count


class ReportParams(Section):
    title: str
    max_quarantined_rows: Count
    max_pictures: Count
    picture_size: Annotated[int, Field(ge=8, le=512)]
    max_points: Count


class Params(Section):
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    scan: ScanParams
    validate_: ValidateParams = Field(alias="validate")
    backbone: BackboneParams
    embed: EmbedParams
    audit: AuditParams
    train_head: TrainHeadParams
    finetune: FinetuneParams
    evaluate: EvaluateParams
    regression: RegressionParams
    report: ReportParams


def load_params(path: Path) -> Params:
    """Read and check params.yaml. Raises ValueError naming each wrong key, its value and what was expected."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"there is no {path}: run from the root of the repository") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds {type(content).__name__}, expected sections: {', '.join(_keys(Params))}")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{path}: " + "; ".join(_describe(each) for each in error.errors())) from None


def section(params: Params, name: str) -> Any:
    """A section (or `seed`) by the name that it has in params.yaml."""
    return getattr(params, {"validate": "validate_"}.get(name, name))


def _describe(error: Any) -> str:
    # pydantic adds the branch of a union to the place; what params.yaml shows is the part without it
    place = [str(part) for part in error["loc"] if "[" not in str(part) and part not in ("int", "constrained-int")]
    key = ".".join(place)
    if error["type"] == "extra_forbidden":
        return f"{key} is unknown, expected one of {', '.join(_keys(_owner(place)))}: correct the spelling or remove it"
    if error["type"] == "missing":
        return f"{key} is missing: add it"
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if error["type"] in ("float_type", "int_type") and _is_number(error["input"]):
        message += " (YAML takes 1e-3 for text: write 0.001 or 1.0e-3)"
    return (
        f"{key} is {error['input']!r}, {message}"
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
    owner: type[BaseModel] = Params
    for part in place[:-1]:
        field = next(field for name, field in owner.model_fields.items() if (field.alias or name) == part)
        assert isinstance(field.annotation, type)
        owner = field.annotation
    return owner


def _keys(owner: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in owner.model_fields.items()]
