"""Gives the deployments of prefect.yaml to the Prefect server, for the workers of a pool: `python -m flows.deploy`.

It is `prefect deploy --all` after a check of everything that Prefect would keep and show to everybody.
"""

import argparse
import subprocess
import sys

from flows.workspace.redaction import in_a_line


def main() -> None:
    argparse.ArgumentParser(prog="python -m flows.deploy", description=__doc__).parse_args()
    from flows.server.deployments import read_deployments
    from flows.server.reach import check_server

    try:
        read_deployments()
        check_server()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {in_a_line(error)}")
    # with prompts it would ask where the code comes from; without, it takes this folder
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
