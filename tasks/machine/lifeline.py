"""Tie a process to the one that started it, so that no process outlives a run that was killed."""

import ctypes
import os
import signal
import sys

STARTED_BY_DVC = "DVC_STAGE"  # DVC sets this variable to the name of the stage


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, whatever the cause.

    A stage exits at once if the DVC process that started it is already dead.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        # all processes that DVC starts share its group; a process that adopts an orphan is in another group
        if STARTED_BY_DVC in os.environ and os.getpgid(os.getppid()) != os.getpgrp():
            sys.exit("error: the DVC that started this was killed: run it again")
