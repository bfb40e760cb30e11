"""Decide for each window whether its answers drifted: one decision, whose tests share the allowed false alarms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tasks.targets.target import Target
from tasks.watching.comparison import (
    LEAST_SAMPLES,
    Finding,
    Test,
    compare_distances,
    compare_unlike,
    compare_vectors,
    tests_of_target,
)
from tasks.watching.reference import Reference
from tasks.watching.windows import Window

Vectors = NDArray[np.floating]  # (n, dim)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The decision about a window.

    Args:
        why_not: why the window could not be judged; None where it was.
        level: a window drifted where the p-value of a finding is at most this.
    """

    findings: list[Finding] = field(default_factory=list)
    level: float = 0.0
    why_not: str | None = None

    @property
    def reasons(self) -> list[Finding]:
        """Return the findings that show a drift, the surest first."""
        return sorted(
            (finding for finding in self.findings if finding.p_value <= self.level), key=lambda one: one.p_value
        )

    @property
    def is_drifted(self) -> bool:
        return bool(self.reasons)


def decide(
    window: Window,
    reference: Reference,
    targets: Mapping[str, Target],
    *,
    false_alarms: float,
    vectors: Callable[[], Vectors | None] = lambda: None,
    seed: int = 0,
) -> Decision:
    """Return the decision about a window: the tests share `false_alarms` evenly (Bonferroni).

    A window whose samples come as those of the reference do counts as drifted with at most that probability, whatever
    the number of targets and tests.

    Args:
        vectors: returns the vectors of the window's samples, if they were kept.
    """
    if min(window.num_samples, reference.num_samples) < LEAST_SAMPLES:
        side = "it has" if window.num_samples < LEAST_SAMPLES else "the reference has"
        num = min(window.num_samples, reference.num_samples)
        return Decision(why_not=f"{side} {num:,} samples, expected at least {LEAST_SAMPLES}")
    tests: list[Test] = []
    for name, target in targets.items():
        own, others = window.of(name), reference.of(name)
        if min(len(own), len(others)) >= LEAST_SAMPLES:
            tests += tests_of_target(name, target, own, others, seed=seed)
    unlike = window.answers.drop_duplicates("sample_id")["unlike"].dropna().to_numpy()
    usually = reference.unlike
    says_unlike = usually is not None and min(len(unlike), len(usually)) >= LEAST_SAMPLES
    if usually is not None and says_unlike:
        tests.append(lambda level: compare_unlike(unlike, usually))
    if reference.vectors is not None and (found := vectors()) is not None:
        own_vectors = first_trunk(found, dim=reference.vectors.shape[1])
        usual = reference.vectors
        tests.append(lambda level: compare_vectors(own_vectors, usual, level=level, seed=seed))
        if not says_unlike:
            known, usually_away = reference.halves
            tests.append(lambda level: compare_distances(known.distances(own_vectors), usually_away))
    if not tests:
        return Decision(why_not="no target of its answers is one of the reference's")
    level = false_alarms / len(tests)
    return Decision(findings=[test(level) for test in tests], level=level)


def first_trunk(vectors: Vectors, *, dim: int) -> Vectors:
    """Return the part (n, dim) of vectors that is of the first trunk; the parts of others stand behind it."""
    if vectors.shape[1] < dim:
        raise ValueError(
            f"the embeddings of the answers have {vectors.shape[1]} numbers, those of the reference {dim}: they are of "
            "another model"
        )
    return vectors[:, :dim]
