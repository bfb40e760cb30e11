"""Measure the engine on texts: its cost, the bits in which its vectors differ, and the cost of new texts."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.kit.machine import show
from benchmarks.kit.matmul import SIDE, TIMES
from benchmarks.kit.news import MINILM, ROOT, News
from tasks.data.samples.samples import sample_id
from tasks.data.samples.text_cells import canonical
from tasks.data.vectors.embeddings import write_embeddings
from tasks.embedding.embedder import AUTO, DTYPES, Precision, plan
from tasks.embedding.engine import StoredView, embed, open_store
from tasks.embedding.fused_steps import FusedLinear
from tasks.embedding.packing import TextEmbedder, pack
from tasks.machine.cores import one_thread_each
from tasks.models.encoder_files import load_encoder
from tasks.models.weight_folder import find_folder
from tasks.text.copy_hash import HASHES_SHAPE, copy_hashes
from tasks.text.decode import decode_sample

ROUNDS = 3
PRODUCTS = ("matmul", "onednn_product")
ALONE = 40  # texts that are embedded without others beside them
NUM_COUNTED = 64  # texts whose operations are counted

RUN = """
import json, os, sys
from pathlib import Path
from benchmarks.kit.text_engine import Engine
store, texts, cores = sys.argv[1:]
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
engine = Engine()
print("ready", flush=True)
engine.run(json.loads(Path(texts).read_text("utf-8")), store=Path(store))
"""


class Engine:
    """The engine with MiniLM as a project has it on this machine. Each run has the store that it names."""

    def __init__(self, precision: Precision | None = None) -> None:
        options = replace(AUTO, device="cpu", precision=precision or "auto")
        encoder = load_encoder(MINILM)
        self.fingerprint = encoder.fingerprint()
        self.embedder = TextEmbedder(encoder, plan(options, modality="text"))

    def run(self, texts: Sequence[str], *, store: Path) -> NDArray[np.uint8]:
        """Embed the texts, write their vectors to disk, and return the value of each in the store: its bytes (n, …)."""
        contents = [canonical([text]) for text in texts]
        keys = list(map(sample_id, contents))
        kept = open_store(
            store, self.embedder, backbone=self.fingerprint, decode=decode_sample, hash_of=copy_hashes,
            hashes_shape=HASHES_SHAPE,
        )  # fmt: skip
        view = StoredView(embedder=self.embedder, store=kept, keys=keys)
        embed(contents.__getitem__, [view], names=list(map(str, range(len(texts)))))
        vectors = (looks.vectors for looks in kept.looks(keys))
        shape = (len(texts), self.embedder.dim)
        write_embeddings(store.with_suffix(".safetensors"), vectors, shape=shape, recipe=self.fingerprint)
        return kept.all_looks(keys).pack()

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors (n, dim) of one minibatch, as a core computes them."""
        vectors: NDArray[np.float32] = self.embedder([self.embedder.transform.prepare(text) for text in texts]).numpy()
        return vectors


def compare_speeds(news: News, *, num_texts: int) -> dict[str, Any]:
    """Return texts a second of processor time on one core, medians of ROUNDS with other texts in each.

    sentence_transformers is its `encode` with its own defaults: fp32, minibatches of 32, sorted by length. All take
    turns, from the text to the vector.
    """
    from sentence_transformers import SentenceTransformer

    precisions: list[Precision] = ["fp32"]
    if plan(replace(AUTO, device="cpu")).precision == "bf16":
        precisions.append("bf16")
    ways: dict[str, Any] = {name: Engine(name).vectors for name in precisions}
    plain = SentenceTransformer(str(find_folder(MINILM)), device="cpu")
    ways["sentence_transformers"] = lambda texts: plain.encode(texts, show_progress_bar=False)
    products = [(f"{product}_{name}", product, name) for product in PRODUCTS for name in precisions]
    speeds: dict[str, list[float]] = {name: [] for name in [*ways, *(name for name, _, _ in products)]}
    cosines: dict[str, list[float]] = {name: [] for name in precisions}
    with one_thread_each():
        for way in ways.values():
            way(news.texts[-32:])
        for number in range(ROUNDS):
            show(f"speed: round {number + 1} of {ROUNDS}")
            texts = news.texts[number * num_texts : (number + 1) * num_texts]
            vectors_of = {}
            for name, way in ways.items():
                start = time.process_time()
                vectors_of[name] = way(texts)
                speeds[name].append(num_texts / (time.process_time() - start))
            for key, product, name in products:
                speeds[key].append(product_flops(product, name))
            for name in precisions:
                cosines[name].append(least_cosine(vectors_of[name], vectors_of["sentence_transformers"]))
    medians = {name: statistics.median(rounds) for name, rounds in speeds.items()}
    operations = operations_of(news)
    return medians | {
        "rounds": speeds,
        "min_cosine": {name: min(values) for name, values in cosines.items()},
        "compared": ROUNDS * num_texts,
        "operations_a_text": operations,
        **{
            f"share_of_{product}": {
                name: medians[name] * operations / medians[f"{product}_{name}"] for name in precisions
            }
            for product in PRODUCTS
        },
        "ratio": {name: medians[name] / medians["sentence_transformers"] for name in precisions},
        "load": os.getloadavg()[0],
    }


def product_flops(product: str, precision: Precision) -> float:
    """Return the floating-point operations of large products in a second of processor time on one core.

    `product` is one of PRODUCTS: torch's own, or oneDNN's with a matrix that it has laid out before.
    """
    matrix = torch.ones(SIDE, SIDE, dtype=DTYPES[precision])
    multiply = matrix.matmul if product == "matmul" else FusedLinear(matrix, None, num_rows=SIDE)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        for _ in range(TIMES // 5):
            multiply(matrix)
        seconds.append(time.process_time() - start)
    return TIMES // 5 * 2 * SIDE**3 / min(seconds)


def operations_of(news: News) -> float:
    """Return the floating-point operations of the products of a text without any padding, the mean of all texts."""
    encoder = load_encoder(MINILM)
    windows = [encoder.transform.prepare(text)[0] for text in news.texts]
    some = windows[:NUM_COUNTED]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for window in some:
            encoder(torch.tensor(window), [len(window)])
    return float(counter.get_total_flops()) / sum(map(len, some)) * sum(map(len, windows)) / len(windows)


def padding_of(news: News) -> float:
    """Return the tokens that are computed over those of the texts, in the order of the data."""
    embedder = Engine().embedder
    lengths = [len(embedder.transform.prepare(text)[0]) for text in news.texts]
    size, tokens = embedder.plan.minibatch_size, embedder.passes.tokens
    passes = [pack(lengths[start : start + size], tokens) for start in range(0, len(lengths), size)]
    return sum(map(len, passes)) * tokens / sum(lengths)


def least_cosine(left: NDArray[Any], right: NDArray[Any]) -> float:
    one, other = torch.from_numpy(left).double(), torch.from_numpy(right).double()
    return float(torch.cosine_similarity(one, other, dim=1).min())


def compare_bits(texts: Sequence[str], *, place: Path) -> dict[str, bool]:
    """Return whether the values in the store are the same to the bit in other runs, by the name of the run."""
    show("bits")
    engine = Engine()
    expected = engine.run(texts, store=fresh(place / "bits"))
    order = np.random.default_rng(0).permutation(len(texts))
    others = list(range(0, len(texts), 3))

    def again(places: Sequence[int] | NDArray[np.int64], name: str) -> bool:
        kept = engine.run([texts[at] for at in places], store=fresh(place / name))
        return bool(np.array_equal(kept, expected[places]))

    same = {
        "reversed": again(np.arange(len(texts))[::-1], "reversed"),
        "shuffled": again(order, "shuffled"),
        "other neighbours": again(others, "others"),
        "alone": all(again([at], "alone") for at in order[:ALONE].tolist()),
    }
    listed = place / "texts.json"
    listed.write_text(json.dumps([texts[at] for at in order]), "utf-8")
    store = fresh(place / "killed")
    in_process(store, listed, cores=2, is_killed=True)
    in_process(store, listed, cores=1, is_killed=False)
    kept = engine.run([texts[at] for at in order], store=store)
    return same | {"killed on two cores, resumed on one": bool(np.array_equal(kept, expected[order]))}


def in_process(store: Path, listed: Path, *, cores: int, is_killed: bool) -> None:
    """Embed the listed texts in a process of its own, which may be killed once it has stored some."""
    command = [sys.executable, "-c", RUN, str(store), str(listed), str(cores)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        while is_killed and run.poll() is None and not stored_bytes(store):
            time.sleep(0.01)
        if is_killed:
            run.send_signal(signal.SIGKILL)
    assert run.returncode == (-signal.SIGKILL if is_killed else 0), run.returncode


def stored_bytes(store: Path) -> int:
    return sum(path.stat().st_size for path in store.glob("*/*.values"))


def time_added(texts: Sequence[str], fraction: float, *, place: Path, rounds: int) -> dict[str, Any]:
    """Time a run over all texts but the new ones, then a run over all; return the seconds and their ratio."""
    engine = Engine()
    num_old = round(len(texts) / (1 + fraction))
    seconds: dict[str, list[float]] = {"first": [], "second": []}
    for number in range(rounds):
        show(f"add {fraction:.0%}: round {number + 1} of {rounds}")
        store = fresh(place / "added")
        for name, some in (("first", texts[:num_old]), ("second", texts)):
            start = time.perf_counter()
            engine.run(some, store=store)
            seconds[name].append(time.perf_counter() - start)
    first, second = (statistics.median(values) for values in seconds.values())
    return {
        "seconds": seconds, "old": num_old, "new": len(texts) - num_old, "fraction": second / first,
        "texts_per_second": num_old / first, "plan": engine.embedder.plan.recipe(),
    }  # fmt: skip


def fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    return path
