"""Measure how far the labels of each batch are from those of the batches before it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc

from tasks.data.admission.labels import names_of
from tasks.targets.target import Target

COLUMNS = ["batch", "target", "num_labels", "distance", "p_value", "significant_distance"]


def label_drift(manifest: pd.DataFrame, *, targets: Mapping[str, Target], significance: float) -> pd.DataFrame:
    """Return a row for every target and every batch with labels for it, except the first such batch, in their order.

    Columns (COLUMNS):
        distance: 0 to 1, between the labels of the batch and those of all before it. For classes and steps it is the
            total variation distance of their fractions, for several labels the largest one of a label. For numbers it
            is the largest distance of the two distribution functions (Kolmogorov-Smirnov).
        p_value: of the chi-square test of homogeneity (Pearson 1900), for several labels the least one times their
            number (Bonferroni), for numbers of the two-sample Kolmogorov-Smirnov test.
        significant_distance: the distance if p_value is below `significance`, else 0. A small batch may be far from
            the others by chance.
    """
    rows = []
    for name, target in targets.items():
        labelled = manifest.dropna(subset=[name])
        order = list(dict.fromkeys(labelled["batch"]))
        far = {"number": _numbers, "several": _several}.get(target.kind, _classes)
        sizes = labelled["batch"].value_counts()
        for number, (distance, p_value) in enumerate(far(labelled, name, target, order), start=1):
            significant = distance if p_value < significance else 0.0
            rows.append((order[number], name, int(sizes[order[number]]), distance, p_value, significant))
    return pd.DataFrame(rows, columns=COLUMNS)


def _classes(labelled: pd.DataFrame, name: str, target: Target, order: list[str]) -> list[tuple[float, float]]:
    counts = pd.crosstab(labelled["batch"], labelled[name]).reindex(order).to_numpy()
    so_far = counts.cumsum(axis=0)  # (num_batches, num_classes)
    return [_homogeneous(now, before) for now, before in zip(counts[1:], so_far, strict=False)]


def _several(labelled: pd.DataFrame, name: str, target: Target, order: list[str]) -> list[tuple[float, float]]:
    labels = names_of(labelled[name], target)
    with_label = pd.crosstab(labelled.loc[labels.index, "batch"].array, labels.array)
    hits = with_label.reindex(index=order, columns=list(target.names), fill_value=0).to_numpy(float)
    sizes = labelled["batch"].value_counts()[order].to_numpy(float)[:, None]
    results = []
    for now, before, n, m in zip(hits[1:], hits.cumsum(axis=0), sizes[1:], sizes.cumsum(axis=0), strict=False):
        distances = np.abs(now / n - before / m)
        both = now + before
        spread = both * (n + m - both)  # 0 where all samples have the label, or none
        statistics = distances**2 * n * m * (n + m) / np.where(spread > 0, spread, 1)
        p_values = chdtrc(1, statistics)
        least = np.lexsort((-distances, p_values))[0]
        results.append((float(distances[least]), min(float(p_values[least]) * len(p_values), 1.0)))
    return results


def _numbers(labelled: pd.DataFrame, name: str, target: Target, order: list[str]) -> list[tuple[float, float]]:
    from scipy.stats import ks_2samp  # takes longer to import than the rest of this does

    values = target.encode(labelled[name])
    place = labelled["batch"].map({batch: number for number, batch in enumerate(order)}).to_numpy()
    tests = [ks_2samp(values[place == number], values[place < number]) for number in range(1, len(order))]
    return [(float(test.statistic), float(test.pvalue)) for test in tests]


def _homogeneous(now: NDArray[np.int64], before: NDArray[np.int64]) -> tuple[float, float]:
    """Return the distance of the fractions of counts (num_classes,), and the p-value of their difference."""
    both = np.stack([now, before])[:, now + before > 0]
    distance = float(np.abs(now / now.sum() - before / before.sum()).sum() / 2)
    expected = both.sum(axis=1, keepdims=True) * both.sum(axis=0) / both.sum()
    statistic = ((both - expected) ** 2 / expected).sum()
    return distance, float(chdtrc(both.shape[1] - 1, statistic)) if both.shape[1] > 1 else 1.0
