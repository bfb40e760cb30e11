"""Forward passes on one core: our executions beside ONNX Runtime and OpenVINO, and what the core can do at most.

`python -m benchmarks.kit.engines NAME` measures a network of torchvision, or `text`, in a process of its own, so that
the instructions that oneDNN may use can be set before it starts. It prints one JSON object. Speeds are samples a second
of processor time, medians of ROUNDS in which all take turns.
"""

import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).parents[2]
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}  # imitates a processor without AVX-512
MINIBATCH = 8
ROUNDS = 3
ROUND_SECONDS = 0.4
NUM_TEXTS = 64

Way = Callable[[], Any]

PEAK = """
#include <immintrin.h>
#include <stdio.h>
#include <time.h>
static double now(void) {
    struct timespec t; clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); return t.tv_sec + 1e-9 * t.tv_nsec;
}
#define CHAINS 12
#define MEASURE(NAME, TARGET, TYPE, SET, FMA, OPERATIONS)                                   \\
    __attribute__((target(TARGET), noinline)) static double NAME(long n) {                  \\
        TYPE x = SET(0.999f), a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x, k = x, l = x; \\
        double start = now();                                                               \\
        for (long turn = 0; turn < n; turn++) {                                             \\
            STEP(FMA, a) STEP(FMA, b) STEP(FMA, c) STEP(FMA, d) STEP(FMA, e) STEP(FMA, f)   \\
            STEP(FMA, g) STEP(FMA, h) STEP(FMA, i) STEP(FMA, j) STEP(FMA, k) STEP(FMA, l)   \\
        }                                                                                   \\
        return (double)n * CHAINS * OPERATIONS / (now() - start);                           \\
    }
#define STEP(FMA, SUM) SUM = FMA(SUM, x, x); __asm__ volatile("" : "+x"(SUM));
MEASURE(of_avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps, 16)
MEASURE(of_avx512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps, 32)
int main(void) {
    double avx2 = 0, avx512 = 0, one;
    for (int i = 0; i < 10; i++) {
        if ((one = of_avx2(10000000)) > avx2) avx2 = one;
        if (__builtin_cpu_supports("avx512f") && (one = of_avx512(10000000)) > avx512) avx512 = one;
    }
    printf("{\\"avx2\\": %f, \\"avx512\\": %f}", avx2, avx512);
}
"""


def fma_peak() -> dict[str, float]:
    """Return the floating-point operations a second of fused multiply-adds in registers, by instruction set.

    It is empty where there is no C compiler.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "peak.c"), Path(folder, "peak")
        source.write_text(PEAK)
        try:
            subprocess.run(["gcc", "-O3", "-o", program, source], check=True, capture_output=True)
            done = subprocess.run([program], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return {}
    peaks: dict[str, float] = json.loads(done.stdout)
    return {name: peak for name, peak in peaks.items() if peak}


def measure(name: str, *, is_avx2: bool = False) -> dict[str, Any]:
    """Return what a process of its own measures; with `is_avx2` torch computes as without AVX-512."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | (AVX2 if is_avx2 else {})
    command = [sys.executable, "-m", "benchmarks.kit.engines", name]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def of_images(name: str) -> dict[str, Any]:
    from tasks.embedding.embedder import AUTO, Embedder, plan
    from tasks.embedding.execution import why_refused
    from tasks.embedding.fusion import fold, trace
    from tasks.embedding.runtimes import installed, onnx_network, to_onnx
    from tasks.models.weights import RANDOM, load_backbone
    from tasks.prediction.quantise import write_int8

    torch.manual_seed(0)
    backbone = load_backbone(name, weights=RANDOM, decode="scaled")
    side = backbone.transform.crop_size
    pixels = torch.randint(0, 256, (MINIBATCH, 3, side, side), dtype=torch.uint8)
    expected = backbone(backbone.transform.normalize(pixels))
    with FlopCounterMode(display=False) as counter:
        backbone(backbone.transform.normalize(pixels[:1]))
    options = replace(AUTO, device="cpu", minibatch_size=MINIBATCH)
    wanted = {("fused", "fp32")} | {(runtime, "fp32") for runtime in installed("fp32")}
    if plan(options).precision == "bf16":
        wanted |= {("fused", "bf16")} | {(runtime, "bf16") for runtime in installed("bf16")}
    ways: dict[str, Way] = {}
    refused, cosines, load_seconds = {}, {}, {}
    for execution, precision in sorted(wanted):
        key = f"{execution}.{precision}"
        start = time.process_time()
        try:
            embedder = Embedder(
                backbone,
                plan(replace(options, precision=precision, execution=execution)),  # type: ignore[arg-type]
            )
        except ValueError as error:
            refused[key] = str(error)
            continue
        load_seconds[key] = time.process_time() - start
        images = embedder.network_input(pixels)
        ways[key] = lambda network=embedder.network, images=images: network(images)  # type: ignore[misc]
        cosines[key] = least_cosine(embedder(pixels), expected)
        if reason := why_refused(embedder, pixels, expected):
            refused[key] = reason
    images = backbone.transform.normalize(pixels).contiguous()
    ways["plain.fp32"] = lambda: backbone(images.contiguous(memory_format=torch.channels_last))
    if "onnxruntime" in installed("fp32"):
        with tempfile.TemporaryDirectory() as folder:
            exported, written = Path(folder, "exported.onnx"), Path(folder, "int8.onnx")
            graph = trace(backbone)
            fold(graph)
            exported.write_bytes(to_onnx(graph, images))
            write_int8(written, exported, names=["images"], calibration=[(images,)])
            for runtime in installed("int8"):
                network = onnx_network(runtime, written.read_bytes(), precision="int8")
                ways[f"{runtime}.int8"] = lambda network=network: network(images)  # type: ignore[misc]
                cosines[f"{runtime}.int8"] = least_cosine(network(images), expected)
    return {
        "speeds": in_turns(ways, num_samples=MINIBATCH), "cosines": cosines, "refused": refused,
        "load_seconds": load_seconds, "flops": float(counter.get_total_flops()),
    }  # fmt: skip


def of_texts() -> dict[str, Any]:
    """Return the speeds on news with MiniLM, from token ids to vectors.

    ONNX Runtime gets minibatches of 32, sorted by length and padded, which is how sentence-transformers calls it.
    """
    from benchmarks.kit.news import MINILM, News
    from tasks.embedding.embedder import AUTO, Precision, plan
    from tasks.embedding.packing import TextEmbedder
    from tasks.models.encoder_files import load_encoder

    texts = News.read().texts[:NUM_TEXTS]
    precisions: list[Precision] = ["fp32"]
    if plan(replace(AUTO, device="cpu")).precision == "bf16":
        precisions.append("bf16")
    ways: dict[str, Way] = {}
    vectors: dict[str, Any] = {}
    for precision in precisions:
        encoder = load_encoder(MINILM)
        embedder = TextEmbedder(encoder, plan(replace(AUTO, device="cpu", precision=precision), modality="text"))
        prepared = [embedder.transform.prepare(text) for text in texts]
        ways[f"packed.{precision}"] = lambda own=embedder, prepared=prepared: own(prepared)  # type: ignore[misc]
        vectors[f"packed.{precision}"] = embedder(prepared)
    windows = sorted((text[0] for text in prepared), key=len)
    order = sorted(range(len(texts)), key=lambda number: len(prepared[number][0]))
    run = exported_encoder()

    def in_onnxruntime() -> Any:
        return np.concatenate([run(windows[start : start + 32]) for start in range(0, len(windows), 32)])

    ways["onnxruntime.fp32"] = in_onnxruntime
    found = torch.from_numpy(in_onnxruntime())
    cosines = {name: least_cosine(own[order], found) for name, own in vectors.items()}
    return {"speeds": in_turns(ways, num_samples=len(texts)), "cosines": cosines, "refused": {}}


def exported_encoder() -> Callable[[list[list[int]]], Any]:
    """Return what maps token ids to the normalised means of MiniLM's vectors, in ONNX Runtime on one thread."""
    import onnxruntime
    from transformers import AutoModel

    from benchmarks.kit.news import MINILM
    from tasks.models.weight_folder import find_folder

    network = AutoModel.from_pretrained(str(find_folder(MINILM)), attn_implementation="eager").eval()

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            hidden = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
            weight = mask[..., None].to(hidden.dtype)
            return torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=1)

    example = (torch.ones(2, 16, dtype=torch.long), torch.ones(2, 16, dtype=torch.long))
    free = {0: torch.export.Dim("texts", min=1, max=64), 1: torch.export.Dim("tokens", min=2, max=512)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "encoder.onnx")
        program = torch.onnx.export(
            Pooled(), example, dynamo=True, verbose=False, input_names=["ids", "mask"], dynamic_shapes=(free, free)
        )
        assert program is not None
        program.save(path, external_data=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(texts: list[list[int]]) -> Any:
        longest = max(map(len, texts))
        ids = np.array([text + [0] * (longest - len(text)) for text in texts])
        mask = np.array([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
        return session.run(None, {"ids": ids, "mask": mask})[0]

    return run


def in_turns(ways: Mapping[str, Way], *, num_samples: int) -> dict[str, float]:
    """Return the samples a second of processor time of each way, the median of the rounds."""
    rounds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start, count = time.process_time(), 0
            while not count or time.process_time() - start < ROUND_SECONDS:
                way()
                count += 1
            rounds[name].append(count * num_samples / (time.process_time() - start))
    return {name: statistics.median(speeds) for name, speeds in rounds.items()}


def least_cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.cosine_similarity(one.double(), other.double(), dim=1).min())


if __name__ == "__main__":
    from tasks.machine.cores import compute_deterministically

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    compute_deterministically()
    torch.set_num_threads(1)
    with torch.inference_mode():
        result = of_texts() if sys.argv[1] == "text" else of_images(sys.argv[1])
    print(json.dumps(result))
