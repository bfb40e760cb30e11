"""Choose the columns that are learned, the targets, and give the reason why each other column is passed over."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from tasks.data.admission.options import AdmissionOptions
from tasks.data.admission.proposals import MOST_NUMBERS, is_list, number_in
from tasks.data.admission.spellings import plain
from tasks.data.raw.entries import FACTS, KEYS
from tasks.data.raw.usual_names import split_called

WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
OF_A_LABEL = {"label", "labels", "class", "classes", "category", "target"}
OF_AN_IDENTITY = {
    "id", "ids", "uid", "uuid", "guid", "idx", "index", "serial", "date", "time", "datetime", "timestamp", "md5",
    "sha256", "hash",
}  # fmt: skip
# a column whose cells differ this much holds texts, which may be private: for cells of several words, and for any
MOST_DIFFERENT_TEXTS, MOST_DIFFERENT = 0.5, 0.9
LEAST_WORDS = 4.0  # of a cell on average, from which it is a text and not a name
LIKE_TEXTS = "its cells differ like texts"
NUMBERS = "it holds numbers, such as a measurement"
LISTS = "it holds lists, such as of labels"
KINDS = {NUMBERS: "number", LISTS: "several"}  # the kind that such a column may have


def target_columns(
    samples: pd.DataFrame,
    options: AdmissionOptions,
    *,
    registered: Collection[str],
    facts: Collection[str],
    joined: Mapping[str, Collection[str]],
) -> tuple[list[str], dict[str, str]]:
    """Return the targets among the columns of the samples, and why each of the other columns is passed over.

    Without `validate.targets`, the targets of the model in use are learned, and those with fixed classes. Where no
    model is in use, the first batches decide. They end with the batch in which a value of any column first becomes
    frequent enough to be a class. A target is a column of the first batch with labels in which, up to there, a value
    is that frequent. So a column that is no target on the first day does not become one later. If there is no such
    column, all columns whose cells do not differ like texts are targets. `domain` and `group` are targets where they
    are named, or registered. A target that is declared with its kind, but that no batch has, is left out where there
    is another one.

    Args:
        samples: in the order in which the batches landed.
        registered: the targets whose classes are registered.
        facts: the columns of the facts of a sample.
        joined: by target, the columns that each stand for one of its labels.

    Raises:
        ValueError: the samples have no column for a chosen target, or for a target with fixed classes; or a target
            differs in case alone from another column.
    """
    parts = {column for labels in joined.values() for column in labels}
    asked = {*(options.targets or ()), *registered} & {"domain", "group"}
    roles = {name for name in asked if samples[name].notna().any()}
    own_columns = [name for name in samples.columns if name not in (*FACTS, *KEYS, *facts, *parts) or name in roles]
    columns = [*own_columns, *joined]
    for key, names in (("targets", options.targets or []), ("classes", options.classes)):
        missing = [name for name in names if name not in columns]
        if missing and not (key == "targets" and isinstance(options.targets, dict) and len(missing) < len(names)):
            raise ValueError(
                f"validate.{key} names {missing[0]!r}, which no batch has, expected one of "
                f"{', '.join(columns) or 'none'}: correct the spelling, or label the data"
            )
    for name, labels in joined.items():
        if taken := [column for column in labels if column in (*FACTS, *KEYS, *facts)]:
            raise ValueError(
                f"validate.targets joins {taken[0]!r} to {name!r}, expected columns of labels: take it out, or give a "
                "column of labels another name"
            )
    targets, passed_over = _choice(samples, columns, options, registered=registered, joined=joined)
    seen = {name.casefold(): name for name in (*FACTS, *KEYS, *facts)}
    for name in targets:
        if (other := seen.setdefault(name.casefold(), name)) != name:
            raise ValueError(
                f"the columns {other!r} and {name!r} differ in case alone, expected one of them: rename {name!r}, or "
                "name the targets without it in validate.targets"
            )
    return targets, passed_over


def _choice(
    samples: pd.DataFrame,
    columns: list[str],
    options: AdmissionOptions,
    *,
    registered: Collection[str],
    joined: Collection[str],
) -> tuple[list[str], dict[str, str]]:
    if options.targets:
        named = [name for name in options.targets if name in columns]
        return named, _others(columns, named, "validate.targets does not name it")
    known = [name for name in columns if name in {*options.classes, *registered}]
    if any(name in registered for name in known):
        return known, _others(columns, known, "the model in use does not have it")
    columns = [name for name in columns if name not in joined]
    first, passed_over = _of_the_first_batches(samples, columns, min_samples=options.min_samples_per_class)
    targets = [name for name in columns if name in {*known, *first}]
    targets = targets or [
        name for name in columns if not _differ_like_texts(name, samples[name]) and not _are_lists(samples[name])
    ]
    return targets, {name: why for name, why in passed_over.items() if name not in targets}


def _others(columns: Sequence[str], targets: Collection[str], why: str) -> dict[str, str]:
    return {name: why for name in columns if name not in targets}


def _of_the_first_batches(
    samples: pd.DataFrame, columns: Sequence[str], *, min_samples: int
) -> tuple[list[str], dict[str, str]]:
    """Return the columns that the first batches make targets, and why each other column is no target."""
    place = pd.Series(pd.factorize(samples["batch"])[0], index=samples.index)  # the number of each sample's batch
    begins = {name: place[samples[name].first_valid_index()] for name in columns if samples[name].notna().any()}
    reached = {name: _since(samples[name], place, min_samples=min_samples) for name in begins}
    since = {name: batch for name, batch in reached.items() if batch is not None}
    earliest = min(begins.values(), default=0)
    why = {
        name: (
            LISTS if _are_lists(samples[name])
            else f"no value of it has {min_samples} samples" if name not in since
            else "batches before it taught other columns" if begins[name] > earliest
            else _unlike_classes(name, samples[name])
        )
        for name in columns
    }  # fmt: skip
    likely = [name for name, reason in why.items() if not reason]
    if not likely:  # rather a doubtful target than none; the log shows its classes
        likely = [
            name
            for name in columns
            if name in since and begins[name] == earliest and why[name] not in (LIKE_TEXTS, LISTS)
        ]
    first = min((since[name] for name in likely), default=None)
    targets = [name for name in likely if since[name] == first]
    late = f"no value of it had {min_samples} samples when the other columns were first learned"
    return targets, {name: reason or late for name, reason in why.items() if name not in targets}


def _since(labels: "pd.Series[Any]", place: "pd.Series[int]", *, min_samples: int) -> int | None:
    """Return the number of the batch in which the first value of a column reached `min_samples`; None if none did."""
    given = labels.dropna()
    nth = given.groupby(given).cumcount() + 1
    reached = nth.index[nth == min_samples]
    return int(place[reached].min()) if len(reached) else None


def _unlike_classes(name: str, labels: "pd.Series[Any]") -> str:
    """Return why the values of a column are hardly classes; "" if they may be."""
    words = {word.lower() for word in WORDS.findall(name)}
    if words & OF_A_LABEL:
        return ""
    if words & OF_AN_IDENTITY:
        return "its name is that of an id or a time"
    values = [str(value) for value in labels.dropna().unique()]
    if len({split_called(value) for value in values} - {None}) > 1 and all(map(split_called, values)):
        return "it holds names of splits: if it divides the samples, call it 'split'"
    numbers = [number_in(value) for value in values]
    if any(number is None for number in numbers):
        return LIKE_TEXTS if _differ_like_texts(name, labels) else ""
    if len(numbers) > MOST_NUMBERS or any(number != number.to_integral_value() for number in numbers if number):
        return NUMBERS
    return ""


def _are_lists(labels: "pd.Series[Any]") -> bool:
    cells = labels.dropna().astype(str).unique()
    return 2 * sum(map(is_list, cells)) > len(cells)


def _differ_like_texts(name: str, labels: "pd.Series[Any]") -> bool:
    """Return whether the cells of a column differ more than classes do; False for one with the name of a label."""
    if {word.lower() for word in WORDS.findall(name)} & OF_A_LABEL:
        return False
    cells = labels.dropna().astype(str)
    has_words = len(cells) and cells.map(lambda cell: len(cell.split())).mean() >= LEAST_WORDS
    return 1 < cells.nunique() > len(cells) * (MOST_DIFFERENT_TEXTS if has_words else MOST_DIFFERENT)


def perhaps_one_target(samples: pd.DataFrame, targets: Sequence[str], others: Collection[str]) -> list[dict[str, Any]]:
    """Return the columns that may be a target under another name, with `target`, `column`, `batches` and `classes`.

    In these batches the target has no label, and the column's values are classes that the target has elsewhere.
    """
    has_label = samples[[*targets, *others]].notna().groupby(samples["batch"], sort=False).any()
    place = {batch: number for number, batch in enumerate(has_label.index)}
    remarks = []
    for target in targets:
        known = {plain(str(name)) for name in samples[target].dropna().unique()}
        since = next((place[batch] for batch, has in has_label[target].items() if has), len(place))
        for column in (*targets, *others):
            batches = has_label.index[has_label[column] & ~has_label[target]]
            rows = samples.loc[samples["batch"].isin(batches), ["batch", column]].dropna()
            names = {batch: {str(name) for name in labels.unique()} for batch, labels in rows.groupby("batch")[column]}
            same = [
                str(batch)
                for batch in batches
                if place[batch] > since and 2 * len({*map(plain, names[batch])} & known) > len(names[batch])
            ]
            if same:
                classes = sorted({name for batch in same for name in names[batch] if plain(name) in known})
                remarks.append({"target": target, "column": column, "batches": same, "classes": classes})
    return remarks
