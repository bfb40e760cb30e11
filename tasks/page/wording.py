"""Put answers, errors and targets into words, for every kind of target."""

import json
from collections.abc import Iterable

import pandas as pd

from tasks.targets.number import Number
from tasks.targets.several import Several
from tasks.targets.target import Target

LONGEST = 300  # characters of an answer: a sample may have a thousand labels
KINDS = {"classes": "one class of", "several": "any of", "ordinal": "a step of", "number": "a number"}


def figure(value: float, *, digits: int = 4) -> str:
    """Return a number with `digits` significant digits, without an exponent where a person would write none."""
    text = f"{value:.{digits}g}"
    return (f"{value:.0f}" if "e+" in text and abs(value) < 1e9 else text).replace("-", "−")


def unit_of(target: Target) -> str:
    """Return the unit of a number, or of a distance on a scale, with a space before it; an empty text for shares."""
    if isinstance(target, Number):
        return f" {target.measure}" if target.measure else ""
    return " steps" if target.kind == "ordinal" else ""


def described(target: Target) -> str:
    """Return the question of a target in words, such as `one class of 10` or `a number, in degrees`."""
    if isinstance(target, Number):
        return KINDS["number"] + (f", in {target.measure}" if target.measure else "")
    return f"{KINDS[target.kind]} {len(target.names):,}" + (" labels" if target.kind == "several" else "")


def in_words(labels: Iterable[str], target: Target) -> list[str]:
    """Return labels, in the form of `Target.read`, as words for people; an empty text where one is missing."""
    if isinstance(target, Number):
        return [figure(float(label)) + unit_of(target) if label else "" for label in labels]
    if isinstance(target, Several):
        return [shortened(", ".join(json.loads(label)) or "none of the labels") if label else "" for label in labels]
    return list(labels)


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def off(rows: pd.DataFrame, target: Target) -> list[str]:
    """Return how sure the candidate is of a class, or how far another answer is from the truth."""
    if target.kind == "classes":
        is_adapted = rows["general"].notna() if "general" in rows else [False] * len(rows)
        return [
            f"{100 * value:.0f} % sure{', not calibrated' if adapted else ''}"
            for value, adapted in zip(rows["candidate_confidence"], is_adapted, strict=True)
        ]
    errors = rows["candidate_error"].tolist()
    if isinstance(target, Several):
        counts = [round(error * len(target.names)) for error in errors]
        return [f"{count:,} {'label' if count == 1 else 'labels'} wrong" for count in counts]
    if isinstance(target, Number):
        return [f"{figure(error)}{unit_of(target)} off" for error in errors]
    return [f"{error:.0f} {'step' if error == 1 else 'steps'} off" for error in errors]
