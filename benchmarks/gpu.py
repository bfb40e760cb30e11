"""Measure a GPU's speed in embedding, texts, fine-tuning and predict, against its own limits.

`bash benchmarks/gpu.sh` runs it, and before it the tests that need a GPU. It takes less than ten minutes and needs
neither DVC nor Prefect. The weights are random, but SqueezeNet's if its file is there: speeds and bits do not depend on
them.

- limits: large matrix products in each precision, and a large copy.
- forward: images a second from uint8 pixels on the GPU to vectors there. Beside the engine: the network eager with
  channels last in the same precision, the engine without fusion, and torch.compile with CUDA graphs. `share_of_peak` is
  the share of the speed of large matrix products, by the operations of the network.
- sizes: the same with other minibatch sizes.
- files: JPEGs to vectors on disk, beside decoding alone with 1 to all cores, and how busy the GPU was.
- text: tokens a second of a BERT, beside the same network of transformers with padded minibatches sorted by length.
- finetune: seconds an epoch, beside a plain loop with a DataLoader, in the same precision.
- predict: milliseconds of one sample, and samples a second of many.

Every part checks its bits: the same twice, the same with other neighbours, and a cosine to the CPU's fp32.

A part that fails prints its traceback, and the others go on. The results so far are written after each part.
--device cpu --quick is a rehearsal: it runs every line on little data.
"""

import gc
import json
import os
import statistics
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.embed import SQUEEZENET, Engine, Files
from benchmarks.kit import gpu_texts
from benchmarks.kit.machine import Claim, parser, result_of, show
from benchmarks.kit.text_engine import stored_bytes
from tasks.data.samples.samples import Positions, Samples
from tasks.embedding.embedder import AUTO, DTYPES, Embedder, Precision, plan
from tasks.embedding.packing import TextEmbedder, pack
from tasks.images.augment import AugmentedViews
from tasks.images.copy_hash import copy_hashes
from tasks.images.decode import decode_sample
from tasks.machine.cores import num_cores, one_thread_each, spread
from tasks.models.classifier import Classifier
from tasks.models.weights import RANDOM, load_backbone
from tasks.prediction.answers import Answerer
from tasks.stage.params import load_params
from tasks.text.packed import Packed
from tasks.training.finetuning.checkpoint import Checkpoint
from tasks.training.finetuning.options import FinetuneOptions
from tasks.training.finetuning.tuning import Data, fine_tune, open_source

ROOT = Path(__file__).parent.parent
NETWORKS = ("resnet18", "resnet50", "squeezenet1_1", "mobilenet_v3_large", "efficientnet_b0", "vit_b_16", "vgg16",
            "convnext_tiny")  # fmt: skip
COMPILED = ("resnet50", "vit_b_16", "mobilenet_v3_large", "convnext_tiny", "resnet18")  # while there is time
COMPILE_SECONDS = 60.0  # for all of them
SIZED = ("resnet50", "mobilenet_v3_large")
SIZES = (32, 64, 128)
PRECISIONS: tuple[Precision, ...] = ("bf16", "fp32")
LEAST_COSINE = 0.99999  # of fp32
MOST_GIB = 8.0  # of GPU memory, with the minibatches of the defaults
NUM_CLASSES = 10
CHOICES: dict[str, Any] = {"epochs": 3, "num_views": 2, "cache_gigabytes": 8.0, "mixup": 0.0, "minibatch_size": 32}

Raw = dict[str, Any]
Claims = list[Claim]


class Bench:
    """The device, how much is measured, and the files that several parts read."""

    def __init__(self, place: Path, *, device: str, quick: bool, squeezenet: Path) -> None:
        self.place, self.quick, self.squeezenet = place, quick, squeezenet
        self.device: Any = device
        self.on_gpu = device == "cuda"
        self.networks = ("squeezenet1_1", "resnet18") if quick else NETWORKS
        self.size = 4 if quick else None  # samples of a minibatch; None is the default
        self.peaks: dict[str, float] = {}
        self.forward_speeds: dict[str, float] = {}
        self._files: Files | None = None

    # --- limits

    def limits(self) -> tuple[Raw, Claims]:
        side = 512 if self.quick else 8192
        raw: Raw = {}
        for name, dtype in {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}.items():
            matrix = torch.randn(side, side, device=self.device, dtype=dtype)
            self.peaks[name] = 2 * side**3 / self.seconds_of(lambda: matrix @ matrix)  # noqa: B023
        torch.backends.cuda.matmul.allow_tf32 = True
        matrix = torch.randn(side, side, device=self.device)
        raw["tf32_tflops"] = 2 * side**3 / self.seconds_of(lambda: matrix @ matrix) / 1e12
        torch.backends.cuda.matmul.allow_tf32 = False
        large = torch.empty(2**20 if self.quick else 2**30, dtype=torch.uint8, device=self.device)
        other = torch.empty_like(large)
        raw["copy_gb_per_second"] = 2 * large.nbytes / self.seconds_of(lambda: other.copy_(large)) / 1e9
        pinned = torch.empty(2**20 if self.quick else 2**28, dtype=torch.uint8, pin_memory=self.on_gpu)
        raw["to_gpu_gb_per_second"] = pinned.nbytes / self.seconds_of(lambda: pinned.to(self.device)) / 1e9
        return raw | {f"{name}_tflops": peak / 1e12 for name, peak in self.peaks.items()}, []

    # --- forward

    def forward(self) -> tuple[Raw, Claims]:
        raw: Raw = {}
        claims: Claims = []
        compile_seconds = 0.0
        for name in self.networks:
            backbone = self.backbone(name)
            operations = self.operations_of(backbone)
            raw[name] = {"gflop_an_image": operations / 1e9}
            for precision in self.precisions():
                show(f"  {name} {precision}")
                try:
                    row = self.one_forward(backbone, precision, operations)
                    if precision == "bf16" and name in COMPILED and self.on_gpu and compile_seconds < COMPILE_SECONDS:
                        start = time.perf_counter()
                        row["compiled"] = self.compiled_speed(backbone, precision)
                        row["compile_seconds"] = time.perf_counter() - start
                        compile_seconds += row["compile_seconds"]
                except Exception:
                    traceback.print_exc()
                    raw[name][precision] = {"error": traceback.format_exc(limit=-3)}
                    continue
                finally:
                    self.free()
                raw[name][precision] = row
                show(f"    {json.dumps({key: value for key, value in row.items() if not isinstance(value, dict)})}")
                part = f"{name}.{precision}"
                claims += [
                    at_least(f"gpu.over_eager.{part}", row["engine"] / row["eager"], 1.0),
                    at_least(f"gpu.same_bytes.{part}", float(all(row["same"].values())), 1.0),
                    at_most(f"gpu.memory_gib.{part}", row["peak_gib"], MOST_GIB),
                ]
                if "compiled" in row:
                    claims.append(at_least(f"gpu.over_compile.{part}", row["engine"] / row["compiled"], 1.0))
                if precision == "fp32":
                    claims.append(at_least(f"gpu.cosine.{part}", row["cosine"], LEAST_COSINE))
                if name in ("resnet50", "vgg16", "vit_b_16"):
                    claims.append(at_least(f"gpu.share_of_peak.{part}", row["share_of_peak"], 0.5))
        return raw, claims

    @torch.inference_mode()
    def one_forward(self, backbone: Any, precision: Precision, operations: float) -> Raw:
        self.reset_peak()
        start = time.perf_counter()
        embedder = Embedder(backbone, self.plan(precision))
        self.wait()
        row: Raw = {"prepare_seconds": time.perf_counter() - start, "minibatch_size": embedder.plan.minibatch_size}
        n, side = embedder.plan.minibatch_size, backbone.transform.crop_size
        pixels = pixels_of(n, side)
        there = pixels.to(self.device)
        row["engine"] = n / self.seconds_of(lambda: embedder(there))
        row["peak_gib"] = self.peak_gib()
        vectors = embedder(there).cpu()
        row["same"] = self.bits(embedder, there, vectors)
        some = min(n, 16)
        expected = backbone(backbone.transform.normalize(pixels[:some]))
        row["cosine"] = least_cosine(vectors[:some], expected)
        if self.on_gpu:
            with one_thread_each():
                row["fused_steps"] = sum("fused_" in name for name, _ in embedder.network.named_children())
        unfused = Embedder(backbone, replace(self.plan(precision), execution="eager"))
        row["unfused"] = n / self.seconds_of(lambda: unfused(there))
        network = self.eager(backbone, precision)
        row["eager"] = n / self.seconds_of(lambda: network(there))
        row["share_of_peak"] = row["engine"] * operations / self.peaks.get(precision, float("nan"))
        self.forward_speeds[f"{backbone.architecture}.{precision}"] = row["engine"]
        return row

    def bits(self, embedder: Embedder, pixels: Tensor, vectors: Tensor) -> dict[str, bool]:
        """Return whether vectors are the same to the bit in other runs, by the name of the run."""
        n = len(pixels)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
        there = order.to(pixels.device)
        return {
            "twice": torch.equal(embedder(pixels).cpu(), vectors),
            "shuffled": torch.equal(embedder(pixels[there]).cpu(), vectors[order]),
            "alone": all(torch.equal(embedder(pixels[at : at + 1]).cpu()[0], vectors[at]) for at in (0, n // 2, n - 1)),
            "from the CPU": torch.equal(embedder(pixels.cpu()).cpu(), vectors),
        }

    def eager(self, backbone: Any, precision: Precision) -> Callable[[Tensor], Tensor]:
        dtype = DTYPES[precision]
        network = deepcopy(backbone).to(self.device, dtype, memory_format=torch.channels_last).eval()
        return lambda pixels: network(backbone.transform.normalize(pixels).to(dtype))

    @torch.inference_mode()
    def compiled_speed(self, backbone: Any, precision: Precision) -> float:
        dtype = DTYPES[precision]
        network: Any = deepcopy(backbone).to(self.device, dtype, memory_format=torch.channels_last).eval()
        quick: Any = torch.compile(network, mode="reduce-overhead")
        n = self.plan(precision).minibatch_size
        there = pixels_of(n, backbone.transform.crop_size).to(self.device)
        return float(n / self.seconds_of(lambda: quick(backbone.transform.normalize(there).to(dtype))))

    def sizes(self) -> tuple[Raw, Claims]:
        raw: Raw = {}
        for name in self.networks[:1] if self.quick else SIZED:
            backbone = self.backbone(name)
            raw[name] = {}
            for size in (2,) if self.quick else SIZES:
                chosen = replace(self.plan(self.precisions()[0]), minibatch_size=size)
                embedder = Embedder(backbone, chosen)
                there = pixels_of(size, backbone.transform.crop_size).to(self.device)
                raw[name][size] = size / self.seconds_of(partial(embedder, there))
                self.free()
        return raw, []

    # --- files

    def files(self) -> tuple[Raw, Claims]:
        files = self.jpegs()
        raw: Raw = {"images": len(files.paths), "cores": num_cores()}
        transform = self.backbone("squeezenet1_1").transform

        def decode(path: Path) -> None:
            torch.get_num_threads()
            sample = decode_sample(path.read_bytes(), shorter_side=transform.shorter_side)
            transform.prepare(sample)
            copy_hashes(sample)

        with one_thread_each():
            for cores in sorted({1, 4, num_cores()}):
                some = files.paths[: max(len(files.paths) * cores // num_cores(), 8)]
                start = time.perf_counter()
                list(spread(some, decode, num_threads=cores))
                raw[f"decode_{cores}"] = len(some) / (time.perf_counter() - start)
        claims: Claims = []
        for name in ("squeezenet1_1",) if self.quick else ("squeezenet1_1", "resnet50"):
            engine = Engine(self.backbone(name), self.plan("bf16" if self.on_gpu else "fp32"))
            engine.run(files.part(0, 64), store=self.place / f"warm-{name}")
            speeds, busy = [], []
            vectors = None
            for number in range(2):
                with Busy(on_gpu=self.on_gpu) as sampled:
                    start = time.perf_counter()
                    vectors = engine.run(files, store=self.place / f"store-{name}-{number}")
                    speeds.append(len(files.paths) / (time.perf_counter() - start))
                busy.append(sampled.share())
            forward = self.forward_speeds.get(f"{name}.{engine.embedder.plan.precision}")
            raw[name] = {"engine": max(speeds), "rounds": speeds, "busy": busy, "peak_gib": self.peak_gib()}
            if forward:
                raw[name]["busy_by_forward"] = max(speeds) / forward
            bound = min(raw[f"decode_{num_cores()}"], forward or float("inf"))
            claims.append(at_least(f"gpu.files_over_bound.{name}", max(speeds) / bound, 0.8))
            if name == "squeezenet1_1":
                raw["resumed"] = self.resumed(files, vectors)
                claims.append(at_least("gpu.resumed_same_bytes", float(raw["resumed"]["same"]), 1.0))
            del engine
            self.free()
        return raw, claims

    def resumed(self, files: Files, expected: Any) -> Raw:
        """Kill a run in a process of its own once it has stored something, finish it here, and compare the vectors."""
        import signal
        import subprocess
        import sys

        store = self.place / "killed"
        listed = self.place / "listed.json"
        listed.write_text(json.dumps([str(path) for path in files.paths]), "utf-8")
        command = [sys.executable, "-m", "benchmarks.gpu", "--device", self.device, "--embed", str(listed), str(store),
                   "--squeezenet", str(self.squeezenet)]  # fmt: skip
        if self.quick:
            command.append("--quick")
        with subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", ".")}
        ) as run:
            while run.poll() is None and not stored_bytes(store):
                time.sleep(0.005)
            was_killed = run.poll() is None
            run.send_signal(signal.SIGKILL)
        engine = Engine(self.backbone("squeezenet1_1"), self.plan("bf16" if self.on_gpu else "fp32"))
        kept = stored_bytes(store)
        vectors = engine.run(files, store=store)
        return {"was_killed": was_killed, "bytes_kept": kept, "same": bool(np.array_equal(vectors, expected))}

    # --- text

    def text(self) -> tuple[Raw, Claims]:
        encoder = gpu_texts.encoder(layers=2, dim=128) if self.quick else gpu_texts.encoder(layers=12, dim=768)
        words = gpu_texts.texts(64 if self.quick else 4096)
        windows = [encoder.transform.prepare(text) for text in words]
        lengths = [len(window) for [window] in windows]
        num_tokens = sum(lengths)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder(torch.tensor(windows[0][0]), [lengths[0]])
        operations = float(counter.get_total_flops()) / lengths[0]
        raw: Raw = {"texts": len(words), "tokens": num_tokens, "gflop_a_token": operations / 1e9}
        claims: Claims = []
        with torch.inference_mode():
            expected = torch.stack([encoder(torch.tensor(window), [len(window)])[0] for [window] in windows[:16]])
        for precision in self.precisions():
            show(f"  text {precision}")
            self.reset_peak()
            chosen = plan(replace(AUTO, device=self.device, precision=precision), modality="text")
            embedder = TextEmbedder(deepcopy(encoder), chosen)
            size = embedder.plan.minibatch_size
            minibatches = [windows[start : start + size] for start in range(0, len(windows), size)]

            def ours() -> Tensor:
                return torch.cat([embedder(minibatch) for minibatch in minibatches])  # noqa: B023

            row: Raw = {"engine": num_tokens / self.seconds_of(ours), "peak_gib": self.peak_gib()}
            passes = [pack(list(map(len, (text[0] for text in part))), embedder.passes.tokens) for part in minibatches]
            row["padding"] = sum(map(len, passes)) * embedder.passes.tokens / num_tokens
            vectors = ours().cpu()
            order = np.random.default_rng(0).permutation(len(windows))
            some = [windows[at] for at in order[: min(size, len(order))]]
            row["same"] = {
                "twice": torch.equal(ours().cpu(), vectors),
                "shuffled": torch.equal(embedder(some).cpu(), vectors[order[: len(some)]]),
                "alone": all(torch.equal(embedder([windows[at]]).cpu()[0], vectors[at]) for at in order[:8]),
            }
            row["cosine"] = least_cosine(vectors[:16], expected)
            row["share_of_peak"] = row["engine"] * operations / self.peaks.get(precision, float("nan"))
            row["eager"], row["eager_padding"] = self.padded_speed(encoder, windows, precision)
            if precision == "bf16" or not self.on_gpu:
                row["texts_per_second_from_words"] = self.texts_a_second(embedder, words)
            raw[precision] = row
            show(f"    {json.dumps(row)}")
            claims += [
                at_least(f"gpu.text_over_eager.{precision}", row["engine"] / row["eager"], 1.0),
                at_most(f"gpu.text_padding.{precision}", row["padding"], 1.05),
                at_least(f"gpu.text_same_bytes.{precision}", float(all(row["same"].values())), 1.0),
                at_least(f"gpu.text_share_of_peak.{precision}", row["share_of_peak"], 0.4),
            ]
            if precision == "fp32":
                claims.append(at_least("gpu.text_cosine.fp32", row["cosine"], LEAST_COSINE))
            self.free()
        return raw, claims

    @torch.inference_mode()
    def padded_speed(self, encoder: Any, windows: list[Any], precision: Precision) -> tuple[float, float]:
        """Return tokens a second of the same network with padded minibatches of 256, sorted by length; and padding."""
        network = deepcopy(encoder.network).to(self.device, DTYPES[precision])
        network.set_attn_implementation("sdpa")
        ids = sorted((window for [window] in windows), key=len)
        parts = []
        for start in range(0, len(ids), 256):
            part = ids[start : start + 256]
            longest = max(map(len, part))
            padded = torch.tensor([window + [0] * (longest - len(window)) for window in part], device=self.device)
            mask = torch.tensor([[1] * len(window) + [0] * (longest - len(window)) for window in part])
            parts.append((padded, mask.to(self.device)))

        def run() -> None:
            for padded, mask in parts:
                hidden = network(input_ids=padded, attention_mask=mask).last_hidden_state.float()
                pooled = (hidden * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
                torch.nn.functional.normalize(pooled, dim=1)

        tokens = sum(map(len, ids))
        return tokens / self.seconds_of(run), sum(padded.numel() for padded, _ in parts) / tokens

    def texts_a_second(self, embedder: TextEmbedder, words: Sequence[str]) -> float:
        """Return how many texts a second become vectors, tokenised on all cores."""
        from tasks.machine.cores import in_turn

        size = 256
        many = [*words] * (1 if self.quick else 4)
        parts = [many[start : start + size] for start in range(0, len(many), size)]
        start = time.perf_counter()
        for _ in in_turn(
            parts, lambda part: [embedder.transform.prepare(text) for text in part],
            lambda made: embedder(made).half().to("cpu", non_blocking=True), device=self.device,
        ):  # fmt: skip
            pass
        return len(many) / (time.perf_counter() - start)

    # --- fine-tuning

    def finetune(self) -> tuple[Raw, Claims]:
        files = self.jpegs()
        num_train, num_val = (16, 8) if self.quick else (1024, 256)
        rows = files.rows().iloc[: num_train + num_val].reset_index(drop=True)
        samples = Samples(rows, raw=Path("/"), decode=decode_sample)
        labels = torch.arange(len(rows), dtype=torch.float32)[:, None] % NUM_CLASSES
        data = Data(labels=labels, train=np.arange(num_train), val=np.arange(num_train, len(rows)))
        raw: Raw = {"train": num_train, "val": num_val}
        claims: Claims = []
        cases: list[tuple[str, int | str]] = [("resnet50", 4), ("resnet50", "all")]
        for name, unfreeze in [("resnet18", 2), ("resnet18", "all")] if self.quick else cases:
            show(f"  fine-tune {name}, unfreeze {unfreeze}")
            try:
                row = self.one_training(name, unfreeze, samples, data)
            except Exception:
                traceback.print_exc()
                raw[f"{name}.{unfreeze}"] = {"error": traceback.format_exc(limit=-3)}
                continue
            finally:
                self.free()
            raw[f"{name}.{unfreeze}"] = row
            show(f"    {json.dumps(row)}")
            part = f"{name}.{unfreeze}"
            claims += [
                at_least(f"gpu.finetune_over_plain.{part}", row["ratio"], 1.0 if unfreeze == "all" else 2.0),
                at_least(f"gpu.finetune_same_bytes.{part}", float(all(row["same"].values())), 1.0),
                at_most(f"gpu.finetune_memory_gib.{part}", row["peak_gib"], MOST_GIB),
            ]
        others: dict[str, Callable[[], Raw]] = {
            "text": self.text_training, "vgg16": lambda: self.deterministic_vgg(samples, data)
        }  # fmt: skip
        for part, run in others.items():
            try:
                raw[part] = run()
            except Exception:
                traceback.print_exc()
                raw[part] = {"error": traceback.format_exc(limit=-3)}
            self.free()
        return raw, claims

    def options(self, unfreeze: Any) -> FinetuneOptions:
        params = load_params(ROOT / "params.yaml").finetune
        choices = CHOICES | {"unfreeze": unfreeze, "device": self.device, "precision": self.precisions()[0]}
        return replace(params, **choices | ({"epochs": 2, "minibatch_size": 8} if self.quick else {}))

    def one_training(self, name: str, unfreeze: Any, samples: Samples[Any], data: Data) -> Raw:
        options = self.options(unfreeze)
        backbone = self.backbone(name)
        self.reset_peak()
        ends = []
        row: Raw = {}
        for what in ("first", "second", "killed"):
            model = self.classifier(deepcopy(backbone))
            start = time.perf_counter()
            source = open_source(
                samples, model, data, views=AugmentedViews(augmentation=options, seed=0),
                scratch=self.place / f"scratch-{name}-{unfreeze}",
                backbone=name, options=options,
            )  # fmt: skip
            opened = time.perf_counter() - start
            timed = TimedSource(source)
            if what != "killed":
                tuned = fine_tune(model, timed, data, options=options, seed=0)
            else:
                keeper = KilledOnce(self.place / "checkpoints", recipe={"name": name, "unfreeze": unfreeze})
                try:
                    fine_tune(model, timed, data, options=options, seed=0, keeper=keeper)
                except KeyboardInterrupt:
                    model = self.classifier(deepcopy(backbone))
                    tuned = fine_tune(model, timed, data, options=options, seed=0, keeper=keeper)
            ends.append({key: tensor.clone() for key, tensor in model.state_dict().items()})
            if what == "first":
                self.wait()
                row = {"open_seconds": opened, "epoch_seconds": timed.seconds, "peak_gib": self.peak_gib(),
                       "val_loss": [epoch.val.loss for epoch in tuned.history.epochs]}  # fmt: skip
                self.reset_peak()
        same = [all(torch.equal(end[key], ends[0][key]) for key in end) for end in ends]
        row["same"] = {"twice": same[1], "killed and resumed": same[2]}
        row["plain_epoch_seconds"], row["plain_peak_gib"] = self.plain_training(backbone, name, unfreeze, samples, data)
        row["ratio"] = min(row["plain_epoch_seconds"][1:]) / min(row["epoch_seconds"][1:])
        return row

    def plain_training(
        self, backbone: Any, name: str, unfreeze: Any, samples: Samples[Any], data: Data
    ) -> tuple[list[float], float]:
        """Return the seconds of the epochs of the loop that a user would write, and its peak memory."""
        self.reset_peak()
        torch.use_deterministic_algorithms(False)
        model = self.classifier(deepcopy(backbone)).to(self.device)
        model.to(memory_format=torch.channels_last)
        if unfreeze != "all":
            model.backbone.requires_grad_(False)
            for block in model.backbone.blocks()[::-1][:unfreeze]:
                for parameter in block.parameters():
                    parameter.requires_grad_(True)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4)
        options = self.options(unfreeze)
        pictures = Pictures(
            [Path("/") / path for path in samples.rows["path"].iloc[data.train]], backbone.transform.crop_size
        )
        workers = 2 if self.quick else num_cores()
        loader = DataLoader(
            pictures, batch_size=options.minibatch_size, shuffle=True, drop_last=True, num_workers=workers,
            pin_memory=self.on_gpu, persistent_workers=True, timeout=60,
        )  # fmt: skip
        model.train()
        is_bf16 = options.precision == "bf16"
        seconds = []
        for _ in range(options.epochs or 1):
            start = time.perf_counter()
            for images, labels in loader:
                images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
                with torch.autocast(self.device, dtype=torch.bfloat16, enabled=is_bf16):
                    loss = torch.nn.functional.cross_entropy(
                        model(images)[0], labels.to(self.device, non_blocking=True), label_smoothing=0.1
                    )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
            self.wait()
            seconds.append(time.perf_counter() - start)
        torch.use_deterministic_algorithms(True)
        del loader
        return seconds, self.peak_gib()

    def text_training(self) -> Raw:
        """Train the last two layers of a BERT, and all of it, twice, and compare the bytes."""
        encoder = gpu_texts.encoder(layers=3 if self.quick else 12, dim=128 if self.quick else 768)
        words = gpu_texts.texts(24 if self.quick else 1280)
        source = Texts([encoder.transform.prepare(text) for text in words])
        num_train = len(words) * 4 // 5
        labels = torch.arange(len(words), dtype=torch.float32)[:, None] % NUM_CLASSES
        data = Data(labels=labels, train=np.arange(num_train), val=np.arange(num_train, len(words)))
        raw: Raw = {}
        ends = []
        for _ in range(2):
            self.reset_peak()
            model = self.classifier(deepcopy(encoder))
            timed = TimedSource(source)
            tuned = fine_tune(model, timed, data, options=self.options("all"), seed=0)
            raw = {"epoch_seconds": timed.seconds, "peak_gib": self.peak_gib(),
                   "tokens_per_second": sum(source.lengths[:num_train]) / min(timed.seconds),
                   "val_loss": [epoch.val.loss for epoch in tuned.history.epochs]}  # fmt: skip
            ends.append(model.state_dict())
        return raw | {"same": all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])}

    def deterministic_vgg(self, samples: Samples[Any], data: Data) -> Raw:
        """Train behind and before VGG's pooling, whose gradient has no deterministic kernel in torch."""
        model = self.classifier(deepcopy(self.backbone("vgg16")))
        few = Data(labels=data.labels, train=data.train[:64], val=data.val[:16])
        options = replace(self.options(8), epochs=1)
        source = open_source(
            samples, model, few, views=AugmentedViews(augmentation=options, seed=0), scratch=self.place / "scratch-vgg",
            backbone="vgg16", options=options,
        )  # fmt: skip
        tuned = fine_tune(model, source, few, options=options, seed=0)
        return {"epochs": len(tuned.history.epochs) - 1}

    # --- predict

    def predict(self) -> tuple[Raw, Claims]:
        raw: Raw = {}
        claims: Claims = []
        for name in self.networks[:1] if self.quick else ("squeezenet1_1", "resnet50"):
            model = self.classifier(self.backbone(name)).eval()
            side = model.backbone.transform.crop_size
            many = pixels_of(8 if self.quick else 1024, side)
            on_cpu = Answerer(model, device="cpu").answer(many[:16])["label"]
            row: Raw = {}
            for precision in ("fp32", "bf16") if self.on_gpu else ("fp32",):
                self.reset_peak()
                choices: Raw = {"device": self.device, "precision": precision}
                one = Answerer(model, **choices, minibatch_size=1)
                all_at_once = Answerer(model, **choices, minibatch_size=self.size)
                answers = all_at_once.answer(many)["label"]
                alone = all_at_once.answer(many[3:4])["label"]
                row[precision] = {
                    "one_sample_ms": 1000 * self.seconds_of(lambda: one.answer(many[:1])),  # noqa: B023
                    "one_sample_of_default_ms": 1000 * self.seconds_of(partial(all_at_once.answer, many[:1])),
                    "samples_per_second": len(many) / self.seconds_of(lambda: all_at_once.answer(many)),  # noqa: B023
                    "difference_to_cpu": float(np.abs(answers[:16] - on_cpu).max()),
                    "same_alone": bool(np.array_equal(alone[0], answers[3])),
                    "peak_gib": self.peak_gib(),
                }
                claims.append(at_least(f"gpu.predict_same_bytes.{name}.{precision}", row[precision]["same_alone"], 1.0))
                self.free()
            raw[name] = row
            show(f"    {name}: {json.dumps(row)}")
            claims.append(at_most(f"gpu.predict_difference.{name}", row["fp32"]["difference_to_cpu"], 1e-3))
        return raw, claims

    # --- tools

    def precisions(self) -> tuple[Precision, ...]:
        return PRECISIONS if self.on_gpu else ("fp32",)

    def plan(self, precision: Precision) -> Any:
        return plan(replace(AUTO, device=self.device, precision=precision, minibatch_size=self.size))

    def backbone(self, name: str) -> Any:
        torch.manual_seed(0)
        is_real = name == "squeezenet1_1" and self.squeezenet.is_file()
        return load_backbone(name, weights=str(self.squeezenet) if is_real else RANDOM, decode="scaled").eval()

    def classifier(self, backbone: Any) -> Classifier:
        torch.manual_seed(1)
        return Classifier(backbone, {"label": [f"class {number}" for number in range(NUM_CLASSES)]})

    def operations_of(self, backbone: Any) -> float:
        side = backbone.transform.crop_size
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            backbone(torch.zeros(1, 3, side, side))
        return float(counter.get_total_flops())

    def jpegs(self) -> Files:
        """Make JPEGs of smooth noise, of about the size of ImageNet's smaller ones."""
        if self._files is None:
            folder = self.place / "jpegs"
            folder.mkdir()

            def make(number: int) -> Path:
                chance = np.random.default_rng(number)
                coarse = Image.fromarray(chance.integers(0, 256, (24, 24, 3), dtype=np.uint8))
                path = folder / f"{number:05d}.jpg"
                coarse.resize((320, 280), Image.Resampling.BICUBIC).save(path, quality=90)
                return path

            self._files = Files(list(spread(range(24 if self.quick else 4000), make)))
        return self._files

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def free(self) -> None:
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def reset_peak(self) -> None:
        self.free()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float:
        return torch.cuda.max_memory_reserved() / 2**30 if self.on_gpu else 0.0

    def seconds_of(self, work: Callable[[], Any]) -> float:
        """Return the seconds of one call: the median of three rounds of many, after a warm-up."""
        for _ in range(1 if self.quick else 3):
            work()
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        count = 1 if self.quick else min(max(int(0.25 / (time.perf_counter() - start)), 2), 200)
        rounds = []
        for _ in range(3):
            start = time.perf_counter()
            for _ in range(count):
                work()
            self.wait()
            rounds.append((time.perf_counter() - start) / count)
        return statistics.median(rounds)


class TimedSource:
    """A source that measures the seconds of each training epoch, from its first minibatch to the end of its last."""

    def __init__(self, source: Any) -> None:
        self.source, self.num_views = source, source.num_views
        self.seconds: list[float] = []

    def minibatches(self, rows: Positions, view: int | None, *, size: int) -> Iterator[Any]:
        start = time.perf_counter()
        yield from self.source.minibatches(rows, view, size=size)
        if view is not None:
            self.seconds.append(time.perf_counter() - start)


class Texts:
    """A source of texts in memory."""

    num_views = 1

    def __init__(self, windows: list[Any]) -> None:
        self.windows = windows
        self.lengths = [sum(map(len, text)) for text in windows]

    def minibatches(self, rows: Positions, view: int | None, *, size: int) -> Iterator[Packed]:
        for start in range(0, len(rows), size):
            yield Packed.of_ids([self.windows[row] for row in rows[start : start + size]])


class KilledOnce(Checkpoint):
    """A checkpoint after which the training is stopped once."""

    was_killed = False

    def save(self, tensors: Any, *, facts: Any) -> None:
        super().save(tensors, facts=facts)
        if not self.was_killed:
            self.was_killed = True
            raise KeyboardInterrupt


class Pictures(Dataset[tuple[Tensor, int]]):
    """Files as torchvision's transforms prepare them for training."""

    def __init__(self, paths: Sequence[Path], side: int) -> None:
        from torchvision.transforms import v2

        self.paths = list(paths)
        self.transform = v2.Compose([
            v2.RandomResizedCrop(side), v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.open(self.paths[index]).convert("RGB")), index % NUM_CLASSES


class Busy:
    """Samples how busy the GPU is, in a thread of its own."""

    def __init__(self, *, on_gpu: bool) -> None:
        self.on_gpu, self.samples, self.is_over = on_gpu, list[float](), threading.Event()

    def __enter__(self) -> "Busy":
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self.thread.join()

    def _sample(self) -> None:
        while self.on_gpu and not self.is_over.wait(0.05):
            try:
                self.samples.append(torch.cuda.utilization() / 100)
            except Exception:  # no NVML
                return

    def share(self) -> float | None:
        return statistics.mean(self.samples) if self.samples else None


def pixels_of(n: int, side: int) -> Tensor:
    """Return random pixels (n, 3, side, side) uint8, channels last."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)


def least_cosine(left: Tensor, right: Tensor) -> float:
    return float(torch.cosine_similarity(left.double(), right.double(), dim=1).min())


def at_least(name: str, value: float, target: float) -> Claim:
    return Claim(name=name, value=value, target=target, at_least=True)


def at_most(name: str, value: float, target: float) -> Claim:
    return Claim(name=name, value=value, target=target, at_least=False)


PARTS: dict[str, Callable[[Bench], tuple[Raw, Claims]]] = {
    "limits": Bench.limits,
    "forward": Bench.forward,
    "text": Bench.text,
    "files": Bench.files,
    "finetune": Bench.finetune,
    "predict": Bench.predict,
    "sizes": Bench.sizes,
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="the parts to measure")
    options.add_argument("--squeezenet", type=Path, default=SQUEEZENET, help="its weights, a safetensors file")
    options.add_argument("--seconds", type=float, default=420, help="no part begins after so many seconds")
    options.add_argument(
        "--embed", nargs=2, metavar=("FILES", "STORE"), help="embed the listed files, and nothing else"
    )
    arguments = options.parse_args()
    settings = {"quick": arguments.quick, "parts": arguments.only, "device": arguments.device}
    out = Path(os.environ.get("OUT", ROOT / "benchmarks/results")) / "gpu.json"
    raw: Raw = {}
    claims: Claims = []
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(json.dumps(result_of(settings=settings, raw={"skipped": "there is no GPU"}, claims=[]), sort_keys=True))
        return
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), device=arguments.device, quick=arguments.quick, squeezenet=arguments.squeezenet)
        if arguments.embed:
            listed, store = arguments.embed
            engine = Engine(bench.backbone("squeezenet1_1"), bench.plan("bf16" if bench.on_gpu else "fp32"))
            engine.run(Files(json.loads(Path(listed).read_text("utf-8"))), store=store)
            return
        if bench.on_gpu:
            raw["gpu"] = {
                "name": torch.cuda.get_device_name(), "libraries": bench.plan("bf16").recipe()["libraries"],
                "memory_gib": torch.cuda.mem_get_info()[1] / 2**30,
            }  # fmt: skip
        for name in arguments.only:
            if time.perf_counter() - begin > arguments.seconds:
                raw[name] = {"skipped": "there was no time left"}
                continue
            show(f"{name} ({time.perf_counter() - begin:.0f} s)")
            start = time.perf_counter()
            try:
                raw[name], its_claims = PARTS[name](bench)
                claims += its_claims
            except Exception:
                traceback.print_exc()
                raw[name] = {"error": traceback.format_exc(limit=-4)}
                its_claims = []
            raw[name]["seconds"] = time.perf_counter() - start
            bench.free()
            for claim in its_claims:
                show(
                    f"  {'holds' if claim.holds else 'FALLS SHORT'}  {claim.name}: {claim.value:.4g} ({claim.target:g})"
                )
            result = result_of(settings=settings, raw=raw, claims=claims)
            if "OUT" in os.environ or not arguments.quick:
                out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", "utf-8")
    print(json.dumps(result, sort_keys=True), flush=True)


if __name__ == "__main__":
    main()
