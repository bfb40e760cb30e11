"""Answer a part of the inputs in a process of a cluster, with the model that each process loads once."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from tasks.data.raw.inspection import MISSING, check_shared
from tasks.data.samples.remote import RemoteFile
from tasks.embedding.part import check_recipe
from tasks.machine.cluster import blocks_of, spread_to_cluster
from tasks.machine.cores import one_thread_each
from tasks.models.bundle import load_bundle
from tasks.models.domains import AUTO, NONE
from tasks.prediction.answers import Answerer
from tasks.prediction.inputs import Input, RemoteRow
from tasks.prediction.reading import Limits, Reading
from tasks.prediction.stream import Answers, answer_minibatch, embedded_stream, stream_with_heads

MINIBATCHES_AT_ONCE = 8  # of a part: seconds of work, which the death of a process costs


@dataclass(frozen=True, kw_only=True)
class AnswerPart:
    """Answers inputs, each a row of `as_row`, minibatch by minibatch; to be called in another process.

    Args:
        bundle: the folder of the model.
        choices: fields of `tasks.embedding.options.PlanOptions`, each with its value.
        domain: the domain whose heads answer; never AUTO where the model has domains.
        recipe: of the process that shares out the work, as JSON.
    """

    bundle: Path
    choices: tuple[tuple[str, Any], ...]
    limits: Limits
    columns: tuple[str, ...] | None
    encoding: str | None
    domain: str
    recipe: str

    def __call__(self, rows: Sequence[dict[str, Any]]) -> list[Answers]:
        """Return the answers. Raises ValueError where they would differ here, and the errors of `answer_minibatch`."""
        answerer, reading = _ready(self)
        size = answerer.plan.minibatch_size
        inputs = [of_row(row) for row in rows]
        with one_thread_each():
            return [
                answer_minibatch(inputs[start : start + size], answerer, reading=reading)
                for start in range(0, len(inputs), size)
            ]


@cache
def _ready(part: AnswerPart) -> tuple[Answerer, Reading]:
    """Return the model and how its samples are read; a process makes them once."""
    model, lineage = load_bundle(part.bundle)
    answerer = Answerer(model, **dict(part.choices))
    check_recipe(recipe_of(answerer), json.loads(part.recipe))
    if part.domain not in (AUTO, NONE):
        answerer = answerer.of_domain(part.domain)
    columns = None if part.columns is None else list(part.columns)
    return answerer, Reading(
        answerer.transform, lineage, limits=part.limits, columns=columns, encoding=part.encoding
    )  # fmt: skip


def recipe_of(answerer: Answerer) -> dict[str, Any]:
    """Return everything that the bits of the answers depend on besides the sample."""
    recipe: dict[str, Any] = json.loads(json.dumps(answerer.plan.recipe()))
    return recipe | {"weights": [trunk.fingerprint for trunk in answerer.trunks]}


def answers_of_cluster(
    inputs: Iterator[Input], answerer: Answerer, *, reading: Reading, bundle: Path, choices: dict[str, Any],
    domain: str, address: str | None,
) -> Iterator[Answers]:  # fmt: skip
    """Yield the answers of `answer_stream`, from the nodes of a Ray cluster; the domain is decided here."""
    if domain == AUTO and answerer.domains is not None:
        domain, inputs = domain_here(inputs, answerer, reading=reading)
    part = AnswerPart(
        bundle=bundle.absolute(), choices=tuple(sorted(choices.items())), limits=reading.limits,
        columns=None if reading.columns is None else tuple(reading.columns), encoding=reading.encoding, domain=domain,
        recipe=json.dumps(recipe_of(answerer)),
    )  # fmt: skip
    blocks = blocks_of(map(as_row, inputs), MINIBATCHES_AT_ONCE * answerer.plan.minibatch_size)
    num_gpus = int(answerer.plan.device == "cuda")
    for answers in chain.from_iterable(spread_to_cluster(blocks, part, address=address, num_gpus=num_gpus)):
        for item in answers.inputs:
            if item.reason == MISSING and isinstance(item.place, Path):
                check_shared(item.place)
        yield answers


def domain_here(inputs: Iterator[Input], answerer: Answerer, *, reading: Reading) -> tuple[str, Iterator[Input]]:
    """Return the domain of the first samples, or NONE, and all the inputs again."""
    taken: list[Input] = []

    def take() -> Iterator[Input]:
        for item in inputs:
            taken.append(item)
            yield item

    with_heads = stream_with_heads(embedded_stream(take(), answerer, reading=reading), answerer)
    adapted = next((answering.adapted for answering, (decoded, _) in with_heads if decoded.places), {})
    with_heads.close()
    return next(iter(adapted.values()), NONE), chain(taken, inputs)


def as_row(item: Input) -> dict[str, Any]:
    """Return an input as cells of an Arrow table."""
    row = item.place.row if isinstance(item.place, RemoteRow) else None
    place = item.place.file if isinstance(item.place, RemoteRow) else item.place
    size = place.size if isinstance(place, RemoteFile) else None
    name = place.address if isinstance(place, RemoteFile) else place
    return {
        "path": item.path, "place": None if name is None else os.fsencode(name), "size": size, "row": row,
        "content": item.content, "reason": item.reason, "detail": item.detail,
    }  # fmt: skip


def of_row(cells: dict[str, Any]) -> Input:
    """Return the input that `as_row` made cells of."""
    place: Any = cells["place"] if cells["place"] is None else os.fsdecode(cells["place"])
    if cells["size"] is not None:
        place = RemoteFile(address=place, size=cells["size"])
        place = place if cells["row"] is None else RemoteRow(file=place, row=cells["row"])
    elif place is not None:
        place = Path(place)
    return Input(
        path=cells["path"], place=place, content=cells["content"], reason=cells["reason"], detail=cells["detail"]
    )  # fmt: skip
