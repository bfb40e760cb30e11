"""The spaces in which source and target are compared: each map of the domains gives one, and the way back from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from tasks.training.alignment.domains import Array, Domains, Labels, Vectors
from tasks.training.alignment.moments import Moments, moments_of
from tasks.training.alignment.objective import Layer

CORAL_RIDGE = 0.1  # of the mean variance: the covariance of few samples has directions without any


@dataclass(frozen=True, kw_only=True)
class Space:
    """The samples of the sources' train and val and of the target, (n, dim) float32 each.

    `fold` maps a layer for the target's vectors in this space to one for its vectors as they are.
    """

    train: NDArray[np.float32]
    val: NDArray[np.float32]
    target: NDArray[np.float32]
    fold: Callable[[Array, Array], Layer]


def as_they_are(domains: Domains) -> Space:
    return Space(
        train=_joined([source.train[0] for source in domains.sources]),
        val=_joined([source.val[0] for source in domains.sources]),
        target=domains.target.vectors.astype(np.float32),
        fold=lambda weight, bias: (weight, bias),
    )


def standardised(domains: Domains) -> Space:
    """Give each domain by itself the mean 0, and deviations that are square roots of those of the sources.

    So a feature that varies more counts more, half as far as in the vectors themselves ("Pareto scaling", van den Berg
    et al. 2006). The moments of a domain with few samples are drawn to those of all sources.
    """
    prior = moments_of(_joined([source.train[0] for source in domains.sources]))
    wanted = Moments(mean=np.zeros_like(prior.mean), deviation=np.sqrt(prior.deviation / prior.deviation.mean()))
    is_one = len(domains.sources) == 1
    moments = [moments_of(source.train[0], prior=None if is_one else prior).onto(wanted) for source in domains.sources]
    of_target = moments_of(domains.target.vectors, prior=prior).onto(wanted)
    pairs = list(zip(moments, domains.sources, strict=True))
    return Space(
        train=np.concatenate([its.standardise(source.train[0]) for its, source in pairs]),
        val=np.concatenate([its.standardise(source.val[0]) for its, source in pairs]),
        target=of_target.standardise(domains.target.vectors),
        fold=of_target.fold,
    )


def scaled(domains: Domains, *, by_all: bool = False) -> tuple[Space, Moments]:
    """Divide all domains by the moments of the sources, or of the sources and the target together.

    It changes the scale of the features and nothing between the domains.
    """
    plain = as_they_are(domains)
    moments = moments_of(np.concatenate([plain.train, plain.target]) if by_all else plain.train)
    train, val, target = map(moments.standardise, (plain.train, plain.val, plain.target))
    return Space(train=train, val=val, target=target, fold=moments.fold), moments


def with_shares(space: Space, labels: Labels, ratios: Array) -> Space:
    """Move the target so that its moments are those of a source whose classes' shares have changed by `ratios` (k,).

    Plain standardisation takes another mix of classes for a shift of the features, and undoes it. With the target's
    shares as the source's, only the shift of the features is undone (location-scale generalised target shift, Zhang
    et al. 2013).
    """
    wanted = moments_of(space.train, weights=ratios[labels])
    moves = moments_of(space.target, prior=wanted).onto(wanted)
    return replace(
        space, target=moves.standardise(space.target), fold=lambda weight, bias: space.fold(*moves.fold(weight, bias))
    )


def correlated(domains: Domains) -> Space:
    """Give the sources the target's means and correlations: CORAL (Sun, Feng and Saenko 2016)."""
    plain = as_they_are(domains)
    mean, covariance = _covariance(plain.target)
    train: list[NDArray[np.float32]] = []
    val: list[NDArray[np.float32]] = []
    for source in domains.sources:
        its_mean, its_covariance = _covariance(source.train[0])
        across = _power(its_covariance, -0.5) @ _power(covariance, 0.5)
        for part, vectors in ((train, source.train[0]), (val, source.val[0])):
            part.append(((vectors - its_mean) @ across + mean).astype(np.float32))
    return replace(plain, train=np.concatenate(train), val=np.concatenate(val))


def _joined(parts: Sequence[Vectors]) -> NDArray[np.float32]:
    return np.concatenate(parts).astype(np.float32)


def _covariance(vectors: Vectors) -> tuple[Array, Array]:
    """Return the mean (dim,) and the covariance (dim, dim), with a ridge."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    centred = vectors - mean
    covariance = centred.T @ centred / len(vectors)
    ridge = max(CORAL_RIDGE * float(np.trace(covariance)) / len(covariance), 1e-12)
    return mean, covariance + ridge * np.eye(len(covariance))


def _power(matrix: Array, exponent: float) -> Array:
    values, basis = eigh(matrix)
    return np.asarray((basis * values**exponent) @ basis.T)
