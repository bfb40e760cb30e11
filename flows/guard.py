"""A run that is started from the shell; whatever it started ends with it, however it ends.

Prefect starts a temporary server where none is named, and that outlives a run that is killed. A small process waits for the end of the
run and then ends what carries its mark.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

MARK = "GRAFTLINE_RUN"  # in the environment, which is inherited
GRACE_SECONDS = 3.0  # before what is left is killed

GUARD = """
import os, signal, sys, time
os.setsid()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdin.buffer.read()  # to the end, which comes with that of the run
mark = sys.argv[1].encode()
def marked():
    for each in os.listdir("/proc"):
        if each.isdigit() and int(each) != os.getpid():
            try:
                with open(f"/proc/{each}/environ", "rb") as file:
                    if mark in file.read().split(b"\\0"):
                        yield int(each)
            except OSError:
                pass
for sign, seconds in ((signal.SIGTERM, float(sys.argv[2])), (signal.SIGKILL, 0.0)):
    for each in marked():
        try:
            os.kill(each, sign)
        except OSError:
            pass
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(marked()):
        time.sleep(0.1)
"""


def run_guarded(run: Callable[[], int]) -> None:
    """Run it and exit with its status; SIGTERM ends it as an interrupt does, so that what it holds is let go."""
    mark = uuid4().hex
    os.environ[MARK] = mark
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if Path("/proc/self/environ").exists():
        environment = {name: value for name, value in os.environ.items() if name != MARK}
        guard = [sys.executable, "-I", "-S", "-c", GUARD, f"{MARK}={mark}", str(GRACE_SECONDS)]
        # its standard input is never written to: it ends with this process, which alone has the other end
        nowhere = subprocess.DEVNULL
        subprocess.Popen(guard, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, env=environment)
    sys.exit(run())
