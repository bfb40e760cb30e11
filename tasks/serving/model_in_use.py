"""A bundle made ready to answer, and the state of its place."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.models.bundle import DESCRIPTION, WEIGHTS, load_bundle
from tasks.models.classifier import Classifier
from tasks.models.domains import NONE
from tasks.prediction.answers import Answerer
from tasks.prediction.domains import check_domain, of_named
from tasks.prediction.latency import example
from tasks.prediction.prediction_table import schema_for
from tasks.prediction.reading import Limits, Reading
from tasks.targets.head import NO_WORDS

TRIES = 3  # to read a bundle that another one replaces meanwhile

State = tuple[tuple[int, ...] | None, ...]  # of the files of a bundle; None where one is missing


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The settings with which a service computes answers.

    `choices` are fields of `tasks.embedding.options.PlanOptions`.
    """

    choices: dict[str, Any]
    limits: Limits
    domain: str = NONE
    has_embeddings: bool = False  # in the log


@dataclass(frozen=True, kw_only=True)
class ModelInUse:
    """A bundle that is ready to answer."""

    sha256: str  # of its weights
    state: State
    answerer: Answerer
    reading: Reading
    schema: pa.Schema  # of its rows in the log


def load(
    bundle: Path,
    options: ModelOptions,
    *,
    before: ModelInUse | None = None,
    alone: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> ModelInUse:
    """Load the bundle, check it, and let it answer an example.

    Args:
        before: the model that answers now; parts that both have in common are not made again.
        alone: holds the threads that compute. torch.fx changes all modules of the process while it traces one.

    Raises:
        ValueError: the bundle is not whole, does not know the domain, reads another modality than the model before, or
            gives answers that are not finite.
    """
    state, sha256, model, lineage = _read(bundle)
    check_domain(options.domain, model.domains)
    with alone():
        whole = Answerer(model, ready=before.answerer.trunks if before else (), **options.choices)
        answerer = of_named(whole, options.domain)
        modality = answerer.transform.modality
        if before and modality != before.answerer.transform.modality:
            raise ValueError(f"{bundle} reads {modality}, and the model in use does not: start the service again")
        answers = answerer.answer([example(answerer.transform, lineage)], [NO_WORDS])
    if not all(np.isfinite(values).all() for values in answers.values()):
        raise ValueError(f"{bundle} gives answers that are not finite: its weights are damaged")
    schema = schema_for(whole, has_embeddings=options.has_embeddings, is_log=True)
    reading = Reading(answerer.transform, lineage, limits=options.limits)
    return ModelInUse(sha256=sha256, state=state, answerer=answerer, reading=reading, schema=schema)


def _read(bundle: Path) -> tuple[State, str, Classifier, dict[str, Any]]:
    """Return one and the same bundle: its state, its digest, the classifier and the lineage."""
    for _ in range(TRIES):
        state = state_of(bundle)
        model, lineage = load_bundle(bundle)
        sha256 = _weights_sha256(bundle)
        if state_of(bundle) == state:
            return state, sha256, model, lineage
    raise ValueError(f"{bundle} was replaced while it was read: it is read again")


def state_of(bundle: Path) -> State:
    """Return the state of the bundle's files, which changes whenever one is written or replaced."""
    state: list[tuple[int, ...] | None] = []
    for name in (DESCRIPTION, WEIGHTS):
        try:
            file = (bundle / name).stat()
            state.append((file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns))
        except OSError:
            state.append(None)
    return tuple(state)


def _weights_sha256(bundle: Path) -> str:
    try:
        return str(json.loads((bundle / DESCRIPTION).read_bytes())["weights_sha256"])
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{bundle} was replaced while it was read: it is read again") from error
