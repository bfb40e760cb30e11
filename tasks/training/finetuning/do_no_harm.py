"""The results of a training on val in; the weights to take on its path from head to fine-tuned, and why, out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.significance import paired_t_test
from tasks.targets.classes import Classes
from tasks.targets.head import Factors
from tasks.targets.target import Target
from tasks.training.finetuning.path import FINETUNED, HEAD, MIDDLE, SHARES
from tasks.training.heads.joining import join
from tasks.training.loop.fit import History
from tasks.training.loop.scores import Total

WAYS = {0.25: "a quarter of the way to ", 0.5: "half of the way to ", 0.75: "three quarters of the way to ", 1.0: ""}
IN_USE = "the model in use"


@dataclass(frozen=True, kw_only=True)
class OnVal:
    """Means over the labels of val: the calibrated loss, the share of right answers, and the error in `unit`.

    Classes have no error, which would show no more than the accuracy.
    """

    loss: float
    accuracy: float
    error: float | None = None
    unit: str | None = None

    def facts(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The scores of a model on val for one target: its calibration, and the loss and error of each sample.

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

    def log_likelihood(self) -> float:
        """Return the log-likelihood of the labels of val, in nats."""
        return self.target.log_likelihood(self.losses)

    def on_val(self) -> OnVal:
        loss, accuracy = float(self.losses.sum() / len(self.losses)), float(self.hits.mean())
        if isinstance(self.target, Classes):
            return OnVal(loss=loss, accuracy=accuracy)
        return OnVal(loss=loss, accuracy=accuracy, error=float(self.errors.mean()), unit=self.target.unit)


Candidates = Mapping[float, Judged]  # by the share of the way from the start to the fine-tuned model


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The share of the way that is taken for a target, the results of all shares on val, and why.

    `p_value` is that of the test that the middle of the way is worse than the head. `is_finetuned` is False where the
    head alone is taken. The head lies at the start of the way, unless the model in use does: then `head` has its
    results.
    """

    share: float
    is_finetuned: bool
    reason: str
    p_value: float
    candidates: dict[float, OnVal]
    head: OnVal | None = None

    @property
    def taken(self) -> OnVal:
        """Return the results of the model that is taken."""
        return self.candidates[self.share] if self.is_finetuned or self.head is None else self.head

    def facts(self) -> dict[str, Any]:
        """Return the verdict as JSON."""
        candidates = [{"share": share} | judged.facts() for share, judged in self.candidates.items()]
        facts = {
            "candidates": candidates, "is_finetuned": self.is_finetuned, "p_value": self.p_value,
            "reason": self.reason, "share": self.share,
        }  # fmt: skip
        return facts | ({"head": self.head.facts()} if self.head else {})


def beats(other: Judged, judged: Judged, *, significance: float) -> bool:
    """Return whether a model is better than `judged` and does no harm.

    Its loss on val has to be lower by a one-sided paired t-test over the samples, both models calibrated, and its mean
    error no larger. For classes that is: its accuracy is no lower.
    """
    p_value = paired_t_test(judged.losses - other.losses)
    return bool(p_value < significance and other.errors.mean() <= judged.errors.mean())


def choose_share(paths: Sequence[Candidates], *, among: Sequence[float] = SHARES[1:]) -> float:
    """Return the share of the way, of those in `among`, that fits val best, for one training of these targets.

    It is the one nearest to the posterior mean. The prior is the same for all shares, and the likelihood is that of the
    labels of val. So few labels choose about the middle, and many the share with the lowest loss.
    """
    shares = sorted(paths[0])
    evidence = np.array([sum(path[share].log_likelihood() for path in paths) for share in shares])
    posterior = np.exp(evidence - evidence.max())
    mean = float(posterior @ shares / posterior.sum())
    return min(among, key=lambda share: abs(share - mean))


def judge(
    paths: Mapping[str, Candidates],
    *,
    history: History,
    significance: float,
    heads: Mapping[str, Judged] | None = None,
    subject: Callable[[str], str] = lambda target: "the candidate",
    model: str = "the fine-tuned model",
) -> dict[str, Verdict]:
    """Choose, for each target of a training, between the head alone and one share of the way, the same for all.

    A target keeps its head only where the middle of the way is worse. The others choose the share together, because
    each share would be a trunk of its own. Where the way starts at the model in use, that is one of the shares.

    Args:
        paths: the results on val by target; of the start of the way alone if no epoch was kept.
        history: of the training.
        heads: the results of the heads alone, where the way starts at the model in use; else it starts at the heads.
        subject: target -> the subject of the choice, in the words of the reason.
        model: the fine-tuned model, in the words of the reason.
    """
    p_values, takers = dict.fromkeys(paths, 1.0), []
    if history.kept or heads:
        p_values = {
            name: paired_t_test(path.get(MIDDLE, path[HEAD]).losses - (heads or {name: path[HEAD]})[name].losses)
            for name, path in paths.items()
        }
        takers = [name for name, p_value in p_values.items() if p_value >= significance]
    among = sorted(next(iter(paths.values()))) if heads else SHARES[1:]
    share = choose_share([paths[name] for name in takers], among=among) if takers else HEAD
    verdicts = {}
    for name, path in paths.items():
        is_taker = name in takers
        verdict = Verdict(
            share=share if is_taker else HEAD, is_finetuned=is_taker, reason="", p_value=p_values[name],
            candidates={each: judged.on_val() for each, judged in path.items()},
            head=heads[name].on_val() if heads else None,
        )  # fmt: skip
        reason = reason_of(
            verdict, history, significance=significance, of_classes=isinstance(path[HEAD].target, Classes)
        )
        tuned = f"{WAYS.get(share)}{model} of epoch {history.kept}" if share > HEAD else IN_USE
        chosen = tuned if is_taker else "the head alone"
        verdicts[name] = replace(verdict, reason=f"{subject(name)} is {chosen}: {reason}")
    return verdicts


def reason_of(verdict: Verdict, history: History, *, significance: float, of_classes: bool) -> str:
    start, *others = verdict.candidates.values()
    loss = "val log-loss" if of_classes else "val loss"
    losses = losses_of(verdict.candidates, head=verdict.head)
    first = "the head" if verdict.head is None else IN_USE
    if len(history.epochs) == 1:
        reason = "no epoch was trained" + (f", {loss} {losses}" if verdict.head else "")
    elif not others:
        reason = f"every epoch had a higher {loss} than {first}, {start.loss:.4f}"
        reason += f", {verdict.head.loss:.4f} of the head alone" if verdict.head else ""
    else:
        shown = verdict.candidates[verdict.share if verdict.is_finetuned else MIDDLE]
        measured = (
            f"accuracy {start.accuracy:.4f} -> {shown.accuracy:.4f}"
            if of_classes
            else f"error {start.error:.4g} -> {shown.error:.4g} ({shown.unit})"
        )
        reason = f"{loss} {losses}; {measured}"
    if verdict.p_value < significance:
        allowed = f"p = {verdict.p_value:.2g}, expected at least {significance:g}"
        worse = "half of the way, fine-tuning made it worse" if verdict.head is None else f"{IN_USE} is worse"
        reason = f"{worse} ({allowed}): {reason}"
    if history.ending == "the loss was not finite":
        reason += (
            f"; training ended in epoch {len(history.epochs)}, where the loss was not finite: lower the learning rates"
        )
    return reason


def losses_of(candidates: Mapping[float, OnVal], *, head: OnVal | None = None) -> str:
    """Return the loss of each share of the way, and of the head where the way does not start at it, for a person."""
    words = {HEAD: f"of {IN_USE}" if head else "of the head alone", FINETUNED: "fine-tuned"}
    losses = [f"{head.loss:.4f} of the head alone"] if head else []
    return ", ".join(
        losses
        + [
            f"{judged.loss:.4f} {words.get(share) or f'at {share:.0%} of the way'}"
            for share, judged in candidates.items()
        ]
    )
