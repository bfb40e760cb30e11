"""The results of the head alone and of the fine-tuned model on val in; the choice between them, and why, out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.significance import paired_t_test
from tasks.targets.classes import Classes
from tasks.targets.head import Factors
from tasks.targets.target import Target
from tasks.training.heads.joining import join
from tasks.training.loop.fit import History
from tasks.training.loop.scores import Total


@dataclass(frozen=True, kw_only=True)
class OnVal:
    loss: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the fine-tuned model beats the head on val, and why. Losses are mean log-losses in nats, calibrated."""

    is_finetuned: bool
    reason: str
    p_value: float
    head: OnVal
    finetuned: OnVal


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The results of a model on val: the calibrated targets, temperatures and factors, losses and hits of samples."""

    targets: list[Target]
    temperatures: list[float]
    factors: list[Factors]
    losses: NDArray[np.float64]  # (m,) log-loss of a sample, summed over its targets
    hits: NDArray[np.bool_]  # (num_labels,) whether the answer is the label

    @classmethod
    def of(cls, total: Total, words: Sequence[NDArray[np.floating]] = ()) -> "Judged":
        """Judge the logits of a model, joined with those of the words of val, (n, num_classes) a target, if any."""
        targets, temperatures, factors, hits = [], [], [], []
        sums = np.full(total.num_samples, np.nan)
        for number, (target, rows, logits, truths) in enumerate(total.by_target()):
            factors.append(Factors())
            if words and isinstance(target, Classes):
                joined = join(logits, words[number][rows], truths)
                factors[-1], logits = joined.factors, joined.logits
            calibrated, temperature = target.calibrate(logits, truths)
            targets.append(calibrated)
            temperatures.append(temperature)
            compared, without_doubt = target.calibrate(logits, truths, doubt=0.0)
            own = compared.losses(logits, truths, temperature=without_doubt)
            sums[rows] = np.where(np.isnan(sums[rows]), own, sums[rows] + own)
            hits.append(calibrated.is_right(calibrated.answers(logits, temperature=temperature), truths))
        return cls(
            targets=targets, temperatures=temperatures, factors=factors, losses=sums[~np.isnan(sums)],
            hits=np.concatenate(hits),
        )  # fmt: skip

    def on_val(self) -> OnVal:
        return OnVal(loss=float(self.losses.sum() / max(len(self.hits), 1)), accuracy=float(self.hits.mean()))


def judge(*, head: Judged, finetuned: Judged, history: History, significance: float) -> Verdict:
    """Choose the fine-tuned model only if it does no harm.

    Its log-loss on val has to be lower by a one-sided paired t-test over the samples, both models calibrated, and its
    accuracy no lower.
    """
    before, after = head.on_val(), finetuned.on_val()
    p_value = paired_t_test(head.losses - finetuned.losses)
    moved = (
        f"val log-loss {before.loss:.4f} -> {after.loss:.4f} (p = {p_value:.2g}), "
        f"accuracy {before.accuracy:.4f} -> {after.accuracy:.4f}"
    )
    is_finetuned = False
    if len(history.epochs) == 1:
        reason = "no epoch was trained"
    elif history.kept == 0:
        reason = f"every epoch had a higher val log-loss than the head, {before.loss:.4f}"
    elif after.accuracy < before.accuracy:
        reason = f"fine-tuning made it less accurate: {moved}"
    elif not p_value < significance:
        reason = f"what fine-tuning gained may be chance: {moved}, expected p < {significance:g}"
    else:
        is_finetuned, reason = True, f"fine-tuning made it better: {moved}"
    if history.ending == "the loss was not finite":
        reason += (
            f"; training ended in epoch {len(history.epochs)}, where the loss was not finite: lower the learning rates"
        )
    kept = f"the fine-tuned model of epoch {history.kept}" if is_finetuned else "the head alone"
    return Verdict(
        is_finetuned=is_finetuned, reason=f"the candidate is {kept}: {reason}", p_value=p_value, head=before,
        finetuned=after,
    )  # fmt: skip
