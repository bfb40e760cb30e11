"""What the head alone and the fine-tuned model give on val in; which of them is the candidate, and why, out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.significance import paired_t_test
from tasks.targets.classes import is_right, losses
from tasks.training.loop.fit import History
from tasks.training.loop.scores import Total
from tasks.training.loop.temperature import fit_temperature


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
    """What a model gave on val: temperatures a target, and of each sample that has a label the log-loss summed over its targets (m,), and
    whether each of its labels was found."""

    temperatures: list[float]
    losses: NDArray[np.float64]
    hits: NDArray[np.bool_]  # (num_labels,)

    @classmethod
    def of(cls, found: Total) -> "Judged":
        temperatures, hits = [], []
        sums = np.full(found.num_samples, np.nan)
        for rows, logits, labels in found.by_target():
            temperatures.append(fit_temperature(logits, labels))
            own = losses(logits / temperatures[-1], labels)
            sums[rows] = np.where(np.isnan(sums[rows]), own, sums[rows] + own)
            hits.append(is_right(logits, labels))
        return cls(temperatures=temperatures, losses=sums[~np.isnan(sums)], hits=np.concatenate(hits))

    def on_val(self) -> OnVal:
        return OnVal(loss=float(self.losses.sum() / max(len(self.hits), 1)), accuracy=float(self.hits.mean()))


def judge(*, head: Judged, finetuned: Judged, history: History, significance: float) -> Verdict:
    """Do no harm: the fine-tuned model is the candidate only if its log-loss on val is lower by a one-sided paired t-test over
    the samples, both models calibrated, and its accuracy is no lower."""
    before, after = head.on_val(), finetuned.on_val()
    p_value = paired_t_test(head.losses - finetuned.losses)
    moved = f"val log-loss {before.loss:.4f} -> {after.loss:.4f} (p = {p_value:.2g}), accuracy {before.accuracy:.4f} -> {after.accuracy:.4f}"
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
