"""Write a classifier as one file that other programs run, and check the file against the classifier.

The input is `pixels`, (n, 3, size, size) uint8, resized and cropped according to the transform. The file contains
normalisation, heads and temperatures. The outputs are calibrated probabilities (n, num_classes) float32, one tensor per
target. The metadata has the classes and the transform.

The format `torch` is TorchScript. Its readers (libtorch, `torch.jit.load`) make tensors and run operations, and import
nothing. `torch.export.load` may fall back to Python's pickle, which would run a stranger's code.
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
SIZES = (1, 3)  # images in the minibatches that are compared; the file takes any number
INPUT = "pixels"
METADATA = "graftline.json"  # the extra file of TorchScript

Run = Callable[[Tensor], Sequence[Tensor]]


class Deployed(nn.Module):
    """Maps pixels (n, 3, size, size) uint8 to probabilities (n, num_classes) float32, one tensor per target."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.features: nn.Module = trace(model.backbone)
        self.heads = copy.deepcopy(model.heads)
        self.temperatures = [model.temperatures[target] for target in model.classes]
        mean, std = (
            torch.tensor(channels).view(1, 3, 1, 1)
            for channels in (model.backbone.transform.mean, model.backbone.transform.std)
        )
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)
        self.requires_grad_(False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        features = self.features(pixels.float() * self.scale + self.shift)
        features = features.half().float()  # rounded like the vectors of the store
        pairs = zip(self.heads, self.temperatures, strict=True)
        return tuple((head(features) / temperature).softmax(dim=1) for head, temperature in pairs)


def export(model: Classifier, path: Path, *, format: str) -> float:
    """Write the file, and return the largest difference between its probabilities and the classifier's.

    Raises:
        ValueError: the classifier has no targets, or reads words, a package that the export needs is not installed,
            the network cannot be exported, or a probability differs by more than MOST_DIFFERENCE.
    """
    if not model.classes:
        raise ValueError("a backbone has no classes: export the bundle of a classifier")
    if model.words:
        raise ValueError(
            "the classifier reads words beside vectors, which no exported file does: set train_head.words to never in "
            "params.yaml, and train again"
        )
    if format == "onnx" and INPUT in model.classes:
        raise ValueError(f"a target has the name {INPUT}, which is the name of ONNX's input: export it as torch")
    with whole_file(path) as beside:
        try:
            run = (_write_onnx if format == "onnx" else _write_torchscript)(model.eval(), beside)
        except (ValueError, OSError, MemoryError):
            raise
        except Exception as error:  # exporters can raise almost any error
            reason = " ".join(str(error).split()).replace(str(beside), "the file")[:300]
            raise ValueError(f"{model.backbone.architecture} cannot be exported as {format}: {reason}") from error
        difference = max_abs_difference(model, run)
        if not difference <= MOST_DIFFERENCE:
            raise ValueError(
                f"{model.backbone.architecture} exported as {format} differs by {difference:.1e}, "
                f"expected at most {MOST_DIFFERENCE}: use the other format"
            )
    return difference


def max_abs_difference(model: Classifier, run: Run) -> float:
    """Return the largest difference of a probability, on noise in minibatches of several sizes."""
    size = model.backbone.transform.crop_size
    generator = torch.Generator().manual_seed(0)
    answerer = Answerer(model, device="cpu")
    differences = []
    for n in SIZES:
        pixels = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)
        for exported, expected in zip(run(pixels), answerer.answer(pixels).values(), strict=True):
            differences.append(float(np.abs(exported.double().numpy() - expected).max()))
    return max(differences)


def metadata(model: Classifier) -> dict[str, str]:
    """Return the classes and the transform as JSON, by name."""
    facts = {"classes": model.classes, "transform": model.backbone.transform.to_dict()}
    return {name: json.dumps(fact, ensure_ascii=False) for name, fact in facts.items()}


def _write_onnx(model: Classifier, path: Path) -> Run:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX needs the packages {', '.join(missing)}: run `pip install -e '.[export]'` in the clone")
    size = model.backbone.transform.crop_size
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own code
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
    return lambda pixels: [torch.from_numpy(output) for output in session.run(None, {INPUT: pixels.numpy()})]


def _write_torchscript(model: Classifier, path: Path) -> Run:
    size = model.backbone.transform.crop_size
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but torch reads no other format without pickle
        jit: Any = torch.jit
        program = jit.trace(Deployed(model).eval(), (torch.zeros(2, 3, size, size, dtype=torch.uint8),))
        # written to memory first: torch's own file writer ends the process if the disk is full
        content = io.BytesIO()
        jit.save(program, content, _extra_files={METADATA: json.dumps(metadata(model))})
        path.write_bytes(content.getvalue())
        loaded = jit.load(str(path))
    return lambda pixels: loaded(pixels)
