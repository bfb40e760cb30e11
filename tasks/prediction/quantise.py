"""Write an exported ONNX file with weights of 8 bits (int8), which take a quarter of the room.

- Images: the activations of convolutions and linear layers have 8 bits, too. Their ranges are those of a few samples
  (static quantisation). Ranges that are found anew for each image make a convolution several times slower.
- Texts: the ranges of activations are found anew in each call (dynamic quantisation), because they differ most between
  texts, and the matrix products stay fast.

Each output channel of a layer has a scale of its own where the ranges are static (Krishnamoorthi 2018).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

LAYERS = ["Conv", "Gemm", "MatMul"]
NUM_CALIBRATION = 128  # samples that give the ranges of activations
MINIBATCH = 16

Inputs = Sequence[tuple[Tensor, ...]]  # of minibatches


def write_int8(path: Path, exported: Path, *, names: Sequence[str], calibration: Inputs | None) -> None:
    """Write `path` from an exported file.

    Args:
        names: those of the file's inputs.
        calibration: the inputs that give the ranges of activations; None finds the ranges anew for each sample.
    """
    import onnx
    from onnxruntime import quantization

    model = onnx.load(exported)
    del model.graph.value_info[:]  # shapes that no longer hold where a layer is written in another way
    with quiet():
        if calibration is None:
            quantization.quantize_dynamic(model, path, op_types_to_quantize=LAYERS)
        else:
            quantization.quantize_static(
                model, path, reader(names, calibration), op_types_to_quantize=[*LAYERS, "Relu"], per_channel=True,
                activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
            )  # fmt: skip


def reader(names: Sequence[str], calibration: Inputs) -> Any:
    """Return the inputs of minibatches in the shape that onnxruntime asks for."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> dict[str, Any] | None:
            inputs = next(self.left, None)
            return (
                None if inputs is None else {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
            )

    return Reader()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep onnxruntime's advice, which goes to the root logger, out of the log."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
