"""Ask a person about data that look wrong but may be right: a sentence each, with what to do."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from tasks.data.admission.columns import KINDS, perhaps_one_target
from tasks.data.admission.declarations import Declared, declarations
from tasks.data.admission.labels import names_of
from tasks.data.admission.nesting import alike_inside
from tasks.data.admission.options import AdmissionOptions
from tasks.data.admission.proposals import line as kind_line
from tasks.data.admission.proposals import other_separator, propose
from tasks.data.admission.shortfalls import number_of
from tasks.data.admission.spellings import alike, line, plain, quoted, several_in_one
from tasks.data.admission.splits import batches_without_heldout, batches_without_val
from tasks.targets.several import Several
from tasks.targets.target import Target

MAX_SHOWN = 10  # names in a sentence
NOT_LEARNED = "not learned: "
NO_JUDGE = "names train and val, but no held-out"
TOO_DEEP = "is it one folder too deep?"
# the words of programs and people for a sample without a label, in their `plain` form
NO_LABEL = {
    "nan", "null", "none", "na", "n/a", "<na>", "nil", "#n/a", "?", plain("-1"), "unlabelled", "unlabeled", "nolabel",
}  # fmt: skip
KEEP = "to keep one as it is, merge it into itself"


def about_columns(
    samples: pd.DataFrame, targets: Mapping[str, Target], passed_over: Mapping[str, str], options: AdmissionOptions
) -> Iterator[str]:
    """Yield questions about the choice of targets, unless `validate.targets` makes it.

    Args:
        passed_over: the columns that are no target, and why.
    """
    if options.targets:
        return
    renamed = perhaps_one_target(samples, [name for name in targets if targets[name].kind == "classes"], passed_over)
    others = [name for name in passed_over if name not in [renaming["column"] for renaming in renamed]]
    if others:
        columns = ", ".join(f"{name!r} ({passed_over[name]})" for name in others)
        choice = f"validate.targets: [{', '.join(map(quoted, [*targets, others[0]]))}]"
        if kind := KINDS.get(passed_over[others[0]]):
            choice = kind_line(
                others[0], {"kind": kind}, others={name: target.kind for name, target in targets.items()}
            )
        yield f"{NOT_LEARNED}{columns}. To learn a column too, name the targets: {choice}"
    for renaming in renamed:
        target, column = renaming["target"], renaming["column"]
        classes = ", ".join(map(repr, renaming["classes"][:MAX_SHOWN]))
        yield (
            f"batch {', '.join(renaming['batches'])} has no {target!r}, but its {column!r} has the same classes "
            f"({classes}): is it {target!r}? Then call the column {target!r} there"
        )


def about_kinds(samples: pd.DataFrame, targets: Mapping[str, Target], declared: Declared) -> Iterator[str]:
    """Yield questions about kinds that `validate.targets` does not declare: another kind, another separator."""
    for name, target in targets.items():
        if isinstance(target, Several) and "separator" not in declarations(declared).get(name, {}):
            other = other_separator(names_of(samples[name], target), target.separator)
            if other:
                yield (
                    f"labels of {name} have {other!r} in them, and their parts are in several: is it the separator? "
                    f"Then write {quoted(name)}: {{kind: several, separator: {quoted(other)}}} in validate.targets; "
                    f"else separator: {quoted(target.separator)}"
                )
        if isinstance(declared, dict) or target.kind != "classes":
            continue
        proposal = propose(samples[name])
        wanted = proposal.question or (proposal.declaration() if proposal.kind != "classes" else None)
        if wanted:
            others = {other: known.kind for other, known in targets.items()}
            yield (
                f"{name} is learned as classes, and {proposal.reason}: is it of the kind {wanted['kind']}? Then write "
                f"{kind_line(name, wanted, others=others)}; else write classes there"
            )


def about_splits(samples: pd.DataFrame, targets: Sequence[str]) -> Iterator[str]:
    """Yield remarks about the splits that the data name."""
    batches = batches_without_val(samples, targets=targets)
    if batches:
        yield (
            f"batch {', '.join(batches)} names train and held-out, but no val: a part of its train samples is val, as "
            "validate.val_fraction says. To choose it yourself, name some of them val"
        )
    batches = batches_without_heldout(samples, targets=targets)
    if batches:
        yield (
            f"batch {', '.join(batches)} {NO_JUDGE}: nothing of it can judge the model. If its val is to judge, call "
            "it test; then a part of its train samples is val"
        )


def about_names(
    samples: pd.DataFrame,
    targets: Mapping[str, Target],
    registered: Mapping[str, Sequence[str]],
    options: AdmissionOptions,
) -> Iterator[str]:
    """Yield questions about the names of classes and labels, unless `validate.merge` decides about them."""
    for target, of_target in targets.items():
        if of_target.kind not in ("classes", "several"):
            continue
        first = [*registered.get(target, []), *options.classes.get(target, [])]
        merge = options.merge.get(target, {})
        names = names_of(samples[target], of_target)
        counts = dict.fromkeys(first, 0) | {str(name): int(n) for name, n in names.value_counts().items()}
        pairs = alike(counts, first=first, merge=merge)
        if pairs:
            shown = ", ".join(
                f"{quoted(old)} ({counts[old]:,}) and {quoted(new)} ({counts[new]:,})" for old, new in pairs[:MAX_SHOWN]
            )
            merging = line(target, {**merge, **{new: old for old, new in pairs[:MAX_SHOWN]}})
            yield (
                f"{target} has {number_of(len(pairs), 'pair')} of classes that differ in spelling alone: {shown}. "
                f"To merge them: {merging}; {KEEP}"
            )
        empty = [name for name in counts if plain(name) in NO_LABEL and name not in merge and name not in first]
        if empty:
            shown = ", ".join(f"{quoted(name)} ({counts[name]:,})" for name in empty)
            yield (
                f"{target} has {number_of(len(empty), 'class', 'classes')} called as if there were no label: {shown}. "
                "A sample without a label has a blank cell, or lies in no class folder; if it is a class, merge it "
                f"into itself: {line(target, {**merge, **{name: name for name in empty}})}"
            )
        several = several_in_one(counts, merge=merge) if of_target.kind == "classes" else {}
        is_asked = not isinstance(options.targets, dict) and several and propose(samples[target]).kind == "several"
        if several and not is_asked:  # `about_kinds` asks then
            named = list(several)[:MAX_SHOWN]
            shown = ", ".join(f"{quoted(name)} ({counts[name]:,})" for name in named)
            merging = line(target, {**merge, **{name: several[name][0] for name in named}})
            yield (
                f"{target} has {number_of(len(several), 'class', 'classes')} with the names of several: {shown}. "
                "Classes are one a sample: give each its own column, declare the kind several (validate.targets: "
                f"{{{quoted(target)}: several}}), or merge it into one of them: {merging}; {KEEP}"
            )


def about_inner_folders(samples: pd.DataFrame, target: str) -> Iterator[str]:
    """Yield questions about batches whose class folders all hold the same folders: these may be the classes."""
    for batch, names_of_both in alike_inside(samples, target=target).items():
        classes, folders = (", ".join(map(repr, names[:MAX_SHOWN])) for names in names_of_both)
        yield (
            f"batch {batch} has the classes {classes}, and each holds the same folders ({folders}): {TOO_DEEP} If "
            "these are the classes, call the folders around them train, val and test, or move them together; if those "
            "around them are domains, make each a batch of its own"
        )


def about_folders(batch: str, found: Mapping[str, Any]) -> str:
    """Return the question about a batch whose class folders may lie too deep; `found` is a result of `wrapped`."""
    folders = ", ".join(map(repr, found["folders"][:MAX_SHOWN]))
    return (
        f"batch {batch} has one class, all of it in folders of {found['folder']!r} ({folders}): {TOO_DEEP} "
        f"Then move these folders up, into data/raw/{batch}/"
    )
