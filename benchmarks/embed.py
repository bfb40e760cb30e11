"""Measure the cost of embedding, from files on disk to vectors on disk.

It is compared with the machine's limit and with the loop that a user would write.
`python -m benchmarks.embed --images DIR --architecture NAME [--weights FILE] [--limit N] [--add 0.01]` measures one
network on one folder of class folders. All speeds are images per second: medians of rounds in which everything is
measured in turn, after a warm-up.

- forward_limit: the engine's own network in its own precision, on normalised tensors in memory, with a minibatch on
  each core (on a GPU one minibatch after the other).
- decode_limit: only reading, decoding and resizing, on all cores.
- bound: the limit from both together. On a CPU it is 1 / (1 / forward + 1 / decode), because the same cores do both.
  With a GPU it is the smaller of the two.
- engine: the files are read, their SHA-256 is checked, they are decoded, hashed for the audit and embedded. The results
  are written to the store and from there to the two files of the batch. Not included: start-up (`prepare_seconds`), and
  the altered copies (five each of at most one sample in 50) that the stage embeds for the audit.
- plain: torchvision's ImageFolder, Pillow, the weights' own transform, a DataLoader with 2 workers, float32, eager,
  minibatches of 32. It runs in a process of its own that imports nothing of this project.
- min_cosine: the smallest cosine, over all images, between the engine's vector and that of the plain loop.
- matmul_limit: the forward pass at the speed of large matrix products in the engine's precision, one per core. No
  network can be embedded faster on these cores, unless it computes something else.
- compiled: torch.compile with freezing. It has the forward speed, the seconds of the compilation, and the number of
  images after which the compilation pays off against the engine's own fusion (null: never). The engine does not compile
  by default, so the other numbers contain no compilation.

`--add 0.01` also times a second run after 1 % of new images came.

Without --images three networks are measured on the shared photographs, and two more numbers. `rss_growth` is the peak
resident memory of the stage on 60,000 images of 64 px, divided by that on 6,000. `bit_identical` is 1 if vectors and
hashes are the same to the bit in another order, in other processes, killed once and resumed. --quick takes fewer
images.

`--only engines` measures none of this, but forward passes on one core beside a bare session of ONNX Runtime
(`benchmarks.kit.engines`), in less than ten minutes; `--only photographs` leaves them out. The weights are random.
Ratios are medians of rounds in which all take turns, of processor time.

- over_onnxruntime: the execution that `embed.execution: auto` takes in fp32, over ONNX Runtime in fp32.
  `fused_over_onnxruntime` beside the speeds is the same of our own graph.
- share_of_peak: the operations a second of that execution in fp32, by the definition of the network, over those of
  fused multiply-adds in registers on the same core. It may exceed 1: Winograd's convolutions need fewer.
- int8_over_fp32: int8 in the faster runtime over that execution in fp32.
- avx2: our own graph where oneDNN and torch may use AVX2 alone. ONNX Runtime and OpenVINO have no such setting.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.kit.engines import fma_peak, over
from benchmarks.kit.engines import measure as measure_engine
from benchmarks.kit.machine import Claim, finish, show
from benchmarks.kit.matmul import matmul_flops
from tasks.data.health.hashes import Probes, read_hashes, write_hashes
from tasks.data.manifest.tables import write_table
from tasks.data.samples.samples import Samples, sample_id
from tasks.data.vectors.embeddings import read_embeddings, write_embeddings
from tasks.embedding.embedder import AUTO, Embedder, Plan, plan
from tasks.embedding.engine import StoredView, embed, open_store
from tasks.images.copy_hash import HASHES_SHAPE, copy_hashes
from tasks.images.decode import decode_sample
from tasks.machine.cores import one_thread_each, spread
from tasks.models.backbone import Backbone
from tasks.models.bundle import save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import RANDOM, load_backbone

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
PACS = SHARED / "data/pacs-photo-cartoon.tar"
SQUEEZENET = SHARED / "weights/squeezenet1_1-imagenet.safetensors"
RATIO_PLAIN = {"resnet18": 6.0, "squeezenet1_1": 6.0, "resnet50": 10.0}  # the claimed ratio of each network
ENGINES = (
    "resnet18", "resnet50", "squeezenet1_1", "mobilenet_v3_large", "efficientnet_b0", "vit_b_16", "vgg16",
    "convnext_tiny", "text",
)  # fmt: skip
OF_PEAK = ("resnet18", "resnet50", "vgg16")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
ROUNDS = 3
FORWARD_SECONDS = 8.0
NUM_PLAIN = 256  # images per round
NUM_PICTURES = (6_000, 60_000)  # images of the two runs that show how memory grows

PLAIN = """
import json, sys, time
import numpy as np, torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Subset
from torchvision import models
from torchvision.datasets import ImageFolder

root, architecture, weights, layer, listed, out = sys.argv[1:]
network = models.get_model(architecture, weights=None)
network.set_submodule(layer, torch.nn.Identity())
network.load_state_dict(load_file(weights))
network.eval()
dataset = ImageFolder(root, transform=models.get_model_weights(architecture).DEFAULT.transforms())
places = {path: number for number, (path, _) in enumerate(dataset.samples)}
chosen = [places[path] for path in json.load(open(listed))]

def embed(numbers):
    with torch.inference_mode():
        loader = DataLoader(Subset(dataset, numbers), batch_size=32, num_workers=2)
        return torch.cat([network(images).flatten(1) for images, _ in loader])

embed(chosen[:64])
start = time.perf_counter()
np.save(out, embed(chosen).numpy())
print(len(chosen) / (time.perf_counter() - start))
"""

RUN = """
import json, sys
from benchmarks.embed import Engine, Files
files = Files(json.loads(sys.argv[2]))
engine = Engine.of(sys.argv[3], None if sys.argv[4] == "random" else sys.argv[4])
print("ready", flush=True)
engine.run(files, store=sys.argv[1])
"""

STAGE = """
import sys
from pathlib import Path
from benchmarks.kit.machine import peak_bytes
from tasks.embed import run
from tasks.stage.params import load_params
place, batch = Path(sys.argv[1]), sys.argv[2]
run(raw=place / "raw" / batch, manifest=place / f"{batch}.parquet", backbone=place / "backbone", store=place / "store",
    out=place / f"{batch}.vectors", hashes=place / f"{batch}.hashes", embed=load_params(Path("params.yaml")).embed,
    modality="images")
print(peak_bytes())
"""


class Files:
    """Images on disk, with their sample_ids."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = [Path(path) for path in paths]
        self.ids = [sample_id(path.read_bytes()) for path in self.paths]

    def part(self, first: int, last: int | None = None) -> "Files":
        some = Files([])
        some.paths, some.ids = self.paths[first:last], self.ids[first:last]
        return some

    def rows(self) -> pd.DataFrame:
        paths = [str(path.relative_to("/")) for path in self.paths]
        return pd.DataFrame({"batch": "", "path": paths, "sample_id": self.ids})


class Engine:
    """The engine with a backbone and a plan. Each run writes into a store of its own."""

    def __init__(self, backbone: Backbone, chosen: Plan) -> None:
        start = time.perf_counter()
        self.embedder = Embedder(backbone, chosen)
        self.prepare_seconds = time.perf_counter() - start
        self.backbone, self.fingerprint = backbone, backbone.fingerprint()

    @classmethod
    def of(cls, architecture: str, weights: str | None) -> "Engine":
        torch.manual_seed(0)
        return cls(load_backbone(architecture, weights=weights or RANDOM, decode="scaled"), plan())

    def run(self, files: Files, *, store: Path | str) -> NDArray[np.float16]:
        """Embed the files, write vectors and hashes to disk, and return the vectors (n, dim)."""
        out, name = Path(store).parent, Path(store).name
        kept = open_store(
            Path(store), self.embedder, backbone=self.fingerprint, decode=decode_sample, hash_of=copy_hashes,
            hashes_shape=HASHES_SHAPE,
        )  # fmt: skip
        samples = Samples(files.rows(), raw=Path("/"), decode=decode_sample)
        view = StoredView(embedder=self.embedder, store=kept, keys=files.ids)
        embed(samples.content, [view], names=samples.paths)
        shape = (len(files.ids), self.embedder.dim)
        vectors = (looks.vectors for looks in kept.looks(files.ids))
        write_embeddings(out / f"{name}.safetensors", vectors, shape=shape, recipe=self.fingerprint)
        hashes = (looks.hashes for looks in kept.looks(files.ids))
        nothing = np.empty((0, 1))
        none = Probes(kinds=("none",), cosines=nothing.astype(np.float32), distances=nothing.astype(np.uint16))
        write_hashes(out / f"{name}-hashes.safetensors", hashes, shape=(len(files.ids), *HASHES_SHAPE), probes=none)
        return read_embeddings(out, [name], num_samples=len(files.ids))[:].astype(np.float16)

    def forward_limit(self, seconds: float) -> float:
        size, side = self.embedder.plan.minibatch_size, self.embedder.transform.crop_size
        with one_thread_each(), torch.inference_mode():
            images = self.embedder.network_input(torch.zeros(size, 3, side, side, dtype=torch.uint8))

        def forward(_: int) -> None:
            torch.get_num_threads()
            with torch.inference_mode():
                self.embedder.network(images)

        def passes(count: int) -> float:
            start = time.perf_counter()
            with one_thread_each():
                if self.embedder.plan.device == "cpu":
                    list(spread(range(count), forward))
                else:
                    list(map(forward, range(count)))
                    torch.cuda.synchronize()
            return time.perf_counter() - start

        passes(2)
        count = max(int(seconds / passes(4) * 4), 4)
        return count * size / passes(count)

    def matmul_limit(self) -> float:
        """Return the images per second that the operations of a forward pass allow."""
        side = self.embedder.transform.crop_size
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.backbone(torch.zeros(1, 3, side, side))
        return matmul_flops(self.embedder.plan) / float(counter.get_total_flops())

    def decode_limit(self, files: Files) -> float:
        transform = self.embedder.transform

        def decode(path: Path) -> None:
            torch.get_num_threads()
            transform.prepare(decode_sample(path.read_bytes(), shorter_side=transform.shorter_side))

        start = time.perf_counter()
        with one_thread_each():
            list(spread(files.paths, decode))
        return len(files.paths) / (time.perf_counter() - start)


def main() -> None:
    arguments = parse_arguments()
    settings = {"quick": arguments.quick, "rounds": ROUNDS}
    if arguments.images:
        settings |= {"architecture": arguments.architecture, "limit": arguments.limit, "add": arguments.add}
        files = find_files(arguments.images, limit=arguments.limit)
        with tempfile.TemporaryDirectory() as place:
            raw, claims = measure(
                files, arguments.images, arguments.architecture, arguments.weights, place=Path(place), add=arguments.add
            )
        finish(settings=settings, raw=raw, claims=claims)
    elif arguments.only == "engines":
        finish(settings=settings | {"only": "engines"}, **measure_engines())
    elif PACS.is_file():
        result = measure_all(quick=arguments.quick)
        engines: dict[str, Any] = {"raw": {}, "claims": []} if arguments.only else measure_engines()
        raw = result["raw"] | {"engines": engines["raw"]}
        finish(settings=settings, raw=raw, claims=result["claims"] + engines["claims"])
    else:
        finish(settings=settings, raw={"skipped": "the shared photographs are missing: give --images"}, claims=[])


def measure_engines() -> dict[str, Any]:
    """Measure forward passes of each network beside ONNX Runtime, in processes of their own."""
    peak = fma_peak()
    raw: dict[str, Any] = {"fma_peak": peak, "networks": {}}
    claims: list[Claim] = []

    def claim(name: str, value: float, target: float) -> None:
        claims.append(Claim(name=f"embed.{name}", value=value, target=target, at_least=True))

    for name in ENGINES:
        show(f"engines: {name}")
        measured = measure_engine(name)
        rounds = measured["rounds"]
        measured["speeds"] = speeds = {way: statistics.median(speeds_of_way) for way, speeds_of_way in rounds.items()}
        if "avx512" in peak:
            [speeds_of_way] = measure_engine(name, is_avx2=True)["rounds"].values()
            measured["avx2"] = statistics.median(speeds_of_way)
        raw["networks"][name] = measured
        show("  " + ", ".join(f"{way} {speed:.1f}" for way, speed in sorted(speeds.items())) + " a second")
        if "onnxruntime.fp32" in rounds:
            measured["fused_over_onnxruntime"] = over(rounds, "fused.fp32", "onnxruntime.fp32")
            claim(f"over_onnxruntime.{name}", over(rounds, "auto.fp32", "onnxruntime.fp32"), 1.0)
        if name in OF_PEAK and peak:
            claim(f"share_of_peak.{name}", speeds["auto.fp32"] * measured["flops"] / max(peak.values()), 0.75)
        if int8 := [way for way in rounds if way.endswith(".int8")]:
            claim(f"int8_over_fp32.{name}", max(over(rounds, way, "auto.fp32") for way in int8), 1.6)
    return {"raw": raw, "claims": claims}


def measure_all(*, quick: bool) -> dict[str, Any]:
    raw: dict[str, Any] = {}
    claims: list[Claim] = []
    limit = 512 if quick else None
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with tarfile.open(PACS) as tar:
            tar.extractall(place / "images", filter="data")
        files = find_files(place / "images", limit=limit)
        for architecture in RATIO_PLAIN:
            weights = str(SQUEEZENET) if architecture == "squeezenet1_1" else None
            add = 0.01 if architecture == "squeezenet1_1" else None  # the fastest, where old images weigh most
            raw[architecture], its_claims = measure(
                files, place / "images", architecture, weights, place=place, add=add
            )
            claims += its_claims
        raw["bit_identical"] = compare_bits(files.part(0, 1000), place=place)
        claims.append(Claim(name="embed.bit_identical", value=raw["bit_identical"], target=1, at_least=True))
        sizes = [count // 10 for count in NUM_PICTURES] if quick else NUM_PICTURES
        raw["peak_bytes"] = {str(count): peak_memory(place / str(count), count) for count in sizes}
        few, many = raw["peak_bytes"].values()
        claims.append(Claim(name="embed.rss_growth", value=many / few, target=1.1, at_least=False))
    return {"raw": raw, "claims": claims}


def measure(
    files: Files, root: Path, architecture: str, weights: str | None, *, place: Path, add: float | None
) -> tuple[dict[str, Any], list[Claim]]:
    engine = Engine.of(architecture, weights)
    is_cpu = engine.embedder.plan.device == "cpu"
    num_plain = min(NUM_PLAIN, len(files.paths))
    speeds: dict[str, list[float]] = {"forward_limit": [], "decode_limit": [], "engine": [], "plain": []}
    engine.run(files.part(0, 4 * engine.embedder.plan.minibatch_size), store=fresh(place / "warm"))
    engine.decode_limit(files.part(0, 200))
    cosines: list[float] = []
    for number in range(ROUNDS):
        show(f"{architecture}: round {number + 1} of {ROUNDS}")
        speeds["forward_limit"].append(engine.forward_limit(FORWARD_SECONDS))
        speeds["decode_limit"].append(engine.decode_limit(files))
        start = time.perf_counter()
        vectors = engine.run(files, store=fresh(place / "store"))
        speeds["engine"].append(len(files.paths) / (time.perf_counter() - start))
        first = number * num_plain % max(len(files.paths) - num_plain, 1)  # other images in each round
        some = files.part(first, first + num_plain)
        speed, expected = plain(some, root, engine.backbone, place=place)
        speeds["plain"].append(speed)
        cosines.append(least_cosine(vectors[first : first + num_plain], expected))
    medians = {name: statistics.median(rounds) for name, rounds in speeds.items()}
    forward, decode = medians["forward_limit"], medians["decode_limit"]
    bound = 1 / (1 / forward + 1 / decode) if is_cpu else min(forward, decode)
    raw: dict[str, Any] = medians | {
        "images": len(files.paths),
        "bound": bound,
        "ratio_bound": medians["engine"] / bound,
        "ratio_plain": medians["engine"] / medians["plain"],
        "min_cosine": min(cosines),
        "compared": ROUNDS * num_plain,
        "prepare_seconds": engine.prepare_seconds,
        "plan": engine.embedder.plan.recipe(),
        "weights": Path(weights).name if weights else RANDOM,
        "rounds": speeds,
        "matmul_limit": engine.matmul_limit(),
        "compiled": compiled(engine, forward),
    }
    raw["compile_seconds"] = raw["compiled"].get("seconds")
    claims = [
        Claim(name=f"embed.ratio_bound.{architecture}", value=raw["ratio_bound"], target=0.85, at_least=True),
        Claim(name=f"embed.min_cosine.{architecture}", value=raw["min_cosine"], target=0.999, at_least=True),
    ]
    if architecture in RATIO_PLAIN:
        target = RATIO_PLAIN[architecture]
        claims.append(
            Claim(name=f"embed.ratio_plain.{architecture}", value=raw["ratio_plain"], target=target, at_least=True)
        )
    if add:
        raw["added"] = added(engine, files, add, place=place)
        value = raw["added"]["fraction"]
        claims.append(Claim(name="embed.incremental_fraction", value=value, target=0.03, at_least=False))
    return raw, claims


def plain(files: Files, root: Path, backbone: Backbone, *, place: Path) -> tuple[float, NDArray[np.float32]]:
    """Return the images per second of the plain loop, and its vectors (n, dim)."""
    from tasks.models.architecture import build_network_outline, classification_layer

    state = {name: tensor.contiguous() for name, tensor in backbone.network.state_dict().items()}
    save_file(state, place / "plain.safetensors")
    (place / "plain.json").write_text(json.dumps([str(path) for path in files.paths]), "utf-8")
    layer = classification_layer(build_network_outline(backbone.architecture))
    arguments = [
        root,
        backbone.architecture,
        place / "plain.safetensors",
        layer,
        place / "plain.json",
        place / "plain.npy",
    ]
    command = [sys.executable, "-c", PLAIN, *map(str, arguments)]
    # GOMP_SPINCOUNT is a setting of this project
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return float(done.stdout), np.load(place / "plain.npy")


def least_cosine(left: NDArray[Any], right: NDArray[Any]) -> float:
    one, other = torch.from_numpy(left).double(), torch.from_numpy(right).double()
    return float(torch.cosine_similarity(one, other, dim=1).min())


def compiled(engine: Engine, fused: float) -> dict[str, Any]:
    """Compile the same network; return the seconds, the forward speed, and the images after which it pays off."""
    try:
        chosen = plan(replace(AUTO, execution="compiled"))
    except ValueError as error:
        return {"skipped": str(error)}
    show("compile")
    with tempfile.TemporaryDirectory() as cache:  # an empty cache, so that everything is compiled
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        other = Engine(engine.backbone, chosen)
        speed = other.forward_limit(FORWARD_SECONDS)
        del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    seconds = other.prepare_seconds
    repaid = seconds / (1 / fused - 1 / speed) if speed > fused else None
    return {"seconds": seconds, "forward": speed, "repaid_after_images": repaid}


def added(engine: Engine, files: Files, fraction: float, *, place: Path) -> dict[str, Any]:
    """Time a run over all images but the new ones, then a run over all; return the seconds and their ratio."""
    num_old = round(len(files.paths) / (1 + fraction))
    seconds: dict[str, list[float]] = {"first": [], "second": []}
    for number in range(ROUNDS):
        show(f"add {fraction:.0%}: round {number + 1} of {ROUNDS}")
        store = fresh(place / "added")
        for name, some in (("first", files.part(0, num_old)), ("second", files)):
            start = time.perf_counter()
            engine.run(some, store=store)
            seconds[name].append(time.perf_counter() - start)
    first, second = (statistics.median(rounds) for rounds in seconds.values())
    return {"seconds": seconds, "old": num_old, "new": len(files.paths) - num_old, "fraction": second / first}


def compare_bits(files: Files, *, place: Path) -> int:
    """Return 1 if a run in another order, in other processes, killed once, gives the bytes of an undisturbed run."""
    weights = str(SQUEEZENET) if SQUEEZENET.is_file() else RANDOM
    engine = Engine.of("squeezenet1_1", None if weights == RANDOM else weights)
    expected = engine.run(files, store=fresh(place / "undisturbed"))
    order = list(range(len(files.paths)))
    random.Random(0).shuffle(order)
    shuffled = json.dumps([str(files.paths[number]) for number in order])
    store = fresh(place / "disturbed")
    command = [sys.executable, "-c", RUN, str(store), shuffled, "squeezenet1_1", weights]
    for patience in (2.6, None):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == b"ready\n"
            if patience:
                time.sleep(patience)
                run.send_signal(signal.SIGKILL)
        assert run.returncode == (-signal.SIGKILL if patience else 0)
    vectors = read_embeddings(place, ["disturbed"], num_samples=len(order))[:].astype(np.float16)
    (hashes, _), (expected_hashes, _) = (
        read_hashes(place, [f"{name}-hashes"], num_samples=len(order)) for name in ("disturbed", "undisturbed")
    )
    return int(np.array_equal(vectors, expected[order]) and np.array_equal(hashes, expected_hashes[order]))


def peak_memory(place: Path, count: int) -> int:
    """Return the peak memory of the stage, in bytes, for `count` images."""
    show(f"memory of {count:,} images")
    folder = place / "raw" / "noise"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    rows = []
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((64, 64)).save(path, quality=80)
        rows.append({"batch": "noise", "path": path.name, "sample_id": sample_id(path.read_bytes())})
    table = pd.DataFrame(rows).assign(split="train", width=64, height=64)
    write_table(place / "noise.parquet", table)
    backbone = load_backbone("squeezenet1_1", weights=RANDOM, image_size=64, decode="scaled")
    (place / "backbone").mkdir()
    save_bundle(place / "backbone", Classifier(backbone, {}), lineage={"fingerprint": backbone.fingerprint()})
    command = [sys.executable, "-c", STAGE, str(place), "noise"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def find_files(root: Path, *, limit: int | None) -> Files:
    """Return the images below `root`, in a random order that is always the same."""
    paths = sorted(path for path in root.absolute().rglob("*") if path.suffix.lower() in SUFFIXES)
    random.Random(0).shuffle(paths)
    if not paths:
        sys.exit(f"{root} has no images ({', '.join(SUFFIXES)}): name a folder of class folders")
    return Files(paths[:limit])


def fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    return path


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of class folders; without it, all claims are measured")
    parser.add_argument("--architecture", default="resnet18", help="any torchvision classifier")
    parser.add_argument(
        "--weights", help="a .safetensors or .pt file, or a torchvision weights name; random without it"
    )
    parser.add_argument("--limit", type=int, help="the largest number of images")
    parser.add_argument("--add", type=float, help="the share of new images in a second run, such as 0.01")
    parser.add_argument("--quick", action="store_true", help="fewer images")
    parser.add_argument("--only", choices=["photographs", "engines"], help="measure this part alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()
