"""Write a classifier as one file that other programs run, and check the file against the classifier.

`tasks.prediction.deployed` defines the inputs of the file: an image's pixels or a text's token ids. The file
contains normalisation, heads and calibration. The outputs are the answers, one tensor per target, as
`Target.answers` returns them: probabilities (n, num_names) float32, or for a number (n, 3) float64, which are the value
and the ends of its interval. The metadata has the facts of the targets and the transform.

The format `torch` is TorchScript. Its readers (libtorch, `torch.jit.load`) make tensors and run operations, and import
nothing. `torch.export.load` may fall back to Python's pickle, which would run a stranger's code.
"""

import io
import itertools
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.machine.extras import require
from tasks.machine.files import whole_file, write_whole
from tasks.models.classifier import Classifier
from tasks.prediction.answers import Answerer
from tasks.prediction.deployed import Deployed, deployed
from tasks.targets.kinds import facts_of
from tasks.targets.number import COLUMNS as NUMBER_COLUMNS
from tasks.targets.number import Number

FORMATS = ("onnx", "torch")
MOST_DIFFERENCE = 1e-3  # of a probability, or of a number in standard deviations of train
METADATA = "graftline.json"  # the extra file of TorchScript

Run = Callable[[Sequence[Tensor]], Sequence[Tensor]]


def export(model: Classifier, path: Path, *, format: str) -> float:
    """Write the file, and beside it the files that make the inputs of a text classifier.

    Return the largest difference between the file's answers and the classifier's.

    Raises:
        ValueError: the classifier has no targets, a package that the export needs is not installed, the network cannot
            be exported, another tokenizer lies beside the file, or an answer differs by more than MOST_DIFFERENCE.
    """
    if not model.targets:
        raise ValueError("a backbone has no targets: export the bundle of a classifier")
    form = deployed(model.eval())
    if format == "onnx" and (taken := [name for name in form.inputs if name in model.targets]):
        raise ValueError(f"a target has the name {taken[0]}, which is the name of ONNX's input: export it as torch")
    check_beside(path, form.files())
    facts = metadata(model, form)
    with whole_file(path) as beside:
        try:
            run = (_write_onnx if format == "onnx" else _write_torchscript)(form, beside, list(model.targets), facts)
        except (ValueError, OSError, MemoryError):
            raise
        except Exception as error:  # exporters can raise almost any error
            reason = " ".join(str(error).split()).replace(str(beside), "the file")[:300]
            raise ValueError(f"{model.backbone.architecture} cannot be exported as {format}: {reason}") from error
        difference = max_abs_difference(model, form, run)
        if not difference <= MOST_DIFFERENCE:
            raise ValueError(
                f"{model.backbone.architecture} exported as {format} differs by {difference:.1e}, "
                f"expected at most {MOST_DIFFERENCE}: use the other format"
            )
        for name, content in form.files().items():
            write_whole(path.with_name(name), content)
    return difference


def check_beside(path: Path, files: dict[str, bytes]) -> None:
    """Raise ValueError where a file that has to lie beside the export is there with another content."""
    for name, content in files.items():
        place = path.with_name(name)
        if place == path or (place.exists() and place.read_bytes() != content):
            raise ValueError(f"{place} is there already and of another model: export into a folder of its own")


def max_abs_difference(model: Classifier, form: Deployed, run: Run) -> float:
    """Return the largest difference of an answer, on noise in minibatches of several sizes.

    That of a number is in standard deviations of train.
    """
    scales = [target.scale if isinstance(target, Number) else 1.0 for target in model.targets.values()]
    answerer = Answerer(model, device="cpu")
    differences = []
    for noise in form.noise(torch.Generator().manual_seed(0)):
        answers = answerer.answer(noise.prepared, noise.words)
        for exported, expected, scale in zip(run(noise.inputs), answers.values(), scales, strict=True):
            differences.append(float(np.abs(exported.double().numpy() - expected).max()) / scale)
    return float(np.max(differences))  # NaN where one is


def metadata(model: Classifier, form: Deployed) -> dict[str, str]:
    """Return the facts of the targets, the columns of numbers, and how the inputs are made, as JSON by name."""
    facts: dict[str, Any] = {"classes": facts_of(model.targets)}
    if numbers := [name for name, target in model.targets.items() if isinstance(target, Number)]:
        facts["columns"] = dict.fromkeys(numbers, NUMBER_COLUMNS)
    facts |= form.metadata()
    return {name: json.dumps(fact, ensure_ascii=False) for name, fact in facts.items()}


def _write_onnx(form: Deployed, path: Path, targets: list[str], facts: dict[str, str]) -> Run:
    require("export")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own code
        program: Any = torch.onnx.export(
            form,
            form.example(),
            dynamo=True,
            verbose=False,
            input_names=list(form.inputs),
            output_names=targets,
            dynamic_shapes=form.free_axes(),
        )
    make_room(program.model.graph, targets)
    forget_the_exporter(program.model.graph)
    program.model.metadata_props.update(facts)
    program.save(path, external_data=False)
    return onnx_session(path, form.inputs)


def make_room(graph: Any, targets: Sequence[str]) -> None:
    """Rename the inner values of ONNX's graph that have a target's name: no two values may share a name."""
    values = [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    names = {value.name for value in values} | {*targets}
    outputs = {id(value) for value in graph.outputs}
    for value in values:
        if value.name in targets and id(value) not in outputs:
            free = (f"{value.name}_{number}" for number in itertools.count())
            value.name = next(name for name in free if name not in names)
            names.add(value.name)


def forget_the_exporter(graph: Any) -> None:
    """Remove the exporter's notes about its own run, such as paths of code: one model always makes the same bytes."""
    graph.metadata_props.clear()
    for node in graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*graph.initializers.values(), *graph.inputs):
        value.metadata_props.clear()


def onnx_session(path: Path, names: Sequence[str], *, num_threads: int = 0) -> Run:
    """Return a function that runs an ONNX file whose inputs have these names; `num_threads` 0 takes every core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        arrays = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(output) for output in session.run(None, arrays)]

    return run


def _write_torchscript(form: Deployed, path: Path, targets: list[str], facts: dict[str, str]) -> Run:
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but torch reads no other format without pickle
        jit: Any = torch.jit
        program = jit.trace(form, form.example())
        # written to memory first: torch's own file writer ends the process if the disk is full
        content = io.BytesIO()
        jit.save(program, content, _extra_files={METADATA: json.dumps(facts)})
        path.write_bytes(content.getvalue())
        loaded = jit.load(str(path))
    return lambda inputs: loaded(*inputs)
