"""Hands `python -m tasks.VERB` over to the process that GRAFTLINE_WARM names, which has imported what the verb needs.

Where that process declines, is gone, or was never started, the verb runs in this process.
"""

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress

ADDRESS = "GRAFTLINE_WARM"  # the socket of `tasks.stage.warm`
# a shell and DVC set these for each program anew; no result depends on them
OF_ONE_PROGRAM = ("DVC_ROOT", "DVC_STAGE", "OLDPWD", "PATH", "PWD", "SHLVL", "_", ADDRESS)


def hand_over(package: str) -> None:
    """Let the other process run the verb, and exit as the verb does; return where this process has to run it.

    To be called while Python looks for the verb's module in `package`, the folder of the code.
    """
    address = os.environ.get(ADDRESS)
    words = sys.orig_argv[1:]
    if not address or sys.argv[:1] != ["-m"] or words[:1] != ["-m"] or not words[1].startswith("tasks."):
        return
    import json
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
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = connection.makefile("rb")
            is_forked = answer.readline() == b"forked\n"
        except OSError:
            return
        if not is_forked:
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


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables on which a result could depend."""
    return {name: value for name, value in variables.items() if name not in OF_ONE_PROGRAM}
