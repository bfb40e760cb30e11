"""L-BFGS with a good first guess at the curvature: a cross-entropy and an L2 strength in, their minimum out."""

from dataclasses import dataclass, field

import numpy as np

from tasks.training.heads.cross_entropy import CrossEntropy, Pass
from tasks.training.heads.rows import Array
from tasks.training.heads.whitening import Whitening

TOLERANCE = 1e-6  # nats: the estimated excess of the objective over its minimum, which may be several times as much
HISTORY = 20  # pairs of a step and its change of the gradient
HISTORY_BYTES = 2**28  # of memory for them; with ten thousand classes fewer are kept, but never fewer than 2
SUFFICIENT = 1e-4  # of the decrease that the slope promises (Armijo)
ROUNDING = 1e-8  # of the objective: differences below it mean nothing


@dataclass(kw_only=True)
class Memory:
    """The steps, and the changes of the cross-entropy's gradient over them, without L2: they serve any strength."""

    length: int
    pairs: list[tuple[Array, Array]] = field(default_factory=list)

    def add(self, step: Array, change: Array) -> None:
        if vdot(step, change) > 0:
            self.pairs = [*self.pairs, (step, change)][-self.length :]


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A point (num_outputs, dim + 1), the bias last, with the results of a pass there."""

    point: Array
    found: Pass
    objective: float
    excess: float  # nats, estimated
    num_iterations: int

    def value(self, l2: float) -> float:
        return objective(self.found, self.point, l2)


def new_memory(point: Array) -> Memory:
    return Memory(length=int(np.clip(HISTORY_BYTES // (2 * point.nbytes), 2, HISTORY)))


def solve(
    loss: CrossEntropy,
    l2: float,
    *,
    start: Array,
    found: Pass | None = None,
    whitening: Whitening,
    memory: Memory,
    max_iterations: int,
    tolerance: float = TOLERANCE,
) -> Solution:
    """Minimise cross-entropy + l2 / 2 * |weight|^2, from `start` on (Nocedal & Wright 2006, algorithm 7.5).

    It ends when half the squared Newton decrement is at most `tolerance`; for a true Newton step that is the
    objective's excess over its minimum. It also ends after `max_iterations`, or where float32 distinguishes no better
    point.

    Args:
        found: the pass at `start`, if it is known.
        memory: pairs of other strengths, to which the pairs of this one are added.
    """
    point = start
    here = found or loss.at(point)
    value = objective(here, point, l2)
    for iteration in range(max_iterations + 1):
        slope = total_gradient(here, point, l2)
        direction = newton_like(slope, at=here, l2=l2, whitening=whitening, memory=memory)
        promised = vdot(slope, direction)
        if promised / 2 <= tolerance or iteration == max_iterations:
            break
        length, noise = 1.0, ROUNDING * max(abs(value), 1.0)
        while True:
            there = point - length * direction
            then = loss.at(there)
            reached = objective(then, there, l2)
            if reached <= value - SUFFICIENT * length * promised + noise:
                break
            if length < 1e-3:
                return Solution(point=point, found=here, objective=value, excess=promised / 2, num_iterations=iteration)
            end = -vdot(total_gradient(then, there, l2), direction)  # the slope there, negative before the minimum
            length *= float(np.clip(promised / (end + promised), 0.1, 0.6)) if end > -promised else 0.5
        memory.add(there - point, then.gradient - here.gradient)
        point, here, value = there, then, reached
    return Solution(point=point, found=here, objective=value, excess=promised / 2, num_iterations=iteration)


def newton_like(slope: Array, *, at: Pass, l2: float, whitening: Whitening, memory: Memory) -> Array:
    """Return the slope times the inverse curvature that whitening and memory give (the two-loop recursion)."""
    # the share of L2 in the change of a pair is known for any strength
    pairs = [(step, add_l2(change, step, l2)) for step, change in memory.pairs]
    direction, shares = slope.copy(), []
    for step, change in reversed(pairs):
        shares.append(vdot(step, direction) / vdot(step, change))
        direction -= shares[-1] * change
    if pairs:
        step, change = pairs[-1]
        direction, scaled = whitening.apply_inverse(np.stack([direction, change]), at=at, l2=l2)
        direction *= vdot(step, change) / vdot(change, scaled)
    else:
        direction = whitening.apply_inverse(direction, at=at, l2=l2)
    for (step, change), share in zip(pairs, reversed(shares), strict=True):
        direction += (share - vdot(change, direction) / vdot(step, change)) * step
    return direction


def objective(found: Pass, point: Array, l2: float) -> float:
    return found.loss + l2 / 2 * float((point[:, :-1] ** 2).sum())


def total_gradient(found: Pass, point: Array, l2: float) -> Array:
    return add_l2(found.gradient, point, l2)


def add_l2(gradient: Array, point: Array, l2: float) -> Array:
    """Return gradient + l2 * point; the bias is free."""
    total = gradient.copy()
    total[:, :-1] += l2 * point[:, :-1]
    return total


def vdot(one: Array, other: Array) -> float:
    return float(np.vdot(one, other))
