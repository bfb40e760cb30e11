"""A classifier in; one file that other programs run, checked against it, out: pixels to calibrated probabilities.

The input is `pixels`, (n, 3, size, size) uint8, resized and cropped as the transform says; normalisation, heads and
temperatures are inside. The outputs are (n, num_classes) float32, one a target. Classes and transform stand in the metadata.

`torch` is TorchScript: what reads it (libtorch, `torch.jit.load`) makes tensors and runs operations, and imports nothing.
`torch.export.load` falls back to Python's pickle, and would run what a stranger put there.
"""

import copy
import importlib.util
import io
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.embedding.fusion import trace
from tasks.machine.files import whole_file
from tasks.models.classifier import Classifier
from tasks.prediction.answers import Answerer

FORMATS = ("onnx", "torch")
MOST_DIFFERENCE = 1e-3  # of a probability
SIZES = (1, 3)  # minibatches that are compared: their axis is free
INPUT = "pixels"
METADATA = "graftline.json"  # the extra file of TorchScript

Run = Callable[[Tensor], Sequence[Tensor]]


class Deployed(nn.Module):
    """Maps pixels (n, 3, size, size) uint8 to probabilities (n, num_classes) float32, a tensor a target."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.features: nn.Module = trace(model.backbone)
        self.heads = copy.deepcopy(model.heads)
        self.temperatures = [model.temperatures[target] for target in model.classes]
        mean, std = (
            torch.tensor(each).view(1, 3, 1, 1)
            for each in (model.backbone.transform.mean, model.backbone.transform.std)
        )
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)
        self.requires_grad_(False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        features = self.features(pixels.float() * self.scale + self.shift)
        features = features.half().float()  # as the vectors of the store
        pairs = zip(self.heads, self.temperatures, strict=True)
        return tuple((head(features) / temperature).softmax(dim=1) for head, temperature in pairs)


def export(model: Classifier, path: Path, *, format: str) -> float:
    """Write the file, and return by how much a probability of it differs from the classifier's at most.

    Raises:
        ValueError: the classifier has no targets, the packages that it takes are not installed, the network cannot be
            exported, or what comes out of it differs by more than MOST_DIFFERENCE.
    """
    if not model.classes:
        raise ValueError("a backbone knows no classes: export the bundle of a classifier")
    if format == "onnx" and INPUT in model.classes:
        raise ValueError(f"a target is called {INPUT}, as the input of ONNX is: export it as torch")
    with whole_file(path) as beside:
        try:
            run = (_write_onnx if format == "onnx" else _write_torchscript)(model.eval(), beside)
        except (ValueError, OSError, MemoryError):
            raise
        except Exception as error:  # exporters can raise nearly anything
            reason = " ".join(str(error).split()).replace(str(beside), "the file")[:300]
            raise ValueError(f"{model.backbone.architecture} cannot be exported as {format}: {reason}") from error
        found = max_abs_difference(model, run)
        if not found <= MOST_DIFFERENCE:
            raise ValueError(
                f"{model.backbone.architecture} exported as {format} differs by {found:.1e}, expected at most {MOST_DIFFERENCE}: "
                "use the other format"
            )
    return found


def max_abs_difference(model: Classifier, run: Run) -> float:
    """Of any probability, on noise in minibatches of several sizes."""
    size = model.backbone.transform.crop_size
    generator = torch.Generator().manual_seed(0)
    answerer = Answerer(model, device="cpu")
    differences = []
    for n in SIZES:
        pixels = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)
        for found, expected in zip(run(pixels), answerer.answer(pixels).values(), strict=True):
            differences.append(float(np.abs(found.double().numpy() - expected).max()))
    return max(differences)


def metadata(model: Classifier) -> dict[str, str]:
    """JSON by name."""
    known = {"classes": model.classes, "transform": model.backbone.transform.to_dict()}
    return {name: json.dumps(each, ensure_ascii=False) for name, each in known.items()}


def _write_onnx(model: Classifier, path: Path) -> Run:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX needs the packages {', '.join(missing)}: run `pip install -e '.[export]'` in the clone")
    size = model.backbone.transform.crop_size
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the exporter itself is made of
        program: Any = torch.onnx.export(
            Deployed(model).eval(),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=list(model.classes),
            dynamic_shapes={INPUT: {0: torch.export.Dim("n", min=1)}},
        )
    program.model.metadata_props.update(metadata(model))
    program.save(path, external_data=False)
    return _onnx_session(path)


def _onnx_session(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda pixels: [torch.from_numpy(each) for each in session.run(None, {INPUT: pixels.numpy()})]


def _write_torchscript(model: Classifier, path: Path) -> Run:
    size = model.backbone.transform.crop_size
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # TorchScript is no longer developed; nothing else is read without pickle
        jit: Any = torch.jit
        program = jit.trace(Deployed(model).eval(), (torch.zeros(2, 3, size, size, dtype=torch.uint8),))
        # in memory first: where the disk is full, what torch writes a file with ends the process
        content = io.BytesIO()
        jit.save(program, content, _extra_files={METADATA: json.dumps(metadata(model))})
        path.write_bytes(content.getvalue())
        loaded = jit.load(str(path))
    return lambda pixels: loaded(pixels)
