"""Show the progress of long work: a bar in a terminal, elsewhere a log line now and then."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

logger = logging.getLogger("graftline")

Item = TypeVar("Item")

LINE_SECONDS = 30.0  # between two log lines


def progress(items: Iterable[Item], *, total: int | None, what: str, unit: str) -> Iterator[Item]:
    """Yield the items and show how many have passed.

    Args:
        total: the number of items, None if unknown.
        what: the name of the work, such as `embed 2024-01`.
        unit: the name of the items, in the plural, such as `images`.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, unit=f" {unit}", leave=False, dynamic_ncols=True)
        return
    began = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            if total is None:
                logger.info("%s: %s %s", what, f"{done:,}", unit)
            else:
                left = shown_seconds((total - done) * (last - began) / done)
                logger.info("%s: %s of %s %s, about %s left", what, f"{done:,}", f"{total:,}", unit, left)


def shown_seconds(seconds: float) -> str:
    """Return a time for people: 40 s, 12 min or 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
