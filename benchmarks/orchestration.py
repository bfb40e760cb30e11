"""Measure the cost of Prefect on top of DVC, and how soon the training on a landed batch starts.

A small project is run from start to end in fresh copies: by `dvc repro`, by `python -m flows.retrain` with a running
Prefect server, and by the same flow with the temporary server that Prefect starts itself. They run in turn for a few
rounds, after a run that warms up the server.

- flow_over_dvc_seconds: the median of the rounds' differences, with the running server. `embedded_over_dvc_seconds`,
  with the temporary server, has no claim.
- noop_seconds: the median time of a run with nothing to do, from its start to its exit, with the running server.
- landing_to_start_over_poll_seconds: `python -m flows.serve` looks at a landing every POLL_SECONDS. This is the time
  from the moment when a batch is complete there to the start of the retraining, minus POLL_SECONDS; the largest of a
  few batches.

With --quick one round of each.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.kit.machine import Claim, finish, parse_arguments
from benchmarks.kit.prefect_server import ask, prefect_server
from benchmarks.kit.small_project import make_project, put_batch

ROUNDS, NOOP_ROUNDS, LANDINGS = 5, 5, 5
POLL_SECONDS = 10
WAIT_SECONDS = 600
DVC = [sys.executable, "-m", "dvc", "repro"]
RETRAIN = [sys.executable, "-m", "flows.retrain"]
SERVE = [sys.executable, "-m", "flows.serve"]


def main() -> None:
    is_quick = parse_arguments(__doc__).quick
    rounds, noops, landings = (1, 1, 1) if is_quick else (ROUNDS, NOOP_ROUNDS, LANDINGS)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        template = make_project(place / "template")
        embedded = os.environ | {"PREFECT_HOME": str(place / "embedded"), "DO_NOT_TRACK": "1"}
        with prefect_server(place / "home") as running:
            project = shutil.copytree(template, place / "project", symlinks=True)
            timed(RETRAIN, project, running)
            whole = [time_whole(template, place / "copy", running, embedded, number) for number in range(rounds)]
            noop = [timed(RETRAIN, project, running) for _ in range(noops)]
            embedded_noop = [timed(RETRAIN, project, embedded) for _ in range(noops)]
            starts = time_landings(project, place, running, landings)
    over = statistics.median(seconds["flow"] - seconds["dvc"] for seconds in whole)
    raw = {
        "whole_seconds": whole,
        "embedded_over_dvc_seconds": statistics.median(seconds["embedded"] - seconds["dvc"] for seconds in whole),
        "noop_seconds": noop,
        "embedded_noop_seconds": embedded_noop,
        "landing_to_start_seconds": starts,
    }
    late = max(starts) - POLL_SECONDS
    finish(
        settings={"quick": is_quick, "poll_seconds": POLL_SECONDS},
        raw=raw,
        claims=[
            Claim(name="orchestration.flow_over_dvc_seconds", value=over, target=3, at_least=False),
            Claim(name="orchestration.noop_seconds", value=statistics.median(noop), target=5, at_least=False),
            Claim(name="orchestration.landing_to_start_over_poll_seconds", value=late, target=5, at_least=False),
        ],
    )


def time_whole(
    template: Path, copy: Path, running: dict[str, str], embedded: dict[str, str], number: int
) -> dict[str, float]:
    """Return the seconds of each way, in a copy of its own. The first way changes from round to round."""
    ways = [("dvc", DVC, running), ("flow", RETRAIN, running), ("embedded", RETRAIN, embedded)]
    seconds = {}
    for name, command, environment in ways[number % 3 :] + ways[: number % 3]:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(template, copy, symlinks=True)
        seconds[name] = timed(command, copy, environment)
        print(f"{name}: {seconds[name]:.1f} s", file=sys.stderr, flush=True)
    return seconds


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=with_tools(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}")
    return time.perf_counter() - start


def with_tools(environment: dict[str, str]) -> dict[str, str]:
    """Put this interpreter on the path: DVC starts stages by the name `python`."""
    return environment | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"}


def time_landings(project: Path, place: Path, environment: dict[str, str], number: int) -> list[float]:
    """Return the seconds from each batch's `_COMPLETE` to the start of the run that trains on it."""
    landing = place / "landing"
    landing.mkdir()
    prefect_yaml = project / "prefect.yaml"
    text = prefect_yaml.read_text("utf-8")
    assert "interval: 60 " in text
    prefect_yaml.write_text(text.replace("interval: 60 ", f"interval: {POLL_SECONDS} "), "utf-8")
    served = subprocess.Popen(
        SERVE, cwd=project, env=with_tools(environment) | {"GRAFTLINE_LANDING": str(landing)}, stdout=subprocess.DEVNULL
    )
    try:
        wait_for_runs(environment, "ingest", after=0.0)
        starts = []
        for batch in range(1, number + 1):
            put_batch(place / "template-scans", landing / f"landed-{batch}", first=24 * batch)
            time.sleep(POLL_SECONDS * batch / number)  # each batch lands at another moment of the interval
            (landing / f"landed-{batch}" / "_COMPLETE").touch()
            complete = time.time()
            starts.append(wait_for_runs(environment, "retrain", after=complete) - complete)
            print(f"training started {starts[-1]:.1f} s after the batch landed", file=sys.stderr, flush=True)
            wait_until_idle(environment)
        return starts
    finally:
        served.terminate()
        served.wait(timeout=30)


def wait_for_runs(environment: dict[str, str], flow: str, *, after: float) -> float:
    """Return when the first run of that flow started after that moment (seconds since 1970)."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        starts = [
            datetime.fromisoformat(run["start_time"]).timestamp()
            for run in runs(environment, flow)
            if run["start_time"]
        ]
        if later := [start for start in starts if start > after]:
            return min(later)
        time.sleep(0.2)
    raise TimeoutError(f"no run of {flow} started within {WAIT_SECONDS} s")


def wait_until_idle(environment: dict[str, str]) -> None:
    """Wait until no retraining is running or about to run."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if not [run for run in runs(environment, "retrain") if run["state_type"] in ("RUNNING", "PENDING", "LATE")]:
            time.sleep(POLL_SECONDS)
            return
        time.sleep(0.5)


def runs(environment: dict[str, str], flow: str) -> list[dict[str, Any]]:
    question = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 200}
    flow_runs: list[dict[str, Any]] = ask(environment, "flow_runs/filter", question)
    return flow_runs


if __name__ == "__main__":
    main()
