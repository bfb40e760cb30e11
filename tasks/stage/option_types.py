"""The numbers that options of a command line may be, as types for argparse."""

import argparse
from collections.abc import Callable


def whole(*, least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a function that reads a whole number within these limits."""
    limits = f", at least {least}" if most is None else f" from {least} to {most}"

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= (int(text) if most is None else most):
            raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number{limits}")
        return int(text)

    return read


def above_zero(*, most: float, expected: str) -> Callable[[str], float]:
    """Return a function that reads a number above 0 and up to `most`; `expected` says so in words."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(f"{text!r}, expected {expected}")
        return value

    return read


count = whole(least=1)
