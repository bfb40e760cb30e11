"""Hand `python -m MODULE` over to a process of `tests.kit.warm_starts`, which has imported what the module needs.

Python runs this file before anything else, because its folder is on PYTHONPATH. Where the process declines, or is
gone, Python goes on as it would have without this file.
"""

import os
import sys


def address() -> str | None:
    """Return the address of the process that has imported what this program needs; None where there is none."""
    if sys.orig_argv[1:3] == ["-u", "-c"]:  # as pytest-xdist starts a worker
        return os.environ.get("GRAFTLINE_WARM_WORKERS")
    if sys.orig_argv[1:2] != ["-m"] or len(sys.orig_argv) < 3 or sys.orig_argv[2] == "tasks.stage.warm":
        return None
    kinds = {"tasks": "STAGES", "dvc": "DVC", "flows": "DOORS", "prefect": "DOORS", "uvicorn": "DOORS"}
    program = "dvc" if sys.orig_argv[2:4] == ["flows.workspace.lean", "dvc"] else sys.orig_argv[2]
    kind = kinds.get(program.partition(".")[0])
    return os.environ.get(f"GRAFTLINE_WARM_{kind}")


def has_streams() -> bool:
    """Return whether input, output and errors are open: else a socket would take the place of a closed one."""
    try:
        return all(os.fstat(stream) for stream in (0, 1, 2))
    except OSError:
        return False


if (place := address()) and has_streams():
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
    pid, status = "", ""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(place)
        except OSError:
            pass
        else:
            socket.send_fds(connection, [b" "], [0, 1, 2])
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = connection.makefile()
            if pid := answer.readline().strip():  # an empty one declines
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, lambda number, _: os.kill(int(pid), number))
                status = answer.readline().strip()
    if status.startswith("-"):  # the signal that ended it
        signal.signal(-int(status), signal.SIG_DFL)
        os.kill(os.getpid(), -int(status))
    if pid:
        os._exit(int(status or 70))
