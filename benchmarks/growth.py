"""Measure how each stage grows: its processor seconds and its peak memory at 1,000 to 1,000,000 samples.

Each stage runs as dvc.yaml has it, in a process of its own that has done its imports. The samples are pictures of 16 px
in Parquet files, a hundredth of them copies, and the backbone is the shipped one up to its first block of 116 features.
Outputs that would take a stage hours are made up for the stages behind it:

- `scan` and `embed` run up to PICTURES samples. Their tables and vectors are made up for all other stages, around a
  centre a class, and the store has the vectors of the held-out samples.
- `audit` runs up to AUDITED samples. For more samples, its leaks are those that it found among these.
- `finetune` runs up to TUNED samples. The candidate of all other stages is the head alone.

growth_exponent.STAGE is the slope of the logarithm of the processor seconds over that of the samples, between the two
largest sizes that the stage ran: 1 where twice the samples take twice the time. The size of the page, of the ledger and
of the largest JSON file are those at the largest size.

--quick: up to 100,000 samples, 10,000 pictures.
"""

import hashlib
import logging
import math
import os
import resource
import shlex
import shutil
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.kit.machine import Claim, finish, parse_arguments, peak_bytes, show
from benchmarks.kit.processes import in_processes
from benchmarks.kit.small_project import ROOT, set_param
from tasks.data.health.hashes import Probes, write_hashes
from tasks.data.health.leaks import COLUMNS, LEAKED, LEAKS
from tasks.data.manifest.tables import write_table, write_text_table
from tasks.data.vectors.embeddings import write_embeddings
from tasks.embedding.embedder import AUTO
from tasks.embedding.engine import open_store
from tasks.embedding.looks import Looks
from tasks.embedding.ready import make_ready
from tasks.images.copy_hash import HASHES_SHAPE, copy_hashes
from tasks.images.decode import decode_sample
from tasks.machine.files import read_json, whole_folder, write_json
from tasks.models.bundle import load_bundle, save_bundle, versions
from tasks.stage.main import main as run_stage
from tasks.training.finetuning.grafting import graft

SIZES = (1_000, 10_000, 100_000, 1_000_000)
PICTURES, AUDITED, TUNED = 100_000, 100_000, 10_000
MOST = {"scan": PICTURES, "embed": PICTURES, "audit": AUDITED, "finetune": TUNED}  # samples that a stage runs with
STAGES = (
    "scan", "validate", "embed", "audit", "train_head", "finetune", "adapt", "evaluate", "regression", "report",
)  # fmt: skip
BATCHES = tuple(f"batch-{number}" for number in range(5))
NUM_CLASSES, SIDE = 10, 16  # px
FEATURES = "[stage2]"
ROWS_IN_A_GROUP = 100
MOST_MEGABYTES = 5
IMPORTED = (
    *(f"tasks.{stage}" for stage in ("backbone", *STAGES)), "great_expectations.expectations",
    "torch.fx.experimental.symbolic_shapes",
)  # fmt: skip
PNG_START = b"\x89PNG\r\n\x1a\n"


def main() -> None:
    is_quick = parse_arguments(__doc__).quick
    sizes = SIZES[: 3 if is_quick else 4]
    most = MOST | ({"scan": 10_000, "embed": 10_000, "audit": 10_000} if is_quick else {})
    measured: dict[str, dict[int, dict[str, float]]] = {stage: {} for stage in STAGES}
    with tempfile.TemporaryDirectory() as folder:
        before: Project | None = None
        os.environ["GX_ANALYTICS_ENABLED"] = "false"
        for size in sizes:
            began = time.monotonic()
            project = Project(Path(folder, str(size)), size=size)
            for stage in STAGES:
                if size <= most.get(stage, size):
                    measured[stage][size] = cost = project.run(stage)
                    show(f"{size:>9,} {stage:12} {cost['seconds']:8.2f} s {cost['peak_gib']:6.2f} GiB")
                project.make_up(stage, before)
            show(f"{size:>9,} samples: {time.monotonic() - began:.0f} s")
            megabytes = project.megabytes()
            if before:
                shutil.rmtree(before.folder)
            before = project
    finish(
        settings={"quick": is_quick, "sizes": sizes, "most": most, "side": SIDE, "features": FEATURES},
        raw={"stages": measured, "megabytes": megabytes},
        claims=[
            *(
                Claim(name=f"cost.growth_exponent.{stage}", value=exponent(costs), target=1.05, at_least=False)
                for stage, costs in measured.items()
            ),
            *(
                Claim(name=f"cost.{kind}_megabytes", value=value, target=MOST_MEGABYTES, at_least=False)
                for kind, value in megabytes.items()
            ),
        ],
    )


def exponent(by_size: dict[int, dict[str, float]]) -> float:
    """Return the slope between the two largest sizes."""
    (few, less), (many, more) = sorted(by_size.items())[-2:]
    return math.log(more["seconds"] / less["seconds"]) / math.log(many / few)


class Project:
    """The stages' files of a made-up dataset of `size` samples."""

    def __init__(self, folder: Path, *, size: int) -> None:
        self.folder, self.data, self.size = folder, folder / "data", size
        self.generator = np.random.default_rng(size)
        self.data.mkdir(parents=True)
        for name in ("tests", "backbones", "tasks"):
            (folder / name).symlink_to(ROOT / name)
        shutil.copy(ROOT / "params.yaml", folder)
        set_param(folder, "backbone.features", FEATURES)
        (self.data / "batches.yaml").write_text(f"batches: [{', '.join(BATCHES)}]\n", "utf-8")
        (self.data / "models").mkdir()
        write_json(self.data / "classes.json", {"classes": {}, "version": 0})
        for name in ("start", "baseline"):
            write_json(self.data / f"models/{name}.json", {})
        sources = copied(size, self.generator)
        for batch, rows in zip(BATCHES, np.array_split(sources, len(BATCHES)), strict=True):
            write_batch(self.data, batch, rows)
        self.run("backbone")

    def run(self, stage: str) -> dict[str, float]:
        """Run a stage, of each batch if it has a part a batch; return its processor seconds and its peak memory."""
        calls = [{"folder": self.folder, "stage": stage, "words": words} for words in commands(stage)]
        parts = list(in_processes(measure, calls, at_once=1, imported=IMPORTED))
        return {"seconds": sum(own for own, _ in parts), "peak_gib": max(peak for _, peak in parts) / 2**30}

    def make_up(self, stage: str, before: "Project | None") -> None:
        """Write the inputs of the stages behind this one; `before` is a smaller project."""
        if stage == "scan":
            shutil.rmtree(self.data / "scanned", ignore_errors=True)
            (self.data / "made_up").rename(self.data / "scanned")
        elif stage == "embed":
            shutil.rmtree(self.data / "store", ignore_errors=True)
            list(in_processes(write_looks, [{"data": self.data}], at_once=1))
        elif stage == "audit" and not (self.data / "audit").is_dir():
            assert before
            for name in ("audit", "health"):
                shutil.copytree(before.data / name, self.data / name)
            for name in (LEAKS, LEAKED):
                write_text_table(self.data / "audit" / name, pd.DataFrame(columns=COLUMNS))
        elif stage == "finetune":
            if not (self.data / "training").is_dir():
                assert before
                shutil.copytree(before.data / "training", self.data / "training")
            list(in_processes(write_trained, [{"data": self.data}], at_once=1))

    def megabytes(self) -> dict[str, float]:
        """Return the size of the page, of the ledger, and of the largest JSON file."""
        files = {
            "page": [self.data / "report/index.html"],
            "ledger": [self.data / "validated/quarantine.csv"],
            "json": list(self.data.rglob("*.json")),
        }
        return {kind: max(file.stat().st_size for file in of_kind) / 1e6 for kind, of_kind in files.items()}


def commands(stage: str) -> list[list[str]]:
    """Return the arguments of a stage, as dvc.yaml has them, for each of its parts."""
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"][stage]
    batches = BATCHES if "matrix" in declared else BATCHES[:1]
    return [shlex.split(declared["cmd"].replace("${item.batch}", batch))[4:] for batch in batches]


def measure(folder: Path, stage: str, words: list[str]) -> tuple[float, int]:
    """Run a stage in this process; return its processor seconds, with those of its workers, and its peak memory."""
    os.chdir(folder)
    verb = import_module(f"tasks.{stage}")
    logging.disable(logging.WARNING)
    before = spent()
    try:
        run_stage(verb.run, words)
    except SystemExit as end:
        if end.code != 3:  # the candidate waits for a person
            sys.exit(f"{stage} failed: see the lines above")
    return spent() - before, peak_bytes()


def spent() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def copied(size: int, generator: Generator) -> NDArray[np.int64]:
    """Return the numbers of the pictures (size,), of which a hundredth come again."""
    numbers = np.arange(size)
    return np.where(generator.random(size) < 0.01, generator.integers(0, size, size), numbers)


def write_batch(data: Path, batch: str, numbers: NDArray[np.int64]) -> None:
    """Write the Parquet file of a batch, and the outputs of `scan` for it."""
    contents = list(pictures(numbers))
    labels = [f"class {number % NUM_CLASSES}" for number in numbers]
    folder = data / "raw" / batch
    folder.mkdir(parents=True)
    table = pa.table({"image": pa.array(contents, pa.binary()), "label": labels})
    pq.write_table(table, folder / "samples.parquet", row_group_size=ROWS_IN_A_GROUP, compression="none")
    digits = len(str(len(numbers) - 1))
    samples = pd.DataFrame(
        {
            "path": [f"samples.parquet/{row:0{digits}d}" for row in range(len(numbers))],
            "sample_id": [hashlib.sha256(content).hexdigest() for content in contents],
            "format": "PNG", "mode": "L", "width": SIDE, "height": SIDE,
            "group": pd.Series(None, range(len(numbers)), "str"),
            "domain": pd.Series(None, range(len(numbers)), "str"),
            "split": pd.Series(None, range(len(numbers)), "str"),
            "label": labels,
        }
    ).astype(dict.fromkeys(("path", "sample_id", "format", "mode", "label"), "str"))  # fmt: skip
    made_up = data / "made_up" / batch
    made_up.mkdir(parents=True)
    write_table(made_up / "samples.parquet", samples)
    columns = ["path", "sample_id", "reason", "detail", "said"]
    write_table(made_up / "defects.parquet", pd.DataFrame(columns=columns, dtype="str"))


def pictures(numbers: NDArray[np.int64]) -> Iterator[bytes]:
    """Yield a grey PNG a number: the pattern of its class, under noise of its own."""
    patterns = np.random.default_rng(0).integers(0, 128, (NUM_CLASSES, SIDE, SIDE), dtype=np.uint8)
    header = png_part(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0))
    end = png_part(b"IEND", b"")
    lines = np.zeros((SIDE, SIDE + 1), np.uint8)  # each begins with its filter: none
    for number in numbers.tolist():
        noise = np.frombuffer(hashlib.shake_128(str(number).encode()).digest(SIDE * SIDE), np.uint8)
        lines[:, 1:] = patterns[number % NUM_CLASSES] + noise.reshape(SIDE, SIDE) // 2
        yield PNG_START + header + png_part(b"IDAT", zlib.compress(lines.tobytes(), 0)) + end


def png_part(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_looks(data: Path) -> None:
    """Write made-up vectors and hashes of each sample of the manifest; those held out stand in the store, too."""
    backbone = load_bundle(data / "models/backbone")[0].backbone
    fingerprint = backbone.fingerprint()
    embedder = make_ready(backbone, replace(AUTO, precision="fp32"))
    store = open_store(
        data / "store", embedder, backbone=fingerprint, decode=decode_sample, hash_of=copy_hashes,
        hashes_shape=HASHES_SHAPE,
    )  # fmt: skip
    generator = np.random.default_rng(0)
    centres = 0.29 * generator.normal(size=(NUM_CLASSES, backbone.dim))
    for kind in ("embeddings", "hashes"):
        shutil.rmtree(data / kind, ignore_errors=True)
        (data / kind).mkdir()
    with store.writer() as writer:
        for batch in BATCHES:
            rows = pd.read_parquet(
                data / f"validated/manifest/{batch}.parquet", columns=["sample_id", "label", "split"]
            )
            num = len(rows)
            codes = rows["label"].str.removeprefix("class ").astype(int).to_numpy()
            vectors = (centres[codes] + generator.normal(size=(num, backbone.dim))).astype(np.float16)
            looks = Looks(
                vectors=vectors,
                hashes=generator.integers(0, 256, (num, *HASHES_SHAPE), dtype=np.uint8),
                marks=generator.integers(90, 160, (num, store.num_marks), dtype=np.uint8),
            )
            probes = Probes(
                kinds=("altered",),
                cosines=generator.uniform(0.96, 1, (32, 1)).astype(np.float32),
                distances=generator.integers(0, 20, (32, 1), dtype=np.uint16),
            )
            write_embeddings(
                data / f"embeddings/{batch}.safetensors", [vectors], shape=vectors.shape, recipe=fingerprint
            )
            write_hashes(
                data / f"hashes/{batch}.safetensors", [looks.hashes], shape=looks.hashes.shape, probes=probes,
                marks=looks.marks,
            )  # fmt: skip
            is_heldout = (rows["split"] == "heldout").to_numpy()
            writer.add(rows.loc[is_heldout, "sample_id"].tolist(), looks[is_heldout].pack())


def write_trained(data: Path) -> None:
    """Write the bundle of the backbone with the trained head."""
    backbone, lineage = load_bundle(data / "models/backbone")
    model = graft(backbone.backbone, data / "models/head", targets=read_json(data / "validated/classes.json"))
    facts = {
        "backbone": lineage["fingerprint"], "split": read_json(data / "validated/split.json"), "seed": 0, "epoch": 0,
        "share": 0.0, "stage": "head", "versions": versions(model.backbone),
    }  # fmt: skip
    shutil.rmtree(data / "models/trained", ignore_errors=True)
    with whole_folder(data / "models/trained") as folder:
        save_bundle(folder, model, lineage=facts)


if __name__ == "__main__":
    main()
