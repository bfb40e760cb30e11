"""Serves the deployments of prefect.yaml from this one process: `python -m flows.serve`.

Schedules and events start runs, each in a process of its own. It needs a Prefect server that asks for a password, and
no work pool. Where there is no password yet, it makes one, in .env.
"""

import argparse
import os
import sys

from flows.workspace.redaction import in_a_line


def main() -> None:
    argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__).parse_args()
    from flows.server.deployments import read_deployments
    from flows.server.reach import check_server
    from flows.server.serving import serve

    try:
        deployments = read_deployments()
        check_server()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {in_a_line(error)}")
    status = serve(deployments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Python would wait for threads of Prefect's


if __name__ == "__main__":
    main()
