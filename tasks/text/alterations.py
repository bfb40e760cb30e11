"""Make altered copies of a text, as they occur in collections: one copy a kind."""

import html
import re
import string
from collections.abc import Callable

import pandas as pd

from tasks.text.copy_hash import LEAST_CHARACTERS, MOST_CHARACTERS

SENTENCE = re.compile(r"(?<=[.!?])\s+")
WORDS_REPLACED = 20  # one in so many


def without_punctuation(text: str) -> str:
    return text.translate(str.maketrans("", "", string.punctuation))


def folded(text: str) -> str:
    """Put one blank in the place of any run of blanks and line ends."""
    return " ".join(text.split())


def without_a_sentence(text: str, *, is_first: bool) -> str:
    """Leave out the first or the last sentence. A single sentence stays."""
    sentences = SENTENCE.split(text)
    if len(sentences) < 2:
        return text
    return " ".join(sentences[1:] if is_first else sentences[:-1])


def with_other_words(text: str, *, strength: float) -> str:
    """Replace one word in WORDS_REPLACED by its neighbour; `strength`, 0..1, places the first one."""
    words = text.split(" ")
    for place in range(int(strength * (WORDS_REPLACED - 1)), len(words), WORDS_REPLACED):
        words[place] = words[place - 1]
    return " ".join(words)


def mistyped(text: str) -> str:
    """Swap two letters in the middle of one word in WORDS_REPLACED."""
    words = text.split(" ")
    for place in range(0, len(words), WORDS_REPLACED):
        word, middle = words[place], len(words[place]) // 2
        if middle:
            words[place] = word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]
    return " ".join(words)


def may_be_altered(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return whether the samples of manifest rows have a hash that altered copies share, and are quickly altered."""
    return rows["characters"].between(2 * LEAST_CHARACTERS, MOST_CHARACTERS)


# by kind: a function of the text and the strength of the alteration, 0..1
ALTERED_COPIES: dict[str, Callable[[str, float], str]] = {
    "in other case": lambda text, strength: text.upper() if strength < 0.5 else text.lower(),
    "without punctuation": lambda text, strength: without_punctuation(text),
    "folded": lambda text, strength: folded(text),
    "escaped": lambda text, strength: html.escape(text),
    "without a sentence": lambda text, strength: without_a_sentence(text, is_first=strength < 0.5),
    "with other words": lambda text, strength: with_other_words(text, strength=strength),
}

# alterations that should change no answer, by their names in evaluate.perturbations
PERTURBATIONS: dict[str, Callable[[str], str]] = {
    "lowercase": str.lower,
    "folded": folded,
    "mistyped": mistyped,
}
