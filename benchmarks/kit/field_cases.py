"""The cases of the shared folder, situations from the field, taken through scan and validate: is the outcome right?

`RIGHT` has a check for each case: it returns the fault, or "". ../shared/cases/README.md has the right outcomes.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.kit.labelled import SHARED
from tasks.images.decode import decode_sample

ROOT = Path(__file__).parents[2]
CASES = SHARED / "cases/data_cases.py"
K = ["kestrel", "merlin"]
SPREAD = 20.0  # levels of 255: the standard deviation of a picture that is no longer black


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of a case after scan and validate."""

    folder: Path
    status: int  # of the last verb
    said: str  # all log lines
    classes: dict[str, list[str]]  # by target
    manifest: pd.DataFrame  # empty where there is none
    ledger: pd.DataFrame

    def split(self, name: str) -> int:
        return int((self.manifest["split"] == name).sum()) if len(self.manifest) else 0

    @property
    def num_used(self) -> int:
        return len(self.manifest) - self.split("pool")

    def lost(self, ending: str) -> str:
        """Return the details of the ledger's rows whose paths end so."""
        return " ".join(self.ledger[self.ledger["path"].str.endswith(ending)]["detail"])


Check = Callable[[Result], bool]


def learned(result: Result, *, used: int, classes: list[str] = K) -> bool:
    """Return whether the run ended well with one target, these classes and so many samples."""
    return result.status == 0 and result.classes == {"label": classes} and result.num_used == used


def says(result: Result, *words: str) -> bool:
    return all(word in result.said for word in words)


def stops(result: Result, *words: str) -> bool:
    return result.status == 1 and says(result, *words)


RIGHT: dict[str, Check] = {
    "split_folders": lambda r: (
        learned(r, used=280) and [r.split(name) for name in ("train", "val", "heldout")] == [120, 80, 80]
    ),
    "test_beside": lambda r: learned(r, used=120) and r.split("pool") == 40,
    "other_name": lambda r: learned(r, used=120) or stops(r, "metadata.csv"),
    "header": lambda r: learned(r, used=120) or stops(r, "labels.csv", "image", "path"),
    "no_ending": lambda r: learned(r, used=120) and len(r.ledger) == 0,
    "decimals": lambda r: r.status == 0 and (r.classes == {"label": ["0", "1"]} or says(r, "1.0")),
    "case": lambda r: says(r, "Kestrel", "kestrel"),
    "other_column": lambda r: says(r, "class", "label", "b2"),
    # its column Split has no val, so a part of train is val, and validate says so
    "extra": lambda r: (
        learned(r, used=240) and r.split("heldout") == 80 and says(r, "patient_id", "score", "no val", "'kestrel' 120")
    ),
    "twelve_bits": lambda r: learned(r, used=120) and spread(r.folder / "raw/b1/kestrel/0.png") > SPREAD,
    "companions": lambda r: learned(r, used=120),
    "formats": lambda r: learned(r, used=128) and "git lfs pull" in r.lost("f.jpg") and len(r.lost("e.heic")) > 0,
    "lists": lambda r: stops(r, "none of 60", "'labels' (it holds lists", 'validate.targets: {"labels": several}'),
    "wrapped": lambda r: says(r, "too deep"),
    "damaged": lambda r: r.ledger["path"].str.contains("/cut").sum() == 40,
    "piped": lambda r: says(r, "red|round"),
    "cp1252": lambda r: says(r, "UTF-8") and (r.status == 1 or "m\u00e4usebussard" in r.said),
}


def outcomes(place: Path) -> dict[str, str]:
    """Return the fault in the outcome of each case; "" if it is right."""
    problems = {}
    for name, is_right in RIGHT.items():
        result = run_case(name, place / name)
        problems[name] = "" if is_right(result) else f"exit {result.status}, {result.classes}: {result.said[-300:]}"
    return problems


def run_case(name: str, folder: Path) -> Result:
    """Build a case, and take it through scan and validate with the shipped parameters."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copy(ROOT / "data/classes.json", folder)
    subprocess.run([sys.executable, str(CASES), name, str(folder / "raw")], check=True)
    batches = sorted(path.name for path in (folder / "raw").iterdir())
    (folder / "batches.yaml").write_text(f"batches: {json.dumps(batches)}\n", "utf-8")
    steps = [["tasks.scan", "--raw", f"raw/{batch}", "--out", f"scanned/{batch}"] for batch in batches]
    validate = (
        "tasks.validate --scanned scanned --batches batches.yaml --registry classes.json "
        "--corrections corrections.csv --out validated"
    )
    steps.append(validate.split())
    said, status = "", 0
    for step in steps:
        done = subprocess.run(
            [sys.executable, "-m", *step], cwd=folder, env=environment(), capture_output=True, text=True, check=False
        )
        said, status = said + done.stderr, done.returncode
        if status:
            break
    validated = folder / "validated"
    ledger, classes = validated / "quarantine.csv", validated / "classes.json"
    tables = [pd.read_parquet(path) for path in sorted((validated / "manifest").glob("*.parquet"))]
    return Result(
        folder=folder,
        status=status,
        said=said,
        classes=json.loads(classes.read_text("utf-8")) if classes.is_file() else {},
        manifest=pd.concat(tables) if tables else pd.DataFrame(columns=["split"]),
        ledger=pd.read_csv(ledger, dtype=str) if ledger.is_file() else pd.DataFrame(columns=["path", "detail"]),
    )


def environment() -> dict[str, str]:
    """Return the environment of a verb that runs outside of this folder."""
    return os.environ | {"PYTHONPATH": str(ROOT), "GX_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


def spread(path: Path) -> float:
    """Return the standard deviation of a picture as a model sees it, in levels of 255."""
    return float(np.asarray(decode_sample(path.read_bytes())).std())
