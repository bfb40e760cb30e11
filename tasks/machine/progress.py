"""How far long work has come: a bar in a terminal, a log line now and then elsewhere."""

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
    """The items, shown as they pass: `what` says what is done to them, `unit` what they are, `total` how many, where that is
    known."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, unit=f" {unit}", leave=False, dynamic_ncols=True)
        return
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            logger.info("%s: %s %s", what, f"{done:,}" if total is None else f"{done:,} of {total:,}", unit)
