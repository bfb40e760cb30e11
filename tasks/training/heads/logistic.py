"""The head on frozen features: multinomial logistic regression. Vectors and labels in, a linear layer out."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.machine.cores import spread
from tasks.targets.classes import log_probabilities, losses
from tasks.targets.temperature import fit_temperature
from tasks.training.heads.choice import Choice
from tasks.training.heads.cross_entropy import CrossEntropy, Pass
from tasks.training.heads.options import ClassWeights, HeadOptions
from tasks.training.heads.quasi_newton import TOLERANCE, Memory, Solution, new_memory, objective, solve
from tasks.training.heads.rows import IN_MEMORY_BYTES, Array, Labels, StandardRows, TrainingRows, Vectors, check_finite
from tasks.training.heads.whitening import Whitening

logger = logging.getLogger("graftline")

NUM_EXTRAPOLATED = 3  # solutions behind the curve that leads to the next
CHOICE_TOLERANCE = 5e-4  # of the objective, enough to compare strengths on val; the best is then solved to TOLERANCE
VAL_ROWS = 1024  # whose logits are computed at a time


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """logits (n, num_classes) = vectors (n, dim) @ weight.T + bias."""

    weight: Array  # (num_classes, dim)
    bias: Array  # (num_classes,)
    l2: float
    val_log_loss: float | None  # None where val has no labels

    def log_probabilities(self, vectors: NDArray[np.floating]) -> Array:
        """Return (n, num_classes) of vectors (n, dim)."""
        return log_probabilities(vectors @ self.weight.T + self.bias)


def fit_head(
    train: tuple[Vectors, Labels],
    val: tuple[Vectors, Labels],
    options: HeadOptions,
    *,
    classes: Sequence[str],
    in_memory_bytes: int = IN_MEMORY_BYTES,
    cautious: bool = False,
    part_dims: Sequence[int] = (),
) -> LinearHead:
    """Return the head with the lowest log-loss on `val` along a path of L2 strengths; without val, the middle one.

    It minimises mean cross-entropy + l2 / 2 * |weight|^2 over standardised features: mean 0 and variance 1 on train,
    less for a feature that hardly varies. The bias is free. The standardisation is folded back into the weights.

    Args:
        train, val: (vectors (n, dim), labels (n,) in 0..num_classes-1). Vectors are read in chunks of rows, so they may
            be more than memory holds.
        options: `head` and `hidden_features` do not count here. Balanced class weights give a row the weight
            n / (num_classes * the number of its class).
        classes: the names of the classes, for messages.
        in_memory_bytes: standardised rows that need more are read anew for each pass; the result has the same bits.
        cautious: suits few labels. Features have one scale, stronger strengths are tried, too, and a weaker one has to
            pay on val, by its log-loss after temperature scaling.
        part_dims: the features of each part have one scale, see `StandardRows`.

    Raises:
        ValueError: fewer than two classes in train, a class without samples, or numbers that are not finite.
    """
    # each core works on other chunks of rows, so that the bits of the sums do not depend on the number of cores
    with threadpool_limits(1):
        solver = Solver(
            TrainingRows(
                *train, classes, in_memory_bytes=in_memory_bytes, part_dims=scaled(train[0], part_dims, cautious)
            ),
            options.class_weights,
            max_iterations=options.max_iterations,
        )
        choice = Choice(options.l2_strengths, cautious=cautious)
        best: Candidate | None = None
        for l2, solution in solver.path(choice.strengths, relative_tolerance=CHOICE_TOLERANCE):
            if choice.takes(l2, val_losses(*solver.fold(solution), val, is_calibrated=cautious)):
                best = Candidate(l2, solution, replace(solver.memory))
            if choice.is_over:
                break
        assert best is not None
        solver.memory = best.memory
        weight, bias = solver.fold(solver.solve(best.l2, start=best.solution.point, found=best.solution.found))
        losses_of_val = val_losses(weight, bias, val, is_calibrated=False)
        val_log_loss = float(losses_of_val.mean()) if len(losses_of_val) else None
        return LinearHead(weight=weight, bias=bias, l2=best.l2, val_log_loss=val_log_loss)


def scaled(vectors: Vectors, part_dims: Sequence[int], cautious: bool) -> Sequence[int]:
    """Return the parts whose features have one scale: the given ones, or else all features of a cautious head."""
    return part_dims or ((vectors.shape[1],) if cautious else ())


@dataclass(frozen=True)
class Candidate:
    l2: float
    solution: Solution
    memory: Memory


class Solver:
    """Solves for one strength after another over the same rows; whitening and the pairs of L-BFGS serve all of them."""

    def __init__(
        self,
        rows: StandardRows,
        class_weights: ClassWeights = "none",
        *,
        max_iterations: int,
        loss: CrossEntropy | None = None,
    ) -> None:
        self.rows = rows
        self.max_iterations = max_iterations
        self.loss = loss or CrossEntropy(rows, weights_of_classes(rows, class_weights))
        self.whitening = Whitening.of(rows)
        self.memory = new_memory(self.loss.sums)

    def solve(
        self, l2: float, *, start: Array | None = None, found: Pass | None = None, tolerance: float = TOLERANCE
    ) -> Solution:
        """Return the solution over standardised features, from `start` on, or from that of an infinite strength."""
        if start is None:
            start, found = self.loss.without_weights()
        solution = solve(
            self.loss, l2, start=start, found=found, whitening=self.whitening, memory=self.memory,
            max_iterations=self.max_iterations, tolerance=tolerance,
        )  # fmt: skip
        if solution.num_iterations == self.max_iterations and solution.excess > tolerance:
            logger.warning(
                "the head for l2 %g is not solved after %d iterations (%.1e nats above the least loss, estimated): "
                "raise train_head.max_iterations",
                l2, self.max_iterations, solution.excess,
            )  # fmt: skip
        return solution

    def path(
        self, l2_strengths: Sequence[float], *, relative_tolerance: float = 0.0
    ) -> Iterator[tuple[float, Solution]]:
        """Yield the strengths and their solutions, from strong to weak.

        They are solved to TOLERANCE or to `relative_tolerance` of the objective before. A strength starts at the end of
        the curve through the solutions before it, over log l2, or at the last of them if that is better.
        """
        solved: list[tuple[float, Solution]] = []
        for l2 in sorted(set(l2_strengths), reverse=True):
            start, found = (solved[-1][1].point, solved[-1][1].found) if solved else (None, None)
            if len(solved) > 1 and start is not None and found is not None:
                ahead = extrapolate([(strength, solution.point) for strength, solution in solved], l2)
                there = self.loss.at(ahead)
                if objective(there, ahead, l2) < objective(found, start, l2):
                    start, found = ahead, there
            before = solved[-1][1].objective if solved else self.loss.without_knowledge
            tolerance = max(TOLERANCE, relative_tolerance * before)
            solved = [*solved, (l2, self.solve(l2, start=start, found=found, tolerance=tolerance))][-NUM_EXTRAPOLATED:]
            yield solved[-1]

    def fold(self, solution: Solution) -> tuple[Array, Array]:
        """Return weight and bias for features that are not standardised."""
        return self.rows.fold(solution.point[:, :-1], solution.point[:, -1])


def extrapolate(points: Sequence[tuple[float, Array]], l2: float) -> Array:
    """Return the value at `l2` of the polynomial through the points over log l2 (Lagrange)."""
    logs = [math.log(strength) for strength, _ in points]
    ahead = np.zeros_like(points[0][1])
    for number, (_, point) in enumerate(points):
        others = [log for log in logs if log != logs[number]]
        ahead += point * math.prod((math.log(l2) - log) / (logs[number] - log) for log in others)
    return ahead


def weights_of_classes(rows: StandardRows, class_weights: ClassWeights) -> Array:
    """Return (num_classes,): the weight of a row of each class, 1 on average over the rows.

    For several labels: (2, num_labels), the weight of a row without each label and with it.
    """
    if rows.labels.ndim == 2:
        hits = rows.labels.sum(axis=0)
        counts = np.stack([rows.num - hits, hits])
        return rows.num / (2 * counts) if class_weights == "balanced" else np.ones_like(counts)
    counts = np.bincount(rows.labels, minlength=rows.num_outputs)
    return rows.num / (rows.num_outputs * counts) if class_weights == "balanced" else np.ones(rows.num_outputs)


def val_losses(weight: Array, bias: Array, val: tuple[Vectors, Labels], *, is_calibrated: bool) -> Array:
    """Return the log-losses (n,) on val in nats, calibrated with the temperature that makes their mean lowest."""
    vectors, labels = val
    logits = all_val_logits(weight, bias, vectors)
    return losses(logits / fit_temperature(logits, labels) if is_calibrated else logits, labels)


def all_val_logits(weight: Array, bias: Array, vectors: Vectors) -> Array:
    """Return (n, num_classes) of vectors (n, dim), VAL_ROWS at a time."""
    starts = range(0, vectors.shape[0], VAL_ROWS)
    parts = spread(starts, lambda start: val_logits(weight, bias, vectors[start : start + VAL_ROWS]))
    return np.concatenate([np.empty((0, len(bias))), *parts])


def val_logits(weight: Array, bias: Array, vectors: NDArray[np.floating]) -> Array:
    """Return (k, num_classes) of vectors (k, dim), multiplied in float32."""
    product = vectors.astype(np.float32) @ weight.T.astype(np.float32) + bias.astype(np.float32)
    logits: Array = product.astype(np.float64)
    check_finite(logits)
    return logits
