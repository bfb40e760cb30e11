"""The kinds of targets by name, and the function that reads a target from its facts."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tasks.targets.classes import Classes
from tasks.targets.number import LEVEL, Number, NumberLoss
from tasks.targets.ordinal import Ordinal
from tasks.targets.several import SEPARATOR, Several
from tasks.targets.target import Facts, Target

KINDS = ("classes", "several", "ordinal", "number")
MOST_NAMES = 1_000_000  # of one target
MOST_STEPS = 1_000  # of a scale

Name = Annotated[str, Field(min_length=1, max_length=10_000)]
Finite = Annotated[float, Field(ge=-1e32, le=1e32, allow_inf_nan=False)]  # distances of numbers up to LARGEST, too
Numbers = Annotated[list[Finite], Field(max_length=MOST_NAMES)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SeveralFacts(_Strict):
    """The facts of `Several`."""

    kind: Literal["several"]
    labels: Annotated[list[Name], Field(max_length=MOST_NAMES)]
    separator: Annotated[str, Field(min_length=1, max_length=10)] = SEPARATOR
    columns: list[Name] = []
    slopes: Numbers = []
    shifts: Numbers = []
    thresholds: Annotated[list[Annotated[float, Field(ge=0, le=2)]], Field(max_length=MOST_NAMES)] = []

    def target(self) -> Target:
        for values in (self.slopes, self.shifts, self.thresholds):
            if values and len(values) != len(self.labels):
                raise ValueError(f"{len(values)} numbers for {len(self.labels)} labels")
        if bool(self.slopes) != bool(self.shifts):
            raise ValueError("slopes without shifts, or shifts without slopes")
        own = {name: tuple(getattr(self, name)) for name in ("columns", "slopes", "shifts", "thresholds")}
        return Several(tuple(self.labels), separator=self.separator, **own)


class OrdinalFacts(_Strict):
    """The facts of `Ordinal`."""

    kind: Literal["ordinal"]
    steps: Annotated[list[Name], Field(min_length=2, max_length=MOST_STEPS)]

    def target(self) -> Target:
        return Ordinal(tuple(self.steps))


class NumberFacts(_Strict):
    """The facts of `Number`."""

    kind: Literal["number"]
    unit: Annotated[str, Field(max_length=100)] = ""
    loss: NumberLoss = "squared"
    level: Annotated[float, Field(gt=0, lt=1)] = LEVEL
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    centre: Finite = 0.0
    scale: Annotated[float, Field(gt=0, le=1e32, allow_inf_nan=False)] = 1.0
    interval: Annotated[list[Finite], Field(min_length=2, max_length=2)] | None = None

    def target(self) -> Target:
        if self.interval and self.interval[0] > self.interval[1]:
            raise ValueError(f"the interval begins at {self.interval[0]:g}, above its end {self.interval[1]:g}")
        ends = {"interval": (self.interval[0], self.interval[1])} if self.interval else {}
        return Number(
            measure=self.unit, loss=self.loss, level=self.level, tolerance=self.tolerance, centre=self.centre,
            scale=self.scale, **ends,
        )  # fmt: skip


_CLASSES = TypeAdapter(
    Annotated[list[Name], Field(min_length=1, max_length=MOST_NAMES)], config=ConfigDict(strict=True)
)
_OTHERS: dict[str, type[SeveralFacts] | type[OrdinalFacts] | type[NumberFacts]] = {
    "several": SeveralFacts,
    "ordinal": OrdinalFacts,
    "number": NumberFacts,
}


def target_of(facts: Facts) -> Target:
    """Return the target that has these facts. Raises ValueError, in one line, where they are not valid."""
    kind = facts.get("kind") if isinstance(facts, dict) else None
    if not isinstance(facts, list) and not (isinstance(kind, str) and kind in _OTHERS):
        raise ValueError(f"expected a list of classes, or the kind {', '.join(_OTHERS)}, found {str(facts)[:60]}")
    try:
        target: Target = (
            Classes(tuple(_CLASSES.validate_python(facts)))
            if isinstance(facts, list)
            else _OTHERS[str(kind)].model_validate(facts).target()
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:60]
        raise ValueError(f"{place} {first['msg'].replace('Input should be', 'expected')}".strip()[:200]) from None
    if len(set(target.names)) < len(target.names):
        raise ValueError("a class, label or step is there twice")
    return target


def targets_of(facts: Mapping[str, Facts | Target]) -> dict[str, Target]:
    """Return the targets by name; values that are targets already stay.

    Raises ValueError, which names the target, where its facts are not possible.
    """
    targets = {}
    for name, own in facts.items():
        try:
            targets[name] = own if isinstance(own, Target) else target_of(own)
        except ValueError as error:
            raise ValueError(f"target {name[:60]!r}: {error}") from None
    return targets


def facts_of(targets: Mapping[str, Target]) -> dict[str, Facts]:
    return {name: target.facts() for name, target in targets.items()}


def declared_of(targets: Mapping[str, Target]) -> dict[str, Facts]:
    return {name: target.declared() for name, target in targets.items()}
