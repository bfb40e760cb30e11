"""Measure how many planted leaks the audit finds, and its cost on 100,000 x 10,000 vectors.

**Planted leaks.** The verbs `embed` and `audit` run on real files. A random fifth of a public data set is held out.
Copies are planted: resized (0.5 to 0.75 of each side, half of them enlarged again), recompressed (JPEG quality 40 to
60), cropped (95 % of each side kept, anywhere), flipped left to right, and brightened (1.2 to 1.3 times). Each kind has
its own originals. Every copy is saved as JPEG; strength and place are random. Half of the copies are in train and their
originals are held out; the other half are held out and their originals are in train. A seed draws new originals and
strengths.

- recall: the share of planted pairs whose train side leaves with the other side named as its twin.
- precision: the share of planted samples among all samples that leave. This is strict: the public sets have
  near-duplicates of their own, and each of them counts as a false alarm. `own` lists the samples that leave without any
  plants, for inspection. In CIFAR-10 all 20 pairs within a distance of 48 among 12,000 images were one photograph,
  cropped, mirrored or with other colours. In sign-digits there was no pair below 38; pairs from there on were similar
  hands of two people. `precision_less_own` leaves out the samples that also leave without plants.
- The claims are means over the seeds, for the worst data set. `recall_by_kind` has the recall of each kind, `lowest`
  has the worst seed. `unprobed` has alterations that the audit's own probes do not cover; there is no claim about them.

**Cost.** The stage runs as DVC runs it, in a process of its own, imports and files included. The vectors are made up.
Their cosines are distributed like those of CIFAR-10 (median 0.69, 99th percentile 0.85), so the hashes have to refute a
fifth to a third of all pairs. Among the samples are 1,000 twins.

**Beside faiss.** `over_faiss` is the time of the search for leaks on 20,000 x 10,000 of such vectors, limits and hashes
included, over the time of faiss's exact index (IndexFlatIP) for the nearest held-out vector of each, which compares no
hashes. Both run in this process on all cores, on vectors in memory, in turn; the value is the ratio of the medians of
three rounds. It is skipped where faiss is not installed.

Without the shared data the planted part is skipped, and the JSON has the reason. --quick plants once instead of three
times, among 3,000 images of a set instead of 8,000, and times 20,000 x 10,000 (without a claim about the time).
"""

import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from benchmarks.kit.machine import Claim, finish, parse_arguments
from tasks import audit, backbone, embed
from tasks.data.health.hashes import Probes, read_hashes, write_hashes
from tasks.data.health.leaks import LEAKS, read_leaks
from tasks.data.health.near_duplicates import Side, find_twins
from tasks.data.health.twin_limits import set_limits
from tasks.data.manifest.tables import write_table
from tasks.data.samples.samples import sample_id
from tasks.data.vectors.embeddings import read_embeddings, write_embeddings
from tasks.images.alterations import brightened, cropped, flipped, recompressed, resized
from tasks.images.copy_hash import DISTANCE, HASHES_SHAPE
from tasks.images.decode import decode_sample
from tasks.machine.files import write_json
from tasks.stage.params import Params, load_params

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
WEIGHTS = SHARED / "weights/squeezenet1_1-imagenet.safetensors"
SETS = {"sign-digits": SHARED / "data/sign-digits.tar", "cifar10": SHARED / "data/cifar10-12k.tar"}
HELDOUT_FRACTION = 0.2
SEEDS = 3
FIRST_SEED = 7000  # its draws were not used to choose any parameter
MAX_SAMPLES = 8000  # drawn at random from a set
PLANTED = 80  # pairs of each kind
QUALITY = 95  # JPEG quality of a copy

# VmHWM is the peak of the process itself; resource.getrusage also counts the parent that it was forked from
RUN_AND_REPORT = """
import json, runpy, time
runpy.run_module("tasks.audit", run_name="__main__", alter_sys=True)
[peak] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps({"peak_kib": int(peak), "processor_seconds": time.process_time()}))
"""

Alter = Callable[[Image.Image, Generator], Image.Image]


def resize(image: Image.Image, chance: Generator) -> Image.Image:
    small = resized(image, fraction=chance.uniform(0.5, 0.75))
    return small.resize(image.size, Image.Resampling.BICUBIC) if chance.random() < 0.5 else small


KINDS: dict[str, Alter] = {
    "resized": resize,
    "recompressed": lambda image, chance: recompressed(image, quality=int(chance.integers(40, 61))),
    "cropped": lambda image, chance: cropped(image, across=chance.random(), down=chance.random()),
    "flipped": lambda image, chance: flipped(image),
    "brightened": lambda image, chance: brightened(image, factor=chance.uniform(1.2, 1.3)),
}
UNPROBED: dict[str, Alter] = {
    "cropped and flipped": lambda image, chance: flipped(cropped(image, across=chance.random(), down=chance.random())),
    "cropped to 90 %": lambda image, chance: image.crop(
        (round(image.width * 0.05), round(image.height * 0.05), round(image.width * 0.95), round(image.height * 0.95))
    ),
    "darkened to 60 %": lambda image, chance: brightened(image, factor=0.6),
    "contrast 1.4": lambda image, chance: ImageEnhance.Contrast(image).enhance(1.4),
    "grey": lambda image, chance: image.convert("L").convert("RGB"),
    "blurred, radius 1 px": lambda image, chance: image.filter(ImageFilter.GaussianBlur(1)),
    "turned by 3 degrees": lambda image, chance: image.rotate(3, Image.Resampling.BICUBIC),
}


def main() -> None:
    arguments = parse_arguments(__doc__)
    logging.getLogger("graftline").setLevel(logging.WARNING)
    params = load_params(ROOT / "params.yaml")
    raw: dict[str, Any] = {"planted": {}}
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory() as folder:
        raw["time"] = time_stage(Path(folder) / "time", num_used=20_000 if arguments.quick else 100_000, params=params)
        if not arguments.quick:
            seconds = raw["time"]["seconds"]
            claims.append(Claim(name="audit.leak_100k_x_10k_seconds", value=seconds, target=60, at_least=False))
        raw["faiss"] = beside_faiss(Path(folder) / "faiss", params=params)
        if "ratio" in raw["faiss"]:
            claims.append(Claim(name="audit.over_faiss", value=raw["faiss"]["ratio"], target=2.0, at_least=False))
        for name, archive in SETS.items():
            missing = [str(path.name) for path in (archive, WEIGHTS) if not path.is_file()]
            if missing:
                raw["planted"][name] = {"skipped": f"{', '.join(missing)} is not in {SHARED.name}/"}
                continue
            place = PlantedSet(Path(folder) / name, archive, params, limit=3000 if arguments.quick else MAX_SAMPLES)
            raw["planted"][name] = place.measure(seeds=1 if arguments.quick else SEEDS)
    measured = [result for result in raw["planted"].values() if "skipped" not in result]
    if measured:
        for measure in ("recall", "precision"):
            worst = min(result[measure] for result in measured)
            claims.append(Claim(name=f"audit.leak_{measure}", value=worst, target=0.95, at_least=True))
    settings = {"quick": arguments.quick, "planted_a_kind": PLANTED, "heldout_fraction": HELDOUT_FRACTION}
    finish(settings=settings | {"audit": asdict(params.audit)}, raw=raw, claims=claims)


class PlantedSet:
    """A public data set, unpacked and embedded once, into which leaks can be planted."""

    def __init__(self, place: Path, archive: Path, params: Params, *, limit: int) -> None:
        self.place, self.params = place, params
        (place / "raw").mkdir(parents=True)
        with tarfile.open(archive) as opened:
            opened.extractall(place / "raw", filter="data")
        [folder] = (place / "raw").iterdir()
        folder = folder.rename(place / "raw" / "own")
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        shutil.copy(WEIGHTS, place)
        backbone.run(
            out=place / "backbone",
            modality="images",
            backbone=replace(
                params.backbone,
                architecture="squeezenet1_1",
                weights=str(place / WEIGHTS.name),
                features="penultimate",
                image_size=None,
            ),
        )
        chance = np.random.default_rng(FIRST_SEED)
        order = chance.permutation(len(files))[:limit]
        rows = [describe(files[number], folder) for number in sorted(order)]
        self.own = pd.DataFrame(rows).drop_duplicates("sample_id", ignore_index=True)
        is_heldout = chance.permutation(len(self.own)) < HELDOUT_FRACTION * len(self.own)
        self.own["split"] = np.where(is_heldout, "heldout", "train")
        write_json(place / "classes.json", {})  # no class has to be in every split, because there is no val here
        self.embed("own", self.own)

    def measure(self, *, seeds: int) -> dict[str, Any]:
        """Return the results of each draw, and their means."""
        own, limits = self.audit(["own"])
        draws = [self.draw(seed, KINDS, PLANTED, set(own["sample_id"])) for seed in range(seeds)]
        unprobed = self.draw(seeds, UNPROBED, PLANTED // 2, set(own["sample_id"]))
        means = {key: float(np.mean([draw[key] for draw in draws])) for key in draws[0] if is_share(key)}
        by_kind = {kind: float(np.mean([draw["recall_by_kind"][kind] for draw in draws])) for kind in KINDS}
        return means | {
            "recall_by_kind": by_kind,
            "lowest": {key: min(draw[key] for draw in draws) for key in means},
            "unprobed": unprobed["recall_by_kind"],
            "num_samples": len(self.own),
            "own": own[["path", "twin_path", "cosine", "hash_distance"]].to_dict("records"),
            "own_limits": limits,
            "draws": draws,
        }

    def draw(self, seed: int, kinds: dict[str, Alter], num: int, own: set[str]) -> dict[str, Any]:
        """Plant `num` pairs of each kind and audit. `own` are the samples that leave without any plants."""
        pairs = pd.DataFrame(self.plant(seed, kinds, num))
        batch = f"planted-{seed}"
        self.embed(batch, pairs[["batch", "path", "sample_id", "label", "split", "width", "height"]])
        leaks, limits = self.audit(["own", batch])
        twins = dict(zip(leaks["sample_id"], leaks["twin_sample_id"], strict=True))
        is_found = np.array([twins.get(used) == judge for used, judge in zip(pairs.used, pairs.judge, strict=True)])
        is_planted = leaks["sample_id"].isin(set(pairs.used[is_found]))
        is_own = leaks["sample_id"].isin(own) & ~is_planted
        return {
            "recall": float(is_found.mean()),
            "precision": float(is_planted.mean()),
            "precision_less_own": float(is_planted.sum() / max((~is_own).sum(), 1)),
            "recall_by_kind": {kind: float(is_found[pairs.kind == kind].mean()) for kind in kinds},
            "num_planted": len(pairs),
            "num_unplanted_hits": int((~is_planted).sum()),
            "limits": limits,
        }

    def plant(self, seed: int, kinds: dict[str, Alter], num: int) -> Iterator[dict[str, Any]]:
        """Write the copies and yield one row per pair.

        A row has the copy's manifest row, its kind, and the sample_ids of the used side (train) and the judging side
        (held-out).
        """
        chance = np.random.default_rng(FIRST_SEED + 1 + seed)
        sides = [chance.permutation(np.flatnonzero(self.own["split"] == side)) for side in ("heldout", "train")]
        half = num // 2
        for number, (kind, alter) in enumerate(kinds.items()):
            for side, other in ((0, "train"), (1, "heldout")):
                for original in sides[side][number * half : (number + 1) * half]:
                    row = self.own.loc[original]
                    content = (self.place / "raw" / "own" / row.path).read_bytes()
                    path = f"{row.label}/{kind}-{original}.jpg"
                    file = self.place / "raw" / f"planted-{seed}" / path
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(jpeg(alter(decode_sample(content), chance)))
                    described = describe(file, self.place / "raw" / f"planted-{seed}")
                    copy = described["sample_id"]
                    used, judge = (copy, row.sample_id) if other == "train" else (row.sample_id, copy)
                    yield described | {
                        "batch": f"planted-{seed}", "split": other, "kind": kind, "used": used, "judge": judge,
                    }  # fmt: skip

    def embed(self, batch: str, rows: pd.DataFrame) -> None:
        manifest = self.place / "manifests" / f"{batch}.parquet"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        write_table(manifest, rows.assign(batch=batch))
        embed.run(
            raw=self.place / "raw" / batch,
            manifest=manifest,
            backbone=self.place / "backbone",
            store=self.place / "store",
            out=self.place / "embeddings" / f"{batch}.safetensors",
            hashes=self.place / "hashes" / f"{batch}.safetensors",
            embed=self.params.embed,
            modality="images",
        )

    def audit(self, batches: list[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Return the leaks in these batches, and the limits that were set."""
        (self.place / "batches.yaml").write_text(json.dumps({"batches": batches}), "utf-8")  # JSON is YAML
        audit.run(
            modality="images",
            manifests=self.place / "manifests",
            classes=self.place / "classes.json",
            embeddings=self.place / "embeddings",
            hashes=self.place / "hashes",
            batches=self.place / "batches.yaml",
            scratch=self.place / "scratch",
            out=self.place / "audit",
            health=self.place / "health",
            audit=self.params.audit,
            seed=0,
        )
        described = json.loads((self.place / "audit" / "audit.json").read_text("utf-8"))
        return read_leaks(self.place / "audit" / LEAKS), described["limits"]


def describe(file: Path, folder: Path) -> dict[str, Any]:
    with Image.open(file) as image:
        size = {"width": image.width, "height": image.height}
    path = str(file.relative_to(folder))
    return {"path": path, "sample_id": sample_id(file.read_bytes()), "label": file.parent.name} | size


def jpeg(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY)
    return content.getvalue()


def is_share(key: str) -> bool:
    return key in ("recall", "precision", "precision_less_own")


def time_stage(place: Path, *, num_used: int, params: Params) -> dict[str, Any]:
    """Return seconds and peak memory (MiB) of `python -m tasks.audit` on made-up samples, num_used x 10,000."""
    num_judge, num_twins, dim = 10_000, 1_000, 512
    make_samples(place, num_used=num_used, num_judge=num_judge, num_twins=num_twins, dim=dim)
    paths = ("manifests", "embeddings", "hashes", "scratch", "out", "health")
    arguments = [word for name in paths for word in (f"--{name}", str(place / name))]
    arguments += ["--batches", str(place / "batches.yaml"), "--classes", str(place / "classes.json")]
    load = os.getloadavg()[0]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_REPORT, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds = time.perf_counter() - start
    usage = json.loads(done.stdout)
    result = json.loads((place / "out" / "audit.json").read_text("utf-8"))
    assert result["num_leaks"] == num_twins, result
    return {
        "num_used": num_used,
        "num_heldout": num_judge,
        "dim": dim,
        "seconds": seconds,
        "processor_seconds": usage["processor_seconds"],
        "peak_mib": usage["peak_kib"] / 1024,
        "load_before": load,  # other work on the machine, in busy cores
        "share_refuted_by_hashes": share_over(place, num_used, result["limits"]["min_cosine"]),
        "num_twins_found": result["num_leaks"],
    }


def beside_faiss(place: Path, *, params: Params) -> dict[str, Any]:
    """Return the seconds of our search and of faiss's, three rounds of each in turn, and the ratio of their medians."""
    if not find_spec("faiss"):
        return {"skipped": "faiss is not installed"}
    import faiss  # type: ignore[import-not-found]

    num_used, num_judge, num_twins = 20_000, 10_000, 1_000
    make_samples(place, num_used=num_used, num_judge=num_judge, num_twins=num_twins, dim=512)
    vectors = read_embeddings(place / "embeddings", ["made-up"], num_samples=num_used + num_judge)[:]
    bits, probes = read_hashes(place / "hashes", ["made-up"], num_samples=len(vectors))
    used, judge = (Side(vectors=vectors[part], hashes=bits[part]) for part in (slice(num_used), slice(num_used, None)))

    def ours() -> int:
        limits = set_limits(probes, used.hashes, judge.hashes, distance=DISTANCE, options=params.audit)
        twins = find_twins(
            used, judge, distance=DISTANCE, min_cosine=limits.min_cosine, max_distance=limits.max_distance
        )
        return len(twins.left)

    def theirs() -> int:
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        index = faiss.IndexFlatIP(units.shape[1])
        index.add(units[num_used:])
        cosines, _ = index.search(units[:num_used], 1)
        return int((cosines > 1 - 1e-4).sum())

    seconds: dict[str, list[float]] = {"ours": [], "faiss": []}
    for _ in range(3):
        for name, search in (("ours", ours), ("faiss", theirs)):
            start = time.perf_counter()
            assert search() >= num_twins
            seconds[name].append(time.perf_counter() - start)
    ratio = float(np.median(seconds["ours"]) / np.median(seconds["faiss"]))
    return {"seconds": seconds, "ratio": ratio, "faiss_threads": faiss.omp_get_max_threads()}


def make_samples(place: Path, *, num_used: int, num_judge: int, num_twins: int, dim: int) -> None:
    """Write the manifest, the vectors and the hashes of one batch.

    The first `num_twins` used samples are copies of held-out ones.
    """
    chance = np.random.default_rng(0)
    num = num_used + num_judge
    for folder in ("manifests", "embeddings", "hashes"):
        (place / folder).mkdir(parents=True)
    vectors = spread(chance, num, dim)
    whole = chance.integers(0, 256, (num, 1, HASHES_SHAPE[1]), dtype=np.uint8)
    noise = [chance.integers(0, 256, (num, *HASHES_SHAPE), dtype=np.uint8) for _ in range(2)]
    hashes = whole ^ (noise[0] & noise[1])  # about a quarter of a view's bits differ from the hash of the whole
    hashes[:, :1] = whole
    hashes[:num_twins] = hashes[num_used : num_used + num_twins]
    vectors[:num_twins] = vectors[num_used : num_used + num_twins]
    path = place / "embeddings" / "made-up.safetensors"
    write_embeddings(path, [vectors.astype(np.float16)], shape=(num, dim), recipe="made up")
    # as measured on CIFAR-10
    probes = Probes(
        kinds=("copied",), cosines=np.full((32, 1), 0.73, np.float32), distances=np.full((32, 1), 40, np.uint16)
    )
    write_hashes(place / "hashes" / "made-up.safetensors", [hashes], shape=(num, *HASHES_SHAPE), probes=probes)
    names = [f"{number:06d}" for number in range(num)]
    split = np.where(np.arange(num) < num_used, "train", "heldout")
    table = pd.DataFrame({"batch": "made-up", "path": names, "sample_id": names, "split": split, "label": "any"})
    write_table(place / "manifests" / "made-up.parquet", table)
    (place / "batches.yaml").write_text("batches: [made-up]\n", "utf-8")
    write_json(place / "classes.json", {})


def spread(chance: Generator, num: int, dim: int) -> NDArray[np.float32]:
    """Return unit vectors (num, dim) whose cosines vary around 0.69 like those of photographs.

    They are made of one direction that all share, and 40 others of falling weight.
    """
    others = chance.standard_normal((40, dim)) * np.arange(1, 41)[:, None] ** -0.4
    others[:, 0] = 0
    vectors = (chance.standard_normal((num, 40)) @ others).astype(np.float32)
    vectors *= np.sqrt(0.31) / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[:, 0] = np.sqrt(0.69)
    return vectors


def share_over(place: Path, num_used: int, min_cosine: float) -> float:
    """Return the share of pairs, of a thousand samples on each side, that the cosine alone would take for twins."""
    paths = pd.read_parquet(place / "manifests" / "made-up.parquet")
    vectors = read_embeddings(place / "embeddings", ["made-up"], num_samples=len(paths))[:]
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return float((units[:1000] @ units[num_used : num_used + 1000].T >= min_cosine).mean())


if __name__ == "__main__":
    main()
