"""Mark the right answers, and count how the candidate and the model in use answer the same samples."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.metrics.outcomes import right_answers


def has_answers(rows: pd.DataFrame, model: str) -> bool:
    """Return whether the model answered any of these rows: it may know only some of the targets."""
    return model in rows and bool(rows[model].notna().any())


def errors(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return the candidate's error (n,) on each row: of a class 1 where it is wrong, else in the unit of the target."""
    wrong = np.asarray(~right_answers(rows, model="candidate"), np.float64)
    measured = rows.get("candidate_error")
    return wrong if measured is None else np.where(measured.isna(), wrong, np.asarray(measured, np.float64))


def outcomes(predictions: pd.DataFrame) -> dict[str, Any]:
    """Count how the candidate and the model in use answer the samples on which they are compared.

    Return the four outcomes with their share of these samples, in percent, and the candidate's `gain` in accuracy
    (-1..1).
    """
    rows = predictions[predictions["is_shared"].astype(bool)]
    now, was = (right_answers(rows, model=model) for model in ("candidate", "baseline"))
    counts = {
        "both": ("right in both", now & was),
        "gained": ("gained: only the candidate is right", now & ~was),
        "lost": ("lost: only the model in use is right", ~now & was),
        "neither": ("wrong in both", ~now & ~was),
    }
    num = {kind: int(which.sum()) for kind, (_, which) in counts.items()}
    return {
        "num_shared": len(rows),
        "gain": (num["gained"] - num["lost"]) / max(len(rows), 1),
        "parts": [
            {"kind": kind, "title": title, "count": num[kind], "share": 100 * num[kind] / max(len(rows), 1)}
            for kind, (title, _) in counts.items()
        ],
        "num": num,
    }
