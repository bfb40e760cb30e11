"""Measures how many answers a retraining alone changes: `python -m flows.churn`.

It runs the pipeline again with other seeds, beside this workspace. The share of answers that turn from right to wrong
is a budget that the gate can hold a candidate to.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from uuid import uuid4

from flows.workspace import paths
from flows.workspace.dvc import DvcError, dvc
from flows.workspace.hold import only_writer
from flows.workspace.redaction import in_a_line

PREDICTIONS = "predictions.parquet"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.churn", description=__doc__)
    parser.add_argument("--retrainings", type=int, default=4, help="their number, at least 3 (default: 4)")
    number = parser.parse_args().retrainings
    if number < 3:
        sys.exit(f"error: --retrainings is {number}, expected at least 3: fewer show too little")
    try:
        with only_writer(), tempfile.TemporaryDirectory() as folder:
            for seed in range(1, number + 1):
                retrain(seed, Path(folder) / f"{seed}.parquet")
            command = [sys.executable, "-m", "tasks.churn", "--predictions", folder, "--out", str(paths.churn())]
            sys.exit(subprocess.run(command, check=False).returncode)
    except (OSError, ValueError, DvcError) as error:
        sys.exit(f"error: {in_a_line(error)}")


def retrain(seed: int, out: Path) -> None:
    """Retrain with a seed, and write the predictions to `out`.

    It runs as a DVC experiment in a folder of its own. DVC's cache keeps the result, so that a second time is quick.
    """
    name = f"graftline-churn-{uuid4().hex[:12]}"  # a killed run may have left an experiment, under another name
    bundles = [bundle for bundle in (paths.baseline(), paths.start()) if bundle.is_dir()]  # no stage makes them
    in_use = [word for bundle in bundles for word in ("--copy-paths", str(bundle))]
    dvc("exp", "run", "--temp", "--name", name, *in_use, "--set-param", f"seed={1000 + seed}", "evaluate", log=print)
    try:
        dvc("get", ".", str(paths.evaluation() / PREDICTIONS), "--rev", name, "--out", str(out), log=print)
    finally:
        dvc("exp", "remove", name, log=print)


if __name__ == "__main__":
    main()
