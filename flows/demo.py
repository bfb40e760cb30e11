"""Runs the whole pipeline on an embedded example, in a working copy of its own: `make demo`.

Images are scikit-learn's handwritten digits; texts are support tickets made from a grammar. They become batches of the
copy, the flow `retrain` runs to its end, and a table shows the value of transfer learning. The copy keeps this checkout
clean: the bytes of dvc.lock depend on the processor, and DVC refuses a dvc.lock that git ignores.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flows.in_use.outcome import outcome
from flows.in_use.verdict import read_object, read_verdict
from flows.server.password import FILE as PASSWORD
from flows.workspace import paths
from flows.workspace.parameters import Change, modality, proposal, set_parameters
from flows.workspace.redaction import in_a_line
from flows.workspace.working_copy import commit, make_workspace
from tasks.machine.files import write_whole

TABLE = Path(".dvc/tmp/transfer.json")  # in the working copy, where neither git nor DVC looks


@dataclass(frozen=True, kw_only=True)
class Example:
    """The data of a modality's demo, and the module that measures the value of transfer learning on them."""

    place: Path  # of the working copy
    maker: str  # the module that writes a batch
    batches: list[str]  # in the order in which they landed
    measure: list[str]  # the module whose last line is the table, and its arguments
    changes: list[Change]  # of params.yaml, besides the proposal for the first batch
    measures_run: bool  # it reads the flow's results; else it runs beside the flow, whose stages leave a core free


EXAMPLES = {
    "images": Example(
        place=Path("demo"), maker="tasks.demo.digits", batches=["digits"],
        measure=["benchmarks.transfer", "--quick", "--data", "digits"], changes=[], measures_run=False,
    ),
    "text": Example(
        place=Path("demo-text"), maker="tasks.demo.tickets", batches=["tickets-spring", "tickets-summer"],
        changes=[{"key": "finetune.epochs", "value": 5, "why": "a demo is short"}],
        measure=["tasks.demo.worth"], measures_run=True,
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.demo", description=__doc__)
    parser.add_argument("--modality", choices=EXAMPLES, default="images", help="of the example; default: images")
    chosen = parser.parse_args().modality
    example = EXAMPLES[chosen]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the measurement is ended too
    root = Path.cwd()
    try:
        make_workspace(root, root / example.place)
    except (OSError, ValueError) as error:
        sys.exit(f"error: the demo needs a git checkout: {in_a_line(error)}")
    os.chdir(example.place)
    if (root / PASSWORD).is_file() and not PASSWORD.exists():
        PASSWORD.symlink_to(root / PASSWORD)  # of a server that may be at work
    put_batches(example)
    try:
        if modality() != chosen:
            set_parameters([*proposal(paths.raw() / example.batches[0])["changes"], *example.changes])
    except (OSError, ValueError) as error:
        sys.exit(f"error: {in_a_line(error)}")
    measuring = None if TABLE.is_file() or example.measures_run else start_measuring(example)
    try:
        status = subprocess.run([sys.executable, "-m", "flows.retrain"], check=False).returncode
        if status == 0:
            print("", *outcome(), sep="\n")
            show_table(example, measuring)
            show_views(example.place)
    finally:
        if measuring is not None:
            measuring.kill()
    commit(Path(), "A run of the demo")
    sys.exit(status)


def put_batches(example: Example) -> None:
    """Make the batches, and list them."""
    for folder in [paths.raw() / name for name in example.batches]:
        if not folder.is_dir():
            subprocess.run([sys.executable, "-m", example.maker, "--out", str(folder)], check=True)
    batches = paths.batches()
    listed = f"batches: [{', '.join(example.batches)}]"
    write_whole(batches, batches.read_text("utf-8").replace("batches: []", listed).encode())


def start_measuring(example: Example) -> subprocess.Popen[str]:
    """Start to measure the value of transfer learning."""
    # the measurement uses the inputs of the run's head
    arguments = paths.inputs("train_head") if example.measures_run else []
    command = [sys.executable, "-m", *example.measure, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def show_table(example: Example, measuring: subprocess.Popen[str] | None) -> None:
    """Print the value of transfer learning, which is measured once for each candidate."""
    candidate = read_verdict()["candidate"]
    is_known = TABLE.is_file() and read_object(TABLE, advice="run `make demo` again")["candidate"] == candidate
    if measuring is None and not is_known:
        measuring = start_measuring(example)
    if measuring is not None:
        print("\nThe value of transfer learning: training each model from few and from all labels …", flush=True)
        printed, _ = measuring.communicate()
        if measuring.returncode != 0:
            sys.exit("error: the value of transfer learning could not be measured: see the lines above")
        table = {"candidate": candidate} | json.loads(printed.splitlines()[-1])
        write_whole(TABLE, json.dumps(table).encode())
    rows = read_object(TABLE, advice="run `make demo` again")["raw"]
    fractions = sorted({row["fraction"] for row in rows})
    print("\nThe value of transfer learning: held-out accuracy (processor seconds to train)")
    print("  share of the labels".ljust(42) + "".join(f"{fraction:>16.0%}" for fraction in fractions))
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = {
            row["fraction"]: f"{row['accuracy']:.3f} ({row['processor_seconds']:.1f} s)"
            for row in rows
            if row["method"] == method
        }
        print(f"  {method:40}" + "".join(f"{cells.get(fraction, ''):>16}" for fraction in fractions))


def show_views(place: Path) -> None:
    """Print the commands that show more."""
    print(
        f"""
Report   {paths.report().resolve()}
Prefect  .venv/bin/prefect server start       then open http://127.0.0.1:4200
DVC      cd {place}, then ../.venv/bin/dvc dag, metrics show, plots show, exp run -S finetune.epochs=8, exp show
         (the demo is a working copy of its own; remove it with rm -r {place})"""
    )


if __name__ == "__main__":
    main()
