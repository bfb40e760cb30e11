"""Compare the answers of a window with those of the reference: tests that need no label."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import betabinom, fisher_exact, ks_2samp, mannwhitneyu

from tasks.data.health.components import directions
from tasks.data.health.unlike import limit_of
from tasks.machine.names import printable
from tasks.page.wording import figure
from tasks.targets.several import Several, labels_of
from tasks.targets.target import Target
from tasks.training.alignment.separation import tell_apart

LEAST_SAMPLES = 30  # of a window and of the reference: the tests are valid for fewer, but find little
MOST_DRAWS = 100_000  # of a permutation test
MOST_HITS = 20  # draws as large as the statistic: more would only make a large p-value more exact
NUMBERS_AT_ONCE = 2**19  # in memory
NUM_COMPONENTS = 32  # of vectors
UNLIKE_LEVEL = 0.01  # where the bundle has no detector: the share of known samples that count as unlike


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one test.

    Args:
        target: None where the test is about the samples and not about the answers to a target.
        effect: the size of the difference, which does not grow with the number of samples: for shares the total
            variation distance, for values the Kolmogorov-Smirnov distance, both 0 to 1; for confidence the change of
            its mean; for domain the area under the curve, 0.5 by chance; for unlike the share of such samples.
        words: the effect for a person.
    """

    target: str | None
    test: str
    effect: float
    p_value: float
    words: str


Test = Callable[[float], Finding]  # takes the level that its p-value is compared with


def tests_of_target(
    name: str, target: Target, window: pd.DataFrame, reference: pd.DataFrame, *, seed: int
) -> list[Test]:
    """Return the tests of the answers to one target.

    Args:
        window, reference: rows of the target with label, probability and value, as `read_files` returns them.
    """
    if target.kind == "number":
        return [lambda level: compare_values(name, window["value"].to_numpy(), reference["value"].to_numpy())]
    if isinstance(target, Several):
        return [lambda level: compare_labels(name, target, window["label"], reference["label"])]
    tests: list[Test] = [
        lambda level: compare_shares(name, window["label"], reference["label"], level=level, seed=seed)
    ]
    own, others = (rows["probability"].dropna().to_numpy() for rows in (window, reference))
    if min(len(own), len(others)) >= LEAST_SAMPLES:
        tests.append(lambda level: compare_confidence(name, own, others))
    return tests


def compare_shares(name: str, window: pd.Series, reference: pd.Series, *, level: float, seed: int) -> Finding:
    """Test whether the classes are answered as often, by Pearson's chi-square under permutations (Fisher 1935).

    The permutations keep the level where a class has few answers, too. There are so many that p-values near the level
    can be distinguished.
    """
    counts = pd.DataFrame({"window": window.value_counts(), "reference": reference.value_counts()}).fillna(0)
    counts = counts.sort_index().astype(np.int64)
    own, all_of_them = counts["window"].to_numpy(), counts.sum(axis=1).to_numpy()
    shares, usual = own / own.sum(), counts["reference"].to_numpy() / counts["reference"].sum()
    expected = own.sum() * all_of_them / all_of_them.sum()

    def statistic(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(((drawn - expected) ** 2 / expected).sum(axis=-1))

    generator = np.random.default_rng(seed)
    p_value = permutation_p(
        float(statistic(own)),
        lambda num: statistic(
            generator.multivariate_hypergeometric(all_of_them, int(own.sum()), size=num, method="marginals")
        ),
        level=level,
        at_once=max(NUMBERS_AT_ONCE // len(own), 1),
    )
    farthest = int(np.abs(shares - usual).argmax())
    return Finding(
        target=name, test="shares", effect=float(np.abs(shares - usual).sum() / 2),
        p_value=p_value,
        words=f"{shares[farthest]:.1%} of the answers are {printable(str(counts.index[farthest]))}, "
        f"{usual[farthest]:.1%} in the reference",
    )  # fmt: skip


def compare_labels(name: str, target: Several, window: pd.Series, reference: pd.Series) -> Finding:
    """Test each label's share by Fisher's exact test, times the number of labels (Bonferroni)."""
    own, usual = (labels_there(cells, target) for cells in (window, reference))
    tests = [
        float(fisher_exact([[a, len(own) - a], [b, len(usual) - b]]).pvalue)
        for a, b in zip(own.sum(axis=0).tolist(), usual.sum(axis=0).tolist(), strict=True)
    ]
    shares, before = own.mean(axis=0), usual.mean(axis=0)
    farthest = int(np.argmin(tests))
    return Finding(
        target=name, test="shares", effect=float(np.abs(shares - before).max()),
        p_value=min(min(tests) * len(tests), 1.0),
        words=f"{shares[farthest]:.1%} of the samples have {printable(target.names[farthest])}, "
        f"{before[farthest]:.1%} in the reference",
    )  # fmt: skip


def labels_there(cells: pd.Series, target: Several) -> NDArray[np.bool_]:
    """Return (n, num_labels): which labels each answer has."""
    answers = [set(labels_of(cell)) if isinstance(cell, str) else set() for cell in cells]
    return np.array([[label in labels for label in target.names] for labels in answers])


def compare_confidence(name: str, window: NDArray[np.float64], reference: NDArray[np.float64]) -> Finding:
    """Test whether the answers are as sure as in the reference (Mann & Whitney 1947).

    Where probabilities are calibrated, the mean confidence falls as much as the accuracy (Guillory et al. 2021).
    """
    test = mannwhitneyu(window, reference, method="asymptotic")
    return Finding(
        target=name, test="confidence", effect=float(window.mean() - reference.mean()),
        p_value=1.0 if np.isnan(test.pvalue) else float(test.pvalue),
        words=f"the mean confidence is {window.mean():.1%}, {reference.mean():.1%} in the reference",
    )  # fmt: skip


def compare_values(name: str, window: NDArray[np.float64], reference: NDArray[np.float64]) -> Finding:
    """Test whether the numbers come from one distribution, by the two-sample Kolmogorov-Smirnov test."""
    test = ks_2samp(window, reference)
    return Finding(
        target=name, test="values", effect=float(test.statistic), p_value=float(test.pvalue),
        words=f"half of the answers are below {figure(float(np.median(window)))}, "
        f"{figure(float(np.median(reference)))} in the reference",
    )  # fmt: skip


def compare_vectors(
    window: NDArray[np.floating], reference: NDArray[np.floating], *, level: float, seed: int
) -> Finding:
    """Test whether vectors (n, dim) have the same mean as those of the reference (m, dim), in their main directions.

    The statistic is Hotelling's T-squared on NUM_COMPONENTS principal components, under permutations of the samples of
    both sides. The effect is the area under the curve of `tell_apart`. Its z-score suits a threshold; at the small
    levels of many windows and tests, its p-value would be as inexact as the normal distribution's tail.
    """
    both = np.concatenate([window, reference]).astype(np.float64)
    n = len(window)
    centred = both - both.mean(axis=0)
    spread, basis = directions(centred, most=NUM_COMPONENTS)
    kept = spread > spread[-1] * 1e-10
    white = centred @ (basis[:, kept] / np.sqrt(spread[kept] / len(both)))
    generator = np.random.default_rng(seed)

    def drawn(num: int) -> NDArray[np.float64]:
        order = generator.random((num, len(both)), dtype=np.float32)
        is_window = order <= np.partition(order, n - 1, axis=1)[:, n - 1 : n]
        return np.asarray(((is_window.astype(np.float64) @ white) ** 2).sum(axis=1))

    p_value = permutation_p(
        float((white[:n].sum(axis=0) ** 2).sum()), drawn, level=level, at_once=max(NUMBERS_AT_ONCE // len(both), 1)
    )
    apart = tell_apart(reference, window, seed=seed)
    return Finding(
        target=None, test="domain", effect=apart.auc, p_value=p_value,
        words="a classifier separates its samples from the reference's "
        f"with an area under the curve of {apart.auc:.2f}, 0.50 by chance",
    )  # fmt: skip


def permutation_p(found: float, drawn: Callable[[int], NDArray[np.float64]], *, level: float, at_once: int) -> float:
    """Return the p-value of a statistic among permuted ones; `drawn` returns as many of these as the caller asks for.

    It ends after MOST_HITS that are as large (Besag & Clifford 1991), or after so many draws that p-values near the
    level can be distinguished.
    """
    num_draws = int(min(max(MOST_HITS / level, 1000), MOST_DRAWS))
    hits, num = 0, 0
    while num < num_draws:
        is_hit = drawn(min(at_once, num_draws - num)) >= found * (1 - 1e-9)
        so_far = hits + np.cumsum(is_hit)
        if so_far[-1] >= MOST_HITS:
            return MOST_HITS / (num + int(np.searchsorted(so_far, MOST_HITS)) + 1)
        hits, num = int(so_far[-1]), num + len(is_hit)
    return (hits + 1) / (num + 1)


def compare_unlike(window: NDArray[np.float64], reference: NDArray[np.float64]) -> Finding:
    """Test whether the bundle's detector marks more samples as unlike those of the training than in the reference.

    The detector's own level is no reference: a limit that few samples set is always somewhat too high or too low.
    Fisher's exact test takes neither share as known.

    Args:
        window, reference: (n,) and (m,), 1 for a sample that it marks and 0 for another.
    """
    own, usual = int(window.sum()), int(reference.sum())
    counts = [[own, len(window) - own], [usual, len(reference) - usual]]
    return Finding(
        target=None, test="unlike", effect=own / len(window),
        p_value=float(fisher_exact(counts, alternative="greater").pvalue),
        words=f"{own / len(window):.1%} of the samples are unlike any that the model knows, "
        f"{usual / len(reference):.1%} in the reference",
    )  # fmt: skip


def compare_distances(window: NDArray[np.floating], known: NDArray[np.floating]) -> Finding:
    """Test whether more samples than by chance are far from the reference: beyond its own UNLIKE_LEVEL.

    The number beyond that distance is beta-binomial by chance, whatever the distribution of the distances is.

    Args:
        window, known: distances (n,) and (m,) from the same vectors, which are of neither side.
    """
    limit = limit_of(known, level=UNLIKE_LEVEL)
    place = len(known) if limit is None else int((known <= limit).sum())
    beyond = int((window > (known.max() if limit is None else limit)).sum())
    return Finding(
        target=None, test="unlike", effect=beyond / len(window),
        p_value=float(betabinom.sf(beyond - 1, len(window), len(known) - place + 1, place)),
        words=f"{beyond / len(window):.1%} of the samples are unlike any that the model knows, expected at most "
        f"{UNLIKE_LEVEL:.1%}",
    )  # fmt: skip
