"""The settings in params.yaml for the admission of samples."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from tasks.data.admission.declarations import Declared, checked_targets, declarations
from tasks.machine.bounds import Count, Fraction, NotNegative, OpenFraction


@dataclass(frozen=True, kw_only=True)
class AdmissionOptions:
    """The columns to learn (None: those that the first batches have), the classes, and the limit for a new class.

    `targets` may be a list of columns, or map each to its kind: see `declarations`.
    """

    targets: Annotated[Declared, PlainValidator(checked_targets)]
    classes: dict[str, Annotated[list[str], Field(min_length=1)]]  # by target; no entry lets in all
    merge: dict[str, dict[str, str]]  # by target, the class that a label counts as; one that counts as itself stays
    min_samples_per_class: Count

    def __post_init__(self) -> None:
        declared = declarations(self.targets)
        for key, names in (("classes", self.classes), ("merge", self.merge)):
            for target in names:
                kind = declared.get(target, {}).get("kind")
                if kind == "number" or (kind == "ordinal" and key == "classes"):
                    raise ValueError(
                        f"{key} names {target!r}, which validate.targets makes {kind}: take it out of validate.{key}"
                    )
        for target, classes in self.merge.items():
            for label, name in classes.items():
                if classes.get(name, name) != name:
                    raise ValueError(
                        f"merge sends {label!r} of {target} to {name!r}, and {name!r} to {classes[name]!r}: "
                        f"send {label!r} to {classes[name]!r}"
                    )


@dataclass(frozen=True, kw_only=True)
class Split:
    """The rule that divides samples whose side the data do not name. A model's lineage has the rule of its training."""

    salt: Annotated[str, Field(alias="split_salt")]
    val_fraction: OpenFraction
    heldout_fraction: OpenFraction

    def __post_init__(self) -> None:
        if self.val_fraction + self.heldout_fraction >= 1:
            raise ValueError("val_fraction + heldout_fraction must be below 1, so that samples are left to train on")


@dataclass(frozen=True, kw_only=True)
class QuarantineLimits:
    """The highest quarantined fraction of all samples, of any batch and of any class in use."""

    overall: Fraction
    batch: Fraction
    class_: Annotated[Fraction, Field(alias="class")]


@dataclass(frozen=True, kw_only=True)
class ExpectationLimit:
    """The limit of one expectation, and whether the data that break it are an error or get a warning."""

    limit: NotNegative
    severity: Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class ExpectationLimits:
    """The limit of each expectation; params.yaml describes them."""

    min_samples: ExpectationLimit
    min_samples_per_batch: ExpectationLimit
    min_classes: ExpectationLimit
    min_class_fraction: ExpectationLimit
    max_class_fraction: ExpectationLimit
    max_missing_labels: ExpectationLimit
    max_label_drift: ExpectationLimit
    max_aspect_ratio: ExpectationLimit  # of images
    max_markup_fraction: ExpectationLimit  # of texts


@dataclass(frozen=True, kw_only=True)
class ExpectationOptions:
    """The expectations of the manifest, and the significance of the test for label drift."""

    drift_significance: OpenFraction
    expectations: ExpectationLimits


@dataclass(frozen=True, kw_only=True)
class ValidateOptions(ExpectationOptions, Split, AdmissionOptions):
    """The section `validate`."""

    max_quarantined: QuarantineLimits

    def __post_init__(self) -> None:
        AdmissionOptions.__post_init__(self)
        Split.__post_init__(self)
