"""A frozen backbone made ready for one machine: pixels in, features out, fast and always the same to the last bit."""

import ctypes
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from tasks.embedding.boundary import Boundary, frozen_part
from tasks.embedding.fusion import fold, fuse, trace
from tasks.embedding.options import DeviceOptions, PassOptions, PlanOptions
from tasks.embedding.quantised import digest_of, quantised_network
from tasks.embedding.recording import Recording
from tasks.embedding.runtimes import RUNTIMES, runtime_network
from tasks.machine.cores import Device, compute_deterministically, one_thread_each, to_device
from tasks.machine.extras import require
from tasks.models.backbone import Backbone

Precision = Literal["bf16", "fp32", "int8"]
Execution = Literal["fused", "onnxruntime", "openvino", "eager", "compiled", "packed"]
Modality = Literal["images", "text"]

AUTO = PlanOptions(device="auto", precision="auto", execution="auto", minibatch_size=None, quantised=None)
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# samples; more images than a CPU's caches hold would be slower, and texts are packed into passes of their own
MINIBATCH_SIZES = {"images": {"cpu": 16, "cuda": 256}, "text": {"cpu": 256, "cuda": 4096}}
LARGEST_BLOCK = 2**30  # bytes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The way features are computed. Each field may change their last bits, and no more: cosine at least 0.999."""

    device: Device
    precision: Precision
    execution: Execution
    minibatch_size: int  # images in each forward pass; or texts that a core takes at once
    quantised: str | None = None  # the file of precision int8, whose features differ by more

    def recipe(self) -> dict[str, Any]:
        """Return everything that the bits of a feature depend on besides the image and the backbone."""
        quantised = {"quantised": digest_of(self.quantised)} if self.quantised else {}
        own = {name: value for name, value in asdict(self).items() if name != "quantised"} | quantised
        return own | (_gpu() if self.device == "cuda" else {"processor": _instructions()})


class Embeds(Protocol):
    """Maps a minibatch of prepared samples to features (n, dim) float32; `tasks.embedding.ready` makes one."""

    plan: Plan
    architecture: str
    packages: tuple[str, ...]  # whose versions the features depend on
    dim: int
    # of the modality: `prepare(sample)`, `stack(prepared)`, `shorter_side`, `marks(sample, prepared)` and `num_marks`
    transform: Any

    def stack(self, prepared: Sequence[Any], /) -> Any:
        """Make a minibatch of prepared samples; to be called in the thread that decodes them."""

    def __call__(self, minibatch: Any, /) -> Tensor: ...


def plan(options: DeviceOptions = AUTO, *, modality: Modality = "images") -> Plan:
    """Choose for this machine everything that the options leave open; options without PassOptions leave passes open.

    - device: a GPU if there is one.
    - precision: bf16 if the device has instructions for it (CUDA, AMX, AVX512-BF16).
    - execution: `fused` (see `tasks.embedding.fusion`); `tasks.embedding.ready` may choose another runtime by a
      measurement. torch.compile is 4 to 6 % faster (`benchmarks.embed`) but costs 4 to 60 s. It cannot be used for
      large batches alone, because a sample would then get other bits there. Texts are always `packed` (see
      `tasks.embedding.packing`).

    Raises ValueError where the machine lacks the device, the precision, the runtime or the compiler that the options
    name.
    """
    passes = options if isinstance(options, PassOptions) else AUTO
    device = options.device
    precision: Any = options.precision  # only PlanOptions can have int8
    execution: Literal["auto"] | Execution = passes.execution
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but there is no CUDA device: set it to auto or cpu")
    size = passes.minibatch_size or MINIBATCH_SIZES[modality][device]
    if precision == "int8":
        return _int8_plan(passes, device=device, modality=modality, minibatch_size=size)
    runtime = RUNTIMES.get(execution)
    if runtime:
        require(runtime.extra)
        if device != "cpu" or precision not in ("auto", *runtime.precisions):
            raise ValueError(
                f"execution is {execution}, which computes on a processor in {' or '.join(runtime.precisions)}, and "
                f"not on {device} in {precision}: set execution to auto"
            )
    if runtime and precision == "auto" and "bf16" not in runtime.precisions:
        precision = "fp32"
    elif precision == "auto":
        precision = "bf16" if device == "cuda" or _computes_bf16() else "fp32"
    elif precision == "bf16" and device == "cpu" and not _may_compute_bf16():
        raise ValueError("precision is bf16, but this processor cannot compute with it: set it to auto or fp32")
    if modality == "text":
        if execution not in ("auto", "eager"):
            raise ValueError(f"execution is {execution}, which is for images: set it to auto")
        execution = "packed"
    elif execution == "auto":
        execution = "fused"
    elif execution == "compiled" and not any(map(shutil.which, ("g++", "clang++"))):
        raise ValueError("execution is compiled, but there is no C++ compiler: install g++, or set it to auto")
    return Plan(device=device, precision=precision, execution=execution, minibatch_size=size)


def _int8_plan(passes: PassOptions, *, device: Device, modality: Modality, minibatch_size: int) -> Plan:
    """Return the plan of precision int8. Raises ValueError where an option does not suit it."""
    execution: Execution = "onnxruntime" if passes.execution == "auto" else passes.execution
    if modality == "text" or device != "cpu" or execution not in RUNTIMES:
        raise ValueError(
            "precision is int8, which onnxruntime and openvino compute for images on a processor: set it to auto, or "
            "device to cpu and execution to auto"
        )
    if not passes.quantised:
        raise ValueError(
            "precision is int8, and embed.quantised names no file: `python -m tasks.quantise` makes one where that is "
            "accurate enough"
        )
    require(RUNTIMES[execution].extra)
    digest_of(passes.quantised)
    return Plan(
        device=device, precision="int8", execution=execution, minibatch_size=minibatch_size, quantised=passes.quantised
    )


class Embedder:
    """Maps pixels (n, 3, size, size) uint8 to features (n, dim) float32; n is at most the plan's minibatch size.

    With a boundary it returns the activations there instead, `dim` numbers per image.

    Any number of threads may call it; on a CPU one per core, inside `one_thread_each`. On a GPU the features are still
    being computed when the call returns.
    """

    def __init__(self, backbone: Backbone, plan: Plan, *, boundary: Boundary | None = None) -> None:
        compute_deterministically()
        runtime = RUNTIMES.get(plan.execution)
        self.plan = plan
        self.architecture = backbone.architecture
        self.packages = backbone.packages + (runtime.packages if runtime else ())
        self.dtype = torch.float32 if runtime else DTYPES[plan.precision]  # of the input and the weights
        self.dim = boundary.width if boundary else backbone.dim
        self.transform = backbone.transform
        size = self.transform.crop_size
        if plan.device == "cpu":
            keep_freed_memory()
        else:
            self.copying: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with one_thread_each(), torch.inference_mode():
            pixels = torch.zeros(plan.minibatch_size, size, size, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
            self.network: Any = self._network(backbone, boundary, pixels)
            self.compute = self._features if plan.device == "cpu" else Recording(self._features, self._copied(pixels))

    def _network(self, backbone: Backbone, boundary: Boundary | None, pixels: Tensor) -> Any:
        """Return the network as the plan's execution computes it; `pixels` are an example of those to come."""
        plan = self.plan
        images = self.network_input(pixels)
        if plan.quantised:
            return quantised_network(
                plan.quantised, runtime=plan.execution, backbone=backbone.fingerprint(), shape=images.shape
            )  # fmt: skip
        graph = frozen_part(backbone, boundary) if boundary else trace(backbone)
        if plan.execution != "eager":
            fold(graph)
        graph.to(plan.device, self.dtype)
        for tensor in (*graph.parameters(), *graph.buffers()):
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        if plan.execution in RUNTIMES:
            return runtime_network(plan.execution, graph, images, precision=plan.precision)
        has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        if plan.execution == "fused" and (plan.device == "cuda" or has_onednn):
            fuse(graph, images)
        if plan.execution != "compiled":
            return graph
        with torch._inductor.config.patch(freezing=True, deterministic=True):
            compiled = torch.compile(graph)
            compiled(images)
        return compiled

    def stack(self, prepared: Sequence[Tensor]) -> Tensor:
        """Stack n tensors (3, size, size) uint8 to (n, 3, size, size), in pinned memory if they go to a GPU."""
        pixels: Tensor = self.transform.stack(prepared)
        return pixels.pin_memory() if self.plan.device == "cuda" else pixels

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        n = len(pixels)
        if n < self.plan.minibatch_size:
            # all forward passes have the same shape, so no feature depends on the number of its neighbours
            padding = pixels.new_zeros(self.plan.minibatch_size - n, *pixels.shape[1:])
            pixels = torch.cat([pixels, padding])
        return self.compute(self._copied(pixels))[:n]

    def network_input(self, pixels: Tensor) -> Tensor:
        """Return the network's input: normalised, on its device, in its precision, channels last."""
        return self.transform.normalize(self._copied(pixels)).to(self.dtype)

    def _features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.network(self.network_input(pixels))
        return features.float()

    def _copied(self, pixels: Tensor) -> Tensor:
        """Return the pixels on the plan's device."""
        if self.plan.device == pixels.device.type:
            return pixels
        with torch.cuda.stream(self.copying):  # copies during the forward pass of the previous minibatch
            pixels = to_device(pixels, torch.device("cuda"))
        torch.cuda.current_stream().wait_stream(self.copying)
        pixels.record_stream(torch.cuda.current_stream())
        return pixels


def _gpu() -> dict[str, str]:
    """Return the GPU's name, and the versions of the libraries that choose its kernels."""
    libraries = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]
    return {"processor": torch.cuda.get_device_name(), "libraries": libraries}


def _instructions() -> str:
    """Return the processor's vector instructions; oneDNN chooses its kernels by them."""
    capabilities = torch.cpu.get_capabilities()
    vectors = sorted(
        name for name, has in capabilities.items() if has is True and name.startswith(("avx", "amx", "sve"))
    )
    return " ".join([capabilities.get("architecture", ""), *vectors])


def _computes_bf16() -> bool:
    """Return whether the processor has instructions for bf16."""
    has = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return bool(has) and _may_compute_bf16()


def _may_compute_bf16() -> bool:
    """Return whether oneDNN has kernels for bf16, even slow ones."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def keep_freed_memory() -> None:
    """Make glibc keep freed memory.

    By default it returns large blocks, such as feature maps, to the system each time. SqueezeNet spends a third of its
    time on allocating them again.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            libc.mallopt(option, LARGEST_BLOCK)
