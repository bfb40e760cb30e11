"""What retraining alone changes: `python -m flows.churn`. The recipe is run again with other seeds, beside this workspace; how many
answers that turns from right to wrong is the budget that the gate can hold a candidate to."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from uuid import uuid4

from flows.workspace import paths
from flows.workspace.dvc import DvcError, dvc
from flows.workspace.hold import only_writer

PREDICTIONS = "predictions.parquet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--retrainings", type=int, default=4, help="how many, at least 3")
    number = parser.parse_args().retrainings
    if number < 3:
        sys.exit(f"error: --retrainings is {number}, expected at least 3: fewer say too little")
    try:
        with only_writer(), tempfile.TemporaryDirectory() as folder:
            for seed in range(1, number + 1):
                retrain(seed, Path(folder) / f"{seed}.parquet")
            command = [sys.executable, "-m", "tasks.churn", "--predictions", folder, "--out", str(paths.churn())]
            sys.exit(subprocess.run(command, check=False).returncode)
    except (OSError, ValueError, DvcError) as error:
        sys.exit(f"error: {error}")


def retrain(seed: int, out: Path) -> None:
    """As a DVC experiment in a folder of its own; what it made stays in DVC's cache, by which it is quick a second time."""
    name = f"graftline-churn-{uuid4().hex[:12]}"  # a run that was killed may have left one of another name
    in_use = ["--copy-paths", str(paths.baseline())] if paths.baseline().is_dir() else []  # which no stage makes
    dvc("exp", "run", "--temp", "--name", name, *in_use, "--set-param", f"seed={1000 + seed}", "evaluate", log=print)
    try:
        dvc("get", ".", str(paths.evaluation() / PREDICTIONS), "--rev", name, "--out", str(out), log=print)
    finally:
        dvc("exp", "remove", name, log=print)


if __name__ == "__main__":
    main()
