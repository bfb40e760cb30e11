"""Predictions of retrainings with different seeds in; the share of negative flips that chance explains out."""

import logging
from dataclasses import asdict, dataclass
from itertools import permutations
from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.gate.options import GateOptions
from tasks.machine.files import whole_file, write_json
from tasks.metrics.distributions import t_exceeded
from tasks.metrics.outcomes import right_answers
from tasks.stage.main import main

logger = logging.getLogger("graftline")


def run(*, predictions: Path, out: Path, regression: GateOptions) -> None:
    """Measure the churn: `predictions` is a folder with a table of evaluate for each retraining, of any name."""
    tables = [pd.read_parquet(path) for path in sorted(predictions.glob("*.parquet"))]
    churns = {}
    for target in sorted({name for table in tables for name in table["target"]}):
        of_target = [table[table["target"] == target] for table in tables]
        ids = of_target[0]["sample_id"].tolist()
        if any(table["sample_id"].tolist() != ids for table in of_target):
            raise ValueError(f"the tables in {predictions} are of other held-out samples: make them anew")
        is_right = np.stack([right_answers(table, model="candidate") for table in of_target])
        churns[target] = asdict(measure_churn(is_right, significance=regression.significance))
    with whole_file(out) as path:
        write_json(path, churns)
    for target, churn in churns.items():
        if not churn["highest"]:
            logger.info(
                "%s: %d retrainings agree on every answer, as those of the head alone do: leave "
                "regression.max_negative_flips null",
                target, len(tables),
            )  # fmt: skip
            continue
        logger.info(
            "%s: %d retrainings turn %.2f %% of the answers from right to wrong among themselves, %.2f %% at most: "
            "regression.max_negative_flips: %.4f",
            target, len(tables), 100 * churn["mean"], 100 * churn["highest"], churn["budget"],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Churn:
    """The mean and the highest share of negative flips between two retrainings, and the budget of another one."""

    mean: float
    highest: float
    budget: float


def measure_churn(is_right: NDArray[np.bool_], *, significance: float) -> Churn:
    """Return the churn of retrainings.

    The budget is the upper end of Student's prediction interval for one more pair. Another retraining exceeds it with a
    chance of `significance`. Raises ValueError for fewer than three retrainings.

    Args:
        is_right: (num_retrainings, n), whether an answer is right.
    """
    num = len(is_right)
    if num < 3:
        raise ValueError(f"there are {num} retrainings, expected at least 3: retrain with more seeds")
    flips = np.array([(one & ~other).mean() for one, other in permutations(is_right, 2)])
    width = t_exceeded(significance, num - 1) * float(flips.std(ddof=1)) * sqrt(1 + 1 / num)
    return Churn(mean=float(flips.mean()), highest=float(flips.max()), budget=float(flips.mean()) + width)


if __name__ == "__main__":
    main(run)
