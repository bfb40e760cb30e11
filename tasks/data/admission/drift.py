"""How far the labels of each batch are from those before it: a manifest in, a row a batch and target out."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency

COLUMNS = ["batch", "target", "num_labels", "distance", "p_value", "significant_distance"]


def label_drift(manifest: pd.DataFrame, *, targets: Sequence[str], significance: float) -> pd.DataFrame:
    """Batches after the first, in their order, that have labels of a target which batches before them had.

    Columns: `distance`, the total variation distance between the class fractions of the batch and of all before it,
    0 to 1; `p_value` of the chi-square test of homogeneity (Pearson 1900); `significant_distance`, the distance where
    p_value is below `significance`, otherwise 0: a small batch is far from anything by chance.
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
