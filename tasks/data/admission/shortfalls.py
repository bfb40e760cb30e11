"""Describe in a sentence what the manifest lacks: the batch, what was seen, what was expected, and what to do."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from tasks.machine.names import on_one_line

# columns that we add; a target is unlikely to have such a name
ASPECT_RATIO, CLASS_FRACTION = "graftline.aspect_ratio", "graftline.class_fraction."
MOST_FRACTION = "graftline.most_fraction."  # of several labels
MARKUP_FRACTION = "markup_fraction"
MOST_NAMED = 5
TABLES = Mapping[str, pd.DataFrame]


def sentence(name: str, *, target: str, limit: float, tables: TABLES) -> str:
    """Return the sentence about an unmet expectation.

    Args:
        name: its name in `validate.expectations`, or the name of a condition that every manifest meets.
        target: the target that it is about; "" for none.
        tables: those that Great Expectations examined: `samples` and `batches`.
    """
    samples, batches = tables["samples"], tables["batches"]
    seen = _SEEN.get(name)
    if seen is None:
        return _of_every_manifest(name, samples)
    observed, advice = seen(samples, batches, target, limit)
    key = f"validate.expectations.{name}"
    return f"{observed} ({key}): {advice}, or {'lower' if name.startswith('min') else 'raise'} {key}.limit"


def number_of(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun: 1 sample, 2,000 samples."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def _min_samples(samples: pd.DataFrame, batches: pd.DataFrame, target: str, limit: float) -> tuple[str, str]:
    return f"{number_of(len(samples), 'sample')} can be used, expected at least {limit:g}", "land more"


def _min_samples_per_batch(samples: pd.DataFrame, batches: pd.DataFrame, target: str, limit: float) -> tuple[str, str]:
    small = batches[batches["num_samples"] < limit].drop_duplicates("batch")
    named = _named(f"batch {row.batch} has {row.num_samples}" for row in small.itertuples())
    return (
        f"of the samples that can be used, {named}, expected at least {limit:g}",
        "mend what data/validated/quarantine.csv lists, or take the batch out of data/batches.yaml",
    )


def _min_classes(samples: pd.DataFrame, batches: pd.DataFrame, target: str, limit: float) -> tuple[str, str]:
    labels = samples[target].dropna()
    names = _named(repr(str(name)) for name in sorted(labels.unique()))
    where = _named(samples.loc[labels.index, "batch"].unique())
    observed = f"{target} has {number_of(labels.nunique(), 'class', 'classes')} ({names}) in {where}"
    return f"{observed}, expected at least {limit:g}", "land samples of other classes"


def _min_class_fraction(samples: pd.DataFrame, batches: pd.DataFrame, target: str, limit: float) -> tuple[str, str]:
    share = _share_of_classes(samples, target)
    return f"{_shares(share[share < limit], target)}, expected at least {limit:.1%}", "land more samples of it"


def _max_class_fraction(samples: pd.DataFrame, batches: pd.DataFrame, target: str, limit: float) -> tuple[str, str]:
    share = _share_of_classes(samples, target)
    return f"{_shares(share[share > limit], target)}, expected at most {limit:.1%}", "land samples of other classes"


def _max_missing_labels(samples: pd.DataFrame, batches: pd.DataFrame, target: str, limit: float) -> tuple[str, str]:
    missing = samples[target].isna()
    by_batch = missing.groupby(samples["batch"], sort=False).mean()
    worst = _named(f"{share:.1%} in {batch}" for batch, share in by_batch[by_batch > limit].items())
    return (
        f"{missing.mean():.1%} of the samples have no label of {target} ({worst}), expected at most {limit:.1%}",
        "label them, or take it out of validate.targets",
    )


def _max_label_drift(samples: pd.DataFrame, batches: pd.DataFrame, target: str, limit: float) -> tuple[str, str]:
    far = batches[batches["significant_distance"] > limit]
    named = _named(f"batch {row.batch} by {row.significant_distance:.2f} in {row.target}" for row in far.itertuples())
    return (
        f"the labels differ from those of the batches before: {named}, expected at most {limit:g}",
        "check how the batch was labelled",
    )


def _max_aspect_ratio(samples: pd.DataFrame, batches: pd.DataFrame, target: str, limit: float) -> tuple[str, str]:
    long = samples[samples[ASPECT_RATIO] > limit]
    first = long.iloc[0]
    example = f"{first['batch']}/{first['path']} with {first['width']} x {first['height']} px"
    return (
        f"{number_of(len(long), 'image')} of {_named(long['batch'].unique())} are longer than {limit:g} times their "
        f"width, such as {example}",
        "crop them",
    )


def _max_markup_fraction(samples: pd.DataFrame, batches: pd.DataFrame, target: str, limit: float) -> tuple[str, str]:
    many = batches[batches[MARKUP_FRACTION] > limit].drop_duplicates("batch")
    named = _named(f"{row.markup_fraction:.1%} of batch {row.batch}" for row in many.itertuples())
    return (
        f"texts have remains of HTML, such as <b> or &lt;: {named}, expected at most {limit:.1%}",
        "the model learns them with the text: clean the texts before they land, and those that it answers alike",
    )


_SEEN = {
    "min_samples": _min_samples,
    "min_samples_per_batch": _min_samples_per_batch,
    "min_classes": _min_classes,
    "min_class_fraction": _min_class_fraction,
    "max_class_fraction": _max_class_fraction,
    "max_missing_labels": _max_missing_labels,
    "max_label_drift": _max_label_drift,
    "max_aspect_ratio": _max_aspect_ratio,
    "max_markup_fraction": _max_markup_fraction,
}


def _of_every_manifest(name: str, samples: pd.DataFrame) -> str:
    if name == "splits":
        counts = samples["split"].value_counts()
        missing = _named(split for split in ("train", "val", "heldout") if split not in counts)
        return (
            f"no sample is in {missing}, expected some in each split: land more samples, or change validate.split_salt"
        )
    return f"the manifest breaks its own rule {name!r}: run `dvc repro --force --single-item validate`"


def _share_of_classes(samples: pd.DataFrame, target: str) -> "pd.Series[float]":
    if MOST_FRACTION + target in samples:  # several labels
        return samples[target].dropna().map(json.loads).explode().value_counts() / samples[target].count()
    return samples[target].value_counts(normalize=True)


def _shares(shares: "pd.Series[float]", target: str) -> str:
    return f"of the labels of {target}, " + _named(f"{share:.1%} are {str(name)!r}" for name, share in shares.items())


def _named(names: Any) -> str:
    """Return the first of the names, and how many follow."""
    listed = [on_one_line(str(name)) for name in names]
    more = len(listed) - MOST_NAMED
    return ", ".join(listed[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
