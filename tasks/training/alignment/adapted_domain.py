"""Adapt the heads of all targets to one domain, with the facts and the samples most unlike the other side."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.machine.names import listed, printable
from tasks.targets.classes import likeliest
from tasks.targets.head import Layer
from tasks.training.alignment.adaptation import adapt
from tasks.training.alignment.domains import DomainHead, Domains, UnsuitedError, Vectors
from tasks.training.alignment.gate import STRONG_AUC, can_tell
from tasks.training.alignment.options import AdaptOptions
from tasks.training.alignment.selection import Positions
from tasks.training.alignment.separation import Comparison, Separation, compare
from tasks.training.alignment.sides import Sides

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger("graftline")

UNSHIFTED = ("source", "label_shift")  # methods for domains without a shift of the features
MOST_UNLIKE = 12  # samples of each side that are listed


@dataclass(frozen=True, kw_only=True)
class TargetSpace:
    """A target of the kind classes, with its own trunk.

    look: positions of the manifest's rows (k,) -> vectors (k, dim).
    recipe: that of the trunk's vectors.
    """

    classes: tuple[str, ...]
    look: Callable[[Positions], Vectors]
    recipe: str


@dataclass(frozen=True, kw_only=True)
class AdaptedDomain:
    """The result for a domain: the linear layer of each target that has an adapted head, and the facts as JSON.

    `unlike` has a row a sample: domain, side, batch, path, sample_id, and the logit that it is of the domain.
    `statistics` (num_trunks, 2, num_channels) are its own, where it has some; the layers take vectors under these.
    """

    layers: dict[str, Layer]
    facts: dict[str, Any]
    unlike: list[tuple[str, str, str, str, str, float]]
    statistics: "Tensor | None" = None


Normalised = tuple["Tensor", Mapping[str, TargetSpace]]  # statistics of a domain's own, and its targets under these


def adapt_domain(
    name: str, sides: Sides, targets: Mapping[str, TargetSpace], options: AdaptOptions, *, seed: int,
    normalise: Callable[[str], Normalised] | None = None,
) -> AdaptedDomain:  # fmt: skip
    """Adapt the head of each target to a domain.

    A target whose method ends as `source` gets no head of the domain: the general head answers there, too.

    `normalise` estimates statistics of a domain's own. Where the domain is shifted, all its heads are then adapted once
    more, by the same methods, on the vectors that its samples have under these statistics.
    """
    seen: Comparison | None = None
    layers: dict[str, Layer] = {}
    facts: dict[str, Any] = {}
    known: dict[str, Domains] = {}
    for target, space in targets.items():
        vectors = space.look(sides.sources), space.look(sides.targets[name])
        if seen is None:
            seen = compare(vectors[0][sides.is_train], vectors[1], seed=seed)
            logger.info("domain %s: %s", printable(name), described(seen.separation, sides, name))
        try:
            if options.targets == "auto" and options.method != "auto" and not can_tell(seen.separation):
                raise UnsuitedError("a classifier cannot tell the domains apart")
            domains = Domains(
                sources=sides.source_domains(target, vectors[0], recipe=space.recipe),
                target=sides.target_domain(name, target, vectors[1], recipe=space.recipe),
                classes=space.classes,
            )
        except UnsuitedError as error:
            reason = f"the model answers there as everywhere: {error}"
            facts[target] = {"asked": options.method, "method": "source", "reason": reason, "changed": 0.0}
            logger.warning("warning: domain %s, %s: %s", printable(name), target, reason)
            continue
        known[target] = domains
        adapted = adapt(domains, options, seed=seed)
        facts[target] = adapted.head.facts | {"method": adapted.head.method, "changed": adapted.changed}
        if is_another(adapted.head):
            layers[target] = adapted.head.weight.astype(np.float32), adapted.head.bias.astype(np.float32)
        logger.info("domain %s, %s: %s", printable(name), target, in_words(adapted.head, changed=adapted.changed))
    assert seen is not None, "a domain is adapted for one target at least"
    statistics = None
    if normalise and any(facts[target]["method"] not in UNSHIFTED for target in layers):
        statistics, spaces = normalise(name)
        for target, domains in known.items():
            own_vectors = spaces[target].look(sides.targets[name])
            again = replace(domains, target=replace(domains.target, vectors=own_vectors))
            adapted = adapt(again, replace(options, method=facts[target]["method"]), seed=seed)
            before = likeliest(adapted.source_only.logits(domains.target.vectors))
            changed = float((likeliest(adapted.head.logits(own_vectors)) != before).mean())
            facts[target] |= adapted.head.facts | {
                "asked": options.method, "changed": changed, "statistics": "own"
            }  # fmt: skip
            layers[target] = adapted.head.weight.astype(np.float32), adapted.head.bias.astype(np.float32)
        logger.info("domain %s: batch normalisation has statistics of its own", printable(name))
    about = {
        "num_samples": len(sides.targets[name]), "num_labels": sides.num_labels(name), "sources": sides.num_sources(),
        "separation": asdict(seen.separation), "is_adapted": bool(layers),
        "targets": {target: fields | {"is_adapted": target in layers} for target, fields in facts.items()},
    }  # fmt: skip
    unlike = most_unlike(name, sides, seen)
    return AdaptedDomain(layers=layers, facts=about, unlike=unlike, statistics=statistics)


def is_another(head: DomainHead) -> bool:
    """Return whether a head differs from the sources' own: by its method, or because labels of the domain moved it."""
    return head.method != "source" or head.facts.get("labels", "adapted") != "adapted"


def most_unlike(name: str, sides: Sides, seen: Comparison) -> list[tuple[str, str, str, str, str, float]]:
    """Return the samples of each side that are least like the other side, the least alike first."""
    rows_of_table = []
    for side, (drawn, logits), rows, sign in (
        ("source", seen.source, sides.sources[sides.is_train], 1),
        ("target", seen.target, sides.targets[name], -1),
    ):
        for place in np.argsort(sign * logits, kind="stable")[:MOST_UNLIKE].tolist():
            row = sides.rows.iloc[rows[drawn[place]]]
            rows_of_table.append(
                (name, side, row["batch"], row["path"], row["sample_id"], round(float(logits[place]), 4))
            )
    return rows_of_table


def described(seen: Separation, sides: Sides, name: str) -> str:
    """Return in words how far a domain is from the sources."""
    if not can_tell(seen):
        how = "a classifier cannot tell them apart"
    else:
        how = "they are far apart" if seen.auc >= STRONG_AUC else "they differ moderately"
    others = listed([f"{num:,} of {printable(source)}" for source, num in sides.num_sources().items()], joint=" and ")
    return (
        f"{len(sides.targets[name]):,} samples, {sides.num_labels(name):,} of them labelled, beside {others}: {how} "
        f"(AUC {seen.auc:.2f}, where 0.5 is chance; z {seen.z:.1f})"
    )


def in_words(head: DomainHead, *, changed: float) -> str:
    """Return the result of an adaptation in words."""
    reason = f" ({head.facts['reason']})" if "reason" in head.facts else ""
    if not is_another(head):
        return f"source{reason}: the model answers there as everywhere"
    labels = f", {head.facts['num_labels']:,} labels: {head.facts['labels']}" if "labels" in head.facts else ""
    return (
        f"{head.method}{reason}{labels}; {changed:.1%} of the answers differ from those of the sources' own head; "
        "probabilities are not calibrated on this domain"
    )
