"""What `kill -9` costs: the flow, DVC or a stage is killed at random moments of a retraining, which is then run again.

A small project, with a batch that was never run, is copied. A run is started there, as the shell starts it or as Prefect starts one of a
deployment; after a random time, up to what an undisturbed run takes, one of its processes is killed: the flow, DVC or the stage that
runs. At once, or when the next stage has just been started, or while DVC writes dvc.lock. It is started again, and killed again, up to
three times, after up to half of that time; then it is run to its end. Chance decides on all of it, from a seed.

- kills: that landed while the run was under way.
- identical: of them those after which, in the end, dvc.lock, the candidate, the verdict, the report page and the list of decisions are byte for byte those
  of the undisturbed run, the last run needed no help, git sees nothing else changed, and no process outlived the kill by more than
  10 s.

With --quick 6 kills instead of 50.
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
# as in a process of a worker or of flows.serve, where nothing is around the flow
DEPLOYED = "from flows.retrain import retrain; raise SystemExit(not retrain(return_state=True).is_completed())"
WAYS = {"shell": RUN, "deployment": [sys.executable, "-c", DEPLOYED]}
MOMENTS = ("any", "a stage starts", "dvc.lock is written")
VICTIMS = ("flow", "dvc", "stage")
LOOK_SECONDS = 0.002  # between two looks for the moment: DVC writes dvc.lock in 50 ms
RUN_SECONDS = 900  # at most
SURVIVOR_SECONDS = 10.0
COMPARED = ("dvc.lock", "data/models/candidate", "data/regression", "data/report/index.html", "data/decisions.json")


def main() -> None:
    given = parse_arguments(__doc__)
    wanted = NUM_QUICK if given.quick else NUM_KILLS
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
                for found in kill_and_finish(template, place / "copy", environment, generator, seconds, expected):
                    kills.append(found)
                    print(f"kill {len(kills)}, {wanted} are wanted: {found}", file=sys.stderr, flush=True)
    identical = sum(kill["is_identical"] for kill in kills)
    finish(
        settings={
            "quick": given.quick,
            "seed": SEED,
            "undisturbed_seconds": round(seconds, 1),
            "minutes": round((time.monotonic() - begin) / 60, 1),
            **{each: Counter(kill[each] for kill in kills) for each in ("way", "moment", "victim", "command")},
        },
        raw=kills,
        claims=[
            Claim(name="chaos.kills", value=len(kills), target=wanted, at_least=True),
            Claim(name="chaos.identical", value=identical, target=len(kills), at_least=True),
        ],
    )


def run(project: Path, environment: dict[str, str]) -> float:
    """Seconds of a run to its end; SystemExit with what it said where it fails."""
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
) -> list[dict[str, Any]]:
    """A row a kill that landed, with what the project was like in the end."""
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
    done = subprocess.run(RUN, cwd=copy, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS)
    found = contents(copy) if done.returncode == 0 else {}
    different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    said = done.stdout.splitlines()[-5:] if done.returncode != 0 else different
    return [
        kill | {"different": said, "is_identical": not kill["survivors"] and not different and done.returncode == 0}
        for kill in kills
    ]


def kill_once(
    copy: Path, environment: dict[str, str], *, way: str, after: float, moment: str, victim: str
) -> dict[str, Any] | None:
    """Who was killed, when, and how many processes outlived it; None where the run was over before. SystemExit where it failed by
    itself."""
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
            sys.exit(f"a run that nobody killed failed: {' '.join(WAYS[way])}")
        return None
    passed = time.monotonic() - begin
    family = descendants(started.pid)
    victim, pid, command = choose(started.pid, family, victim)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    started.wait(timeout=RUN_SECONDS)
    survivors = outliving([started.pid, *family])
    for each in survivors:
        os.kill(each, signal.SIGKILL)
    return {
        "way": way,
        "moment": moment,
        "after_seconds": round(passed, 1),
        "victim": victim,
        "command": command,
        "survivors": len(survivors),
    }


def moments(project: Path, flow: int) -> dict[str, Callable[[], bool]]:
    """By name, whether it has come since this was called."""
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
    """The process to kill: of the kind that is wanted where there is one, else the flow."""
    kinds = {"dvc": "-m dvc ", "stage": "-m tasks."}
    for pid, command in family.items():
        if wanted in kinds and kinds[wanted] in command:
            return wanted, pid, command.split(" --")[0].split("python ")[-1]
    return "flow", flow, "flow"


def outliving(pids: list[int]) -> list[int]:
    """Those that still run after SURVIVOR_SECONDS."""
    end = time.monotonic() + SURVIVOR_SECONDS
    alive = pids
    while alive and time.monotonic() < end:
        alive = [pid for pid in alive if is_running(pid)]
        time.sleep(0.1)
    return alive


def contents(project: Path) -> dict[str, bytes]:
    """By path, the bytes of what is compared, and what git sees."""
    files = [
        file
        for name in COMPARED
        for file in ((project / name).rglob("*") if (project / name).is_dir() else [project / name])
    ]
    status = subprocess.run(["git", "status", "--porcelain"], cwd=project, capture_output=True, check=True).stdout
    return {str(file.relative_to(project)): file.read_bytes() for file in files} | {"git status": status}


if __name__ == "__main__":
    main()
