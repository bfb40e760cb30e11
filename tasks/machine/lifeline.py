"""Ties a process to the one that started it, so that nothing works on for a run that was killed."""

import ctypes
import os
import signal
import sys

STARTED_BY_DVC = "DVC_STAGE"  # DVC says by it which stage this is


def die_with_parent() -> None:
    """Ask Linux to end this process when its parent dies, however that happens; a stage whose DVC is dead by now ends here."""
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        # all that DVC starts is in its process group; whoever adopts an orphan is in another
        if STARTED_BY_DVC in os.environ and os.getpgid(os.getppid()) != os.getpgrp():
            sys.exit("error: the DVC that started this was killed: run it again")
