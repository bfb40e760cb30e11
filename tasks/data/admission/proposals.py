"""Propose the kind of a target from its labels, with the reason; a person confirms it in params.yaml."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pandas as pd

from tasks.data.admission.declarations import Declaration
from tasks.data.admission.spellings import plain, quoted

MOST_NUMBERS = 30  # different whole numbers; a column with more of them is likely a measurement, such as an age
LEAST_SHARE = 0.95  # of the cells that have the form of a kind: the others are mistakes
LEAST_JOINED = 0.02  # share of the cells with several labels, from which the separator is no part of names
LEAST_REPEATED = 0.8  # share of the parts of such cells that other cells have, too
JOINTS = ("|", ";", ",")  # that programs write between labels; names have the other marks, too
LEAST_STEPS = 3  # that a scale shows; two names may be any classes
RATING = 5  # stars, of the commonest scale of ratings
STARS = re.compile(r"([1-9][0-9]?) ?(?:stars?|\*)", re.IGNORECASE)
SCALES = (
    ("very low", "low", "medium", "high", "very high"),
    ("very low", "low", "moderate", "high", "very high"),
    ("terrible", "very poor", "poor", "fair", "good", "very good", "excellent"),
    ("terrible", "very bad", "bad", "average", "good", "very good", "excellent"),
    ("very bad", "bad", "ok", "good", "very good"),
    ("never", "rarely", "sometimes", "often", "always"),
    ("strongly disagree", "disagree", "neutral", "agree", "strongly agree"),
    ("very negative", "negative", "neutral", "positive", "very positive"),
    ("very dissatisfied", "dissatisfied", "neutral", "satisfied", "very satisfied"),
    ("none", "minimal", "mild", "moderate", "severe", "extreme"),
    ("tiny", "small", "medium", "large", "huge"),
    ("xxs", "xs", "s", "m", "l", "xl", "xxl"),
    ("very easy", "easy", "medium", "hard", "very hard"),
    ("beginner", "intermediate", "advanced", "expert"),
    ("cold", "cool", "mild", "warm", "hot"),
)  # each from its lowest step to its highest


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A kind with its settings, and the reason. `question` is a declaration that a person may prefer."""

    kind: str
    reason: str
    settings: dict[str, Any] = field(default_factory=dict)
    question: Declaration | None = None

    def declaration(self) -> Declaration:
        return {"kind": self.kind, **self.settings}


def propose(labels: "pd.Series[Any]") -> Proposal:
    """Return the kind that labels (n,) have by their form. Labels without another form are classes."""
    counts = Counter({str(cell): int(num) for cell, num in labels.value_counts().items()})
    for proposal in (kind_of(counts) for kind_of in (_of_lists, _of_numbers, _of_stars, _of_a_scale, _of_joined)):
        if proposal is not None:
            return proposal
    return Proposal(kind="classes", reason=f"its {len(counts):,} different cells have the form of names")


def other_separator(labels: "pd.Series[Any]", separator: str) -> str | None:
    """Return the separator that seems to stand within single labels (n,), other than their own; None for none."""
    proposal = _of_joined(Counter(map(str, labels)))
    other = str(proposal.settings.get("separator", JOINTS[0])) if proposal else separator
    return None if other == separator else other


def known_scale(names: Sequence[str]) -> list[str]:
    """Return the names in the order of a known scale that has them all; [] without such a scale, or for few names."""
    spelt = {plain(name): name for name in names}
    for scale in SCALES if LEAST_STEPS <= len(spelt) == len(names) else ():
        places = {plain(step): place for place, step in enumerate(scale)}
        if spelt.keys() <= places.keys():
            return [spelt[step] for step in sorted(spelt, key=places.__getitem__)]
    return []


def line(name: str, declaration: Declaration, *, others: Mapping[str, str]) -> str:
    """Return the line of params.yaml that declares a target, beside other targets and their kinds."""
    kind, settings = declaration["kind"], {key: value for key, value in declaration.items() if key != "kind"}
    parts = [f"kind: {kind}", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items())]
    kinds = {**others, name: f"{{{', '.join(parts)}}}" if settings else kind}
    return f"validate.targets: {{{', '.join(f'{quoted(target)}: {declared}' for target, declared in kinds.items())}}}"


def is_list(cell: str) -> bool:
    """Return whether a cell is a JSON list."""
    if not cell.startswith("["):
        return False
    try:
        return isinstance(json.loads(cell), list)
    except (ValueError, RecursionError):
        return False


def _of_lists(counts: Counter[str]) -> Proposal | None:
    num = sum(count for cell, count in counts.items() if is_list(cell))
    if not num or num < LEAST_SHARE * counts.total():
        return None
    return Proposal(kind="several", reason=f"{num:,} of its {counts.total():,} cells are lists")


def _of_numbers(counts: Counter[str]) -> Proposal | None:
    values = {cell: value for cell in counts if (value := number_in(cell)) is not None}
    if not values or sum(counts[cell] for cell in values) < LEAST_SHARE * counts.total():
        return None
    different = sorted(set(values.values()))
    described = f"{len(different):,} different numbers from {float(different[0]):g} to {float(different[-1]):g}"
    if len(different) > MOST_NUMBERS or any(value != value.to_integral_value() for value in different):
        return Proposal(kind="number", reason=f"it has {described}")
    is_rating = len(different) >= LEAST_STEPS and different[0] == 1 and different[-1] == RATING
    steps = sorted(values, key=values.__getitem__)
    return Proposal(
        kind="classes",
        reason=f"it has {described}, few enough to be names",
        question={"kind": "ordinal", "steps": steps} if is_rating and len(steps) == len(different) else None,
    )


def _of_stars(counts: Counter[str]) -> Proposal | None:
    matches = {cell: STARS.fullmatch(cell.strip()) for cell in counts}
    stars = {cell: int(match[1]) for cell, match in matches.items() if match}
    if len(stars) < len(counts) or len(set(stars.values())) < max(LEAST_STEPS, len(stars)):
        return None
    question = {"kind": "ordinal", "steps": sorted(stars, key=stars.__getitem__)}
    return Proposal(kind="classes", reason="its names are ratings", question=question)


def _of_a_scale(counts: Counter[str]) -> Proposal | None:
    steps = known_scale(list(counts))
    if not steps:
        return None
    reason = f"its names are steps of a known scale: {', '.join(steps)}"
    return Proposal(kind="ordinal", reason=reason, settings={"steps": steps})


def _of_joined(counts: Counter[str]) -> Proposal | None:
    for joint in JOINTS:
        parts_of = {cell: {part.strip() for part in cell.split(joint)} for cell in counts if joint in cell}
        num = sum(counts[cell] for cell in parts_of)
        if len(parts_of) < 2 or num < LEAST_JOINED * counts.total():
            continue
        cells_with = Counter(part for cell in counts for part in parts_of.get(cell, {cell}))
        parts = [part for parts_of_cell in parts_of.values() for part in parts_of_cell]
        is_repeated = sum(cells_with[part] > 1 for part in parts) >= LEAST_REPEATED * len(parts)
        if is_repeated and all(len(parts_of_cell) > 1 for parts_of_cell in parts_of.values()):
            named = ", ".join(map(repr, sorted(cells_with)[:3]))
            return Proposal(
                kind="several",
                reason=f"{num:,} of its cells have several names with {joint!r} between them, such as {named}",
                settings={} if joint == JOINTS[0] else {"separator": joint},
            )
    return None


def number_in(cell: str) -> Decimal | None:
    """Return the finite number that a cell holds; None where it holds none."""
    try:
        number = Decimal(cell)
    except ArithmeticError:
        return None
    return number if number.is_finite() and "_" not in cell else None
