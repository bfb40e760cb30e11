"""Measure the first hour of a new user: one command from a folder of pictures to a judged model.

- minutes: `graftline train` on 2,000 pictures of 64 px (the shared photographs of hands, made smaller), in a fresh
  working copy with the shared ImageNet weights in `backbones/`, until its last line. `commands` counts the commands
  after `make setup`: this one.
- predict_one_seconds: `graftline promote`, then `graftline predict` on one picture; the median of three.
- help_seconds: `--help` of every verb and every door, the slowest; each is the best of two, so that a cold disk does
  not count.
- cases.right: the shared cases that come out right in scan and validate, by `benchmarks/kit/field_cases.py`.
- bombs.peak_gib: the largest peak of memory over the bombs of `benchmarks/kit/bombs.py`.

--quick takes 500 pictures.
"""

import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.kit.bombs import bombs, measured, ordinary_peak_gib, planted
from benchmarks.kit.field_cases import CASES, outcomes
from benchmarks.kit.labelled import SHARED, SQUEEZENET
from benchmarks.kit.machine import Claim, finish, parse_arguments
from flows.__main__ import modules
from flows.workspace.working_copy import make_workspace

ROOT = Path(__file__).parents[1]
SIGNS = SHARED / "data/sign-digits.tar"
SIDE = 64  # px
NUM_PICTURES = {False: 2000, True: 500}  # by --quick


def main() -> None:
    arguments = parse_arguments(__doc__)
    raw: dict[str, Any] = {}
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if SIGNS.is_file() and SQUEEZENET.is_file():
            raw |= first_model(place, num_pictures=NUM_PICTURES[arguments.quick])
            claims += [
                Claim(name="firsthour.minutes", value=raw["train_seconds"] / 60, target=4.0, at_least=False),
                Claim(name="firsthour.commands", value=raw["commands"], target=2, at_least=False),
                Claim(
                    name="firsthour.predict_one_seconds", value=raw["predict_one_seconds"], target=4.0, at_least=False
                ),
            ]
        raw["help_seconds"] = help_seconds()
        slowest = max(raw["help_seconds"].values())
        claims.append(Claim(name="firsthour.help_seconds", value=slowest, target=1.0, at_least=False))
        if CASES.is_file():
            raw["cases"] = outcomes(place / "cases")
            num_right = sum(not problem for problem in raw["cases"].values())
            claims.append(Claim(name="cases.right", value=num_right, target=len(raw["cases"]), at_least=True))
        raw["bombs"] = peaks()
        highest = max(bomb["peak_gib"] for bomb in raw["bombs"].values())
        claims.append(Claim(name="bombs.peak_gib", value=highest, target=1.0, at_least=False))
    finish(settings={"quick": arguments.quick, "side": SIDE}, raw=raw, claims=claims)


def first_model(place: Path, *, num_pictures: int) -> dict[str, Any]:
    """Train in a fresh working copy by one command, put the model in use, and ask it about one picture."""
    project = place / "project"
    make_workspace(ROOT, project)
    (project / "backbones" / SQUEEZENET.name).write_bytes(SQUEEZENET.read_bytes())
    pictures = put_pictures(place / "signs", count=num_pictures)
    commands = [["train", str(pictures)]]
    start = time.perf_counter()
    for words in commands:
        graftline(project, *words)
    seconds = time.perf_counter() - start
    graftline(project, "promote", "--force", "--why", "the benchmark asks it, whatever the gate says")
    one = next(pictures.rglob("*.jpg"))
    times = [timed(project, "predict", str(one)) for _ in range(3)]
    return {
        "commands": len(commands),
        "pictures": num_pictures,
        "train_seconds": seconds,
        "predict_one_seconds": statistics.median(times),
    }


def put_pictures(folder: Path, *, count: int) -> Path:
    """Write `count` of the photographs, evenly over them, as class folders of small JPEGs."""
    with tarfile.open(SIGNS) as archive:
        members = sorted((member for member in archive.getmembers() if member.isfile()), key=lambda file: file.name)
        chosen = [members[number * len(members) // count] for number in range(min(count, len(members)))]
        for member in chosen:
            file = archive.extractfile(member)
            assert file is not None
            name = Path(member.name)
            target = folder / name.parent.name / f"{name.stem}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.open(BytesIO(file.read())).convert("RGB").resize((SIDE, SIDE)).save(target, quality=92)
    return folder


def help_seconds() -> dict[str, float]:
    """Return the seconds of `--help` by command."""
    seconds = {}
    for package in ("flows", "tasks"):
        for name in modules(ROOT / package):
            seconds[f"{package}.{name}"] = min(_help(f"{package}.{name}") for _ in range(2))
    return seconds


def _help(module: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def peaks() -> dict[str, dict[str, float]]:
    """Return by bomb the peak memory of the command that reads it, and that of the command without a bomb."""
    measurements = {}
    for bomb in bombs():
        with planted(bomb) as folder:
            peak_gib = measured(bomb.command, folder).peak_gib
        measurements[bomb.name] = {"peak_gib": peak_gib, "ordinary_peak_gib": ordinary_peak_gib(bomb.command)}
    return measurements


def graftline(project: Path, *words: str) -> None:
    """Run a command as a person would; a rejected candidate is an outcome, too."""
    done = subprocess.run([sys.executable, "-m", "flows", *words], cwd=project, stdout=sys.stderr, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"graftline {' '.join(words)} exited with {done.returncode}")


def timed(project: Path, *words: str) -> float:
    start = time.perf_counter()
    graftline(project, *words)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
