"""Count the words of a text: the terms of a vocabulary, weighted by how rare each of them is (TF-IDF).

A term is a word in lower case, or two words that follow each other. Only a hash of it is kept, so that no file of a
model repeats a text that it learned from.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tasks.targets.head import SparseRow

FILE = "words.safetensors"  # beside the heads that read words

MOST_CHARACTERS = 100_000  # of a longer text the first, which cost 0.1 s
MOST_TERMS = 2**16  # of a vocabulary: those in the most texts
TINY = 1e-12  # where a text has no term of the vocabulary
FEW_TEXTS = 1_000  # of fewer texts, a term of a single one counts as well

_BLANKLESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD = re.compile(f"[{_BLANKLESS}]|[^\\W{_BLANKLESS}]+")  # scripts without blanks: a character is a word

Terms = tuple[NDArray[np.int64], NDArray[np.int64]]  # the hashes of a text's terms, ascending, and how often each comes


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The terms that count: their hashes (num_terms,), ascending, and inverse document frequencies (num_terms,)."""

    hashes: NDArray[np.int64]
    idf: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.hashes)

    def row(self, text: str) -> SparseRow:
        """Return the terms of a text by their places in the vocabulary, with weights of norm 1."""
        return self.weigh(terms_of(text))

    def weigh(self, terms: Terms) -> SparseRow:
        """Return the result of `row`, for terms that are counted already."""
        hashes, counts = terms
        places = np.searchsorted(self.hashes, hashes)
        is_known = places < len(self.hashes)
        is_known[is_known] = self.hashes[places[is_known]] == hashes[is_known]
        weights = (1 + np.log(counts[is_known])) * self.idf[places[is_known]]
        return places[is_known], (weights / max(float(np.linalg.norm(weights)), TINY)).astype(np.float32)


def terms_of(text: str) -> Terms:
    """Count the terms of a text."""
    words = WORD.findall(unicodedata.normalize("NFKC", text[:MOST_CHARACTERS]).casefold())
    counted = Counter([*words, *map(" ".join, pairwise(words))])
    digests = b"".join(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest() for term in counted)
    hashes = np.frombuffer(digests, dtype="<i8").astype(np.int64)
    order = np.argsort(hashes)
    return hashes[order], np.fromiter(counted.values(), dtype=np.int64)[order]


def fit_vocabulary(texts: Sequence[Terms], *, most_terms: int = MOST_TERMS) -> Vocabulary:
    """Return the terms of at least two texts, or of one where there are few texts, with their smoothed frequencies."""
    every = np.concatenate([np.empty(0, np.int64), *(hashes for hashes, _ in texts)])
    hashes, num_texts = np.unique(every, return_counts=True)
    order = np.lexsort((hashes, -num_texts))[:most_terms]
    order = np.sort(order[num_texts[order] >= (1 if len(texts) < FEW_TEXTS else 2)])
    idf = 1 + np.log((1 + len(texts)) / (1 + num_texts[order]))
    return Vocabulary(hashes=hashes[order], idf=idf.astype(np.float32))


def save_vocabulary(folder: Path, vocabulary: Vocabulary) -> None:
    """Write the vocabulary into the folder of the heads that read words."""
    save_file({"hashes": vocabulary.hashes, "idf": vocabulary.idf}, folder / FILE)


def load_vocabulary(folder: Path) -> Vocabulary | None:
    """Return the vocabulary of a folder of heads; None where they read no words. Raises ValueError for a torn file."""
    if not (folder / FILE).exists():
        return None
    try:
        return Vocabulary(**load_file(folder / FILE))
    except (TypeError, SafetensorError) as error:
        raise ValueError(f"{folder / FILE} is torn ({error}): run train_head again, or `dvc checkout` it") from error
