"""The results of two models on val in; the choice between them for one target, and why, out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

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
    """Means over the labels of val: the calibrated loss, the share of right answers, and the error in `unit`.

    Of classes there is no error, which would say no more than the accuracy.
    """

    loss: float
    accuracy: float
    error: float | None = None
    unit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a model's logits on val say of one target: its calibration, and the loss and error of each sample.

    `losses` are calibrated without doubt, so that models can be compared: in nats, or for a number in squared standard
    deviations of train.
    """

    target: Target  # calibrated
    temperature: float
    factors: Factors
    losses: NDArray[np.float64]  # (m,)
    errors: NDArray[np.float64]  # (m,) in the target's unit
    hits: NDArray[np.bool_]  # (m,) whether the answer is right

    @classmethod
    def of(
        cls, total: Total, names: Mapping[str, Target], words: Mapping[str, NDArray[np.floating]] | None = None
    ) -> "dict[str, Judged]":
        """Judge the logits of a model on val for each target, joined with those of the words, if any.

        Args:
            names: the targets of `total`, by name.
            words: the logits (n, num_classes) of the words of val, by target.
        """
        judged = {}
        for name, (target, rows, logits, truths) in zip(names, total.by_target(), strict=True):
            factors = Factors()
            if words and name in words:
                joined = join(logits, words[name][rows], truths)
                factors, logits = joined.factors, joined.logits
            calibrated, temperature = target.calibrate(logits, truths)
            compared, without_doubt = target.calibrate(logits, truths, doubt=0.0)
            answers = calibrated.answers(logits, temperature=temperature)
            judged[name] = cls(
                target=calibrated, temperature=temperature, factors=factors,
                losses=np.asarray(compared.losses(logits, truths, temperature=without_doubt), np.float64),
                errors=calibrated.errors(answers, truths), hits=calibrated.is_right(answers, truths),
            )  # fmt: skip
        return judged

    def on_val(self) -> OnVal:
        loss, accuracy = float(self.losses.sum() / len(self.losses)), float(self.hits.mean())
        if isinstance(self.target, Classes):
            return OnVal(loss=loss, accuracy=accuracy)
        return OnVal(loss=loss, accuracy=accuracy, error=float(self.errors.mean()), unit=self.target.unit)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the fine-tuned model beats the head on val, and why."""

    is_finetuned: bool
    reason: str
    p_value: float
    head: OnVal
    finetuned: OnVal

    def facts(self) -> dict[str, Any]:
        """Return the verdict as JSON."""
        sides = {
            side: {name: value for name, value in asdict(own).items() if value is not None}
            for side, own in (("head", self.head), ("finetuned", self.finetuned))
        }
        return {"is_finetuned": self.is_finetuned, "reason": self.reason, "p_value": self.p_value} | sides


def beats(other: Judged, judged: Judged, *, significance: float) -> tuple[bool, float]:
    """Return whether a model is better than `judged` and does no harm, and the p-value.

    Its loss on val has to be lower by a one-sided paired t-test over the samples, both models calibrated, and its mean
    error no larger. For classes that is: its accuracy is no lower.
    """
    p_value = paired_t_test(judged.losses - other.losses)
    return bool(p_value < significance and other.errors.mean() <= judged.errors.mean()), p_value


def judge(
    *,
    head: Judged,
    finetuned: Judged,
    history: History,
    significance: float,
    subject: str = "the candidate",
    model: str = "the fine-tuned model",
) -> Verdict:
    """Choose the fine-tuned model for a target only if it `beats` the head.

    Args:
        history: of the training of the fine-tuned model.
        subject: what is chosen, as the reason names it.
        model: the fine-tuned model, as the reason names it.
    """
    before, after = head.on_val(), finetuned.on_val()
    is_finetuned, p_value = beats(finetuned, head, significance=significance)
    of_classes = isinstance(head.target, Classes)
    loss = "val log-loss" if of_classes else "val loss"
    moved = f"{loss} {before.loss:.4f} -> {after.loss:.4f} (p = {p_value:.2g}), " + (
        f"accuracy {before.accuracy:.4f} -> {after.accuracy:.4f}"
        if of_classes
        else f"error {before.error:.4g} -> {after.error:.4g} ({after.unit})"
    )
    if len(history.epochs) == 1:
        is_finetuned, reason = False, "no epoch was trained"
    elif history.kept == 0:
        is_finetuned, reason = False, f"every epoch had a higher {loss} than the head, {before.loss:.4f}"
    elif finetuned.errors.mean() > head.errors.mean():
        reason = f"fine-tuning made it {'less accurate' if of_classes else 'worse'}: {moved}"
    elif not is_finetuned:
        reason = f"what fine-tuning gained may be chance: {moved}, expected p < {significance:g}"
    else:
        reason = f"fine-tuning made it better: {moved}"
    if history.ending == "the loss was not finite":
        reason += (
            f"; training ended in epoch {len(history.epochs)}, where the loss was not finite: lower the learning rates"
        )
    kept = f"{model} of epoch {history.kept}" if is_finetuned else "the head alone"
    return Verdict(
        is_finetuned=is_finetuned, reason=f"{subject} is {kept}: {reason}", p_value=p_value, head=before,
        finetuned=after,
    )  # fmt: skip
