"""Pictures from anywhere in; the likeliest classes of each, with calibrated probabilities, or the reason why it has none, out.

Reading, decoding and computing go on as in the embedding engine, and nothing is kept: any number of pictures may pass.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from tasks.data.samples.defects import ImageDefectError
from tasks.data.samples.samples import sample_id, stack
from tasks.embedding.embedder import Embedder
from tasks.images.decode import decode_stranger
from tasks.machine.cores import in_turn
from tasks.models.classifier import Classifier
from tasks.prediction.inputs import Input, read_input


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of a picture: its shorter side in px, width x height in px, and its bytes."""

    min_image_size: int
    max_image_pixels: int
    max_file_bytes: int


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Of a minibatch of n inputs, m of which are pictures."""

    inputs: list[Input]  # n; those that are no pictures have a reason
    sample_ids: list[str]  # n; "" where there were no bytes
    places: list[int]  # m, the positions of the pictures among the inputs
    ranked: list[
        tuple[Tensor, Tensor]
    ]  # a target: probabilities (m, k) float64, the likeliest first, and class indices (m, k)


Decoded = tuple[list[Input], list[str], list[int], list[Tensor]]


def classify(
    inputs: Iterable[Input], model: Classifier, embedder: Embedder, *, limits: Limits, top_k: int
) -> Iterator[Answers]:
    """Minibatches in the order of the inputs; `embedder` is that of the model's backbone. Raises ValueError naming the first
    picture with a probability that is not finite."""
    heads = copy.deepcopy(model.heads).to(embedder.plan.device).eval()
    temperatures = [model.temperatures[target] for target in model.classes]
    remaining = iter(inputs)
    minibatches = iter(lambda: list(islice(remaining, embedder.plan.minibatch_size)), [])

    def decode(minibatch: list[Input]) -> Decoded:
        torch.get_num_threads()  # the first call in a thread makes it compute on one core, see `one_thread_each`
        found, sample_ids, places, pixels = [], [], [], []
        for place, each in enumerate(minibatch):
            identity = ""
            try:
                if not each.reason:
                    content = read_input(each, max_file_bytes=limits.max_file_bytes)
                    identity = sample_id(content)
                    image = decode_stranger(
                        content,
                        min_image_size=limits.min_image_size,
                        max_image_pixels=limits.max_image_pixels,
                        shorter_side=embedder.transform.shorter_side,
                    )
                    pixels.append(embedder.transform.pixels(image))
                    places.append(place)
            except ImageDefectError as error:
                each = replace(each, reason=error.reason, detail=str(error))
            found.append(each)
            sample_ids.append(identity)
        return found, sample_ids, places, pixels

    @torch.inference_mode()
    def compute(decoded: Decoded) -> Answers:
        found, sample_ids, places, pixels = decoded
        ranked = []
        if pixels:
            features = embedder(stack(pixels))  # (m, dim)
            for head, temperature in zip(heads, temperatures, strict=True):
                probabilities = (head(features).double() / temperature).softmax(dim=1)
                values, classes = probabilities.sort(dim=1, descending=True, stable=True)
                first = values[:, :top_k], classes[:, :top_k]
                ranked.append((first[0].to("cpu", non_blocking=True), first[1].to("cpu", non_blocking=True)))
        return Answers(inputs=found, sample_ids=sample_ids, places=places, ranked=ranked)

    for answers in in_turn(minibatches, decode, compute, device=embedder.plan.device):
        _check_finite(answers, list(model.classes))  # here, where a GPU is done with it
        yield answers


def _check_finite(answers: Answers, targets: list[str]) -> None:
    for target, (values, _) in zip(targets, answers.ranked, strict=bool(answers.places)):
        bad = (~values.isfinite().all(dim=1)).nonzero()
        if len(bad):
            path = answers.inputs[answers.places[int(bad[0])]].path
            raise ValueError(
                f"the probabilities of {path} for {target} are not finite: the weights of the bundle may be damaged, or numbers "
                "in its network too large for this precision"
            )
