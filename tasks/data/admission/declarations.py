"""The declarations of targets in params.yaml: the column, its kind, and the settings of that kind."""

from collections.abc import Mapping
from typing import Any, cast

Declaration = dict[str, Any]  # `kind`, and some of KEYS of that kind
Declared = list[str] | dict[str, str | Declaration] | None  # of `validate.targets`

KEYS: Mapping[str, tuple[str, ...]] = {
    "auto": (),
    "classes": (),
    "several": ("separator", "columns"),
    "ordinal": ("steps",),
    "number": ("unit", "loss", "level", "tolerance"),
}


def checked_targets(said: Any) -> Declared:
    """Return `validate.targets` as it is. Raises ValueError, in one line, where it declares no targets."""
    if said is None:
        return None
    if not isinstance(said, list | dict) or not said:
        raise ValueError("expected null, a list of columns, or a kind for each, such as {angle: number}")
    for name in said:
        if not isinstance(name, str) or not name:
            raise ValueError(f"expected the name of a column, found {name!r}: write it in quotes")
    if isinstance(said, list):
        if twice := [name for name in said if said.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} is there twice: name it once")
        return said
    checked = {name: _checked(name, own) for name, own in said.items()}
    for name, own in declarations(checked).items():
        if taken := [column for column in own.get("columns", []) if column in checked]:
            raise ValueError(f"{taken[0]!r} is a target, and a label of {name!r}: name it once")
    return checked


def declarations(targets: Declared) -> dict[str, Declaration]:
    """Return the declaration of each target to which `validate.targets` gives a kind."""
    named = targets if isinstance(targets, dict) else {}
    return {name: {"kind": own} if isinstance(own, str) else own for name, own in named.items()}


def _checked(name: str, said: Any) -> str | Declaration:
    own = {"kind": said} if isinstance(said, str) else said
    kind = own.get("kind") if isinstance(own, dict) else None
    if not isinstance(kind, str) or kind not in KEYS:
        found = repr(kind if isinstance(own, dict) else said)[:60]
        raise ValueError(f"the kind of {name!r} is {found}, expected one of {', '.join(KEYS)}")
    unknown = [key for key in own if key not in ("kind", *KEYS[kind])]
    if unknown:
        keys = ", ".join(KEYS[kind]) or "nothing else"
        raise ValueError(f"{name!r} of the kind {kind} has {unknown[0]!r}, expected {keys}: correct the spelling")
    if isinstance(said, dict):
        said = {key: _as_texts(value) if key in ("steps", "columns") else value for key, value in said.items()}
        _check_values(name, said)
    return cast("str | Declaration", said)


def _as_texts(values: Any) -> Any:
    """Return whole numbers in a list as texts, as cells of a table have them."""
    return [str(each) if type(each) is int else each for each in values] if isinstance(values, list) else values


def _check_values(name: str, own: Declaration) -> None:
    from tasks.targets.kinds import target_of  # takes a while, and most projects declare no kind

    if own["kind"] in ("auto", "classes") or own.keys() == {"kind"}:
        return
    try:
        target_of(own | ({"labels": []} if own["kind"] == "several" else {}))
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from None
    columns = own.get("columns", [])
    if len(set(columns)) < len(columns):
        raise ValueError(f"{name!r} names a column twice: name it once")
