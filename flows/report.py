"""Opens the report page in a browser, or prints where it is: `graftline report`."""

import argparse
import os
import sys
import webbrowser

from flows.workspace import paths
from flows.workspace.redaction import in_a_line


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="graftline report", description=__doc__)
    parser.add_argument("--path", action="store_true", help="print the path of the page, and open nothing")
    arguments = parser.parse_args(words)
    try:
        page = paths.report().resolve()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {in_a_line(error)}")
    if not page.is_file():
        sys.exit(f"error: there is no page at {page}: `graftline train DATA` or `graftline retrain` makes it")
    has_display = sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
    sys.stdout.write(f"{page}\n")
    if has_display and not arguments.path:
        webbrowser.open(page.as_uri())


if __name__ == "__main__":
    main()
