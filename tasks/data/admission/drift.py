"""Measure how far the labels of each batch are from those of the batches before it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency

COLUMNS = ["batch", "target", "num_labels", "distance", "p_value", "significant_distance"]


def label_drift(manifest: pd.DataFrame, *, targets: Sequence[str], significance: float) -> pd.DataFrame:
    """Return a row for every target and every batch with labels for it, except the first such batch, in their order.

    Columns (COLUMNS):
        distance: the total variation distance, 0 to 1, between the class fractions of the batch and of all before it.
        p_value: of the chi-square test of homogeneity (Pearson 1900).
        significant_distance: the distance if p_value is below `significance`, else 0. A small batch may be far from
            the others by chance.
    """
    rows = []
    for target in targets:
        labelled = manifest.dropna(subset=[target])
        order = list(dict.fromkeys(labelled["batch"]))
        counts = pd.crosstab(labelled["batch"], labelled[target]).reindex(order).to_numpy()
        so_far = counts.cumsum(axis=0)  # (num_batches, num_classes)
        for number in range(1, len(order)):
            now, before = counts[number], so_far[number - 1]
            both = np.stack([now, before])[:, now + before > 0]
            distance = float(np.abs(now / now.sum() - before / before.sum()).sum() / 2)
            p_value = float(chi2_contingency(both, correction=False).pvalue) if both.shape[1] > 1 else 1.0
            significant = distance if p_value < significance else 0.0
            rows.append((order[number], target, int(now.sum()), distance, p_value, significant))
    return pd.DataFrame(rows, columns=COLUMNS)
