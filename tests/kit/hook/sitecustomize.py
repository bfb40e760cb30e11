"""Hand `python -m MODULE` over to a process of `tests.kit.warm_starts`, which has imported what the module needs.

A worker of pytest-xdist is handed over, too.

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


def pass_on(number: int, pid: int) -> None:
    """Send a signal to the program that runs elsewhere: an error here would make Python run it a second time."""
    try:  # noqa: SIM105  contextlib takes longer to import, too
        os.kill(pid, number)
    except ProcessLookupError:  # it has just ended
        pass


if (place := address()) and has_streams():
    import _signal  # signal and socket wrap these, and take twice as long to import as all of this
    import _socket
    import array
    import marshal
    import resource

    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    request = marshal.dumps(
        {
            "arguments": sys.orig_argv[2:],
            "folder": os.getcwd(),  # noqa: PTH109  pathlib takes longer to import, too
            "environment": dict(os.environ),
            "limits": {name: resource.getrlimit(getattr(resource, name)) for name in limits},
        }
    )
    pid, status = "", ""
    connection = _socket.socket(_socket.AF_UNIX)
    try:
        connection.connect(place)
    except OSError:
        pass
    else:
        streams = array.array("i", [0, 1, 2])
        connection.sendmsg([b" "], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
        connection.sendall(len(request).to_bytes(8, "big") + request)
        answer = os.fdopen(connection.fileno(), closefd=False)
        if pid := answer.readline().strip():  # an empty one declines
            for number in (_signal.SIGTERM, _signal.SIGINT):
                _signal.signal(number, lambda number, _: pass_on(number, int(pid)))
            status = answer.readline().strip()
    connection.close()
    if status.startswith("-"):  # the signal that ended it
        _signal.signal(-int(status), _signal.SIG_DFL)
        os.kill(os.getpid(), -int(status))
    if pid:
        os._exit(int(status or 70))
