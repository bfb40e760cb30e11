"""Read samples that nobody has inspected, of either modality: within limits, and each with its defect by name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tasks.data.raw.options import TextTables
from tasks.data.samples.text_cells import text_of_bytes
from tasks.images import decode as images
from tasks.images.options import SizeLimits
from tasks.prediction.inputs import Input, find_inputs, read_input
from tasks.text import decode as text
from tasks.text.options import TextLimits


@dataclass(frozen=True, kw_only=True)
class Limits(SizeLimits, TextLimits):
    """The limits of a sample from a stranger."""

    min_image_size: int = 1  # px
    max_image_pixels: int = 100_000_000
    min_characters: int = 1
    max_characters: int = 1_000_000
    max_file_bytes: int = 500_000_000


class Reading:
    """The way to find, read and decode the samples of a model's modality.

    Args:
        transform: the model's, which knows its modality.
        lineage: the model's, which names the columns that make a text.
        columns: those that make a text, instead.
        encoding: of texts; None is UTF-8, or the encoding that the mark at a file's start names.

    Raises:
        ValueError: the model reads images and is given columns or an encoding, or its lineage names no columns.
    """

    def __init__(
        self,
        transform: Any,
        lineage: dict[str, Any],
        *,
        limits: Limits | None = None,
        columns: list[str] | None = None,
        encoding: str | None = None,
    ) -> None:
        self.transform = transform
        self.limits = limits or Limits()
        self.columns, self.encoding = columns, encoding
        self.is_text = transform.modality == "text"
        if not self.is_text and (columns or encoding):
            raise ValueError("the model reads images: --text-columns and --encoding are for models of texts")
        of_model = lineage.get("text_columns")
        if of_model is not None and not (
            isinstance(of_model, list) and of_model and all(isinstance(name, str) for name in of_model)
        ):
            raise ValueError(f"the bundle names the text_columns {str(of_model)[:60]}, expected a list of names")
        self.tables = TextTables(text_columns=columns or of_model, encoding=encoding) if self.is_text else None
        room: Any = text if self.is_text else images
        self.decode: Callable[[bytes], Any] = partial(
            room.decode_stranger, limits=self.limits, shorter_side=transform.shorter_side
        )
        self._read: Callable[[Path], bytes] = room.read
        self._of_bytes: Callable[[bytes], bytes] = (
            partial(text_of_bytes, otherwise=encoding) if self.is_text else lambda content: content
        )

    def find(
        self,
        named: Iterable[Path | str],
        *,
        root: Path | None = None,
        left_out: Callable[[Path], bool] = lambda path: False,
    ) -> Iterator[Input]:
        """Yield the samples that a person names; see `find_inputs`."""
        return find_inputs(named, root=root, left_out=left_out, texts=self.tables)

    def content(self, item: Input) -> bytes:
        """Return the bytes of an input. Raises DefectError if it cannot be read or is too large."""
        return read_input(
            item, max_file_bytes=self.limits.max_file_bytes, read=self._read, of_bytes=self._of_bytes
        )  # fmt: skip

    def remarks(self, sample: Any) -> dict[str, Any]:
        """Return remarks on a sample that the model does not see in full: a text may be cut, or have unknown tokens."""
        if not self.is_text:
            return {}
        return {
            "truncated": self.transform.is_cut(sample), "share_unknown": self.transform.share_unknown(sample)
        }  # fmt: skip
