"""The settings in params.yaml for text."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class TextLimits:
    """The sizes of a text, all its cells together, that are read; in characters."""

    min_characters: Annotated[int, Field(ge=1)]
    max_characters: Annotated[int, Field(ge=1, le=100_000_000)]


@dataclass(frozen=True, kw_only=True)
class TokenOptions:
    """The number of tokens of a text that the encoder reads, and the treatment of a longer text."""

    max_tokens: Annotated[int, Field(ge=8, le=8192)] | None
    long: Literal["head", "head_tail", "windows"]


@dataclass(frozen=True, kw_only=True)
class Snippets:
    """The switches for texts on the page: whether they are shown, and whether their digits are masked."""

    show_text: bool
    mask_digits: bool
