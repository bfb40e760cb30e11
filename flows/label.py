"""Chooses the unlabelled samples to label next, and reads labels back: `graftline label`.

It writes a folder with the samples, a table to fill in (labels.csv), and the same as tasks for Label Studio. `--read`
takes the table, or Label Studio's export as JSON, and appends its labels to the corrections. The next run applies them.
"""

import argparse
import os
import subprocess
import sys

from flows.workspace.redaction import in_a_line


def main(words: list[str] | None = None) -> None:
    arguments = parser().parse_args(words)
    try:
        sys.exit(read(arguments.read, arguments.who) if arguments.read else choose(arguments.out))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {in_a_line(error)}")


def choose(out: str | None) -> int:
    """Choose samples by the model in use, or for coverage alone where there is none."""
    from flows.in_use.place import recorded
    from flows.workspace import paths

    folder = out or str(paths.to_label())
    command = ["label", *paths.labelling(), "--out", folder]
    if paths.baseline().is_dir():
        command += ["--model", str(paths.baseline())]
    elif recorded():
        raise ValueError(
            f"{paths.baseline()}, the model in use, is not here: run `dvc pull {paths.baseline_pointer()}`"
        )
    if moved := os.environ.get("GRAFTLINE_STORE"):  # where the stage `embed` keeps its vectors, too
        command += ["--store", moved]
    status = run(command)
    if status == 0:
        show(f"next: fill in {folder}/labels.csv, or import label_studio.json; then `graftline label --read FILE`")
        show("or look at them in `graftline review`")
    return status


def read(file: str, who: str | None) -> int:
    """Append the labels of a file to the corrections."""
    from flows.workspace import paths
    from flows.workspace.git import user_name

    name = who or user_name()
    status = run(["correct", *paths.correcting(), "--labels", file, *(["--who", name] if name else [])])
    if status == 0:
        show(f"next: `git add {paths.corrections()}`, then `graftline retrain`")
    return status


def run(command: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", f"tasks.{command[0]}", *command[1:]], check=False).returncode


def parser() -> argparse.ArgumentParser:
    """Return the parser of this door."""
    parser = argparse.ArgumentParser(prog="graftline label", description=__doc__)
    parser.add_argument("--out", metavar="FOLDER", help="where the chosen samples go; by default data/label")
    parser.add_argument("--read", metavar="FILE", help="read labels back: the table, or Label Studio's export as JSON")
    parser.add_argument("--who", metavar="NAME", help="who labelled; by default git's user.name")
    return parser


def show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
