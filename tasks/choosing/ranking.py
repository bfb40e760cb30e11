"""Rank backbones by their score, find those that no other beats in score and cost, and recommend one in words."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.choosing.cost import Cost
from tasks.metrics.transferability import Transferability
from tasks.models.options import BackboneOptions

SCORES = ("probe", "knn", "logme", "h_score")  # the first ranks: docs/backbone.md has the figures
CLEARLY = 1.1  # times as fast; a smaller gain may be noise of the measurement


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A backbone that was measured: its scores by target, and its cost."""

    number: int  # as params.yaml lists it; 0 is the section backbone
    name: str
    options: BackboneOptions
    scores: dict[str, Transferability]
    cost: Cost

    @property
    def score(self) -> float:
        """Return the score that ranks: the mean over the targets."""
        return self.mean(SCORES[0]) or 0.0

    def mean(self, name: str) -> float | None:
        """Return a score's mean over the targets that have it; None where none has."""
        values = [value for scores in self.scores.values() if (value := getattr(scores, name)) is not None]
        return float(np.mean(values)) if values else None

    def facts(self) -> dict[str, Any]:
        """Return everything but the gains of the samples, as JSON."""
        return {
            "number": self.number,
            "name": self.name,
            "backbone": asdict(self.options),
            "scores": {name: self.mean(name) for name in SCORES},
            "cost": asdict(self.cost),
        }


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates, the best score first; of equal ones the faster first."""
    return sorted(candidates, key=lambda one: (-one.score, -one.cost.samples_per_second, one.number))


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that no other beats in score and speed at once (Pareto), the slowest first."""
    best: list[Candidate] = []
    for one in sorted(candidates, key=lambda one: (-one.cost.samples_per_second, -one.score)):
        if not best or one.score > best[-1].score:
            best.append(one)
    return best[::-1]


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """A candidate and the reason for it."""

    candidate: Candidate
    why: str


def recommend(candidates: Sequence[Candidate]) -> Recommendation:
    """Return the fastest candidate of the front that is not worse than the best by more than one standard error.

    The rule is that of Breiman et al. 1984. The error is that of the paired difference on the same samples. A score is
    given up for a clear gain in speed alone, because measured times vary.
    """
    one = first = ranked(candidates)[0]
    error = 0.0
    for faster in front(candidates):
        behind, its_error = difference(first, faster)
        if behind <= its_error and faster.cost.samples_per_second >= CLEARLY * one.cost.samples_per_second:
            one, error = faster, its_error
    if one is first:
        return Recommendation(candidate=first, why=f"it has the best score, {score_in_words(first)}")
    times = one.cost.samples_per_second / first.cost.samples_per_second
    return Recommendation(
        candidate=one,
        why=f"its score, {score_in_words(one)}, is within one standard error ({error:.3f}) of the best, "
        f"{score_in_words(first)}, and it embeds {times:.3g} times as many samples a second as {first.name}",
    )


def difference(first: Candidate, other: Candidate) -> tuple[float, float]:
    """Return how far `other` is behind `first`, and the standard error of that."""
    gaps = [scores.gains - other.scores[target].gains for target, scores in first.scores.items()]
    variances = [float(gap.var()) / len(gap) for gap in gaps]
    return first.score - other.score, math.sqrt(sum(variances)) / len(gaps)


def score_in_words(one: Candidate) -> str:
    return f"{one.score:.3f}"


def name_of(options: BackboneOptions, *, modality: str) -> str:
    """Return the name of a candidate, which tells people how it differs from others."""
    weights = options.weights.split("@")[0]
    if modality == "text":
        parts = [weights, f"{options.max_tokens} tokens" if options.max_tokens else "", options.long]
    else:
        features = options.features if isinstance(options.features, str) else " + ".join(options.features)
        size = f"{options.image_size} px" if options.image_size else "its own size"
        stem = Path(weights).stem if "/" in weights or "." in weights else weights
        of = "" if options.library == "torchvision" else f"{options.library}'s "
        parts = [
            f"{of}{options.architecture}", stem, features, size,
            f"power {options.power:g}" if options.power != 1 else "", "mirrored, too" * options.flip,
            f"and {' and '.join(map(str, options.resolutions))} px" if options.resolutions else "",
            "decoded in full" * (options.decode == "full"),
        ]  # fmt: skip
    return ", ".join(part for part in parts if part)
