"""Measure the cost of the intake of data: scan real files, add a batch, and validate a million rows.

- (a) Samples per second through the core of `scan` (find, hash, decode whole, check) against the bare decode limit:
  only Pillow, which opens and loads the same files in as many processes. Medians of rounds in turn, after a warm-up.
- (b) A batch of 1 % is added to photographs in a real DVC workspace: how many images are decoded again.
- (c) `validate` on 1,000,000 synthetic rows in ten batches, start-up included, in a process of its own.
- (d) The ratio of the seconds on 1,000,000 rows to those on 10,000 rows, start-up left out of both.

--quick leaves out the second set of photographs and takes fewer rounds.
"""

import hashlib
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.kit.machine import Claim, finish, parse_arguments
from benchmarks.pipeline import ROOT, SHARED, SIGNS, dvc
from flows.workspace.working_copy import make_workspace
from tasks.data.raw.layouts import find_entries
from tasks.machine.processes import CHUNK
from tasks.scan import inspect_entries, types_of_facts
from tasks.stage.modality import room
from tasks.stage.params import load_params, section

PACS = SHARED / "data/pacs-photo-cartoon.tar"
PROCESSES = 2
ROUNDS = 5
NUM_CLASSES = 100
NUM_BATCHES = 10
SIZES = (10_000, 1_000_000)  # rows

# a child process runs this: it times validate without its start-up, and prints its own peak memory
VALIDATE = """
import json, resource, sys, time
from pathlib import Path
import great_expectations, great_expectations.expectations
from tasks.stage.modality import room
from tasks.stage.params import load_params
from tasks.validate import run
place, params = Path(sys.argv[1]), load_params(Path(sys.argv[2]))
start = time.perf_counter()
run(scanned=place / "scanned", batches=place / "batches.yaml", registry=place / "classes.json",
    corrections=place / "corrections.csv", out=place / "validated",
    validate=params.validate_, scan=params.scan, adapt=params.adapt, modality="images")
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
"""


def main() -> None:
    arguments = parse_arguments(__doc__)
    rounds = 3 if arguments.quick else ROUNDS
    raw: dict[str, Any] = {}
    claims: list[Claim] = []
    archives = [archive for archive in (SIGNS, PACS)[: 1 if arguments.quick else 2] if archive.is_file()]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for archive in archives:
            with tarfile.open(archive) as tar:
                tar.extractall(place / archive.stem, filter="data")
        raw["scan"] = {archive.stem: time_scan(place / archive.stem, rounds=rounds) for archive in archives}
        if archives:
            worst = min(result["ratio"] for result in raw["scan"].values())
            claims.append(Claim(name="validate.ratio_decode_limit", value=worst, target=0.8, at_least=True))
        if SIGNS in archives:
            raw["added"] = add_a_batch(place / "workspace", place / SIGNS.stem / "sign-digits")
            fraction = raw["added"]["decoded"] / raw["added"]["there_before"]
            claims.append(
                Claim(name="validate.incremental_decoded_fraction", value=fraction, target=0.011, at_least=False)
            )
        raw["rows"] = {str(num_rows): validate_rows(place / str(num_rows), num_rows) for num_rows in SIZES}
        few, many = (raw["rows"][str(num_rows)] for num_rows in SIZES)
        growth = many["seconds"] / few["seconds"]
        claims += [
            Claim(name="validate.rows_1m_seconds", value=many["seconds_with_start_up"], target=60, at_least=False),
            Claim(name="validate.rows_1m_peak_gib", value=many["peak_gib"], target=3, at_least=False),
            Claim(name="validate.growth_10k_to_1m", value=growth, target=SIZES[1] / SIZES[0], at_least=False),
        ]
    finish(settings={"quick": arguments.quick, "rounds": rounds, "processes": PROCESSES}, raw=raw, claims=claims)


def time_scan(root: Path, *, rounds: int) -> dict[str, Any]:
    """Return the seconds of scanning and of bare decoding, measured in turn, and the ratio of their medians."""
    params = section(load_params(ROOT / "params.yaml"), "scan")
    paths = [root / entry.path for entry in find_entries(root)]

    def scan() -> None:
        samples, defects = inspect_entries(
            root,
            find_entries(root),
            params,
            decode=room("images", "decode"),
            facts=types_of_facts(room("images", "facts").Facts),
        )
        assert len(samples) == len(paths), defects

    def bare() -> None:
        chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
        with ProcessPoolExecutor(PROCESSES) as pool:
            assert sum(pool.map(decode, chunks)) == len(paths)

    seconds: dict[str, list[float]] = {"bare": [], "scan": []}
    for _ in range(rounds + 1):
        for name, work in (("bare", bare), ("scan", scan)):
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(rounds[1:]) for name, rounds in seconds.items()}
    return {
        "samples": len(paths),
        "seconds": seconds,
        "samples_per_second": len(paths) / medians["scan"],
        "ratio": medians["bare"] / medians["scan"],
    }


def decode(paths: Sequence[Path]) -> int:
    for path in paths:
        Image.open(io.BytesIO(path.read_bytes())).load()
    return len(paths)


def add_a_batch(workspace: Path, photographs: Path) -> dict[str, int]:
    """Validate 99 % of the photographs, then add the rest as a batch; count the images that the second run decodes."""
    make_workspace(ROOT, workspace)
    files = sorted(path for path in photographs.rglob("*") if path.is_file())
    files = [files[number] for number in np.random.default_rng(0).permutation(len(files))]
    num_new = len(files) // 100
    for batch, members in (("old", files[num_new:]), ("new", files[:num_new])):
        for path in members:
            target = workspace / "data/raw" / batch / path.relative_to(photographs)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    decoded = {}
    for batches in ("[old]", "[old, new]"):
        (workspace / "data/batches.yaml").write_text(f"batches: {batches}\n", "utf-8")
        _, printed = dvc(workspace, "repro", "validate")
        counts = re.findall(r"^scanned data/raw/\S+: ([\d,]+) samples", printed, flags=re.MULTILINE)
        decoded[batches] = sum(int(count.replace(",", "")) for count in counts)
    return {"there_before": decoded["[old]"], "decoded": decoded["[old, new]"]}


def validate_rows(place: Path, num_rows: int) -> dict[str, float]:
    """Run `validate` on synthetic rows; return seconds without and with start-up, and peak resident memory (GiB)."""
    write_scanned(place, num_rows)
    command = [sys.executable, "-c", VALIDATE, str(place), str(ROOT / "params.yaml")]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"GX_ANALYTICS_ENABLED": "false"}, stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit("validate failed: see the lines above")
    seconds = time.perf_counter() - start
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured | {"seconds_with_start_up": seconds}


def write_scanned(place: Path, num_rows: int, *, num_classes: int = NUM_CLASSES) -> None:
    """Write made-up outputs of `scan`: a tenth of the rows are in groups, a hundredth are copies."""
    rng = np.random.default_rng(0)
    names = [f"{number:02d}" for number in range(NUM_BATCHES)]
    for batch, numbers in zip(names, np.array_split(np.arange(num_rows), NUM_BATCHES), strict=True):
        sources = np.where(rng.random(len(numbers)) < 0.01, rng.integers(0, num_rows, len(numbers)), numbers)
        labels = sources * 7919 % num_classes  # a copy has the label of its source
        is_grouped = rng.random(len(numbers)) < 0.1
        table = pd.DataFrame(
            {
                "path": [f"{label}/{number:07d}.jpg" for label, number in zip(labels, numbers, strict=True)],
                "sample_id": [hashlib.sha256(str(source).encode()).hexdigest() for source in sources],
                "format": "JPEG",
                "mode": "RGB",
                "width": rng.integers(64, 1024, len(numbers)),
                "height": rng.integers(64, 1024, len(numbers)),
                "group": pd.Series([f"group {source // 20}" for source in sources]).where(is_grouped),
                "domain": None,
                "split": None,
                "label": [f"class {label}" for label in labels],
            }
        )
        text = dict.fromkeys(("group", "domain", "split"), "str")
        folder = place / "scanned" / batch
        folder.mkdir(parents=True)
        table.astype(text).sort_values("path").to_parquet(folder / "samples.parquet", index=False)
        columns = ["path", "sample_id", "reason", "detail", "said"]
        pd.DataFrame(columns=columns, dtype="str").to_parquet(folder / "defects.parquet", index=False)
    (place / "batches.yaml").write_text(f"batches: {json.dumps(names)}\n", "utf-8")
    (place / "classes.json").write_text('{"version": 0, "classes": {}}\n', "utf-8")


if __name__ == "__main__":
    main()
