"""Sets up alarms on the Prefect server for when a run fails, crashes or waits for approval: `python -m flows.notify`.

The command may be run again: it replaces its earlier alarms. The addresses are secrets: they come from
GRAFTLINE_WEBHOOK and GRAFTLINE_EMAIL, and Prefect blocks keep them, encrypted.
"""

import argparse
import sys

from flows.workspace.redaction import in_a_line


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.notify", description=__doc__)
    parser.add_argument(
        "--block",
        metavar="TYPE/NAME",
        help="a saved notification block, instead of the addresses in GRAFTLINE_WEBHOOK and GRAFTLINE_EMAIL",
    )
    block = parser.parse_args().block
    from prefect.settings import get_current_settings

    from flows.server.automations import automations, by_block, by_environment, put
    from flows.server.reach import check_server

    try:
        check_server()
        actions = [by_block(block)] if block else by_environment()
        heartbeat_seconds = get_current_settings().flows.heartbeat_frequency
        for automation in automations(actions, heartbeat_seconds=heartbeat_seconds):
            put(automation)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {in_a_line(error)}")


if __name__ == "__main__":
    main()
