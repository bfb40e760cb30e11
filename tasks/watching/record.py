"""The findings of a watch, as JSON for alarms and in words for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from tasks.machine.names import printable
from tasks.targets.target import Target
from tasks.watching.decision import Decision
from tasks.watching.labels import Accuracy
from tasks.watching.reference import Reference
from tasks.watching.windows import Window


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A window with its decision, and by target the accuracy of its answers, where labels came.

    `files` are keys of the files that its answers lie in, `grounds` a digest of all that the decision depends on.
    """

    window: Window
    decision: Decision
    accuracy: Mapping[str, Accuracy]
    files: Sequence[str]
    grounds: str

    def words(self) -> str:
        """Return the decision in one line."""
        if self.decision.why_not:
            return f"not judged: {self.decision.why_not}"
        if not self.decision.is_drifted:
            return "no drift"
        return "drifted: " + "; ".join(
            (f"{printable(one.target)}: " if one.target else "") + one.words for one in self.decision.reasons
        )

    def facts(self) -> dict[str, Any]:
        """Return the window as JSON."""
        window, decision = self.window, self.decision
        return {
            "key": window.key,
            "files": list(self.files),
            "grounds": self.grounds,
            "begin": moment(window.begin),
            "end": moment(window.end),
            "num_samples": window.num_samples,
            "num_repeated": window.num_repeated,
            "without_answer": window.reasons,
            "is_open": window.is_open,
            "is_judged": decision.why_not is None,
            "is_drifted": decision.is_drifted,
            "words": self.words(),
            "level": decision.level,
            "tests": [asdict(one) | {"is_drifted": one in decision.reasons} for one in decision.findings],
            "accuracy": {name: asdict(one) for name, one in self.accuracy.items()},
            "answers": self.answers(),
        }

    def answers(self) -> dict[str, dict[str, Any]]:
        """Return, by target, the mean confidence, and how many answers are each class."""
        found: dict[str, dict[str, Any]] = {}
        for name, rows in self.window.answers.groupby("target"):
            confidence = rows["probability"].mean()
            found[str(name)] = {"mean_confidence": None if np.isnan(confidence) else float(confidence)}
            if rows["value"].isna().all():
                counts = rows["label"].value_counts().sort_index()
                found[str(name)]["counts"] = {str(label): int(count) for label, count in counts.items()}
        return found


def moment(time: pd.Timestamp | None) -> str | None:
    return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%SZ")


def record(
    watched: Sequence[Watched],
    reference: Reference,
    *,
    model: str,
    false_alarms: float,
    counts: Mapping[str, int],
    files: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """Return all findings as JSON.

    Args:
        counts: of answers in no window, and of labels, by their names.
        files: by the key of each file, how many answers to each target came before it.
    """
    judged = [one for one in watched if one.decision.why_not is None]
    return {
        "model_sha256": model,
        "reference": {
            "what": reference.what, "num_samples": reference.num_samples, "accuracy": dict(reference.accuracy),
            "has_embeddings": reference.vectors is not None,
        },
        "false_alarms": false_alarms,
        "num_windows": len(watched),
        "num_judged": len(judged),
        "num_drifted": sum(one.decision.is_drifted for one in judged),
        "expected_false_alarms": false_alarms * len(judged),
        "is_drifted": bool(judged) and judged[-1].decision.is_drifted,  # the newest that was judged
        "counts": dict(counts),
        "files": {key: dict(before) for key, before in files.items()},
        "windows": [one.facts() for one in watched],
    }  # fmt: skip


def budget_in_words(*, false_alarms: float, num_judged: int) -> str:
    """Return a sentence on the meaning of the allowed false alarms for these windows."""
    return (
        f"Of windows without any drift, {false_alarms:.2%} at most raise a false alarm, whatever the number of tests: "
        f"of these {num_judged:,} windows, {false_alarms * num_judged:.2g} on average."
    )


def in_no_window(counts: Mapping[str, int]) -> list[str]:
    """Return sentences about answers in no window, and about labels without an answer."""
    words = {
        "of_other_models": "{} answers of other models are left out: watch each model by its own reference.",
        "without_time": "{} rows have no time and are in no window.",
        "without_answer": "{} inputs have no answer.",
        "repeated": "{} answers repeat a sample of their window, and count once.",
        "labels": "{} labels came.",
        "labels_of_other_models": "{} labels are of samples that other models alone answered.",
        "labels_never_answered": "{} labels are of samples that were never answered: is the log complete?",
        "labels_of_unknown_classes": "{} labels are of classes that the model does not know: its answers are wrong.",
    }
    return [text.format(f"{counts[name]:,}") for name, text in words.items() if counts.get(name)]


def unknown_classes(labels: Mapping[str, pd.Series], targets: Mapping[str, Target]) -> int:
    """Return how many labels are of classes or steps that the model does not know."""
    return sum(
        int((~series.isin(list(targets[name].names))).sum())
        for name, series in labels.items()
        if targets[name].kind in ("classes", "ordinal")
    )
