"""Adapt a head to a target domain: labelled sources and an unlabelled target in, a linear head with its facts out."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from tasks.targets.classes import likeliest
from tasks.training.alignment import gate, labelled
from tasks.training.alignment.adapters import train_adapter
from tasks.training.alignment.domains import Array, DomainHead, Domains, UnsuitedError
from tasks.training.alignment.infomax import maximise_information
from tasks.training.alignment.joint import LEAST_MOVED, have_shares_moved, standardised_shares
from tasks.training.alignment.objective import Answered, Layer, fit_layer
from tasks.training.alignment.options import AdaptOptions
from tasks.training.alignment.reweighting import classifier_weights, effective_samples, flattened, kernel_weights
from tasks.training.alignment.shares import estimate_shares, predicted_shares
from tasks.training.alignment.source_only import Fit, calibrated, fit_sources
from tasks.training.alignment.spaces import Space, as_they_are, correlated, scaled, standardised, with_shares

logger = logging.getLogger("graftline")

NUM_ROUNDS = 2  # of infomax
REWEIGHTING_STEPS = 15  # of L-BFGS, from zero on: more fit the few samples that the weights leave


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """The head of the target, the sources' own head beside it, and how many answers on the target differ."""

    head: DomainHead
    source_only: DomainHead
    changed: float


@dataclass(frozen=True)
class SpaceHead:
    """The layer of the target in a space, and the facts of the method that fitted it."""

    space: Space
    layer: Layer
    facts: dict[str, Any]


class Problem:
    """The domains, with intermediate results that several methods need, computed once."""

    def __init__(self, domains: Domains, options: AdaptOptions, *, seed: int) -> None:
        self.domains, self.options, self.seed = domains, options, seed

    @cached_property
    def plain(self) -> Space:
        return as_they_are(self.domains)

    @cached_property
    def base(self) -> Fit:
        return fit_sources(self.plain, self.domains)

    @cached_property
    def standardised(self) -> Space:
        return standardised(self.domains)

    @cached_property
    def standardised_base(self) -> Fit:
        return fit_sources(self.standardised, self.domains)

    @cached_property
    def scaled(self) -> tuple[Space, Fit]:
        space, moments = scaled(self.domains)
        return space, replace(self.base, layer=moments.unfold(*self.base.layer))

    @cached_property
    def verdict(self) -> gate.Verdict:
        verdict = gate.choose(self.plain, self.domains, self.base, seed=self.seed)
        if verdict.method not in LEAST_MOVED or not self.have_shares_moved(verdict):
            return verdict
        return replace(verdict, method="joint", reason="the features moved, and the classes' shares with them")

    @cached_property
    def informed(self) -> "SpaceHead":
        return infomax(self)

    @cached_property
    def standardised_shares(self) -> Array:
        return standardised_shares(self.standardised, self.domains, self.standardised_base)

    def have_shares_moved(self, verdict: gate.Verdict) -> bool:
        (weight, bias), domains, adapted = self.base.layer, self.domains, self.informed
        assert verdict.shares is not None
        return have_shares_moved(
            domains,
            calibrated(self.base, self.plain.target @ weight.T + bias),
            plain=verdict.shares,
            standardised=self.standardised_shares,
            informed=predicted_shares(adapted.space.target @ adapted.layer[0].T + adapted.layer[1], domains.shares),
            least_moved=LEAST_MOVED[verdict.method],
        )


def adapt(domains: Domains, options: AdaptOptions, *, seed: int) -> Adaptation:
    """Return the head of the target domain.

    Where a method cannot work on these domains, the sources' own head stays, with a warning and a `reason` in the
    facts. Where samples of the target are labelled, `labelled.choose` decides what these labels add.
    """
    with threadpool_limits(1):  # so that no bit depends on the number of cores
        return solve(Problem(domains, options, seed=seed))


def solve(problem: Problem) -> Adaptation:
    domains, asked = problem.domains, problem.options.method
    target = domains.target
    facts: dict[str, Any] = {"asked": asked, "num_samples": len(target.vectors)} | remarks(domains)
    method: str = asked
    try:
        check(domains, problem.options)
        if asked == "auto":
            method = problem.verdict.method
            facts |= problem.verdict.facts()
        adapted = METHODS[method](problem)
    except UnsuitedError as error:
        method, adapted = "source", source_only(problem)
        facts["reason"] = f"the sources' own head stays: {error}"
        logger.warning("domain %s: %s", target.name, facts["reason"])
    if target.is_labelled.any():
        is_far = method == "infomax"
        layer, more = labelled.choose(adapted.space, domains, adapted.layer, is_far=is_far, seed=problem.seed)
        adapted = replace(adapted, layer=layer)
        facts |= more
    if "estimated" not in adapted.facts:  # the method estimates no shares: those of its answers
        weight, bias = adapted.layer
        facts |= both(domains, predicted_shares(adapted.space.target @ weight.T + bias, domains.shares))
    head = folded(adapted, method=method, facts=facts)
    beside = folded(source_only(problem), method="source", facts={})
    answers, before = (likeliest(one.logits(target.vectors)) for one in (head, beside))
    return Adaptation(head=head, source_only=beside, changed=float((answers != before).mean()))


def check(domains: Domains, options: AdaptOptions) -> None:
    vectors = domains.target.vectors
    if len(vectors) < options.min_unlabelled:
        raise UnsuitedError(
            f"it has {len(vectors)} samples, expected at least {options.min_unlabelled}: land more of them, or lower "
            "adapt.min_unlabelled"
        )
    if (vectors == vectors[0]).all():
        raise UnsuitedError(f"all of its {len(vectors)} samples have the same vector: look at its files")


def remarks(domains: Domains) -> dict[str, Any]:
    """Return, where there are any, the classes that a source lacks and the number of features constant in a domain."""
    facts: dict[str, Any] = {"absent_classes": absent} if (absent := domains.absent()) else {}
    parts = [*(source.train[0] for source in domains.sources), domains.target.vectors]
    is_constant = np.stack([(part == part[0]).all(axis=0) for part in parts])
    if num := int((is_constant.any(axis=0) & ~is_constant.all(axis=0)).sum()):
        facts["constant_features"] = num  # that vary in another domain
    return facts


def source_only(problem: Problem) -> SpaceHead:
    space, fit = problem.scaled
    return SpaceHead(space, fit.layer, {"l2": fit.l2})


def standardise(problem: Problem) -> SpaceHead:
    fit = problem.standardised_base
    return SpaceHead(problem.standardised, fit.layer, {"l2": fit.l2})


def infomax(problem: Problem) -> SpaceHead:
    """Standardise each domain by itself at the target's shares of the classes, then maximise the information.

    The shares are at first those that `infomax_as_is` predicts, then those of the round before. Each round starts anew
    from the sources' head, so that a head at wrong shares is not kept.
    """
    fit, domains = problem.standardised_base, problem.domains
    adapted = infomax_as_is(problem)
    for _ in range(NUM_ROUNDS):
        shares = predicted_shares(adapted.space.target @ adapted.layer[0].T + adapted.layer[1], domains.shares)
        space = with_shares(problem.standardised, domains.labels, shares / domains.shares)
        adapted = SpaceHead(space, maximise_information(space, domains, fit), {"l2": fit.l2})
    return replace(adapted, facts=adapted.facts | both(domains, shares))


def infomax_as_is(problem: Problem) -> SpaceHead:
    """Maximise the information on vectors as they are, from the sources' own head on."""
    space, fit = problem.scaled
    return SpaceHead(space, maximise_information(space, problem.domains, fit), {"l2": fit.l2})


def joint(problem: Problem) -> SpaceHead:
    """Average the answers of two heads that know the target's shares, as the geometric mean of probabilities.

    One is the sources' own head at these shares, the other maximises the information at standardised features.
    """
    domains, shares, fit = problem.domains, problem.standardised_shares, problem.standardised_base
    shifted = at_shares(problem.base, domains, shares)
    at = with_shares(problem.standardised, domains.labels, shares / domains.shares)
    informed = at.fold(*maximise_information(at, domains, fit, expected=shares))
    space, moments = scaled(domains)
    weight, bias = ((part + other) / 2 for part, other in zip(shifted, informed, strict=True))
    return SpaceHead(space, moments.unfold(weight, bias), {"l2": fit.l2} | both(domains, shares))


def label_shift(problem: Problem) -> SpaceHead:
    """Move the answers of the calibrated head to the shares that expectation maximisation estimates."""
    (space, fit), domains = problem.scaled, problem.domains
    shares = estimate_shares(calibrated(fit, space.target @ fit.layer[0].T + fit.layer[1]), domains.shares)
    return SpaceHead(space, at_shares(fit, domains, shares), {"l2": fit.l2} | both(domains, shares))


def at_shares(fit: Fit, domains: Domains, shares: Array) -> Layer:
    """Return the calibrated layer whose answers are moved from the sources' shares to these (k,)."""
    weight, bias = (part / fit.temperature for part in fit.layer)
    return weight, bias + np.log(shares / domains.shares)


def reweight(problem: Problem) -> SpaceHead:
    """Fit the sources' samples as much as they resemble the target's."""
    domains = problem.domains
    space, _ = scaled(domains, by_all=True)
    fit = fit_sources(space, domains)
    weights_of = classifier_weights if problem.options.weights == "classifier" else kernel_weights
    weights = weights_of(space.train, space.target, seed=problem.seed)
    effective = effective_samples(weights)
    if not effective:
        raise UnsuitedError(
            f"none of the sources' {len(weights):,} samples resembles its samples: weights cannot help, try method "
            "infomax"
        )
    weights = flattened(weights)
    rows = Answered.labelled(
        space.train, domains.labels, num_classes=len(domains.classes), weights=weights / weights.sum()
    )
    zero = np.zeros_like(fit.layer[0]), np.zeros_like(fit.layer[1])
    layer = fit_layer(rows, start=zero, l2=fit.l2, most_steps=REWEIGHTING_STEPS)
    facts = {"effective_samples": effective, "effective_samples_flattened": effective_samples(weights)}
    return SpaceHead(space, layer, {"l2": fit.l2} | facts)


def align(problem: Problem) -> SpaceHead:
    """Make the domains alike by CORAL, or through an adapter that MMD or DANN trains."""
    kind = problem.options.align
    if kind == "coral":
        space = correlated(problem.domains)
        fit = fit_sources(space, problem.domains)
        return SpaceHead(space, fit.layer, {"l2": fit.l2, "align": kind})
    space, fit = problem.standardised, problem.standardised_base
    layer = train_adapter(space, problem.domains, fit, kind=kind, seed=problem.seed)
    return SpaceHead(space, layer, {"l2": fit.l2, "align": kind})


METHODS: Mapping[str, Callable[[Problem], SpaceHead]] = {
    "source": source_only,
    "standardise": standardise,
    "infomax": lambda problem: problem.informed,
    "infomax_as_is": infomax_as_is,
    "joint": joint,
    "label_shift": label_shift,
    "reweight": reweight,
    "align": align,
}


def folded(adapted: SpaceHead, *, method: str, facts: dict[str, Any]) -> DomainHead:
    weight, bias = adapted.space.fold(*adapted.layer)
    return DomainHead(weight=weight, bias=bias, method=method, facts=facts | adapted.facts)


def both(domains: Domains, estimated: Array) -> dict[str, dict[str, float]]:
    """Return the facts on the classes' shares in the sources, `shares`, and in the target, `estimated`."""

    def named(shares: Array) -> dict[str, float]:
        return {name: round(float(share), 4) for name, share in zip(domains.classes, shares, strict=True)}

    return {"shares": named(domains.shares), "estimated": named(estimated)}
