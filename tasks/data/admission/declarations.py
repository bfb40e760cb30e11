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
    checked = {name: _checked(name, declaration) for name, declaration in said.items()}
    for name, declaration in declarations(checked).items():
        if taken := [column for column in declaration.get("columns", []) if column in checked]:
            raise ValueError(f"{taken[0]!r} is a target, and a label of {name!r}: name it once")
    return checked


def declarations(targets: Declared) -> dict[str, Declaration]:
    """Return the declaration of each target to which `validate.targets` gives a kind."""
    named = targets if isinstance(targets, dict) else {}
    return {
        name: {"kind": declaration} if isinstance(declaration, str) else declaration
        for name, declaration in named.items()
    }


def _checked(name: str, declared: Any) -> str | Declaration:
    settings = {"kind": declared} if isinstance(declared, str) else declared
    kind = settings.get("kind") if isinstance(settings, dict) else None
    if not isinstance(kind, str) or kind not in KEYS:
        given = repr(kind if isinstance(settings, dict) else declared)[:60]
        raise ValueError(f"the kind of {name!r} is {given}, expected one of {', '.join(KEYS)}")
    unknown = [key for key in settings if key not in ("kind", *KEYS[kind])]
    if unknown:
        keys = ", ".join(KEYS[kind]) or "nothing else"
        raise ValueError(f"{name!r} of the kind {kind} has {unknown[0]!r}, expected {keys}: correct the spelling")
    if isinstance(declared, dict):
        declared = {key: _as_texts(value) if key in ("steps", "columns") else value for key, value in declared.items()}
        _check_values(name, declared)
    return cast("str | Declaration", declared)


def _as_texts(values: Any) -> Any:
    """Return whole numbers in a list as texts, as cells of a table have them."""
    return [str(value) if type(value) is int else value for value in values] if isinstance(values, list) else values


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
