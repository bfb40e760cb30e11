"""Apply the corrections of people to the samples that came, by sample_id. The raw data stays as it came."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from tasks.data.admission.corrections import Correction, decided, standing
from tasks.data.admission.quarantine import BY_HAND, CONTRADICTED
from tasks.data.raw.entries import DOMAIN, FACTS, KEYS, LABEL, text
from tasks.machine.names import listed, on_one_line, printable
from tasks.targets.several import labels_of

MOST_NAMED = 3  # of contradictions in a line
COLUMNS = ["batch", "path", "sample_id", "target", "came_as", "label", "who", "when"]


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """The samples with the labels in force, and the other consequences of the corrections.

    `reasons` has the reason and the detail, by sample_id, of samples that are set aside. `changed` has a row (COLUMNS)
    for each label that differs from the one it came as; `came_as` is "" where there was none. `columns` are the columns
    in which a batch gets labels.
    """

    samples: pd.DataFrame
    reasons: dict[str, tuple[str, str]]
    changed: pd.DataFrame
    columns: dict[str, list[str]]
    remarks: list[str]


def correct(
    samples: pd.DataFrame,
    rows: Sequence[Correction],
    *,
    defects: Collection[str],
    joined: Mapping[str, Sequence[str]],
    declared: Collection[str],
    facts: Collection[str] = (),
) -> Corrected:
    """Apply the corrections.

    Args:
        samples: columns batch, path, sample_id and the targets, a row a sample.
        rows: in the order of their file.
        defects: the sample_ids of samples that cannot be used, whatever a correction asks for.
        joined: by target, the columns that each stand for one of its labels.
        declared: the targets that params.yaml names, and those of the model in use.
        facts: the columns of the facts of a sample.

    Raises:
        ValueError: a correction is about a target that the samples do not have, or about a column that is no target.
    """
    held = standing(rows)
    no_targets = {*FACTS, *KEYS, *facts} - ({DOMAIN} & {*declared})
    here = held.keys() & {*samples["sample_id"]}
    gone = [row for sample_id in held.keys() - here - {*defects} for row in held[sample_id]]
    contradictions, reasons = [], {}
    labels: dict[str, dict[str, Correction]] = {}
    for sample_id in sorted(here):
        decision = decided(held[sample_id])
        if decision.conflict:
            contradictions.append(decision.conflict)
            one, other = decision.conflict
            reasons[sample_id] = CONTRADICTED, f"corrected in two ways: {_both(one, other)}"
        elif decision.set_aside:
            reasons[sample_id] = BY_HAND, _detail(decision.set_aside)
        else:
            for row in decision.labels:
                if row.target in no_targets:
                    raise ValueError(
                        f"line {row.line} of the corrections is about {row.target!r}, which is no label, and which no "
                        "correction changes, expected a target: correct it, or remove the row"
                    )
                labels.setdefault(row.target, {})[sample_id] = row
    samples, changed, columns = _relabelled(samples, labels, joined=joined, declared=declared)
    return Corrected(
        samples=samples, reasons=reasons, changed=changed, columns=columns,
        remarks=[*_contradicting(contradictions), *_about_gone(gone)],
    )  # fmt: skip


def _relabelled(
    samples: pd.DataFrame,
    labels: Mapping[str, Mapping[str, Correction]],
    *,
    joined: Mapping[str, Sequence[str]],
    declared: Collection[str],
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, list[str]]]:
    changed, columns = [pd.DataFrame(columns=COLUMNS, dtype="str")], dict[str, list[str]]()
    for target, corrections in labels.items():
        if target not in samples and target not in joined and target not in {*declared, LABEL}:
            row = next(iter(corrections.values()))
            known = ", ".join(sorted({*declared, *joined})) or "the name of a column of labels"
            raise ValueError(
                f"line {row.line} of the corrections is about {printable(target)!r}, which no batch has, expected "
                f"{known}: correct the target"
            )
        about = samples[samples["sample_id"].isin(list(corrections))]
        row_of = [corrections[sample_id] for sample_id in about["sample_id"]]
        new = pd.Series([text(row.label) for row in row_of], index=about.index, dtype="str")
        if target in joined:
            came = about[list(joined[target])].fillna("").agg("|".join, axis=1)
            named = [_named(row, joined[target]) for row in row_of]
            cells = _of_several(named, joined[target], index=about.index)
        else:
            came = about[target].fillna("") if target in about else pd.Series("", index=about.index)
            cells = {target: new}
        is_other = came != new
        for column, values in cells.items():
            before = samples[column] if column in samples else pd.Series(index=samples.index, dtype="str")
            after = before.copy()
            after[values.index] = values
            samples = samples.assign(**{column: after})
            for batch in about["batch"].unique():
                columns.setdefault(str(batch), []).append(column)
        facts = about[["batch", "path", "sample_id"]].assign(
            target=target, came_as=came, label=new,
            who=[row.who for row in row_of], when=[row.when for row in row_of],
        )  # fmt: skip
        changed.append(facts[is_other])
    table = pd.concat(changed).sort_values(COLUMNS, ignore_index=True).astype("str")
    return samples, table, columns


def _named(row: Correction, columns: Sequence[str]) -> list[str]:
    """Return the labels of a row, which have a column each."""
    try:
        named = labels_of(text(row.label))
    except ValueError as error:
        raise ValueError(f"line {row.line} of the corrections: {error}") from None
    if others := [name for name in named if name not in columns]:
        raise ValueError(
            f"line {row.line} of the corrections has the label {printable(others[0])!r} of {row.target}, expected some "
            f"of {listed(columns)}: correct it"
        )
    return named


def _of_several(
    named: Sequence[Sequence[str]], columns: Sequence[str], *, index: "pd.Index[int]"
) -> dict[str, "pd.Series[str]"]:
    """Return a cell of 1 or 0 for each column and sample, of the labels that each sample has."""
    return {
        column: pd.Series(["1" if column in labels else "0" for labels in named], index=index, dtype="str")
        for column in columns
    }


def _detail(row: Correction) -> str:
    note = f": {row.note}" if row.note else ""
    return f"{row.who} set it aside on {row.when[:10]}{note}"


def _both(one: Correction, other: Correction) -> str:
    return on_one_line(f"line {one.line} ({one.decision}) and line {other.line} ({other.decision})")


def _contradicting(pairs: Sequence[tuple[Correction, Correction]]) -> Iterator[str]:
    """Yield a line about the samples that two people corrected differently."""
    if pairs:
        num = len(pairs)
        more = f" and {num - MOST_NAMED} more" if num > MOST_NAMED else ""
        yield (
            f"{num:,} {'sample waits, because two people' if num == 1 else 'samples wait, because people'} corrected "
            f"{'it' if num == 1 else 'them'} differently: {'; '.join(_both(*pair) for pair in pairs[:MOST_NAMED])}"
            f"{more}. Which is right? Decide in `graftline review`, or remove the other row"
        )


def _about_gone(rows: Sequence[Correction]) -> Iterator[str]:
    """Yield a line about the corrections of samples that no batch has."""
    if rows:
        first = min(rows, key=lambda row: row.line)
        num = len(rows)
        yield (
            f"{num:,} correction{'s' * (num > 1)} of samples that no batch has, such as line {first.line} "
            f"({first.sample_id[:12]}, {first.decision}): bring the batch back, or leave "
            f"{'them' if num > 1 else 'it'}; nothing is lost"
        )
