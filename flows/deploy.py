"""prefect.yaml in; its deployments at the Prefect server, for the workers of a pool, out: `python -m flows.deploy`. It is `prefect deploy --all`
once what that would keep, and show to everybody, was looked at."""

import argparse
import subprocess
import sys

from flows.server.deployments import read_deployments
from flows.server.reach import check_server


def main() -> None:
    argparse.ArgumentParser(prog="python -m flows.deploy", description=__doc__).parse_args()
    try:
        read_deployments()
        check_server()
    except (ValueError, ConnectionError) as error:
        sys.exit(f"error: {error}")
    # it would ask otherwise where the code comes from: from this folder
    sys.exit(
        subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], check=False).returncode
    )


if __name__ == "__main__":
    main()
