"""Read from a table of predictions which answers are right."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

GENERAL = "general"  # the name of the candidate's general head, where the head of a domain answers for the candidate


def right_answers(table: pd.DataFrame, *, model: str) -> NDArray[np.bool_]:
    """Return (n,): whether the model's answer in each row is right.

    An answer of the kind `classes` is right where it equals the label. For other kinds the table
    has `{model}_is_right`.
    """
    is_equal = (table[model] == table["label"]).to_numpy(bool)
    judged = table.get(f"{model}_is_right")
    if judged is None:
        return is_equal
    return np.where(judged.isna(), is_equal, judged.fillna(False).astype(bool)).astype(bool)
