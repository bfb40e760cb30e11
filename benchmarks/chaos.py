"""What `kill -9` costs: the flow, DVC or a stage is killed at random moments of a retraining, which is then run again.

A small project, with a batch that was never run, is copied; `python -m flows.retrain` is started there, and after a random time, up to
what an undisturbed run takes, one of its processes is killed: the flow, DVC or the stage that runs, by chance. It is started again, and
killed again, up to three times, after up to half of that time; then it is run to its end.

- kills: that landed while the run was under way.
- identical: of them those after which, in the end, dvc.lock, the candidate, the verdict, the report page and the list of decisions are byte for byte those
  of the undisturbed run, the last run needed no help, git sees nothing else changed, and no process outlived the kill by more than
  10 s.

With --quick 6 kills instead of 50. `--keep FILE` has a line for each kill, by which a stopped benchmark goes on.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.machine import Claim, finish, parser
from benchmarks.prefect_server import prefect_server
from benchmarks.process_tree import descendants, is_running
from benchmarks.small_project import make_project

NUM_KILLS, NUM_QUICK = 50, 6
KILLS_A_PROJECT = 3
VICTIMS = ("flow", "dvc", "stage")
RUN = [sys.executable, "-m", "flows.retrain"]
RUN_SECONDS = 900  # at most
SURVIVOR_SECONDS = 10.0
COMPARED = ("dvc.lock", "data/models/candidate", "data/regression", "data/report/index.html", "data/decisions.json")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--keep", type=Path, help="a file for each kill's line")
    given = arguments.parse_args()
    wanted = NUM_QUICK if given.quick else NUM_KILLS
    kills = [json.loads(line) for line in given.keep.read_text("utf-8").splitlines()] if is_file(given.keep) else []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        template = make_project(place / "template")
        with prefect_server(place / "home") as environment:
            reference = shutil.copytree(template, place / "reference", symlinks=True)
            seconds = run(reference, environment)
            expected = contents(reference)
            generator = random.Random(f"kill after kill {len(kills)}")
            while len(kills) < wanted:
                for found in kill_and_finish(template, place / "copy", environment, generator, seconds, expected):
                    kills.append(found)
                    print(f"kill {len(kills)} of {wanted}: {found}", file=sys.stderr, flush=True)
                    if given.keep:
                        with given.keep.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(found) + "\n")
    identical = sum(kill["is_identical"] for kill in kills)
    finish(
        settings={"quick": given.quick, "undisturbed_seconds": seconds},
        raw=kills,
        claims=[
            Claim(name="chaos.kills", value=len(kills), target=wanted, at_least=True),
            Claim(name="chaos.identical", value=identical, target=len(kills), at_least=True),
        ],
    )


def is_file(path: Path | None) -> bool:
    return path is not None and path.is_file()


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
        after = generator.uniform(0, seconds / 2 if number else seconds)
        kill = kill_once(copy, environment, after=after, wanted=generator.choice(VICTIMS))
        if kill is None:
            break
        kills.append(kill)
    done = subprocess.run(RUN, cwd=copy, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS)
    found = contents(copy) if done.returncode == 0 else {}
    different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    said = done.stdout.splitlines()[-5:] if done.returncode != 0 else different
    return [
        kill | {"different": said, "is_identical": not kill["survivors"] and not different and done.returncode == 0}
        for kill in kills
    ]


def kill_once(copy: Path, environment: dict[str, str], *, after: float, wanted: str) -> dict[str, Any] | None:
    """Who was killed, and how many processes outlived it; None where the run was over before."""
    nowhere = subprocess.DEVNULL
    started = subprocess.Popen(RUN, cwd=copy, env=environment, stdout=nowhere, stderr=nowhere, start_new_session=True)
    try:
        started.wait(after)
        return None
    except subprocess.TimeoutExpired:
        family = descendants(started.pid)
    victim, pid, command = choose(started.pid, family, wanted)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    started.wait(timeout=RUN_SECONDS)
    survivors = outliving([started.pid, *family])
    for each in survivors:
        os.kill(each, signal.SIGKILL)
    return {"after_seconds": round(after, 1), "victim": victim, "command": command, "survivors": len(survivors)}


def choose(flow: int, family: dict[int, str], wanted: str) -> tuple[str, int, str]:
    """The process to kill: of the kind that is wanted where there is one, else the flow."""
    kinds = {"dvc": "-m dvc ", "stage": "-m tasks."}
    for pid, command in family.items():
        if wanted in kinds and kinds[wanted] in command:
            return wanted, pid, command.split(" --")[0].split("python ")[-1]
    return "flow", flow, "-m flows.retrain"


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
