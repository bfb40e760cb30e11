"""The gate of `auto`: decide whether to adapt, and how, without a label of the target.

No score of confidence picks well among methods without labels, and none is used. A classifier of domains detects
whether anything moved. A change of the classes' shares alone is tried as the cause first, then one of the features.
"""

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from tasks.targets.classes import likeliest
from tasks.training.alignment.domains import Array, Domains
from tasks.training.alignment.separation import Separation, tell_apart
from tasks.training.alignment.shares import estimate_shares, histogram_p_value, resampled
from tasks.training.alignment.source_only import Fit, calibrated
from tasks.training.alignment.spaces import Space

LEAST_AUC = 0.6  # below it a difference is too small to pay for the cost of an adaptation
LEAST_Z = 3.0  # a few samples reach any area by chance
STRONG_AUC = 0.8  # from here on the domains' moments differ, not only a few features
MODERATE_SAMPLES = 100  # of the target: a moderate shift pays only with as many
SIGNIFICANCE = 0.01  # of the test whether the predicted classes' shares moved


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The method that the gate chose, the reason in words, and its evidence.

    `rest` is the separation that remains once the sources have the target's estimated shares (k,).
    """

    method: str
    reason: str
    seen: Separation
    rest: Separation | None = None
    shares: Array | None = None

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"reason": self.reason, "separation": asdict(self.seen)}
        return facts | ({"separation_at_shares": asdict(self.rest)} if self.rest else {})


def choose(plain: Space, domains: Domains, base: Fit, *, seed: int) -> Verdict:
    """Return the method for a target without labels.

    1. The classifier of domains sees no difference, and the predicted classes' shares have not moved: `source`.
    2. The shares have moved, and it sees no difference once the sources are resampled to the shares that expectation
       maximisation finds: nothing else moved, `label_shift`.
    3. It sees a difference at only one of these shares: `source`.
    4. The difference is moderate: `infomax_as_is`, or `source` for few samples.
    5. The difference is strong: `infomax`.
    """
    seen = tell_apart(plain.train, plain.target, seed=seed)
    logits = plain.target @ base.layer[0].T + base.layer[1]
    is_seen = can_tell(seen)
    p_value = histogram_p_value(likeliest(base.val_logits), likeliest(logits), num_classes=len(domains.classes))
    have_shares_moved = p_value < SIGNIFICANCE
    if not is_seen and not have_shares_moved:
        return Verdict(method="source", reason="a classifier cannot tell the domains apart", seen=seen)
    shares = estimate_shares(calibrated(base, logits), domains.shares)
    kept = resampled(domains.labels, shares / domains.shares, seed=seed)
    rest = tell_apart(plain.train[kept], plain.target, seed=seed)
    verdict = partial(Verdict, seen=seen, rest=rest, shares=shares)
    if have_shares_moved and not can_tell(rest):
        return verdict(method="label_shift", reason="the domains differ by their classes' shares alone")
    if not (is_seen and can_tell(rest)):
        return verdict(method="source", reason="something moved, but too little of it is seen to undo it")
    if rest.auc >= STRONG_AUC:
        return verdict(method="infomax", reason="the domains are far apart")
    if len(plain.target) < MODERATE_SAMPLES:
        reason = f"the shift is moderate, and fewer than {MODERATE_SAMPLES} samples do not pay for undoing it"
        return verdict(method="source", reason=reason)
    return verdict(method="infomax_as_is", reason="the domains differ moderately")


def can_tell(separation: Separation) -> bool:
    """Return whether the classifier of domains sees a difference that is worth an adaptation."""
    return separation.auc >= LEAST_AUC and separation.z >= LEAST_Z and math.isfinite(separation.z)
