"""Measure forward passes on one core: the execution of `embed.execution: auto` beside a session of ONNX Runtime.

`python -m benchmarks.kit.engines NAME` measures a network of torchvision, or `text`, in a process of its own, so that
the instructions that oneDNN may use can be set before it starts. It prints one JSON object. Speeds are samples a second
of processor time, of each round; all take turns in a round, and a network that takes long has fewer rounds.

- auto: the execution that the stage would choose here, by its own measurement, which is made anew; `chosen` names it.
- fused: our own graph, whichever is chosen.
- onnxruntime: the network as torch exports it, in a session on one thread with default options. It gets the minibatches
  that the others get.
- onnxruntime.int8, openvino.int8: the file that `tasks.quantise` would write, with ranges from noise.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.kit.machine import show
from tasks.machine.extras import is_installed

ROOT = Path(__file__).parents[2]
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}  # imitates a processor without AVX-512
MINIBATCH = 16  # as the stage takes them
OF_DEAR = 4  # images of a minibatch of a network above DEAR_FLOPS
DEAR_FLOPS = 1e10
ROUNDS = {"least": 3, "most": 7}
ROUND_SECONDS = 0.3  # of a way in a round, at least
MOST_SECONDS = 10.0  # after which no round begins
NUM_TEXTS = 64
IN_INT8 = ("resnet18", "resnet50", "squeezenet1_1")

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
    """Return the measurements of a process of its own; with `is_avx2` of our own graph alone, as without AVX-512."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | (AVX2 if is_avx2 else {})
    command = [sys.executable, "-m", "benchmarks.kit.engines", name, *(["fused"] if is_avx2 else [])]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def of_images(name: str, *, is_fused_alone: bool, has_int8: bool) -> dict[str, Any]:
    from tasks.embedding.embedder import AUTO, Embedder, plan
    from tasks.embedding.execution import choose_execution, flops_of
    from tasks.machine.files import read_json
    from tasks.models.weights import RANDOM, load_backbone

    torch.manual_seed(0)
    backbone = load_backbone(name, weights=RANDOM, decode="scaled")
    flops = flops_of(backbone)
    size, side = OF_DEAR if flops > DEAR_FLOPS else MINIBATCH, backbone.transform.crop_size
    pixels = torch.randint(0, 256, (size, side, side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    images = backbone.transform.normalize(pixels).contiguous()
    expected = backbone(images[:OF_DEAR])
    options = replace(AUTO, device="cpu", minibatch_size=size)
    precisions = {"fp32"} if is_fused_alone else {"fp32", plan(options).precision}
    ways: dict[str, Way] = {}
    chosen: dict[str, str] = {}
    choices = {}
    for precision in sorted(precisions):
        usual = plan(replace(options, precision=precision))  # type: ignore[arg-type]
        executions = {"fused": usual}
        if not is_fused_alone:
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                auto = choose_execution(backbone, usual, store=Path(folder))
                show(f"  {name}: {auto.execution} in {precision}, chosen in {time.perf_counter() - start:.0f} s")
                kept = [read_json(path) for path in Path(folder).glob(".executions/*.json")]
            chosen[precision] = auto.execution
            choices[precision] = {key: one[key] for one in kept for key in ("refused", "seconds")}
            executions["auto"] = auto
        for key, own in executions.items():
            if key == "fused" or own.execution != "fused":
                embedder = Embedder(backbone, own)
                ways[f"{key}.{precision}"] = partial(embedder.network, embedder.network_input(pixels))
    if not is_fused_alone and is_installed("export"):
        ways["onnxruntime.fp32"] = in_onnxruntime(backbone, images)
        if has_int8:
            ways |= in_int8(backbone, images)
    cosines = {key: least_cosine(way()[:OF_DEAR].float(), expected) for key, way in ways.items()}
    rounds = in_turns(ways, num_samples=size)
    for precision, execution in chosen.items():
        if execution == "fused":
            rounds[f"auto.{precision}"] = rounds[f"fused.{precision}"]
    return {
        "rounds": rounds, "cosines": cosines, "chosen": chosen, "choices": choices, "flops": flops,
        "minibatch": size,
    }  # fmt: skip


def in_onnxruntime(backbone: Any, images: torch.Tensor) -> Way:
    """Return a forward pass in ONNX Runtime, with no part of ours but the weights."""
    import onnxruntime

    from tasks.embedding.runtimes import to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        to_onnx(backbone.network, images), options, providers=["CPUExecutionProvider"]
    )
    given = {"images": images.numpy()}
    return lambda: torch.from_numpy(session.run(None, given)[0]).flatten(1)


def in_int8(backbone: Any, images: torch.Tensor) -> dict[str, Way]:
    """Return forward passes in 8 bits, in each runtime that is installed."""
    from tasks.embedding.fusion import fold, trace
    from tasks.embedding.runtimes import installed, onnx_network, part_of, to_onnx
    from tasks.prediction.quantise import write_int8

    size = part_of(len(images))
    with tempfile.TemporaryDirectory() as folder:
        exported, written = Path(folder, "exported.onnx"), Path(folder, "int8.onnx")
        graph = trace(backbone)
        fold(graph)
        exported.write_bytes(to_onnx(graph, images[:size]))
        write_int8(written, exported, names=["images"], calibration=[(images[:size],)])
        content = written.read_bytes()
    networks = {one: onnx_network(one, content, precision="int8", size=size) for one in installed("int8")}
    return {f"{one}.int8": partial(network, images) for one, network in networks.items()}


def of_texts(*, is_fused_alone: bool) -> dict[str, Any]:
    """Return the speeds on news with MiniLM, from token ids to vectors.

    ONNX Runtime gets minibatches of 32, sorted by length and padded, which is how sentence-transformers calls it.
    """
    from benchmarks.kit.news import MINILM, News
    from tasks.embedding.embedder import AUTO, Precision, plan
    from tasks.embedding.packing import TextEmbedder
    from tasks.models.encoder_files import load_encoder

    texts = News.read().texts[:NUM_TEXTS]
    precisions: list[Precision] = ["fp32"]
    if not is_fused_alone and plan(replace(AUTO, device="cpu")).precision == "bf16":
        precisions.append("bf16")
    ways: dict[str, Way] = {}
    vectors: dict[str, Any] = {}
    for precision in precisions:
        encoder = load_encoder(MINILM)
        embedder = TextEmbedder(encoder, plan(replace(AUTO, device="cpu", precision=precision), modality="text"))
        prepared = [embedder.transform.prepare(text) for text in texts]
        ways[f"fused.{precision}"] = lambda own=embedder, prepared=prepared: own(prepared)  # type: ignore[misc]
        vectors[f"fused.{precision}"] = embedder(prepared)
    if is_fused_alone:
        return {"rounds": in_turns(ways, num_samples=len(texts))}
    windows = sorted((text[0] for text in prepared), key=len)
    order = sorted(range(len(texts)), key=lambda number: len(prepared[number][0]))
    run = exported_encoder()

    def in_session() -> Any:
        return np.concatenate([run(windows[start : start + 32]) for start in range(0, len(windows), 32)])

    expected = torch.from_numpy(in_session())
    cosines = {name: least_cosine(computed[order], expected) for name, computed in vectors.items()}
    ways["onnxruntime.fp32"] = in_session
    rounds = in_turns(ways, num_samples=len(texts))
    autos = {f"auto.{precision}": rounds[f"fused.{precision}"] for precision in precisions}
    chosen = dict.fromkeys(precisions, "packed")
    return {"rounds": rounds | autos, "cosines": cosines, "chosen": chosen, "minibatch": 32}


def exported_encoder() -> Callable[[list[list[int]]], Any]:
    """Return a function from token ids to normalised means of MiniLM's vectors, in ONNX Runtime on one thread."""
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


def in_turns(ways: Mapping[str, Way], *, num_samples: int) -> dict[str, list[float]]:
    """Return the samples a second of processor time of each way, by round. Each way has run once before."""
    rounds: dict[str, list[float]] = {name: [] for name in ways}
    began = time.process_time()
    for number in range(ROUNDS["most"]):
        if number >= ROUNDS["least"] and time.process_time() - began > MOST_SECONDS:
            break
        for name, way in ways.items():
            start, count = time.process_time(), 0
            while not count or time.process_time() - start < ROUND_SECONDS:
                way()
                count += 1
            rounds[name].append(count * num_samples / (time.process_time() - start))
    return rounds


def over(rounds: Mapping[str, list[float]], one: str, other: str) -> float:
    """Return how many times as fast one way is as another: the median of the rounds."""
    return statistics.median(left / right for left, right in zip(rounds[one], rounds[other], strict=True))


def least_cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.cosine_similarity(one.double(), other.double(), dim=1, eps=1e-100).min())


if __name__ == "__main__":
    from tasks.machine.cores import compute_deterministically

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    compute_deterministically()
    torch.set_num_threads(1)
    own, *others = sys.argv[1:]
    is_alone = "fused" in others
    with torch.inference_mode():
        if own == "text":
            result = of_texts(is_fused_alone=is_alone)
        else:
            result = of_images(own, is_fused_alone=is_alone, has_int8=own in IN_INT8)
    print(json.dumps(result))
