"""Shows suspicious samples on a page, where a person accepts, relabels or sets them aside: `graftline review`.

Decisions are appended to the corrections, with the person and the time, and the next run applies them. The page is
served to this machine alone, and no sample is removed by itself.
"""

import argparse
import os
import signal
import subprocess
import sys

from flows.workspace.redaction import in_a_line


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="graftline review", description=__doc__)
    parser.add_argument("--port", help="of this machine; by default a free one")
    parser.add_argument("--who", metavar="NAME", help="who decides; by default git's user.name")
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open nothing")
    arguments = parser.parse_args(words)
    try:
        sys.exit(review(arguments.port, arguments.who, browse=not arguments.no_browser))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {in_a_line(error)}")


def review(port: str | None, who: str | None, *, browse: bool) -> int:
    """Serve the page until it is interrupted."""
    from flows.workspace import paths
    from flows.workspace.git import user_name

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets background processes ignore it
    name = who or user_name()
    has_display = sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
    command = [sys.executable, "-m", "tasks.review", *paths.reviewing()]
    command += [*(["--who", name] if name else []), *(["--port", port] if port else [])]
    command += ["--browse"] if browse and has_display else []
    # in a session of its own, so that Ctrl-C interrupts it once, from here; then it reports the new decisions
    with subprocess.Popen(command, start_new_session=True) as server:
        while True:
            try:
                return server.wait()
            except KeyboardInterrupt:
                server.send_signal(signal.SIGINT)


if __name__ == "__main__":
    main()
