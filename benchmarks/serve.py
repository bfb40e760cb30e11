"""Measure a service on loopback against the embedding engine, under load, and while models take over from each other.

`python -m tasks.serve` runs in a process of its own, with a log of answers. The client shares the cores with it.

- engine: the engine of `benchmarks.predict`, with the service's own precision: files are read, their SHA-256 is
  checked, they are decoded and embedded. The service is idle meanwhile.
- serve: the same files, as forms of 16 over 6 connections, answered and logged.
- ratio_engine: the median of the rounds' ratios. Each round measures both, in turn, and the order alternates.
- p50, p99: seconds of requests of one picture, which come at random (Poisson) at half the samples a second of `serve`.
  They count from the moment that a request is due, so that a service that lags behind does not hide it.
- lost_in_swaps: requests that were not answered whole while 50 models took each other's place; half of them have
  another backbone than the one before, half another head alone.
- first_answer_seconds: from the start of the process to its first answer, the median of 3 starts.

The pictures are the shared photographs, or noise if those are missing; the network is the shared SqueezeNet.
"""

import argparse
import http.client
import json
import os
import queue
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.embed import SQUEEZENET, Files
from benchmarks.kit.machine import Claim, finish, parse_arguments, show
from benchmarks.predict import NUM_CLASSES, gather, run_engine
from flows.in_use.exchange import put_in_place
from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import RANDOM, load_backbone
from tasks.prediction.answer_log import answer_files, read_answers
from tasks.prediction.answers import Answerer

ROUNDS = 5
FORM = 16  # pictures of a request, a minibatch
CONNECTIONS = 6
NUM_SWAPS = 50
STARTS = 3
BOUNDARY = "a-boundary-that-no-picture-holds"
WAIT_SECONDS = 120.0


@dataclass
class Service:
    """A service in a process of its own."""

    port: int
    process: subprocess.Popen[str]

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def health(self) -> dict[str, Any]:
        connection = self.connect()
        connection.request("GET", "/health")
        health: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return health


def main() -> None:
    arguments: argparse.Namespace = parse_arguments(__doc__)
    limit, seconds, num_swaps = (256, 10.0, 10) if arguments.quick else (1500, 60.0, NUM_SWAPS)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        files = gather(place, images=None, limit=limit)
        bundles = [save(place / name, change=change, seed=seed) for name, change, seed in (
            ("in-use", 0.0, 0), ("head", 0.0, 1), ("backbone", 1e-3, 2), ("both", 1e-3, 3)
        )]  # fmt: skip
        raw: dict[str, Any] = {"images": len(files.paths), "starts": []}
        for _ in range(STARTS):
            with serving(bundles[0], files, log=None) as (_, started):
                raw["starts"].append(started)
        with serving(bundles[0], files, log=place / "log") as (service, _):
            raw |= measure_speed(service, bundles[0], files)
            raw |= measure_latency(service, files, rate=raw["serve"] / 2, seconds=seconds)
            raw |= measure_swaps(service, bundles, files, num_swaps=num_swaps)
            raw["metrics"] = minibatch_sizes(service)
        raw["logged"] = sum(read_answers(file).num_rows for file in answer_files([place / "log"]))
    finish(
        settings={"quick": arguments.quick, "rounds": ROUNDS, "form": FORM, "connections": CONNECTIONS},
        raw=raw,
        claims=[
            Claim(name="serve.ratio_engine", value=raw["ratio_engine"], target=0.8, at_least=True),
            Claim(name="serve.p99_over_p50", value=raw["p99"] / raw["p50"], target=5.0, at_least=False),
            Claim(name="serve.lost_in_swaps", value=raw["lost_in_swaps"], target=0.0, at_least=False),
            Claim(
                name="serve.first_answer_seconds", value=statistics.median(raw["starts"]), target=10.0, at_least=False
            ),
        ],
    )  # fmt: skip


def save(bundle: Path, *, change: float, seed: int) -> Path:
    """Write a bundle of SqueezeNet with heads of this seed, its last weights changed as fine-tuning changes them."""
    torch.manual_seed(0)
    backbone = load_backbone(
        "squeezenet1_1", weights=str(SQUEEZENET) if SQUEEZENET.is_file() else RANDOM, decode="scaled"
    )
    with torch.no_grad():
        list(backbone.network.parameters())[-1].add_(change)
    torch.manual_seed(seed)
    bundle.mkdir()
    save_bundle(bundle, Classifier(backbone, {"label": [str(number) for number in range(NUM_CLASSES)]}), lineage={})
    return bundle


@contextmanager
def serving(bundle: Path, files: Files, *, log: Path | None) -> Iterator[tuple[Service, float]]:
    """Serve a bundle, and yield the service with the seconds that its first answer took."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "tasks.serve", str(bundle), "--port", "0"]
    process = subprocess.Popen(
        command + (["--log", str(log)] if log else []), stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr
    try:
        line = process.stderr.readline()
        match = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert match, line + process.stderr.read()
        errors = threading.Thread(target=process.stderr.read)  # so that its pipe never fills
        errors.start()
        service = Service(port=int(match[1]), process=process)
        connection = service.connect()
        assert is_whole(connection, form(files.paths[:1]), 1)
        connection.close()
        yield service, time.perf_counter() - start
    finally:
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0
        errors.join()


def form(paths: Sequence[Path]) -> bytes:
    """Return the body of a request for these pictures."""
    parts = []
    for number, path in enumerate(paths):
        about = f'Content-Disposition: form-data; name="file"; filename="{number}.jpg"'
        parts.append(f"--{BOUNDARY}\r\n{about}\r\n\r\n".encode() + path.read_bytes() + b"\r\n")
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def is_whole(connection: http.client.HTTPConnection, body: bytes, number: int) -> bool:
    """Ask once, and return whether every picture has a label."""
    connection.request(
        "POST", "/predict", body=body, headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    )
    response = connection.getresponse()
    content = response.read()
    return response.status == 200 and content.count(b'"reason":null') == number


def measure_speed(service: Service, bundle: Path, files: Files) -> dict[str, Any]:
    embedder = Answerer(load_bundle(bundle)[0]).trunks[0].embedder
    groups = [files.paths[start : start + FORM] for start in range(0, len(files.paths), FORM)]
    bodies = [(form(paths), len(paths)) for paths in groups]
    work = {"engine": lambda: run_engine(embedder, files), "serve": lambda: send_all(service, bodies)}
    speeds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(-1, ROUNDS):  # the first is a warm-up
        show(f"speed: round {number + 1} of {ROUNDS}")
        for name in sorted(work, reverse=bool(number % 2)):
            start = time.perf_counter()
            work[name]()
            if number >= 0:
                speeds[name].append(len(files.paths) / (time.perf_counter() - start))
    ratios = [one / other for one, other in zip(speeds["serve"], speeds["engine"], strict=True)]
    medians = {name: statistics.median(rounds) for name, rounds in speeds.items()}
    return {"plan": embedder.plan.recipe(), "ratio_engine": statistics.median(ratios), "rounds": speeds} | medians


def send_all(service: Service, bodies: Sequence[tuple[bytes, int]]) -> None:
    """Send requests over several connections, each as soon as the one before it is answered."""
    waiting: queue.SimpleQueue[tuple[bytes, int]] = queue.SimpleQueue()
    for body in bodies:
        waiting.put(body)
    wholes: list[bool] = []

    def send() -> None:
        connection = service.connect()
        while True:
            try:
                body, number = waiting.get_nowait()
            except queue.Empty:
                break
            wholes.append(is_whole(connection, body, number))
        connection.close()

    in_threads(send, CONNECTIONS)
    assert len(wholes) == len(bodies)
    assert all(wholes)


def measure_latency(service: Service, files: Files, *, rate: float, seconds: float) -> dict[str, Any]:
    """Send requests of one picture at random moments, `rate` a second on average."""
    generator = random.Random(0)
    bodies = [form([path]) for path in files.paths[:200]]
    waiting: queue.Queue[float | None] = queue.Queue()
    took: list[float] = []
    wholes: list[bool] = []
    num_connections = 64
    show(f"latency: {rate:.0f} requests a second for {seconds:.0f} s")

    def send() -> None:
        connection = service.connect()
        while (due := waiting.get()) is not None:
            wholes.append(is_whole(connection, bodies[len(wholes) % len(bodies)], 1))
            took.append(time.perf_counter() - due)
        connection.close()

    def schedule() -> None:
        due = time.perf_counter() + 0.2
        end = due + seconds
        while due < end:
            time.sleep(max(0.0, due - time.perf_counter()))
            waiting.put(due)
            due += generator.expovariate(rate)
        for _ in range(num_connections):
            waiting.put(None)

    scheduler = threading.Thread(target=schedule)
    scheduler.start()
    in_threads(send, num_connections)
    scheduler.join()
    assert all(wholes)
    cuts = statistics.quantiles(took, n=100)
    return {"p50": cuts[49], "p99": cuts[98], "requests": len(took), "rate": rate}


def measure_swaps(service: Service, bundles: Sequence[Path], files: Files, *, num_swaps: int) -> dict[str, Any]:
    """Put one bundle after the other in use while requests of 1 to 4 pictures come without a pause."""
    place = bundles[0]
    bodies = [(form(files.paths[start : start + 1 + start % 4]), 1 + start % 4) for start in range(64)]
    is_over = threading.Event()
    wholes: list[bool] = []

    def send() -> None:
        connection = service.connect()
        number = 0
        while not is_over.is_set():
            body, size = bodies[number % len(bodies)]
            number += 1
            try:
                wholes.append(is_whole(connection, body, size))
            except (OSError, http.client.HTTPException):
                wholes.append(False)
                connection = service.connect()
        connection.close()

    took: list[float] = []
    asking = threading.Thread(target=in_threads, args=(send, CONNECTIONS))
    asking.start()
    try:
        copies = [shutil.copytree(bundle, place.with_name(f"copy-{bundle.name}")) for bundle in bundles]
        for number in range(1, num_swaps + 1):
            show(f"swaps: {number} of {num_swaps}")
            before = service.health()["model"]
            staged = shutil.copytree(copies[number % len(copies)], place.with_name("staged"))
            start = time.perf_counter()
            old = place.with_name("old")
            put_in_place(staged, place, old=old)
            while service.health()["model"] == before:
                assert time.perf_counter() - start < WAIT_SECONDS
                time.sleep(0.05)
            took.append(time.perf_counter() - start)
            shutil.rmtree(old)
    finally:
        is_over.set()
        asking.join()
    swaps = service.health()["swaps"]
    assert swaps == num_swaps, swaps
    return {"lost_in_swaps": float(wholes.count(False)), "requests_in_swaps": len(wholes), "swap_seconds": took}


def minibatch_sizes(service: Service) -> list[str]:
    """Return how many samples were computed together, as the metrics of the service have it."""
    connection = service.connect()
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return [line for line in lines if line.startswith("graftline_serve_minibatch_samples")]


def in_threads(work: Any, number: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
