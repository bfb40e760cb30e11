"""Measure the cost of `kill -9`: kill processes at random moments of a retraining, then run it again.

A small project with a batch that was never run is copied. A run is started in the copy: as the shell starts it, as
Prefect starts a deployment, or as `dvc repro` by hand. After a random time, at most that of an undisturbed run, one
victim is killed: the flow, DVC, the running stage, a whole process group, or all processes at once, as a power loss
does. The kill comes at once; when a stage that has not finished yet has just started; or while DVC writes dvc.lock or
its list of locks. The run is started and killed up to three times; later kills come after at most half of the time of
an undisturbed run. Then it is run to its end: by the flow, or, after a kill of `dvc repro` by hand, by `graftline
doctor --mend` and `dvc repro`. Each `dvc repro` by hand that follows a kill comes after `doctor --mend`. A seeded
random generator makes all choices.

Every fourth project is one whose run is finished. There `flows.promote` is killed while git writes, or its git is; then
it is run to its end.

- kills: the number of kills that came while the run was under way.
- identical: the number of kills after which all of this holds at the end. dvc.lock, the candidate, the verdict, the
  report page and the list of decisions are, byte for byte, those of the undisturbed run; after a promotion the model in
  use and git's tags are, too. The last run needed no help. git sees no other change. No process outlived the kill by
  more than 10 s.
- needs_a_person: the number of kills after which the last run failed.

With --quick there are 12 kills instead of 100.
"""

import os
import random
import re
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
from flows.workspace.paths import stages

NUM_KILLS, NUM_QUICK = 100, 12
LEAST_KILLS = 100
KILLS_A_PROJECT = 3
SEED = 2
RUN = [sys.executable, "-m", "flows.retrain"]
# as in a worker's process or in flows.serve, where no other code runs around the flow
DEPLOYED = "from flows.retrain import retrain; raise SystemExit(not retrain(return_state=True).is_completed())"
BY_HAND = [sys.executable, "-m", "dvc", "repro"]
WAYS = {"shell": RUN, "deployment": [sys.executable, "-c", DEPLOYED], "hand": BY_HAND}
PROMOTE = [sys.executable, "-m", "flows.promote"]
MEND = [sys.executable, "-m", "flows.doctor", "--mend"]
PATH = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}  # a person activates .venv
MOMENTS = ("any", "a stage starts", "dvc.lock is written", "DVC's list of locks is written")
VICTIMS = ("flow", "dvc", "stage", "group", "all")
OF_A_PROMOTION = ("flow", "git", "group", "all")
PROMOTION_EVERY = 4  # projects
# git holds its lock for so long that a kill can meet it, as git does on a large repository
SLOW_GIT = (("filter.slow.clean", "sleep 0.1; cat"), ("filter.slow.smudge", "cat"))
LOOK_SECONDS = 0.01  # between two checks whether the moment has come; DVC writes dvc.lock in 50 ms
RUN_SECONDS = 900  # timeout of a run
SURVIVOR_SECONDS = 10.0
COMPARED = ("dvc.lock", "data/models/candidate", "data/regression", "data/report/index.html", "data/decisions.jsonl",
            "data/models/baseline", "data/models/baseline.json", "data/classes.json")  # fmt: skip


def main() -> None:
    is_quick = parse_arguments(__doc__).quick
    wanted = NUM_QUICK if is_quick else NUM_KILLS
    kills: list[dict[str, Any]] = []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        template = make_project(place / "template")
        with prefect_server(place / "home") as environment:
            environment |= PATH
            reference = shutil.copytree(template, place / "reference", symlinks=True)
            seconds = run(RUN, reference, environment)
            expected = contents(reference)
            promoted = shutil.copytree(reference, place / "promoted", symlinks=True)
            seconds_to_promote = run(PROMOTE, promoted, environment)
            expected_in_use = contents(promoted)
            slow_down_git(reference)
            generator = random.Random(SEED)
            copy = place / "copy"
            number = 0
            while len(kills) < wanted:
                number += 1
                if number % PROMOTION_EVERY:
                    came = kill_and_finish(template, copy, environment, generator, seconds, expected)
                else:
                    came = kill_promotion(reference, copy, environment, generator, seconds_to_promote, expected_in_use)
                for kill in came:
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
            Claim(name="chaos.kills", value=len(kills), target=wanted if is_quick else LEAST_KILLS, at_least=True),
            Claim(name="chaos.identical", value=identical, target=len(kills), at_least=True),
            Claim(
                name="chaos.needs_a_person",
                value=sum(kill["needs_a_person"] for kill in kills),
                target=0,
                at_least=False,
            ),
        ],
    )


def slow_down_git(project: Path) -> None:
    for key, value in SLOW_GIT:
        subprocess.run(["git", "config", key, value], cwd=project, check=True)
    attributes = project / ".git/info/attributes"
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_text("data/models/baseline.json filter=slow\n", "utf-8")


def run(command: list[str], project: Path, environment: dict[str, str]) -> float:
    """Run to the end and return the seconds. Raises SystemExit with the output if the run fails."""
    start = time.monotonic()
    done = subprocess.run(
        command,
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
    kills: list[dict[str, Any]] = []
    for number in range(KILLS_A_PROJECT):
        way = generator.choice(list(WAYS))
        if kills and way == "hand":
            run(MEND, copy, environment)
        kill = kill_once(
            copy,
            environment,
            way=way,
            command=WAYS[way],
            after=generator.uniform(0, seconds / 2 if number else seconds),
            moment=generator.choice(MOMENTS),
            stage=generator.choice(unfinished(copy) or ["any"]),
            victim=generator.choice(VICTIMS),
        )
        if kill is None:
            break
        kills.append(kill)
    if not kills:
        return []
    commands = [MEND, BY_HAND] if kills[-1]["way"] == "hand" else [RUN]
    return judged(kills, commands, copy, last or environment, expected)


def kill_promotion(
    finished: Path,
    copy: Path,
    environment: dict[str, str],
    generator: random.Random,
    seconds: float,
    expected: dict[str, bytes],
) -> list[dict[str, Any]]:
    """Return one row per kill of `flows.promote` that came in time, with the state of the project at the end."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(finished, copy, symlinks=True)
    kills: list[dict[str, Any]] = []
    for _ in range(KILLS_A_PROJECT):
        kill = kill_once(
            copy,
            environment,
            way="promotion",
            command=PROMOTE,
            after=generator.choice([0.0, generator.uniform(0, seconds)]),
            moment="git writes",
            stage="",
            victim=generator.choice(OF_A_PROMOTION),
        )
        if kill is None:
            break
        kills.append(kill)
    # the first completes the killed promotion and does nothing else
    return judged(kills, [PROMOTE, PROMOTE], copy, environment, expected) if kills else []


def judged(
    kills: list[dict[str, Any]],
    commands: list[list[str]],
    project: Path,
    environment: dict[str, str],
    expected: dict[str, bytes],
) -> list[dict[str, Any]]:
    """Run the commands to their end, and return the kills with the outcome for the project."""
    for command in commands:
        done = subprocess.run(
            command, cwd=project, env=environment | PATH, capture_output=True, text=True, timeout=RUN_SECONDS
        )
    has_failed = done.returncode != 0
    actual = {} if has_failed else contents(project)
    different = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
    shown = (done.stdout + done.stderr).splitlines()[-5:] if has_failed else different
    return [
        kill
        | {
            "different": shown,
            "is_identical": not (kill["survivors"] or different or has_failed),
            "needs_a_person": has_failed,
        }
        for kill in kills
    ]


def unfinished(project: Path) -> list[str]:
    """Return the stages that dvc.lock does not have yet."""
    try:
        text = (project / "dvc.lock").read_text("utf-8")
    except FileNotFoundError:
        text = ""
    return [name for name in stages(project / "dvc.yaml") if not re.search(rf"^  {name}(@.*)?:$", text, re.MULTILINE)]


def kill_once(
    copy: Path,
    environment: dict[str, str],
    *,
    way: str,
    command: list[str],
    after: float,
    moment: str,
    stage: str,
    victim: str,
) -> dict[str, Any] | None:
    """Return which process was killed, when, and how many processes outlived it; None if the run ended before.

    Args:
        stage: the one whose start is waited for, if the moment is such a start; then it comes without `after`.

    Raises SystemExit if the run failed by itself.
    """
    nowhere = subprocess.DEVNULL
    started = subprocess.Popen(
        command, cwd=copy, env=environment | PATH, stdout=nowhere, stderr=nowhere, start_new_session=True
    )
    begin = time.monotonic()
    if moment != "a stage starts":
        with suppress(subprocess.TimeoutExpired):
            started.wait(after)
    has_come = moments(copy, started.pid, stage)[moment]
    while started.poll() is None and not has_come():
        time.sleep(LOOK_SECONDS)
    if started.returncode is not None:
        if started.returncode != 0:
            sys.exit(f"a run failed before it was killed: {' '.join(command)}")
        return None
    passed = time.monotonic() - begin
    family = descendants(started.pid)
    victims, named, killed = choose(started.pid, family, victim)
    if named == "all":
        family |= kill_all(started.pid)
    for pid in victims:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    started.wait(timeout=RUN_SECONDS)
    survivors = outliving([started.pid, *family])
    for survivor in survivors:
        os.kill(survivor, signal.SIGKILL)
    return {
        "way": way,
        "moment": f"{moment}: {stage}" if moment == "a stage starts" else moment,
        "after_seconds": round(passed, 1),
        "victim": named,
        "command": killed,
        "survivors": len(survivors),
    }


def kill_all(flow: int) -> dict[int, str]:
    """Kill a process and all its descendants at once, as a power loss does: none of them sees another one end."""
    stopped: dict[int, str] = {flow: "flow"}
    fresh = stopped
    while fresh:  # a running process may start more
        for pid in fresh:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        descending = descendants(flow)
        fresh = {pid: command for pid, command in descending.items() if pid not in stopped}
        stopped |= fresh
    for pid in stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return stopped


def moments(project: Path, flow: int, stage: str) -> dict[str, Callable[[], bool]]:
    """Return, by name, functions that check whether a moment has come since this call."""
    starting = "-m tasks." if stage == "any" else f"-m tasks.{stage} "
    written, locks = state_of(project / "dvc.lock"), project / ".dvc/tmp/rwlock"
    listed = state_of(locks)
    return {
        "any": lambda: True,
        "a stage starts": lambda: any(starting in command for command in descendants(flow).values()),
        "dvc.lock is written": lambda: state_of(project / "dvc.lock") != written,
        "DVC's list of locks is written": lambda: state_of(locks) != listed,
        "git writes": (project / ".git/index.lock").exists,
    }


def state_of(file: Path) -> tuple[int, int] | None:
    try:
        return file.stat().st_size, file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def choose(flow: int, family: dict[int, str], wanted: str) -> tuple[list[int], str, str]:
    """Return the processes to kill, what kind they are, and the command: those that are wanted, or else the flow."""
    kinds = {"dvc": " dvc ", "stage": "-m tasks.", "git": "git "}
    for pid, command in family.items():
        if wanted in kinds and kinds[wanted] in command:
            return [pid], wanted, command.split(" --")[0].split("python ")[-1]
    if wanted == "group":
        groups = {group_of(pid) for pid in (flow, *family)} - {None}
        group = max(groups, key=lambda group: sum(group_of(pid) == group for pid in family))
        return [pid for pid in (flow, *family) if group_of(pid) == group], "group", f"{len(groups)} groups"
    if wanted == "all":
        return [], "all", "all"
    return [flow], "flow", "flow"


def group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


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
    git = {
        name: subprocess.run(["git", *command], cwd=project, capture_output=True, check=True).stdout
        for name, command in {"git status": ["status", "--porcelain"], "git tag": ["tag", "--list"]}.items()
    }
    return {str(file.relative_to(project)): file.read_bytes() for file in files if file.is_file()} | git


if __name__ == "__main__":
    main()
