"""Lets the garbage collector look around rarely while modules load, and not at all when the process ends.

Modules make millions of objects, hardly any of which is garbage. To look through them again and again takes a fifth of
the time of an import. At the end it takes a sixth of a second.
"""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

USUAL = gc.get_threshold()
RARELY = 100_000  # objects; more might be a lot of memory where nobody calls `collect_as_usual`


def collect_rarely() -> None:
    gc.set_threshold(RARELY, *USUAL[1:])


def never_collect_at_exit() -> None:
    """Skip the garbage collections with which Python ends: the system takes all memory back anyway."""
    atexit.register(_freeze)


def _freeze() -> None:
    if not {"torch._dynamo", "triton"} & sys.modules.keys():  # triton would report what is left as a leak
        gc.freeze()


def collect_as_usual() -> None:
    """Let the collector run as often as usual, but never again look through the objects that exist by now."""
    if gc.get_threshold() != USUAL:
        gc.freeze()
        gc.set_threshold(*USUAL)


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Let the collector run rarely in the block, which imports modules."""
    collect_rarely()
    try:
        yield
    finally:
        collect_as_usual()
