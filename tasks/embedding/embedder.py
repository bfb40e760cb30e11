"""A frozen backbone made ready for one machine: pixels in, features out, as fast as its device computes and always to the same bit."""

import ctypes
import shutil
import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tasks.embedding.boundary import Boundary, frozen_part
from tasks.embedding.fusion import fold, fuse, trace
from tasks.embedding.options import DeviceOptions, PassOptions, PlanOptions
from tasks.machine.cores import Device, one_thread_each
from tasks.models.backbone import Backbone

Precision = Literal["bf16", "fp32"]
Execution = Literal["fused", "eager", "compiled"]

AUTO = PlanOptions(device="auto", precision="auto", execution="auto", minibatch_size=None)
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
MINIBATCH_SIZES = {"cpu": 16, "cuda": 256}  # images; on a processor what its caches hold, larger is slower
LARGEST_BLOCK = 2**30  # bytes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How features are computed. Each part may change their last bits, none more: cosine at least 0.999."""

    device: Device
    precision: Precision
    execution: Execution
    minibatch_size: int  # images of each forward pass

    def recipe(self) -> dict[str, Any]:
        """What the bits of a feature depend on besides the picture and the backbone."""
        return asdict(self) | {"processor": torch.cuda.get_device_name() if self.device == "cuda" else _instructions()}


def plan(options: DeviceOptions = AUTO) -> Plan:
    """Choose for this machine all that the options leave open. Options that are no PassOptions leave the passes open.

    The choices are a GPU where there is one, bf16 where the device computes with it (CUDA, AMX, AVX512-BF16), and fused
    execution (see `tasks.embedding.fusion`). torch.compile gains 4 to 6 % more (`benchmarks.embed`) and costs 4 to 60 s;
    to use it for many samples and not for few would give them other bits.

    Raises ValueError where the machine lacks the device, the precision or the compiler that the options name.
    """
    passes = options if isinstance(options, PassOptions) else AUTO
    device, precision, execution = options.device, options.precision, passes.execution
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, and there is no CUDA device: set it to auto or cpu")
    if precision == "auto":
        precision = "bf16" if device == "cuda" or _computes_bf16() else "fp32"
    elif precision == "bf16" and device == "cpu" and not _may_compute_bf16():
        raise ValueError("precision is bf16, which this processor cannot compute with: set it to auto or fp32")
    if execution == "auto":
        execution = "fused"
    elif execution == "compiled" and not any(map(shutil.which, ("g++", "clang++"))):
        raise ValueError("execution is compiled, and there is no C++ compiler: install g++, or set it to auto")
    size = passes.minibatch_size or MINIBATCH_SIZES[device]
    return Plan(device=device, precision=precision, execution=execution, minibatch_size=size)


class Embedder:
    """Maps pixels (n, 3, size, size) uint8, n at most the plan's minibatch, to features (n, dim) float32; with a boundary to the
    activations there, `dim` numbers of a picture.

    On a processor any number of threads may call it, each on a core of its own: call it where `one_thread_each` says so. On a GPU the features are still being computed when the call returns.
    """

    def __init__(self, backbone: Backbone, plan: Plan, *, boundary: Boundary | None = None) -> None:
        self.plan = plan
        self.architecture = backbone.architecture
        self.dim = boundary.width if boundary else backbone.dim
        self.transform = backbone.transform
        size = self.transform.crop_size
        if plan.device == "cpu":
            _keep_freed_memory()
        else:
            self.copying: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32
        with one_thread_each(), torch.inference_mode():
            graph = frozen_part(backbone, boundary) if boundary else trace(backbone)
            if plan.execution != "eager":
                fold(graph)
            graph.to(plan.device, DTYPES[plan.precision]).to(memory_format=torch.channels_last)
            pixels = torch.zeros(plan.minibatch_size, 3, size, size, dtype=torch.uint8)
            if plan.execution == "fused" and _has_onednn(plan.device):
                fuse(graph, self.prepare(pixels))
            self.network: Any = graph
            if plan.execution == "compiled":
                with torch._inductor.config.patch(freezing=True):
                    self.network = torch.compile(graph)
                    self.network(self.prepare(pixels))

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        n = len(pixels)
        if n < self.plan.minibatch_size:
            # every forward pass has the same shape, so that no feature depends on how many there are beside it
            rest = pixels.new_zeros(self.plan.minibatch_size - n, *pixels.shape[1:])
            pixels = torch.cat([pixels, rest])
        features: Tensor = self.network(self.prepare(pixels))
        return features[:n].float()

    def prepare(self, pixels: Tensor) -> Tensor:
        """What the network takes: normalised, on its device, in its precision, channels last."""
        if self.plan.device == "cuda":
            with torch.cuda.stream(self.copying):  # beside the forward pass of the minibatch before
                pixels = pixels.pin_memory().to("cuda", non_blocking=True)
            torch.cuda.current_stream().wait_stream(self.copying)
            pixels.record_stream(torch.cuda.current_stream())
        return self.transform.normalize(pixels).to(DTYPES[self.plan.precision])


def _has_onednn(device: Device) -> bool:
    return device == "cpu" and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _instructions() -> str:
    """The processor's vector instructions, by which oneDNN chooses its kernels."""
    capabilities = torch.cpu.get_capabilities()
    vectors = sorted(
        name for name, has in capabilities.items() if has is True and name.startswith(("avx", "amx", "sve"))
    )
    return " ".join([capabilities.get("architecture", ""), *vectors])


def _computes_bf16() -> bool:
    """Whether the processor has instructions for it."""
    has = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return bool(has) and _may_compute_bf16()


def _may_compute_bf16() -> bool:
    """Whether oneDNN has kernels for it, be they slow."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed. By default it gives blocks of megabytes, as feature maps are, back to the system each
    time, and getting them again costs SqueezeNet a third of its time."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for what in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            libc.mallopt(what, LARGEST_BLOCK)
