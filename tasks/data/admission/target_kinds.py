"""Decide the kind of each target: as params.yaml declares it, as the model in use has it, or as its labels look."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import pandas as pd

from tasks.data.admission.declarations import Declaration, Declared, declarations
from tasks.data.admission.proposals import known_scale, propose
from tasks.data.admission.registry import Facts, kind_in, names_in
from tasks.targets.classes import Classes
from tasks.targets.kinds import target_of
from tasks.targets.target import Target

CALLED_ANEW = "or give the column another name to learn it anew"


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """The targets, by name, with their kinds; classes and labels come later. `reasons` are those of `auto`."""

    targets: dict[str, Target]
    reasons: dict[str, str]


def joined_columns(
    columns: Collection[str], targets: Declared, *, registered: Mapping[str, Facts]
) -> dict[str, list[str]]:
    """Return the columns of each target whose labels have a column each.

    Raises:
        ValueError: a column is not among `columns`, those of the samples, or the target has the name of one of these.
    """
    declared = declarations(targets)
    known = {name: facts for name, facts in registered.items() if isinstance(facts, dict) and facts.get("columns")}
    joined = {name: declaration["columns"] for name, declaration in declared.items() if declaration.get("columns")}
    joined |= {
        name: known[name]["columns"]
        for name, declaration in declared.items()
        if name in known and _is_bare(declaration)
    }
    for name, parts in joined.items():
        missing = [column for column in parts if column not in columns]
        if missing:
            raise ValueError(
                f"validate.targets joins {missing[0]!r} to {name!r}, and no batch has such a column: correct the "
                "spelling, or label the data"
            )
        if name in columns:
            raise ValueError(
                f"validate.targets joins {', '.join(parts)} to {name!r}, which is a column itself: call it otherwise"
            )
    if not isinstance(targets, dict):
        used = {name: facts["columns"] for name, facts in known.items() if {*facts["columns"]} & {*columns}}
        joined |= {name: parts for name, parts in used.items() if targets is None or name in targets}
    return joined


def decided_kinds(
    samples: pd.DataFrame, names: Sequence[str], targets: Declared, *, registered: Mapping[str, Facts]
) -> Kinds:
    """Return the kind of each of the targets `names`.

    A target in use keeps its kind, and a scale its steps. Without a declaration a new target has classes.

    Raises:
        ValueError: a declaration changes a target in use, or a scale has no steps.
    """
    declared, reasons = declarations(targets), {}
    found: dict[str, Target] = {}
    for name in names:
        known = registered.get(name)
        declaration = declared.get(name, {"kind": "auto" if name in registered else "classes"})
        is_auto = declaration["kind"] == "auto"
        if known is not None:
            facts = known if is_auto else _as_in_use(name, declaration, known)
            reason = "the model in use has it so"
        else:
            proposal = propose(samples[name]) if is_auto else None
            facts, reason = (proposal.declaration(), proposal.reason) if proposal else (declaration, "")
            if facts == {"kind": "ordinal"}:
                facts = facts | {"steps": _steps_of(name, samples[name])}
        found[name] = _without_names(name, facts)
        if is_auto and name in declared:
            reasons[name] = reason
    return Kinds(targets=found, reasons=reasons)


def without_labels(columns: Sequence[str], names: Collection[str], targets: Declared) -> Iterator[str]:
    """Yield a remark on each target that params.yaml declares and for which no batch has a label.

    Args:
        names: the targets that have a label, or are in use.
    """
    for name in declarations(targets):
        if name not in names:
            alike = get_close_matches(name, columns, n=1) if name not in columns else []
            shown = f"; is it the column {alike[0]!r}?" if alike else ""
            yield f"no batch has a label of {name!r}: it is left out{shown}"


def _as_in_use(name: str, said: Declaration, known: Facts) -> Facts:
    """Return the facts of a target in use that is declared. Raises ValueError where the kind or the steps change."""
    if said["kind"] != kind_in(known):
        raise ValueError(
            f"validate.targets makes {name!r} of the kind {said['kind']}, but the model in use has it as "
            f"{kind_in(known)}: declare it so, {CALLED_ANEW}"
        )
    if _is_bare(said):
        return known
    steps = names_in(known)
    if said["kind"] == "ordinal" and said["steps"] != steps:
        raise ValueError(
            f"validate.targets gives {name!r} the steps {', '.join(said['steps'])}, but the model in use has "
            f"{', '.join(steps)}: keep them, {CALLED_ANEW}"
        )
    return said


def _is_bare(said: Declaration) -> bool:
    """Return whether a declaration gives the kind alone; a target in use then stays as it is."""
    return said.keys() == {"kind"}


def _steps_of(name: str, labels: "pd.Series[str]") -> list[str]:
    steps = known_scale([str(label) for label in labels.dropna().unique()])
    if not steps:
        raise ValueError(
            f"validate.targets makes {name!r} ordinal without steps: name them from the lowest to the highest, such as "
            f"{{{name}: {{kind: ordinal, steps: [low, medium, high]}}}}"
        )
    return steps


def _without_names(name: str, facts: Facts) -> Target:
    """Return the target that has these facts, without its classes or labels, which come later."""
    if isinstance(facts, list) or facts["kind"] == "classes":
        return Classes(())
    try:
        return target_of(facts | {"labels": []} if facts["kind"] == "several" else facts)
    except ValueError as error:
        raise ValueError(f"the registry of classes is damaged: target {name!r}: {error}: restore it with git") from None
