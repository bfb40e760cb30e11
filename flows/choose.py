"""Ranks backbones for your own data before any training: `graftline choose`, then `graftline choose --accept`.

The candidates are the section `backbone` of params.yaml and the changes to it that `choose.candidates` lists. Batches
that are new are scanned and validated first. The table goes to the terminal, and with a picture into choice.html.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from flows.workspace.redaction import in_a_line

INTERRUPTED = 130  # the exit status after Ctrl-C, as shells have it


def main(words: list[str] | None = None) -> None:
    arguments = parser().parse_args(words)
    # these import Prefect, which takes a second: --help does without
    from flows.workspace.dvc import DvcError

    try:
        sys.exit(run(arguments.accept))
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped: the ranking before stays; the same command starts again with the vectors it has\n")
        sys.exit(INTERRUPTED)
    except (OSError, ValueError, DvcError) as error:
        sys.exit(f"error: {in_a_line(error)}")


def run(accept: int | None) -> int:
    """Rank the candidates, or write the one of rank `accept` into params.yaml, 0 for the recommended one."""
    from flows.workspace import paths
    from flows.workspace.dvc import dvc
    from flows.workspace.hold import only_writer
    from flows.workspace.parameters import check_parameters

    with only_writer():
        if accept is not None:
            return write(paths.choice(), accept)
        check_parameters()
        dvc("repro", "validate", log=show)
        command = [sys.executable, "-m", "tasks.choose", *paths.choosing(), "--out", str(paths.choice())]
        if moved := os.environ.get("GRAFTLINE_STORE"):  # where the stage `embed` keeps its vectors, too
            command += ["--store", moved]
        status = subprocess.run(command, check=False).returncode
        if status == 0:
            show(f"the picture: {paths.choice() / 'choice.html'}")
        return status


def write(folder: Path, rank: int) -> int:
    """Write the backbone of a rank into params.yaml, with the reason; 0 is the recommended one.

    Raises:
        ValueError: nothing was ranked yet, or the rank is not there.
    """
    from flows.workspace.parameters import set_parameters, values_of
    from tasks.machine.files import read_json

    file = folder / "choice.json"
    if not file.is_file():
        raise ValueError(f"there is no {file}: run `graftline choose` first")
    choice: dict[str, Any] = read_json(file)
    candidates = choice["candidates"]
    if not 0 <= rank <= len(candidates):
        raise ValueError(f"--accept is {rank}, expected a rank from 1 to {len(candidates)}")
    advised = next(one for one in candidates if one["number"] == choice["recommended"]["number"])
    chosen = candidates[rank - 1] if rank else advised
    why = choice["recommended"]["why"] if chosen is advised else f"rank {rank} of {len(candidates)}, chosen by hand"
    current = values_of("backbone")
    changes = [
        {"key": f"backbone.{key}", "value": value, "why": why}
        for key, value in chosen["backbone"].items()
        if current.get(key) != value
    ]
    set_parameters(changes, by="choose")
    for change in changes:
        show(f"params.yaml: {change['key']}: {change['value']}")
    show(f"{chosen['name']} is the backbone: {why}" if changes else f"{chosen['name']} is the backbone already")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of this door."""
    parser = argparse.ArgumentParser(prog="graftline choose", description=__doc__)
    parser.add_argument(
        "--accept",
        type=int,
        nargs="?",
        const=0,
        metavar="RANK",
        help="write the recommended backbone of the last ranking into params.yaml, or the one of this rank",
    )
    return parser


def show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
