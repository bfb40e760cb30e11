"""The states of failed runs. Where runs fail again and again for one reason, only the first raises an alarm.

After some hours the same reason raises an alarm again.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Failed

from tasks.machine.files import write_whole

AGAIN = "FailedAgain"  # a state that raises no alarm in `flows.notify`
LAST_ALARM = Path(".dvc/tmp/graftline-alarm")  # holds the reason of the last alarm; its mtime is the time of that alarm
HOURS = 6.0  # then the same reason raises an alarm again: the first may have been lost


def failed(message: str, *, reason: str) -> State[Any]:
    """Return the state of a failed run: one that raises an alarm, unless the last one had the same reason.

    The reason is kept until `mended` is called.
    """
    with suppress(OSError):  # on a full disk, or without a workspace, each failure raises an alarm
        is_known = LAST_ALARM.is_file() and LAST_ALARM.read_text("utf-8") == reason
        if is_known and abs(time.time() - LAST_ALARM.stat().st_mtime) < 3600 * HOURS:
            return Failed(name=AGAIN, message=message)
        write_whole(LAST_ALARM, reason.encode())
    return Failed(message=message)


def mended() -> None:
    """Forget the last failure: the next one raises an alarm, for any reason."""
    LAST_ALARM.unlink(missing_ok=True)
