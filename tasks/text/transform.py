"""Apply the evaluation transform of an encoder: turn a text into the windows of token ids that it reads."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.text.tokenizer import load_tokenizer, unknown_id, without_panic

Long = Literal["head", "head_tail", "windows"]
CHARACTERS_A_TOKEN = 100  # at most, in a text that is worth reading; a longer word is one unknown token
MOST_WINDOWS = 64  # of one text
MOST_SPECIAL = 4  # tokens that a tokenizer adds to a text; published ones add two

Windows = list[list[int]]  # the token ids of the windows of a text, special tokens included


@dataclass(frozen=True, kw_only=True)
class TextTransform:
    """Tokenise a text, and cut it to windows of at most `max_tokens` tokens, special tokens included.

    `long` is the treatment of a longer text: its head stays; three quarters come from its head and one from its tail;
    or windows that overlap by half are read, whose vectors are averaged.
    """

    tokenizer_json: bytes
    vocab_size: int
    max_tokens: int
    long: Long = "head"
    modality: ClassVar[Literal["text"]] = "text"
    shorter_side: ClassVar[None] = None  # a text is decoded whole
    num_marks: ClassVar[int] = 2

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.tokenizer_json, vocab_size=self.vocab_size)

    @cached_property
    def _special(self) -> tuple[list[int], list[int]]:
        """Return the special tokens before and behind a text."""
        bare = self._ids("a")
        whole: list[int] = without_panic(lambda: self.tokenizer.encode("a").ids)
        num_special = len(whole) - len(bare)
        for start in range(num_special + 1):
            if whole[start : start + len(bare)] == bare and num_special <= MOST_SPECIAL:
                if max(whole, default=0) >= self.vocab_size:
                    raise ValueError(
                        f"tokenizer.json adds the token id {max(whole)}, expected ids below {self.vocab_size}"
                    )
                return whole[:start], whole[start + len(bare) :]
        raise ValueError(
            f"tokenizer.json makes {len(whole)} tokens of {len(bare)}, expected at most {MOST_SPECIAL} special ones "
            "around them"
        )

    @property
    def filler(self) -> int:
        """Return the id of a token that fills an empty place."""
        before, behind = self._special
        return (*before, *behind, 0)[0]

    @property
    def room(self) -> int:
        """Return the number of tokens of a text that fit into a window."""
        before, behind = self._special
        return self.max_tokens - len(before) - len(behind)

    @property
    def longest(self) -> str:
        """Return in words how much of a text is read."""
        windows = f"{MOST_WINDOWS} windows of " if self.long == "windows" else ""
        return f"{windows}{self.max_tokens} tokens"

    def to_dict(self) -> dict[str, Any]:
        """Return everything that a token id depends on besides the text, as JSON."""
        return {
            "long": self.long,
            "max_tokens": self.max_tokens,
            "tokenizer_sha256": hashlib.sha256(self.tokenizer_json).hexdigest(),
            "vocab_size": self.vocab_size,
        }

    @staticmethod
    def stack(prepared: Sequence[Windows]) -> list[Windows]:
        """Return a minibatch of texts, which keep their own lengths."""
        return list(prepared)

    def prepare(self, text: str) -> Windows:
        """Return the windows of a text: one, unless `long` is windows."""
        before, behind = self._special
        # an empty text gets one token where the tokenizer adds no special ones
        return [[*before, *ids, *behind] or [self.filler] for ids in self._cut(text)]

    def is_cut(self, text: str) -> bool:
        """Return whether tokens of the text are left out of all windows."""
        most = self.room * (MOST_WINDOWS + 1) // 2 if self.long == "windows" else self.room
        return len(text) > most * CHARACTERS_A_TOKEN or len(self._ids(text[: most * CHARACTERS_A_TOKEN])) > most

    def share_unknown(self, text: str) -> float:
        """Return the share of unknown tokens among those that are read, 0..1."""
        return self._share_unknown(self.prepare(text))

    def marks(self, text: str, windows: Windows) -> NDArray[np.uint8]:
        """Return the marks (2,) of a text and its windows: whether it is cut, and 255 x its share of unknown tokens."""
        # a text whose last window has room is not cut, and need not be tokenised again
        may_be_cut = len(windows[-1]) == self.max_tokens or len(text) > self.room * CHARACTERS_A_TOKEN
        is_cut = may_be_cut and self.is_cut(text)
        return np.array([is_cut, round(255 * self._share_unknown(windows))], dtype=np.uint8)

    def _share_unknown(self, windows: Windows) -> float:
        before, behind = map(len, self._special)
        ids = [token for window in windows for token in window[before : len(window) - behind]]
        return sum(token == self.unknown_id for token in ids) / max(len(ids), 1)

    @cached_property
    def unknown_id(self) -> int | None:
        """Return the id of the token for unknown words; None where the vocabulary covers every text."""
        return unknown_id(self.tokenizer_json)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = without_panic(lambda: self.tokenizer.encode(text, add_special_tokens=False).ids)
        return ids

    def _cut(self, text: str) -> Sequence[list[int]]:
        # characters are cut first: the tokenizer reads all of them, 1.2 s for 1 MB, before it would cut tokens
        room = self.room
        if self.long == "windows":
            half = max(room // 2, 1)
            ids = self._ids(text[: room * MOST_WINDOWS * CHARACTERS_A_TOKEN])
            starts = range(0, max(len(ids) - room, 0) + half, half) if len(ids) > room else range(1)
            return [ids[start : start + room] for start in starts][:MOST_WINDOWS]
        longest = room * CHARACTERS_A_TOKEN
        ids = self._ids(text[:longest])
        if len(ids) <= room and len(text) <= longest:
            return [ids]
        if self.long == "head":
            return [ids[:room]]
        tail = room // 4
        return [[*ids[: room - tail], *self._ids(text[-longest:])[-tail:]]]
