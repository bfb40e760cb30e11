"""Shorten a target's held-out metrics for the log and for people: accuracy of classes, the mean error of others."""

from collections.abc import Mapping, Sequence
from typing import Any

LOGGED = ("accuracy", "macro_f1", "log_loss", "calibration_error")  # the measures of classes that the log keeps
SHARE = "share of "  # begins the unit of an error that is a share
NO_UNIT = "its own unit"


def logged(models: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a target's metrics that the log keeps: those of the candidate."""
    candidate = models["candidate"]
    if "unit" in models:
        return {"error": candidate["error"], "unit": models["unit"]}
    return {name: candidate[name] for name in LOGGED if name in candidate}


def error_in_words(error: float, unit: str, *, interval: Sequence[float] | None = None) -> str:
    """Return `3.2 degrees (2.9 to 3.5)`, or `4.1% wrong labels` where the unit is the share of wrong labels."""
    is_share = unit.startswith(SHARE)
    numbers = [f"{number:.1%}" if is_share else short(number) for number in (error, *(interval or ()))]
    named = "" if unit == NO_UNIT else f" {unit.removeprefix(SHARE)}"
    return f"{numbers[0]}{named}" + (f" ({' to '.join(numbers[1:])})" if interval else "")


def short(number: float) -> str:
    """Return a number with four digits, or those before its point."""
    return f"{number:.0f}" if 1e4 <= abs(number) < 1e15 else f"{number:.4g}"
