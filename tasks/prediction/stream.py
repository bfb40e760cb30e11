"""Answer a stream of inputs: for each sample the model's answers, or the reason why there are none.

Only the inputs at the beginning, which decide the domain, are kept: any number of inputs may pass.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.data.samples.defects import DefectError
from tasks.data.samples.samples import sample_id
from tasks.machine.cores import in_turn, one_thread_each
from tasks.models.domains import AUTO
from tasks.prediction.answers import Answerer, TargetAnswers
from tasks.prediction.domains import NUM_TOLD, of_named, of_told
from tasks.prediction.inputs import Input
from tasks.prediction.reading import Reading
from tasks.prediction.unlike import find_unlike
from tasks.targets.head import SparseRow
from tasks.targets.target import Target

UNLIKE = "unlike"  # the remark whether a sample is unlike the trained ones


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers to a minibatch of n inputs, m of which are samples."""

    inputs: list[Input]  # n, without their bytes; those that are no samples have a reason
    sample_ids: list[str]  # n; "" where there were no bytes
    places: list[int]  # m, the positions of the samples among the inputs
    remarks: list[dict[str, Any]]  # m, of `Reading.remarks`, and whether a sample is unlike the trained ones
    vectors: list[NDArray[np.float16]]  # (m, dim) each, one a trunk
    answers: TargetAnswers  # (m, …) each; none where there is no sample
    adapted: dict[str, str]  # by target, the domain whose head answered, where it was not the general head


@dataclass(kw_only=True)
class Decoded:
    """A minibatch on its way: its inputs, and the samples among them, stacked; None without any, or once released."""

    inputs: list[Input]
    sample_ids: list[str]
    places: list[int]
    remarks: list[dict[str, Any]]
    stacked: Any
    words: list[SparseRow]


Embedded: TypeAlias = tuple[Decoded, list[NDArray[np.float16]]]  # vectors (m, dim) of each trunk


def answer_stream(
    inputs: Iterable[Input], answerer: Answerer, *, reading: Reading, domain: str = AUTO
) -> Iterator[Answers]:
    """Yield the answers to minibatches, in the order of the inputs.

    Args:
        domain: the domain whose heads answer, one that `check_domain` allows. AUTO takes the domain of the first
            samples: the NUM_TOLD inputs from the first sample on wait until it is known.

    Raises:
        ValueError: an answer is not finite; the first such sample is named.
    """
    is_told = domain == AUTO and answerer.domains is not None
    if not is_told:
        answerer = of_named(answerer, domain)
    minibatches = embedded_stream(inputs, answerer, reading=reading)
    with_heads = (
        stream_with_heads(minibatches, answerer) if is_told else ((answerer, minibatch) for minibatch in minibatches)
    )
    for answering, (decoded, vectors) in with_heads:
        yield _answers(decoded, vectors, answering)


def answer_minibatch(inputs: Iterable[Input], answerer: Answerer, *, reading: Reading) -> Answers:
    """Return the answers to at most a minibatch of inputs, computed by the thread that calls.

    Call it inside `one_thread_each`.

    Raises:
        ValueError: an answer is not finite; the first such sample is named.
    """
    decoded = read_minibatch(inputs, answerer, reading=reading)
    vectors = answerer.vectors(decoded.stacked) if decoded.stacked is not None else []
    if vectors and answerer.plan.device == "cuda":
        torch.cuda.synchronize()
    return _answers(decoded, [of_trunk.numpy() for of_trunk in vectors] or _no_vectors(answerer), answerer)


def _answers(decoded: Decoded, vectors: list[NDArray[np.float16]], answerer: Answerer) -> Answers:
    answers = answerer.answers(vectors, decoded.words) if decoded.places else {}
    _check_finite(answers, decoded, targets=answerer.targets)
    remarks = decoded.remarks
    if answerer.unlike and decoded.places:
        are_unlike = find_unlike(answerer.unlike, vectors[0]).tolist()
        remarks = [remark | {UNLIKE: is_unlike} for remark, is_unlike in zip(remarks, are_unlike, strict=True)]
    return Answers(
        inputs=decoded.inputs, sample_ids=decoded.sample_ids, places=decoded.places, remarks=remarks,
        vectors=vectors, answers=answers, adapted=answerer.adapted,
    )  # fmt: skip


def _no_vectors(answerer: Answerer) -> list[NDArray[np.float16]]:
    return [np.empty((0, answerer.dim), np.float16) for _ in answerer.trunks]


def stream_with_heads(
    minibatches: Iterator[Embedded], answerer: Answerer
) -> Generator[tuple[Answerer, Embedded], None, None]:
    """Yield each minibatch with its answerer, which has the heads of the first samples' domain.

    The samples among the NUM_TOLD inputs from the first sample on decide the domain, whatever the size of a minibatch.
    They wait until it is known. Where the domain has statistics of its own, samples are embedded again.
    """
    waiting: list[Embedded] = []
    places: list[int] = []  # of the samples among the inputs that wait
    num_inputs = 0
    for minibatch in minibatches:
        decoded, _ = minibatch
        if not places and not decoded.places:
            yield answerer, minibatch  # no sample
            continue
        waiting.append(minibatch)
        places += [num_inputs + place for place in decoded.places]
        num_inputs += len(decoded.inputs)
        if num_inputs - places[0] >= NUM_TOLD:
            break
    if waiting:
        num_told = sum(place - places[0] < NUM_TOLD for place in places)
        answering = of_told(answerer, np.concatenate([vectors[0] for _, vectors in waiting])[:num_told])
        for decoded, vectors in chain(waiting, minibatches):
            if answering.trunks is not answerer.trunks and decoded.stacked is not None:
                vectors = embedded_again(decoded, answering)
            decoded.stacked = None
            yield answering, (decoded, vectors)


def embedded_again(decoded: Decoded, own: Answerer) -> list[NDArray[np.float16]]:
    """Return the vectors (m, dim) that the trunks of a domain give to samples which other trunks embedded."""
    with one_thread_each():
        vectors = own.vectors(decoded.stacked)
    if own.plan.device == "cuda":
        torch.cuda.synchronize()
    return [of_trunk.numpy() for of_trunk in vectors]


def embedded_stream(inputs: Iterable[Input], answerer: Answerer, *, reading: Reading) -> Iterator[Embedded]:
    """Yield the minibatches as they are read, with the samples' vectors, in the order of the inputs."""
    remaining = iter(inputs)
    size = answerer.plan.minibatch_size
    minibatches = iter(lambda: list(islice(remaining, size)), [])

    def read(minibatch: list[Input]) -> Decoded:
        return read_minibatch(minibatch, answerer, reading=reading)

    def compute(decoded: Decoded) -> tuple[Decoded, list[Tensor]]:
        vectors = answerer.vectors(decoded.stacked) if decoded.stacked is not None else []
        if not keeps_stacked:
            decoded.stacked = None
        return decoded, vectors

    keeps_stacked = answerer.domains is not None and bool(answerer.domains.statistics_of)
    none = _no_vectors(answerer)
    for decoded, computed in in_turn(minibatches, read, compute, device=answerer.plan.device):
        yield decoded, [of_trunk.numpy() for of_trunk in computed] or none


def read_minibatch(inputs: Iterable[Input], answerer: Answerer, *, reading: Reading) -> Decoded:
    """Return a minibatch as the transform prepares it. An input that is no sample gets the reason."""
    decoded = Decoded(inputs=[], sample_ids=[], places=[], remarks=[], stacked=None, words=[])
    prepared = []
    for place, item in enumerate(inputs):
        identity = ""
        try:
            if not item.reason:
                sample = item.decoded
                if sample is None:
                    content = reading.content(item)
                    identity = sample_id(content)
                    sample = reading.decode(content)
                prepared.append(answerer.transform.prepare(sample))
                decoded.words.append(answerer.words(sample))
                decoded.remarks.append(reading.remarks(sample))
                decoded.places.append(place)
        except DefectError as error:
            item = replace(item, reason=error.reason, detail=str(error).replace("scan.encoding", "--encoding"))
        decoded.inputs.append(replace(item, content=None, decoded=None))
        decoded.sample_ids.append(identity)
    decoded.stacked = answerer.stack(prepared) if prepared else None
    return decoded


def _check_finite(answers: TargetAnswers, decoded: Decoded, *, targets: Mapping[str, Target]) -> None:
    for target, values in answers.items():
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            path = decoded.inputs[decoded.places[int(bad[0])]].path
            what = "probabilities" if targets[target].names else "numbers"
            raise ValueError(
                f"the {what} of {path} for {target} are not finite: the weights of the bundle may be damaged, "
                "or numbers in its network too large for this precision"
            )
