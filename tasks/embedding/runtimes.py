"""Run a backbone's graph in another inference runtime, ONNX Runtime or OpenVINO, each of which is an extra.

A call computes on one core, so that several threads may call at once, and no bit depends on the number of cores.
"""

import io
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from threading import local
from typing import Any

import torch
from torch import Tensor, fx, nn

from tasks.machine.cores import num_cores
from tasks.machine.extras import is_installed, require

Network = Callable[[Tensor], Tensor]  # normalised images (n, 3, size, size) -> features (n, dim)

PART = 4  # images of a call: the feature maps of more leave the caches, which costs light networks a tenth of the speed


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The facts about a runtime: its extra, the packages that its features depend on, and its precisions."""

    extra: str
    packages: tuple[str, ...]
    precisions: tuple[str, ...]


RUNTIMES = {
    "onnxruntime": Runtime(extra="export", packages=("onnx", "onnxruntime"), precisions=("fp32", "int8")),
    "openvino": Runtime(extra="openvino", packages=("onnx", "openvino"), precisions=("fp32", "bf16", "int8")),
}


def installed(precision: str) -> list[str]:
    """Return the runtimes that are installed here and compute with this precision."""
    return [name for name, own in RUNTIMES.items() if precision in own.precisions and is_installed(own.extra)]


def runtime_network(runtime: str, graph: fx.GraphModule, images: Tensor, *, precision: str) -> Network:
    """Return the graph as the runtime computes it, for normalised images float32 of the shape of the example `images`.

    Raises:
        MissingExtraError: the runtime is not installed.
        ValueError: it cannot compute this network.
    """
    require(RUNTIMES[runtime].extra)
    try:
        size = part_of(len(images))
        return onnx_network(runtime, to_onnx(graph, images[:size]), precision=precision, size=size)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # exporters and runtimes can raise almost any error
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{runtime} cannot compute this network ({reason}): set embed.execution to fused") from error


def part_of(minibatch_size: int) -> int:
    """Return how many images of a minibatch a runtime gets at once: PART, or fewer that divide the minibatch."""
    return math.gcd(minibatch_size, PART)


def to_onnx(graph: nn.Module, images: Tensor) -> bytes:
    """Return the graph as an ONNX file for images of one shape.

    Raises:
        ValueError: ONNX lacks a step of the graph.
    """
    content: Any = io.BytesIO()
    has_fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one step, which ONNX lacks
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # this exporter is older, and takes a tenth of the newer one's time
            example = images.float().contiguous().clone()
            torch.onnx.export(
                graph, (example,), content, dynamo=False, input_names=["images"], output_names=["features"],
                opset_version=17,
            )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        raise ValueError(f"the network cannot be written as ONNX: {' '.join(str(error).split())[:300]}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(has_fast_path)
    exported: bytes = content.getvalue()
    return exported


def onnx_network(runtime: str, content: bytes, *, precision: str, size: int) -> Network:
    """Return a function that runs an ONNX file for `size` images, on minibatches of a multiple of them.

    A file of 8 bits defines by itself which steps are computed with them.
    """
    run = onnxruntime_network(content) if runtime == "onnxruntime" else openvino_network(content, precision)
    return lambda images: torch.cat([run(part) for part in torch.split(images, size)])


def onnxruntime_network(content: bytes) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": images.contiguous().numpy()})[0])

    return run


def load_openvino() -> Any:
    """Import OpenVINO, ready for several threads and without its telemetry.

    With telemetry each import reports to Google, writes into the home folder, and forks this process.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # Python finds no such module
    import openvino

    openvino.Type.f32.to_dtype()  # threads that ask for this at once, as the first ones, wait for each other for good
    return openvino


def openvino_network(content: bytes, precision: str) -> Network:
    """Return a function that runs an ONNX file in OpenVINO, with a stream of one thread for each core."""
    openvino = load_openvino()
    core = openvino.Core()
    streams = num_cores()
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": streams, "NUM_STREAMS": streams, "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": {"bf16": "bf16"}.get(precision, "f32"),
    }  # fmt: skip
    compiled = core.compile_model(core.read_model(io.BytesIO(content)), "CPU", settings)
    own = local()

    def run(images: Tensor) -> Tensor:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        features = own.request.infer([images.contiguous().numpy()], share_inputs=True)[0]
        return torch.from_numpy(features.copy())  # the next call writes over it

    return run
