"""Let runs that want this workspace take turns.

A run that would only wait behind another waiting run of the same purpose is not needed: the other will see everything
that this one would.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

from flows.workspace.hold import LOCK, only_writer
from tasks.machine.files import no_link


class NotNeededError(Exception):
    """The error of a run that is not needed: another waits for the workspace, and will do the same."""


@contextmanager
def in_turn(purpose: str | None, *, wait_seconds: float, log: Callable[[str], None]) -> Iterator[None]:
    """Hold this workspace, as `only_writer` does.

    Args:
        purpose: runs with the same purpose stand in for each other. A file is named after it. None: no other run can
            stand in.

    Raises:
        NotNeededError: another run waits for the same purpose.
        BlockingIOError: another process still holds the workspace after `wait_seconds`.
    """
    with ExitStack() as held:
        try:
            held.enter_context(only_writer(log=log))
        except BlockingIOError as error:
            if wait_seconds <= 0:
                raise
            with _only_one_that_waits(purpose) if purpose else nullcontext():
                log(f"{str(error).partition(':')[0]}: waiting")
                held.enter_context(only_writer(wait_seconds=wait_seconds, log=log))
            # a run that comes from here on waits anew: its reason may be newer than the state that this run reads next
        yield


@contextmanager
def _only_one_that_waits(purpose: str) -> Iterator[None]:
    with open(LOCK.with_name(f"graftline-{purpose}.waits"), "a", opener=no_link) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotNeededError("another run waits for this workspace, and will see all that this one would") from None
        yield
