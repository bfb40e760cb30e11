"""A batch of made-up pictures, and the verbs that scan and embed it here or on a Ray cluster."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.kit.ray_cluster import ADDRESS, QUIET
from tasks.data.manifest.tables import write_table
from tasks.data.samples.samples import sample_id
from tasks.models.bundle import save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone

ROOT = Path(__file__).parents[2]
BATCH = "photos"
ENVIRONMENT = os.environ | QUIET | {"PYTHONPATH": str(ROOT)}
RESULTS = ("vectors.safetensors", "hashes.safetensors")
SCANNED = ("scanned/samples.parquet", "scanned/defects.parquet")


class ClusterProject:
    """A folder with a batch, its manifest, the shipped backbone, and the params of both engines.

    Each run writes into a folder of its own in it. A small minibatch makes many small parts, of which one is soon done.
    """

    def __init__(self, folder: Path, *, num_samples: int, side: int, minibatch_size: int | None = 4) -> None:
        self.folder = folder
        self.raw = folder / "data/raw" / BATCH
        rng = np.random.default_rng(0)
        for number in range(num_samples):
            file = self.raw / f"class {number % 3}" / f"{number:06d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, compress_level=0)
        self.rows = pd.DataFrame(
            {
                "batch": BATCH, "path": str(path.relative_to(self.raw)), "sample_id": sample_id(path.read_bytes()),
                "split": "train", "width": side, "height": side,
            }
            for path in sorted(self.raw.rglob("*.png"))
        )  # fmt: skip
        (folder / "manifest").mkdir()
        self.list_first(num_samples)
        backbone = load_backbone(
            "shufflenet_v2_x1_0", weights=str(ROOT / "backbones/glyphs.safetensors"), features=["conv5"],
            image_size=side,
        )  # fmt: skip
        (folder / "backbone").mkdir()
        save_bundle(folder / "backbone", Classifier(backbone, {}), lineage={"fingerprint": backbone.fingerprint()})
        text = (ROOT / "params.yaml").read_text("utf-8")
        if minibatch_size:
            text = text.replace("minibatch_size: null          # samples", "#", 1)
            text = text.replace("\nembed:\n", f"\nembed:\n  minibatch_size: {minibatch_size}\n", 1)
        (folder / "local.yaml").write_text(text, "utf-8")
        on_ray = text.replace("engine: local ", "engine: ray ").replace("address: null ", f"address: {ADDRESS} ")
        (folder / "ray.yaml").write_text(on_ray, "utf-8")

    def list_first(self, num_samples: int) -> None:
        """Let the manifest have the first samples alone."""
        write_table(self.folder / f"manifest/{BATCH}.parquet", self.rows[:num_samples])

    def embed(self, name: str, engine: str) -> list[str | Path]:
        """Return the command that embeds the batch into the folder `name`, with an engine: local or ray."""
        return [
            sys.executable, "-m", "tasks.embed", "--params", f"{engine}.yaml", "--raw", f"data/raw/{BATCH}",
            "--manifest", f"manifest/{BATCH}.parquet", "--backbone", "backbone", "--store", f"{name}/store",
            "--out", f"{name}/vectors.safetensors", "--hashes", f"{name}/hashes.safetensors",
        ]  # fmt: skip

    def scan(self, name: str, engine: str) -> list[str | Path]:
        """Return the command that scans the batch into the folder `name`."""
        return [
            sys.executable, "-m", "tasks.scan", "--params", f"{engine}.yaml", "--raw", f"data/raw/{BATCH}",
            "--out", f"{name}/scanned",
        ]  # fmt: skip

    def contents(self, name: str, files: tuple[str, ...] = RESULTS) -> list[bytes]:
        """Return the files that a run wrote."""
        return [(self.folder / name / file).read_bytes() for file in files]

    def stored(self, name: str) -> int:
        """Return the bytes of keys in the store of a run."""
        store = self.folder / name / "store"
        return sum(file.stat().st_size for file in store.rglob("*.keys")) if store.exists() else 0

    def remove(self, name: str) -> None:
        shutil.rmtree(self.folder / name, ignore_errors=True)
