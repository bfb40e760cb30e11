"""Measure the cost of using a model, and how much an exported file differs from its bundle.

- predict: `tasks.predict.predict` after its model is loaded, from the folder to a complete Parquet file. It finds,
  reads and hashes files, decodes them within limits, classifies them and writes rows. To load the model and prepare the
  network takes `prepare_seconds` more.
- engine: `tasks.machine.cores.in_turn` on the same files with the same embedder, and only what embedding needs: files
  are read, their SHA-256 is checked, they are decoded and embedded. Nothing is hashed for the audit or kept.
- ratio_engine: the median of the rounds' ratios. Each round measures both, in turn, and the order alternates.
- max_abs_difference: the largest difference of a probability between exported file and bundle, on images; the larger
  of ONNX and TorchScript.

The images are the shared photographs, or noise if those are missing; `--images DIR` names others. --quick takes fewer
images.
"""

import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.embed import PACS, SQUEEZENET, Files, find_files
from benchmarks.kit.machine import Claim, finish, parser, show
from tasks.data.samples.samples import Samples
from tasks.embedding.embedder import Embeds
from tasks.images.decode import decode_sample
from tasks.machine.cores import in_turn
from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import RANDOM, load_backbone
from tasks.predict import predict_with
from tasks.prediction.answers import Answerer
from tasks.prediction.export import FORMATS, export
from tasks.prediction.reading import Reading

ROUNDS = 5
NUM_CLASSES = 7
ARCHITECTURES = {"squeezenet1_1": 0.9, "resnet18": 0.9}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--images", type=Path, help="a folder of images")
    arguments = options.parse_args()
    limit = 256 if arguments.quick else 1500
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        files = gather(place, images=arguments.images, limit=limit)
        raw: dict[str, Any] = {"images": len(files.paths)}
        for architecture in ARCHITECTURES:
            raw[architecture] = measure(architecture, files, place=place)
    ratio = min(raw[name]["ratio_engine"] for name in ARCHITECTURES)
    difference = max(largest for name in ARCHITECTURES for largest in raw[name]["max_abs_difference"].values())
    finish(
        settings={"quick": arguments.quick, "rounds": ROUNDS, "limit": limit},
        raw=raw,
        claims=[
            Claim(name="predict.ratio_engine", value=ratio, target=0.9, at_least=True),
            Claim(name="export.max_abs_difference", value=difference, target=1e-3, at_least=False),
        ],
    )


def gather(place: Path, *, images: Path | None, limit: int) -> Files:
    """Copy the images into a folder of their own, so that both ways read the same files."""
    chosen = place / "chosen"
    chosen.mkdir()
    if images is None and PACS.is_file():
        images = place / "images"
        with tarfile.open(PACS) as tar:
            tar.extractall(images, filter="data")
    if images is None:
        generator = np.random.default_rng(0)
        for number in range(limit):
            coarse = Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            coarse.resize((227, 227)).save(chosen / f"{number:05d}.jpg", quality=85)
    else:
        for number, path in enumerate(find_files(images, limit=limit).paths):
            shutil.copy(path, chosen / f"{number:05d}{path.suffix}")
    return Files(sorted(chosen.iterdir()))


def measure(architecture: str, files: Files, *, place: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    shared = architecture == "squeezenet1_1" and SQUEEZENET.is_file()
    backbone = load_backbone(architecture, weights=str(SQUEEZENET) if shared else RANDOM, decode="scaled")
    bundle = place / architecture
    bundle.mkdir()
    save_bundle(bundle, Classifier(backbone, {"label": [str(number) for number in range(NUM_CLASSES)]}), lineage={})
    start = time.perf_counter()
    model, _ = load_bundle(bundle)
    answerer = Answerer(model)
    embedder = answerer.trunks[0].embedder
    raw: dict[str, Any] = {"prepare_seconds": time.perf_counter() - start, "plan": embedder.plan.recipe()}
    work: dict[str, Callable[[], None]] = {
        "predict": lambda: run_predict(answerer, files, out=place / "out.parquet"),
        "engine": lambda: run_engine(embedder, files),
    }
    for warm_up in work.values():
        warm_up()
    speeds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(ROUNDS):
        show(f"{architecture}: round {number + 1} of {ROUNDS}")
        for name in sorted(work, reverse=bool(number % 2)):
            start = time.perf_counter()
            work[name]()
            speeds[name].append(len(files.paths) / (time.perf_counter() - start))
    ratios = [one / other for one, other in zip(speeds["predict"], speeds["engine"], strict=True)]
    raw |= {name: statistics.median(rounds) for name, rounds in speeds.items()}
    raw |= {"ratio_engine": statistics.median(ratios), "rounds": speeds}
    raw["max_abs_difference"] = {name: export(model, place / f"model.{name}", format=name) for name in FORMATS}
    return raw


def run_predict(answerer: Answerer, files: Files, *, out: Path) -> None:
    reading = Reading(answerer.transform, {})
    counts = predict_with(answerer, reading, [files.paths[0].parent], out=out, top_k=5)
    assert counts == {"": len(files.paths)}


def run_engine(embedder: Embeds, files: Files) -> None:
    samples = Samples(files.rows(), raw=Path("/"), decode=decode_sample)
    size = embedder.plan.minibatch_size
    minibatches = (range(start, min(start + size, len(samples))) for start in range(0, len(samples), size))

    def decode(rows: range) -> Tensor:
        torch.get_num_threads()  # the first call in a thread makes it compute on one core, see `one_thread_each`
        transform = embedder.transform
        stacked: Tensor = transform.stack(
            [transform.prepare(samples.decoded(row, shorter_side=transform.shorter_side)) for row in rows]
        )
        return stacked

    def compute(pixels: Tensor) -> Tensor:
        return embedder(pixels).half().to("cpu", non_blocking=True)

    for _ in in_turn(minibatches, decode, compute, device=embedder.plan.device):
        pass


if __name__ == "__main__":
    main()
