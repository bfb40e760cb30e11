"""Measure what `kill -9` costs: kill the flow, DVC or a stage at random moments of a retraining, then run it again.

A small project with a batch that was never run is copied. A run is started in the copy, either as the shell starts it
or as Prefect starts a deployment. After a random time, at most that of an undisturbed run, one of its processes is
killed: the flow, DVC or the running stage. The kill comes at once, or when the next stage has just started, or while
DVC writes dvc.lock. The run is started and killed up to three times; later kills come after at most half of the time of
an undisturbed run. Then it is run to its end. A seeded random generator makes all choices.

- kills: the number of kills that came while the run was under way.
- identical: the number of kills after which all of this holds at the end. dvc.lock, the candidate, the verdict, the
  report page and the list of decisions are, byte for byte, those of the undisturbed run. The last run needed no help.
  git sees no other change. No process outlived the kill by more than 10 s.

With --quick there are 6 kills instead of 50.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.kit.machine import Claim, finish, parse_arguments
from benchmarks.kit.prefect_server import prefect_server
from benchmarks.kit.process_tree import descendants, is_running
from benchmarks.kit.small_project import make_project

NUM_KILLS, NUM_QUICK = 50, 6
KILLS_A_PROJECT = 3
SEED = 2
RUN = [sys.executable, "-m", "flows.retrain"]
# as in a worker's process or in flows.serve, where no other code runs around the flow
DEPLOYED = "from flows.retrain import retrain; raise SystemExit(not retrain(return_state=True).is_completed())"
WAYS = {"shell": RUN, "deployment": [sys.executable, "-c", DEPLOYED]}
MOMENTS = ("any", "a stage starts", "dvc.lock is written")
VICTIMS = ("flow", "dvc", "stage")
LOOK_SECONDS = 0.002  # between two checks whether the moment has come; DVC writes dvc.lock in 50 ms
RUN_SECONDS = 900  # timeout of a run
SURVIVOR_SECONDS = 10.0
COMPARED = ("dvc.lock", "data/models/candidate", "data/regression", "data/report/index.html", "data/decisions.jsonl")


def main() -> None:
    is_quick = parse_arguments(__doc__).quick
    wanted = NUM_QUICK if is_quick else NUM_KILLS
    kills: list[dict[str, Any]] = []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        template = make_project(place / "template")
        with prefect_server(place / "home") as environment:
            reference = shutil.copytree(template, place / "reference", symlinks=True)
            seconds = run(reference, environment)
            expected = contents(reference)
            generator = random.Random(SEED)
            while len(kills) < wanted:
                for kill in kill_and_finish(template, place / "copy", environment, generator, seconds, expected):
                    kills.append(kill)
                    print(f"kill {len(kills)} of {wanted}: {kill}", file=sys.stderr, flush=True)
    identical = sum(kill["is_identical"] for kill in kills)
    finish(
        settings={
            "quick": is_quick,
            "seed": SEED,
            "undisturbed_seconds": round(seconds, 1),
            "minutes": round((time.monotonic() - begin) / 60, 1),
            **{key: Counter(kill[key] for kill in kills) for key in ("way", "moment", "victim", "command")},
        },
        raw=kills,
        claims=[
            Claim(name="chaos.kills", value=len(kills), target=wanted, at_least=True),
            Claim(name="chaos.identical", value=identical, target=len(kills), at_least=True),
        ],
    )


def run(project: Path, environment: dict[str, str]) -> float:
    """Run to the end and return the seconds. Raises SystemExit with the output if the run fails."""
    start = time.monotonic()
    done = subprocess.run(
        RUN,
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS,
    )
    if done.returncode != 0:
        sys.exit(f"a run failed:\n{done.stdout}")
    return time.monotonic() - start


def kill_and_finish(
    template: Path,
    copy: Path,
    environment: dict[str, str],
    generator: random.Random,
    seconds: float,
    expected: dict[str, bytes],
    *,
    last: dict[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return one row per kill that came in time, with the state of the project at the end.

    The run that nothing kills has the environment `last`, by default that of the others.
    """
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(template, copy, symlinks=True)
    kills = []
    for number in range(KILLS_A_PROJECT):
        kill = kill_once(
            copy,
            environment,
            way=generator.choice(list(WAYS)),
            after=generator.uniform(0, seconds / 2 if number else seconds),
            moment=generator.choice(MOMENTS),
            victim=generator.choice(VICTIMS),
        )
        if kill is None:
            break
        kills.append(kill)
    if not kills:
        return []
    done = subprocess.run(RUN, cwd=copy, env=last or environment, capture_output=True, text=True, timeout=RUN_SECONDS)
    actual = contents(copy) if done.returncode == 0 else {}
    different = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
    shown = done.stdout.splitlines()[-5:] if done.returncode != 0 else different
    return [
        kill | {"different": shown, "is_identical": not kill["survivors"] and not different and done.returncode == 0}
        for kill in kills
    ]


def kill_once(
    copy: Path, environment: dict[str, str], *, way: str, after: float, moment: str, victim: str
) -> dict[str, Any] | None:
    """Return which process was killed, when, and how many processes outlived it; None if the run ended before.

    Raises SystemExit if the run failed by itself.
    """
    nowhere = subprocess.DEVNULL
    started = subprocess.Popen(
        WAYS[way], cwd=copy, env=environment, stdout=nowhere, stderr=nowhere, start_new_session=True
    )
    begin = time.monotonic()
    with suppress(subprocess.TimeoutExpired):
        started.wait(after)
    has_come = moments(copy, started.pid)[moment]
    while started.poll() is None and not has_come():
        time.sleep(LOOK_SECONDS)
    if started.returncode is not None:
        if started.returncode != 0:
            sys.exit(f"a run failed before it was killed: {' '.join(WAYS[way])}")
        return None
    passed = time.monotonic() - begin
    family = descendants(started.pid)
    victim, pid, command = choose(started.pid, family, victim)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    started.wait(timeout=RUN_SECONDS)
    survivors = outliving([started.pid, *family])
    for survivor in survivors:
        os.kill(survivor, signal.SIGKILL)
    return {
        "way": way,
        "moment": moment,
        "after_seconds": round(passed, 1),
        "victim": victim,
        "command": command,
        "survivors": len(survivors),
    }


def moments(project: Path, flow: int) -> dict[str, Callable[[], bool]]:
    """Return, by name, functions that check whether a moment has come since this call."""
    before, written = stages_of(flow), state_of(project / "dvc.lock")
    return {
        "any": lambda: True,
        "a stage starts": lambda: not stages_of(flow) <= before,
        "dvc.lock is written": lambda: state_of(project / "dvc.lock") != written,
    }


def stages_of(flow: int) -> set[int]:
    return {pid for pid, command in descendants(flow).items() if "-m tasks." in command}


def state_of(file: Path) -> tuple[int, int] | None:
    try:
        return file.stat().st_size, file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def choose(flow: int, family: dict[int, str], wanted: str) -> tuple[str, int, str]:
    """Return the process to kill: one of the wanted kind if there is one, else the flow."""
    kinds = {"dvc": "-m dvc ", "stage": "-m tasks."}
    for pid, command in family.items():
        if wanted in kinds and kinds[wanted] in command:
            return wanted, pid, command.split(" --")[0].split("python ")[-1]
    return "flow", flow, "flow"


def outliving(pids: list[int]) -> list[int]:
    """Return the processes that still run after SURVIVOR_SECONDS."""
    end = time.monotonic() + SURVIVOR_SECONDS
    alive = pids
    while alive and time.monotonic() < end:
        alive = [pid for pid in alive if is_running(pid)]
        time.sleep(0.1)
    return alive


def contents(project: Path) -> dict[str, bytes]:
    """Return the bytes of the compared files by path, and the changes that git sees."""
    files = [
        file
        for name in COMPARED
        for file in ((project / name).rglob("*") if (project / name).is_dir() else [project / name])
    ]
    status = subprocess.run(["git", "status", "--porcelain"], cwd=project, capture_output=True, check=True).stdout
    return {str(file.relative_to(project)): file.read_bytes() for file in files} | {"git status": status}


if __name__ == "__main__":
    main()
