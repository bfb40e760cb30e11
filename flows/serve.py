"""Serves the deployments of prefect.yaml from this one process: `python -m flows.serve`.

Schedules and events start runs, each in a process of its own. It needs a Prefect server that asks for a password, and
no work pool. Where there is no password yet, it makes one, in .env.
"""

import argparse
import os
import sys

from flows.workspace.redaction import in_a_line
from tasks.machine.garbage import collect_as_usual


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__)
    parser.add_argument(
        "--health-port", type=int, metavar="PORT",
        help="answer /health and /metrics at 127.0.0.1:PORT, for a supervisor and for Prometheus",
    )  # fmt: skip
    port = parser.parse_args().health_port
    if port is not None and not 0 < port < 65536:
        parser.error(f"--health-port is {port}, expected a number from 1 to 65535")
    from flows.server.deployments import read_deployments
    from flows.server.reach import check_server
    from flows.server.serving import serve

    try:
        deployments = read_deployments()
        check_server()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {in_a_line(error)}")
    collect_as_usual()  # everything is imported, and this process stays for months
    try:
        status = serve(deployments, health_port=port)
    except ValueError as error:
        sys.exit(f"error: {in_a_line(error)}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Python would wait for threads of Prefect's


if __name__ == "__main__":
    main()
