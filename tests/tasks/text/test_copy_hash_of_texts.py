"""The shingle hash: copies lie near each other, strangers half of the bits apart."""

import numpy as np
import pytest

from tasks.text.alterations import ALTERED_COPIES
from tasks.text.copy_hash import DISTANCE, HASHES_SHAPE, NUM_BITS, copy_hashes

TEXT = """
market price rise fall company report quarter profit loss share stock oil energy court minister election vote
storm rain flood city police team match goal season player coach win defeat science space planet launch
"""
WORDS = TEXT.split()


def text(seed: int, *, num_words: int = 40) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, num_words)).capitalize() + "."


def distance(left: str, right: str) -> int:
    words = (DISTANCE.words(copy_hashes(each)[None]) for each in (left, right))
    return int(DISTANCE.of_pairs(*words)[0])


def test_hash_has_its_shape_and_is_always_the_same():
    assert copy_hashes(text(0)).shape == HASHES_SHAPE
    assert (copy_hashes(text(0)) == copy_hashes(text(0))).all()


@pytest.mark.parametrize("kind", ["in other case", "without punctuation", "folded"])
def test_copy_in_other_letters_has_the_same_hash(kind):
    original = "Oil prices rise again,\n as Minister says: \u201cno comment\u201d - and markets fall."
    assert distance(original, ALTERED_COPIES[kind](original, 0.3)) == 0


def test_copy_with_one_word_in_twenty_replaced_is_nearer_than_any_stranger():
    texts = [text(seed) for seed in range(60)]
    copies = [distance(one, ALTERED_COPIES["with other words"](one, 0.5)) for one in texts]
    strangers = [distance(texts[row], texts[column]) for row in range(60) for column in range(row)]
    assert max(copies) < min(strangers)
    assert max(copies) < 100


def test_distance_follows_the_share_of_shingles_that_both_texts_have():
    letters = np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz"), (100, 4, 500))
    parts = [["".join(part) for part in row] for row in letters]
    strangers = np.mean([distance(a, b) for a, b, _, _ in parts])
    a_third = np.mean([distance(a + b, b + c) for a, b, c, _ in parts])  # one part of three is in both
    assert abs(strangers - NUM_BITS / 2) < 5
    assert abs(a_third - NUM_BITS / 2 * (1 - 1 / 3)) < 5


def test_texts_with_few_characters_are_no_copies_of_each_other():
    assert distance("Ok..", "Ok...") > 180
    assert distance("Ok..", "Ok..") == 0


@pytest.mark.parametrize("odd", ["\ud83d" * 30, "\0" * 30, "\u0e01" * 500_000, "e" + "\u0301" * 500_000])
def test_any_string_has_a_hash(odd):
    assert copy_hashes(odd).shape == HASHES_SHAPE


def test_tags_and_addresses_that_strangers_share_make_them_no_copies():
    link = '&lt;A HREF="http://www.example.com/FullQuote.aspx?ticker=ABC.N target=/stocks/quickinfo/fullquote"&gt;'
    pairs = [(f"{link}{text(2 * seed)}&lt;/A&gt;", f"{link}{text(2 * seed + 1)}&lt;/A&gt;") for seed in range(30)]
    plain = [(text(2 * seed), text(2 * seed + 1)) for seed in range(30)]
    assert [distance(*pair) for pair in pairs] == [distance(*pair) for pair in plain]
