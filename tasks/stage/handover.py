"""Hands `python -m tasks.VERB` over to the process that GRAFTLINE_WARM names, which has done the verb's imports.

Where that process declines, is gone, or was never started, the verb runs in this process.
"""

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress

TYPE_CHECKING = False  # as that of typing, which takes a third as long to import as all of this
if TYPE_CHECKING:
    from typing import NoReturn

ADDRESS = "GRAFTLINE_WARM"  # the socket of `tasks.stage.warm`
# a shell and DVC set these anew for each program; no result depends on them
OF_ONE_PROGRAM = ("DVC_ROOT", "DVC_STAGE", "OLDPWD", "PATH", "PWD", "SHLVL", "_", ADDRESS)
CHANGED = b"changed\n"  # the answer where the code has changed since the stages began


def hand_over(package: str) -> None:
    """Let the other process run the verb, and exit as the verb does; return where this process has to run it.

    To be called while Python looks for the verb's module in `package`, the folder of the code.
    """
    address = os.environ.get(ADDRESS)
    words = sys.orig_argv[1:]
    if not address or sys.argv[:1] != ["-m"] or words[:1] != ["-m"] or not words[1].startswith("tasks."):
        return
    import socket

    from tasks.machine.lifeline import die_with_parent

    request = {
        "verb": words[1],
        "arguments": words[2:],
        "folder": os.getcwd(),  # noqa: PTH109  pathlib takes longer to import than all of this
        "environment": {name: value for name, value in os.environ.items() if name != ADDRESS},
        "python": sys.executable,
        "package": package,
    }
    die_with_parent()  # the other process then ends the verb
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address)
            socket.send_fds(connection, [b" "], [0, 1, 2])
            connection.sendall(repr(request).encode() + b"\n")  # json takes longer to import
            answer = connection.makefile("rb")
            first = answer.readline()
        except OSError:
            return
        if first == CHANGED:
            _refuse()
        if first != b"forked\n":
            return
        try:
            status = int(answer.readline())
        except (OSError, ValueError):
            sys.exit("error: the process that ran this was killed: run it again")
    if status < 0:  # the signal that ended it
        with suppress(OSError):  # nobody can set what SIGKILL does
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _refuse() -> "NoReturn":
    from tasks.machine.failures import Failure, write_failure

    error = "the code below tasks/ changed while the stages ran: run again; what was finished is kept"
    write_failure(Failure(error=error))
    sys.exit(f"error: {error}")


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables on which a result could depend."""
    return {name: value for name, value in variables.items() if name not in OF_ONE_PROGRAM}
