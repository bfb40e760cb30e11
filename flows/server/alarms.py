"""A failure in; the state of its run out. What fails each minute for the same reason is told once, and again after hours."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Failed

AGAIN = "FailedAgain"  # a name of which `flows.notify` does not tell
TOLD = Path(".dvc/tmp/graftline-told")  # what was told last, and when
HOURS = 6.0  # then it is told again: an alarm may have been lost


def failed(message: str, *, reason: str) -> State[Any]:
    """Of a run that failed. What the reason of the last such run was is kept until `mended`."""
    with suppress(OSError):  # a full disk, or no workspace at all: then each is told
        if (
            TOLD.is_file()
            and TOLD.read_text("utf-8") == reason
            and abs(time.time() - TOLD.stat().st_mtime) < 3600 * HOURS
        ):
            return Failed(name=AGAIN, message=message)
        TOLD.write_text(reason, "utf-8")
    return Failed(message=message)


def mended() -> None:
    """The next failure is told, whatever its reason."""
    TOLD.unlink(missing_ok=True)
