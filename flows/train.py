"""Takes a folder or a table of samples to a judged model: `graftline train PHOTOS/`, `graftline train REVIEWS.csv`.

It becomes a batch of this project. The settings that suit the first batch are written into params.yaml, with the
reasons. Then the flow `retrain` brings the chain up to date.
"""

import argparse
import subprocess
import sys
from pathlib import Path

INTERRUPTED = 130  # the exit status after Ctrl-C, as shells have it


def main(words: list[str] | None = None) -> None:
    arguments = parser().parse_args(words)
    try:
        sys.exit(run(arguments))
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped: the same command goes on from here\n")
        sys.exit(INTERRUPTED)


def run(arguments: argparse.Namespace) -> int:
    """Take the samples, bring the chain up to date, print the outcome, and return the exit status."""
    # these import Prefect, which takes a second: --help does without
    from flows.in_use.outcome import outcome
    from flows.landing.handed import described, link_batches, source_of, take_handed
    from flows.workspace.batches import listed
    from flows.workspace.dvc import DvcError
    from flows.workspace.hold import only_writer
    from flows.workspace.parameters import check_parameters, modality, proposal, set_parameters
    from flows.workspace.redaction import in_a_line

    try:
        source = source_of(arguments.source, may_be_texts=not listed() or modality() == "text")
        with only_writer(log=show):
            check_parameters(has_batches=False)
            is_first = not listed()
            proposed = proposal(source if is_first else None)
            set_parameters(proposed["changes"])
            for change in proposed["changes"]:
                show(f"params.yaml: {change['key']}: {change['value']}   ({change['why']})")
            if arguments.link:
                link_batches(show)
            handed = take_handed(source, name=arguments.name, log=show)
            show(f"{described(handed.batch)} is {'a batch of this project now' if handed.is_new else 'here already'}")
    except (OSError, ValueError, DvcError) as error:
        sys.exit(f"error: {in_a_line(error)}")
    before = judged()
    status = subprocess.run([sys.executable, "-m", "flows.retrain"], check=False).returncode
    if status == 0 and judged() == before:
        show("\nNothing to do: every stage is up to date. This is what the last run found.")
    if status == 0 or judged() != before:  # else a stage failed, and its reason is the last line
        show("\n".join(["", *outcome()]))
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of this door."""
    parser = argparse.ArgumentParser(prog="graftline train", description=__doc__)
    parser.add_argument(
        "source",
        type=Path,
        help="a folder of class folders, a folder with labels.csv, a Parquet file, a table of texts (.csv, .tsv, "
        ".jsonl), or a folder of them",
    )
    parser.add_argument("--name", metavar="BATCH", help="the name of the batch; default: that of the folder")
    parser.add_argument(
        "--link", action="store_true", help="keep the files once, in DVC's cache, and links to them in data/raw"
    )
    return parser


def judged() -> int:
    """Return when the last verdict was written, in nanoseconds; 0 if there is none."""
    from flows.workspace import paths

    return paths.verdict().stat().st_mtime_ns if paths.verdict().is_file() else 0


def show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
