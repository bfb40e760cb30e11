"""The answers that windows are compared with: those of the model in use to the held-out samples.

These are no samples that the model learned from, on which it is surer than it will be in use. The split by hashes gives
held-out samples the same distribution as those of train.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.health.known import keep
from tasks.data.health.unlike import Known
from tasks.machine.files import read_json
from tasks.metrics.outcomes import right_answers
from tasks.targets.number import Number
from tasks.targets.target import Target
from tasks.watching.answered import COLUMNS, read_files, read_vectors

ADVICE = "bring the project up to date with `graftline retrain`, or name answers to trusted samples with --reference"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The answers that windows are compared with.

    Args:
        answers: rows with the columns of `read_files`.
        accuracy: by target, the share of right answers; empty where no truths are known.
        vectors: (n, dim) of the samples, None where they are not known.
        unlike: (m,) 1 for a sample that the bundle's detector marks as unlike and 0 for another; None for no detector.
        what: the samples in words.
    """

    answers: pd.DataFrame
    accuracy: dict[str, float]
    vectors: NDArray[np.floating] | None = None
    unlike: NDArray[np.float64] | None = None
    what: str

    def of(self, target: str) -> pd.DataFrame:
        return self.answers[self.answers["target"] == target]

    @cached_property
    def halves(self) -> tuple[Known, NDArray[np.float32]]:
        """Return the summary of one half of the vectors, and the distances (m,) of the other half to it."""
        assert self.vectors is not None
        order = np.random.default_rng(0).permutation(len(self.vectors))
        first, others = np.array_split(self.vectors[order], 2)
        known = keep(first)
        return known, known.distances(others)

    @property
    def num_samples(self) -> int:
        return int(self.answers["sample_id"].nunique())


def reference_of_table(file: Path) -> Reference:
    """Return the answers of a file that `predict` wrote. Raises ValueError where it has none."""
    table = read_files([file])
    answers = table[table["reason"].isna() & table["sample_id"].notna()].drop_duplicates(["sample_id", "target"])
    if answers.empty:
        raise ValueError(f"{file} has no answer, expected those to trusted samples: predict them first")
    first = answers.drop_duplicates("sample_id")
    unlike = first["unlike"].dropna().to_numpy()
    return Reference(
        answers=answers, accuracy={}, vectors=read_vectors([file], first), unlike=unlike if len(unlike) else None,
        what=f"samples of {file}",
    )  # fmt: skip


def held_out_answers(evaluation: Path, targets: Mapping[str, Target], *, model: str) -> Reference:
    """Return the answers of the model in use to the held-out samples, as `evaluate` measured them last.

    The model was the candidate then, or the one that the candidate was compared with.

    Args:
        targets: the model's.
        model: the SHA-256 of its weights.

    Raises:
        ValueError: `evaluate` has not run, or the folder has no answers of that model.
    """
    subject, predictions = evaluation / "subject.json", evaluation / "predictions.parquet"
    if not (subject.is_file() and predictions.is_file()):
        raise ValueError(f"{evaluation} has no answers to held-out samples: {ADVICE}")
    evaluated = read_json(subject)
    name = next((name for name in ("candidate", "baseline") if evaluated.get(name) == model), None)
    if name is None:
        raise ValueError(f"{evaluation} is not about the model {model[:12]}: {ADVICE}")
    table = pd.read_parquet(predictions)
    parts, accuracy = [], {}
    for target, rows in table.groupby("target"):
        if target not in targets or name not in rows or rows[name].isna().all():
            continue
        rows = rows.reset_index(drop=True)
        parts.append(answers_of(rows, str(target), targets[str(target)], model=name))
        accuracy[str(target)] = float(right_answers(rows, model=name).mean())
    if not parts:
        raise ValueError(f"{evaluation} has no answer of the model {model[:12]} to any of its targets: {ADVICE}")
    return Reference(answers=pd.concat(parts, ignore_index=True), accuracy=accuracy, what="held-out samples")


def answers_of(rows: pd.DataFrame, target: str, known: Target, *, model: str) -> pd.DataFrame:
    """Return a model's answers in the columns of `read_files`, of rows that `evaluate` wrote about one target."""
    answers = rows[["sample_id"]].assign(target=target, label=rows[model]).reindex(columns=list(COLUMNS))
    if f"{model}_confidence" in rows and known.kind == "classes":
        answers["probability"] = rows[f"{model}_confidence"]
    elif isinstance(known, Number):
        answers["value"] = rows[f"{model}_value"]
    else:
        probabilities = known.said_probabilities(np.stack(rows[f"{model}_probabilities"].to_list()))
        answers["probability"] = np.nan if probabilities is None else probabilities
    return answers.astype({"probability": float, "value": float, "unlike": float})
