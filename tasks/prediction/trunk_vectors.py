"""The vectors that a model's own trunks give to samples of a manifest."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.samples.samples import Samples
from tasks.data.vectors.embeddings import Embeddings
from tasks.embedding.engine import Show, StoredView, embed, open_store
from tasks.embedding.looks import Hash
from tasks.prediction.answers import Answerer


@dataclass(frozen=True, kw_only=True)
class TrunkVectors:
    """The vectors of samples by target, each from the target's own trunk.

    The vectors of a trunk that is still the pretrained backbone lie in `embeddings`. Another trunk embeds the samples,
    by the same road as the held-out ones, and the store keeps the vectors.

    Args:
        rows: of the manifest, (n); `numbers` (n,) are their rows in `embeddings`.
        raw: the folder of the batches. `read`, `decode`, `hash_of` and `hashes_shape` are the modality's.
        store: the embedding store.
    """

    answerer: Answerer
    embeddings: Embeddings
    rows: pd.DataFrame
    numbers: NDArray[np.intp]
    raw: Path
    store: Path
    read: Callable[[Path], bytes]
    decode: Callable[..., Any]
    hash_of: Hash
    hashes_shape: tuple[int, int]
    show: Show = lambda items, total: items

    def recipe(self, trunk: int) -> str:
        """Return the recipe of a trunk's vectors: the fingerprint of its weights and its transform."""
        return self.answerer.trunks[trunk].fingerprint

    def samples(self, positions: NDArray[np.intp]) -> Samples[Any]:
        """Return k of the rows' samples themselves."""
        return Samples(self.rows.iloc[positions], raw=self.raw, decode=self.decode, read=self.read)

    def of_trunk(self, number: int, positions: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the vectors (k, dim) of k of the rows.

        Raises:
            ValueError: a sample is missing or has other bytes than it had, or a vector is not finite.
        """
        trunk = self.answerer.trunks[number]
        if trunk.fingerprint == self.embeddings.recipe:
            return self.embeddings[self.numbers[positions]]
        samples = self.samples(positions)
        kept = open_store(
            self.store, trunk.embedder, backbone=trunk.fingerprint, decode=self.decode, hash_of=self.hash_of,
            hashes_shape=self.hashes_shape,
        )  # fmt: skip
        view = StoredView(embedder=trunk.embedder, store=kept, keys=samples.ids)
        embed(samples.content, [view], names=samples.paths, show=self.show)
        return kept.all_looks(samples.ids).vectors.astype(np.float32)
