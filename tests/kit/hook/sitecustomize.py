"""Hand `python -m tasks.VERB` over to the process of `tests.kit.warm_stages`, which has imported everything.

Python runs this file before anything else, because its folder is on PYTHONPATH. Where the process declines, or is
gone, Python goes on as it would have without this file.
"""

import os
import sys


def has_streams() -> bool:
    """Return whether input, output and errors are open: else a socket would take the place of a closed one."""
    try:
        return all(os.fstat(stream) for stream in (0, 1, 2))
    except OSError:
        return False


is_verb = sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2:3] and sys.orig_argv[2].startswith("tasks.")
if is_verb and has_streams():
    import json
    import resource
    import signal
    import socket

    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    request = {
        "arguments": sys.orig_argv[2:],
        "folder": os.getcwd(),  # noqa: PTH109  pathlib takes longer to import than all of this
        "environment": dict(os.environ),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in limits},
    }
    status = ""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.environ["GRAFTLINE_WARM_STAGES"])
        except (KeyError, OSError):
            pass
        else:
            socket.send_fds(connection, [b" "], [0, 1, 2])
            connection.sendall(json.dumps(request).encode() + b"\n")
            status = connection.makefile().readline().strip()
    if status.startswith("-"):  # the signal that ended it
        signal.signal(-int(status), signal.SIG_DFL)
        os.kill(os.getpid(), -int(status))
    if status:
        os._exit(int(status))
