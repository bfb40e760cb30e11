"""The words of a text: what is a term, what a vocabulary keeps, and how much a term weighs."""

import numpy as np
import pytest

from tasks.text.words import MOST_CHARACTERS, fit_vocabulary, load_vocabulary, save_vocabulary, terms_of

TEXTS = ["The cat sat", "the dog sat", "a fish"]


def vocabulary(texts=TEXTS, **settings):
    return fit_vocabulary([terms_of(text) for text in texts], **settings)


def num_terms(text):
    return int(terms_of(text)[1].sum())


def test_terms_are_words_in_lower_case_and_pairs_of_them():
    assert num_terms("The cat, sat!") == 3 + 2
    for same in ("the CAT sat", " the\ncat... sat", "ｔｈｅ cat sat"):
        for one, other in zip(terms_of(same), terms_of("The cat, sat!"), strict=True):
            np.testing.assert_array_equal(one, other)
    assert set(terms_of("sat the cat")[0]) != set(terms_of("the cat sat")[0])


def test_script_without_blanks_has_a_word_a_character():
    assert num_terms("球队赢了 final") == 5 + 4
    assert set(terms_of("赢了")[0]) <= set(terms_of("球队赢了")[0])


@pytest.mark.parametrize("text", ["", "!?", "\ud83d", "\0", "🎉🎉"])
def test_text_without_a_known_term_weighs_nothing(text):
    places, weights = vocabulary().row(text)
    assert len(places) == len(weights) == 0


def test_rare_term_weighs_more_than_a_common_one_and_a_repeated_one_less_than_twice():
    known = vocabulary()
    places, weights = known.row("cat sat")
    by_term = dict(zip(known.hashes[places], weights, strict=True))
    [cat], [sat] = terms_of("cat")[0], terms_of("sat")[0]
    assert by_term[cat] > by_term[sat] > 0
    assert np.linalg.norm(weights) == pytest.approx(1)
    places, weights = known.row("fish cat cat")
    once, twice = (
        dict(zip(known.hashes[places], weights, strict=True))[terms_of(word)[0][0]] for word in ("fish", "cat")
    )
    assert once < twice < 2 * once


def test_vocabulary_does_not_depend_on_the_order_of_texts():
    one, other = vocabulary(), vocabulary(TEXTS[::-1])
    np.testing.assert_array_equal(one.hashes, other.hashes)
    np.testing.assert_array_equal(one.idf, other.idf)
    assert (np.diff(one.hashes) > 0).all()


def test_too_large_a_vocabulary_keeps_the_terms_of_most_texts():
    assert set(vocabulary(most_terms=2).hashes) == {*terms_of("the")[0], *terms_of("sat")[0]}


def test_among_many_texts_a_term_of_one_text_does_not_count():
    texts = [f"news {number // 2}" for number in range(2000)]
    assert not np.isin(terms_of("secret")[0], vocabulary([*texts, "secret"]).hashes).any()
    assert np.isin(terms_of("news")[0], vocabulary([*texts, "secret"]).hashes).all()


def test_of_a_huge_text_the_beginning_is_read():
    text = "ab " * 400_000
    assert num_terms(text) <= MOST_CHARACTERS


def test_no_file_of_the_vocabulary_has_a_word_of_the_texts(tmp_path):
    save_vocabulary(tmp_path, vocabulary(["password hunter2", "call 555 0199"]))
    [file] = tmp_path.iterdir()
    for word in (b"password", b"hunter2", b"0199"):
        assert word not in file.read_bytes()
    back = load_vocabulary(tmp_path)
    places, _ = back.row("hunter2")
    assert len(places) == 1


def test_torn_vocabulary_is_refused_by_name(tmp_path):
    assert load_vocabulary(tmp_path) is None
    save_vocabulary(tmp_path, vocabulary())
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"words\.safetensors is torn .*: run train_head again"):
        load_vocabulary(tmp_path)
