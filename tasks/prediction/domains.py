"""Choose the heads that answer: the general ones, or those of a domain that a person names or the samples show."""

import logging
import math
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from tasks.machine.names import on_one_line
from tasks.models.domains import AUTO, NONE, AdaptedHeads
from tasks.prediction.answers import Answerer, layers_of, logits_by_row
from tasks.targets.classes import probabilities
from tasks.targets.head import Head

logger = logging.getLogger("graftline")

NUM_TOLD = 512  # inputs whose samples decide the domain of all
NUM_ERRORS = 2  # standard errors by which a mean probability has to be above a half
SHOWN = 300  # characters of the names of a stranger's domains


def check_domain(domain: str, heads: AdaptedHeads | None) -> None:
    """Raise ValueError unless `domain` is AUTO, NONE or a domain that has heads."""
    known = list(heads.targets_of) if heads else []
    if domain in (AUTO, NONE, *known):
        return
    if not known:
        raise ValueError(f"the domain is {domain!r:.60}, but the model is adapted to no domain: leave it out")
    raise ValueError(
        f"the domain is {domain!r:.60}, but the model is adapted to {', '.join(map(on_one_line, known))[:SHOWN]}: "
        f"name one of these, or {AUTO}, or {NONE}"
    )


def of_named(answerer: Answerer, domain: str) -> Answerer:
    """Return the answerer with the heads of a domain, or the general ones for AUTO and NONE."""
    return answerer if domain in (AUTO, NONE) else _of_domain(answerer, domain, sure="")


def of_told(answerer: Answerer, vectors: NDArray[np.float16]) -> Answerer:
    """Return the answerer with the heads of the samples' domain, found by their vectors (n, dim), n at least 1.

    The vectors are of the first trunk. A domain's heads answer where the mean of its probabilities is above a half by
    more than NUM_ERRORS standard errors of as many votes: above 0.95 for one sample, 0.60 for 100, 0.54 for 512.
    Else the general heads answer, because they have learned from labels.
    """
    assert answerer.domains is not None
    teller = Head(layers=layers_of(answerer.domains.teller))
    shares = probabilities(logits_by_row(teller, vectors.astype(np.float32)), temperature=1.0).mean(axis=0)
    over = f"over {len(vectors):,} sample{'s' if len(vectors) > 1 else ''}"
    domain, share = max(zip(answerer.domains.targets_of, shares[1:].tolist(), strict=True), key=itemgetter(1))
    if share - 0.5 > NUM_ERRORS * math.sqrt(share * (1 - share) / len(vectors)):
        return _of_domain(answerer, domain, sure=f" (mean probability {share:.2f} {over})")
    logger.info(
        "the general heads answer: %s the mean probability of the sources is %.2f, and that of %s %.2f is not surely "
        "above a half", over, shares[0], on_one_line(domain), share,
    )  # fmt: skip
    return answerer


def _of_domain(answerer: Answerer, domain: str, *, sure: str) -> Answerer:
    adapted = answerer.of_domain(domain)
    logger.info(
        "the domain is %s%s: its heads answer %s; probabilities are not calibrated on this domain",
        on_one_line(domain), sure, ", ".join(map(on_one_line, adapted.adapted)),
    )  # fmt: skip
    return adapted
