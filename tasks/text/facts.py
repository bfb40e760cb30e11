"""The facts of a text, which scan writes beside its labels."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts of a text: its characters, its words, and whether remains of HTML stand in it."""

    characters: int
    words: int
    has_markup: bool
