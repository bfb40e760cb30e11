"""The candidate as a file for other programs (ONNX, ONNX in int8), and the answers of each to held-out samples.

A file has the candidate's general heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tasks.data.samples.samples import Samples
from tasks.embedding.engine import Show
from tasks.machine.cores import spread
from tasks.models.classifier import Classifier
from tasks.prediction.answers import TargetAnswers
from tasks.prediction.deployed import Deployed, deployed
from tasks.prediction.export import Run, export, onnx_session
from tasks.prediction.latency import example, milliseconds
from tasks.prediction.quantise import MINIBATCH, NUM_CALIBRATION, write_int8
from tasks.targets.head import NO_WORDS


@dataclass(frozen=True, kw_only=True)
class Form:
    """A file, its answers to n samples, by target, and its time for one sample on this processor."""

    content: bytes
    answers: TargetAnswers
    milliseconds: float


def ask_forms(
    model: Classifier,
    lineage: Mapping[str, Any],
    names: Sequence[str],
    samples: Samples[Any],
    *,
    of_train: Samples[Any],
    show: Show,
) -> tuple[dict[str, Form], dict[str, bytes]]:
    """Return the forms of a classifier, by name, and the files that have to lie beside them.

    Args:
        names: some of `onnx` and `int8`.
        samples: (n,) those that the files answer.
        of_train: samples of train; the first of them give the ranges of int8.

    Raises:
        ValueError: as for `export`, or a sample is missing.
    """
    form = deployed(model.eval())
    is_text = model.backbone.transform.modality == "text"
    forms = {}
    with TemporaryDirectory() as folder:
        exported = Path(folder) / "onnx"
        export(model, exported, format="onnx")
        for name in names:
            path = Path(folder) / name
            if name == "int8":
                write_int8(path, exported, names=form.inputs, calibration=calibration(model, form, of_train))
            one_core, every_core = (onnx_session(path, form.inputs, num_threads=number) for number in (1, 0))
            # ranges of texts are those of one call, so that a text beside others would get other answers
            size = 1 if is_text and name == "int8" else MINIBATCH
            single = form.inputs_of([example(model.backbone.transform, lineage)], [NO_WORDS])
            forms[name] = Form(
                content=path.read_bytes(),
                answers=answers_of(one_core, model, form, samples, size=size, show=show),
                milliseconds=milliseconds(partial(every_core, single)),
            )
    return forms, form.files()


def answers_of(
    run: Run, model: Classifier, form: Deployed, samples: Samples[Any], *, size: int, show: Show
) -> TargetAnswers:
    """Return a file's answers to samples, `size` a call, by target.

    `run` takes one core, so that no bit depends on their number.
    """
    parts = minibatches(len(samples), size=size)
    outputs = show(spread(parts, lambda rows: run(inputs_of(model, form, samples, rows))), total=len(parts))
    by_target = zip(model.targets, zip(*outputs, strict=True), strict=True)
    return {name: np.concatenate([part.double().numpy() for part in answers]) for name, answers in by_target}


def calibration(model: Classifier, form: Deployed, of_train: Samples[Any]) -> list[tuple[Any, ...]] | None:
    """Return the inputs of samples that give the ranges of activations; None for texts."""
    if model.backbone.transform.modality != "images":
        return None
    parts = minibatches(min(len(of_train), NUM_CALIBRATION), size=MINIBATCH)
    return [inputs_of(model, form, of_train, rows) for rows in parts]


def inputs_of(model: Classifier, form: Deployed, samples: Samples[Any], rows: Sequence[int]) -> tuple[Any, ...]:
    """Return the inputs of some samples, as a file takes them."""
    transform: Any = model.backbone.transform
    vocabulary = model.words.vocabulary() if model.words else None
    decoded = [samples.decoded(row, shorter_side=transform.shorter_side) for row in rows]
    words = [vocabulary.row(sample) if vocabulary else NO_WORDS for sample in decoded]
    return form.inputs_of([transform.prepare(sample) for sample in decoded], words)


def minibatches(num: int, *, size: int) -> list[range]:
    return [range(start, min(start + size, num)) for start in range(0, num, size)]
