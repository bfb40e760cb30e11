"""Answers to a stream of inputs: what the model says of each sample, or the reason why it says nothing.

Nothing is kept: any number of inputs may pass.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tasks.data.samples.defects import DefectError
from tasks.data.samples.samples import sample_id
from tasks.machine.cores import in_turn
from tasks.prediction.answers import Answerer, TargetAnswers
from tasks.prediction.inputs import Input
from tasks.prediction.reading import Reading
from tasks.targets.head import SparseRow
from tasks.targets.target import Target


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers to a minibatch of n inputs, m of which are samples."""

    inputs: list[Input]  # n; those that are no samples have a reason
    sample_ids: list[str]  # n; "" where there were no bytes
    places: list[int]  # m, the positions of the samples among the inputs
    remarks: list[dict[str, Any]]  # m, of `Reading.remarks`
    vectors: NDArray[np.float16]  # (m, dim)
    answers: TargetAnswers  # (m, …) each; none where there is no sample


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A minibatch on its way: its inputs, and those that are samples as the transform prepares them."""

    inputs: list[Input]
    sample_ids: list[str]
    places: list[int]
    remarks: list[dict[str, Any]]
    prepared: list[Any]
    words: list[SparseRow]


def answer_stream(inputs: Iterable[Input], answerer: Answerer, *, reading: Reading) -> Iterator[Answers]:
    """Yield the answers to minibatches, in the order of the inputs.

    Raises:
        ValueError: an answer is not finite; the first such sample is named.
    """
    remaining = iter(inputs)
    size = answerer.embedder.plan.minibatch_size
    minibatches = iter(lambda: list(islice(remaining, size)), [])

    def read(minibatch: list[Input]) -> Decoded:
        decoded = Decoded(inputs=[], sample_ids=[], places=[], remarks=[], prepared=[], words=[])
        for place, item in enumerate(minibatch):
            identity = ""
            try:
                if not item.reason:
                    sample = item.decoded
                    if sample is None:
                        content = reading.content(item)
                        identity = sample_id(content)
                        sample = reading.decode(content)
                    decoded.prepared.append(answerer.transform.prepare(sample))
                    decoded.words.append(answerer.words(sample))
                    decoded.remarks.append(reading.remarks(sample))
                    decoded.places.append(place)
            except DefectError as error:
                item = replace(item, reason=error.reason, detail=str(error).replace("scan.encoding", "--encoding"))
            decoded.inputs.append(item)
            decoded.sample_ids.append(identity)
        return decoded

    def compute(decoded: Decoded) -> tuple[Decoded, Tensor | None]:
        return decoded, answerer.vectors(answerer.transform.stack(decoded.prepared)) if decoded.prepared else None

    none = np.empty((0, answerer.embedder.dim), np.float16)
    for decoded, computed in in_turn(minibatches, read, compute, device=answerer.embedder.plan.device):
        vectors = none if computed is None else computed.numpy()
        answers = {} if computed is None else answerer.answers(vectors, decoded.words)
        _check_finite(answers, decoded, targets=answerer.targets)
        yield Answers(
            inputs=decoded.inputs, sample_ids=decoded.sample_ids, places=decoded.places, remarks=decoded.remarks,
            vectors=vectors, answers=answers,
        )  # fmt: skip


def _check_finite(answers: TargetAnswers, decoded: Decoded, *, targets: Mapping[str, Target]) -> None:
    for target, values in answers.items():
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            path = decoded.inputs[decoded.places[int(bad[0])]].path
            raise ValueError(
                f"the {'probabilities' if targets[target].names else 'numbers'} of {path} for {target} are not finite: the weights of the bundle may be damaged, "
                "or numbers in its network too large for this precision"
            )
