"""What params.yaml sets for the reading of raw samples."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from tasks.machine.bounds import Count, Positive


@dataclass(frozen=True, kw_only=True)
class ReadingLimits:
    """The most that one sample may cost: the bytes of its file, and the processor time of its decoder."""

    max_file_bytes: Count
    max_decode_seconds: Positive


@dataclass(frozen=True, kw_only=True)
class TextTables:
    """The columns that make a text (None: the one with a usual name), and the encoding (None: UTF-8 or its mark)."""

    text_columns: Annotated[list[str], Field(min_length=1)] | None
    encoding: str | None
