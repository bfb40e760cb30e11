"""Runs the whole pipeline on the embedded example, in a working copy of its own: `make demo`.

scikit-learn's handwritten digits become a batch of the copy in `demo/`, the flow `retrain` runs to its end, and a table
shows the value of transfer learning. The copy keeps this checkout clean: the bytes of dvc.lock depend on the processor,
and DVC refuses a dvc.lock that git ignores.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from flows.in_use.outcome import outcome
from flows.in_use.verdict import read_object, read_verdict
from flows.server.password import FILE as PASSWORD
from flows.workspace import paths
from flows.workspace.working_copy import commit, make_workspace
from tasks.machine.files import write_whole

DEMO = Path("demo")
BATCH = "digits"
TABLE = Path(".dvc/tmp/transfer.json")  # in the working copy, where neither git nor DVC looks


def main() -> None:
    argparse.ArgumentParser(prog="python -m flows.demo", description=__doc__).parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the measurement is ended too
    root = Path.cwd()
    try:
        make_workspace(root, root / DEMO)
    except (OSError, ValueError) as error:
        sys.exit(f"error: the demo needs a git checkout: {error}")
    os.chdir(DEMO)
    if (root / PASSWORD).is_file() and not PASSWORD.exists():
        PASSWORD.symlink_to(root / PASSWORD)  # of a server that may be at work
    put_digits()
    measuring = None if TABLE.is_file() else start_measuring()  # beside the flow, whose stages leave a core free
    try:
        status = subprocess.run([sys.executable, "-m", "flows.retrain"], check=False).returncode
        if status == 0:
            print("", *outcome(), sep="\n")
            show_table(measuring)
            show_views()
    finally:
        if measuring is not None:
            measuring.kill()
    commit(Path(), "A run of the demo")
    sys.exit(status)


def put_digits() -> None:
    """Make the batch, and list it."""
    raw = paths.raw() / BATCH
    if not raw.is_dir():
        subprocess.run([sys.executable, "-m", "tasks.demo.digits", "--out", str(raw)], check=True)
    batches = paths.batches()
    write_whole(batches, batches.read_text("utf-8").replace("batches: []", f"batches: [{BATCH}]").encode())


def start_measuring() -> subprocess.Popen[str]:
    """Start to measure the value of transfer learning."""
    command = [sys.executable, "-m", "benchmarks.transfer", "--quick", "--data", "digits"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def show_table(measuring: subprocess.Popen[str] | None) -> None:
    """Print the value of transfer learning, which is measured once for each candidate."""
    candidate = read_verdict()["candidate"]
    if measuring is None and read_object(TABLE, advice="run `make demo` again")["candidate"] != candidate:
        measuring = start_measuring()
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


def show_views() -> None:
    """Print where to look on."""
    print(
        f"""
Report   {paths.report().resolve()}
Prefect  .venv/bin/prefect server start       then open http://127.0.0.1:4200
DVC      cd {DEMO}, then ../.venv/bin/dvc dag, metrics show, plots show, exp run -S finetune.epochs=5, exp show
         (the demo is a working copy of its own; remove it with rm -r {DEMO})"""
    )


if __name__ == "__main__":
    main()
