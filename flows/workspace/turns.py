"""Runs that want this workspace in; one at a time out, each after the other. A run that would only wait behind another that
waits for the same is not needed: whatever it was started for, the other will see."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

from flows.workspace.hold import LOCK, only_writer


class NotNeededError(Exception):
    """Another run waits for the workspace, and will do what this one would."""


@contextmanager
def in_turn(what: str | None, *, wait_seconds: float, log: Callable[[str], None]) -> Iterator[None]:
    """Hold this workspace, as `only_writer` does.

    Args:
        what: it is wanted for; runs that give the same name are of the same use. A file is named after it. None: for what no
            other run would do.

    Raises:
        NotNeededError: another run waits for it, for the same.
        BlockingIOError: somebody else holds it, still after `wait_seconds`.
    """
    with ExitStack() as held:
        try:
            held.enter_context(only_writer())
        except BlockingIOError as error:
            if wait_seconds <= 0:
                raise
            with _only_one_that_waits(what) if what else nullcontext():
                log(f"{str(error).partition(':')[0]}: waiting")
                held.enter_context(only_writer(wait_seconds=wait_seconds))
            # whoever comes from here on waits anew: what it is for may be newer than what is read next
        yield


@contextmanager
def _only_one_that_waits(what: str) -> Iterator[None]:
    with LOCK.with_name(f"graftline-{what}.waits").open("a") as place:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotNeededError("another run waits for this workspace, and will see what this one would") from None
        yield
