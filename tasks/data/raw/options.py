"""The settings in params.yaml for the reading of raw samples."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from tasks.data.raw.entries import FACTS, KEYS, LABEL, column
from tasks.data.samples.text_encoding import known_encoding
from tasks.machine.bounds import Count, Positive


@dataclass(frozen=True, kw_only=True)
class ReadingLimits:
    """The limits of one sample's cost: the bytes of its file, and the processor time of its decoder."""

    max_file_bytes: Count
    max_decode_seconds: Positive


@dataclass(frozen=True, kw_only=True)
class TextTables:
    """The columns that make a text (None: the one with a usual name), and the encoding (None: UTF-8 or its mark)."""

    text_columns: Annotated[list[str], Field(min_length=1)] | None
    encoding: str | None

    def __post_init__(self) -> None:
        names = [column(name) for name in self.text_columns or []]
        for name in names:
            if not name or name in (*KEYS, LABEL, *FACTS):
                raise ValueError(f"text_columns names {name!r}, which is no text, expected the columns of the text")
        if len(set(names)) < len(names):
            raise ValueError("text_columns names a column twice")
        if self.encoding is not None:
            known_encoding(self.encoding)


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """The size from which `ingest` packs a batch (None: never), and the mean size of a shard."""

    pack_above: Count | None
    shard_megabytes: Annotated[int, Field(ge=1, le=256)]
