"""Make the previews of samples for the page, as far as the modality and params.yaml allow it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.data.samples.samples import Samples
from tasks.machine.cores import spread
from tasks.page.options import PageOptions

# reasons for which a sample was decoded whole when it was scanned; other samples may take hours or crash a decoder
DECODED = (
    "unlabelled_copy",
    "conflicting_labels",
    "exact_duplicate",
    "duplicate_path",
    "unknown_class",
    "class_in_probation",
    "set_aside_by_hand",
    "contradicting_corrections",
)


@dataclass(frozen=True, kw_only=True)
class Previews:
    """Previews of samples: a thumbnail as a data URI of an image, a snippet of a text.

    Args:
        raw: the folder of the batches.
        decode: that part of the modality's room.
        preview: that part of the modality's room.
    """

    raw: Path
    decode: Any
    preview: Any
    options: PageOptions

    @property
    def are_shown(self) -> bool:
        """Return whether samples may be shown; if not, none is read."""
        return bool(self.preview.is_shown(self.options))

    def of_samples(self, rows: pd.DataFrame) -> dict[str, str]:
        """Return the previews of samples that can be decoded, by sample_id.

        Args:
            rows: batch, path and sample_id.

        Raises:
            ValueError: a sample is missing (the message has the command that brings its batch) or has changed since it
                was validated.
        """
        if not self.are_shown:
            return {}
        samples = self._samples(rows.drop_duplicates("sample_id"))
        made = spread(range(len(samples)), lambda row: self.preview.preview(self._decoded(samples, row), self.options))
        return dict(zip(samples.ids, made, strict=True))

    def of_ledger(self, ledger: pd.DataFrame) -> list[dict[str, Any]]:
        """Return the rows of the quarantine ledger with their `preview`; None where none can be made."""
        samples = self._samples(ledger)

        def make(row: int) -> str | None:
            # a row without an id, such as that of a text beside the class folders, was never read
            if not self.are_shown or ledger["reason"].iloc[row] not in DECODED or not samples.ids[row]:
                return None
            try:
                return str(self.preview.preview(self._decoded(samples, row), self.options))
            except (ValueError, OSError):  # it was removed or changed since: the ledger has its reason all the same
                return None

        rows = [{str(key): value for key, value in row.items()} for row in ledger.to_dict("records")]
        made = spread(range(len(rows)), make)
        return [row | {"preview": preview} for row, preview in zip(rows, made, strict=True)]

    def of_twins(self, leaks: pd.DataFrame, *, limit: int) -> list[dict[str, Any]]:
        """Return at most `limit` leaks, the least alike first, with the previews of both samples as `left` and `right`.

        Args:
            leaks: a table of `tasks.data.health.leaks`.

        Raises:
            ValueError: as `of_samples`.
        """
        measured = leaks.assign(**{name: pd.to_numeric(leaks[name]) for name in ("cosine", "hash_distance")})
        order = ["hash_distance", "cosine", "sample_id"]
        rows = measured.sort_values(order, ascending=[False, True, True]).head(limit).reset_index(drop=True)
        names = ["batch", "path", "sample_id"]
        one = self._samples(rows[names])
        other = self._samples(rows[[f"twin_{name}" for name in names]].set_axis(names, axis=1))

        def make(row: int) -> tuple[Any, Any]:
            if not self.are_shown:
                return None, None
            twins = self._decoded(one, row), self._decoded(other, row)
            pair: tuple[Any, Any] = self.preview.preview_twins(*twins, self.options)
            return pair

        pairs = spread(range(len(rows)), make)
        return [
            {str(key): value for key, value in row.items()} | {"left": left, "right": right}
            for row, (left, right) in zip(rows.to_dict("records"), pairs, strict=True)
        ]

    def _samples(self, rows: pd.DataFrame) -> Samples[Any]:
        return Samples(rows, raw=self.raw, decode=self.decode.decode_sample, read=self.decode.read)

    def _decoded(self, samples: Samples[Any], row: int) -> Any:
        return samples.decoded(row, shorter_side=self.options.picture_size)
