"""The benchmark of texts: its draws of labels, its made-up texts, and its tables with damaged rows."""

import numpy as np
import pytest

from benchmarks.kit.news import News
from benchmarks.kit.text_rows import KINDS, NUM_DAMAGED, NUM_ROWS, make_table


@pytest.fixture
def news():
    labels = np.arange(200) % 4
    return News(
        texts=[f"title {row}\nfirst {row}. second {row}." for row in range(200)], names=list("abcd"), labels=labels,
        heldout=np.arange(40), pool=np.arange(40, 200),
    )  # fmt: skip


@pytest.mark.parametrize(("num_labels", "num_train", "num_val"), [(8, 8, 2), (1, 1, 1), (None, 32, 8)])
def test_draw_has_its_labels_of_each_class_and_never_held_out(news, num_labels, num_train, num_val):
    train, val = news.draw(num_labels, seed=0)
    assert np.bincount(news.labels[train]).tolist() == [num_train] * 4
    assert np.bincount(news.labels[val]).tolist() == [num_val] * 4
    assert not set(train) & set(val)
    assert not {*train, *val} & set(news.heldout)


def test_recombined_texts_are_made_of_sentences_of_their_class(news):
    made = news.recombined(40)
    assert len(made) == 40
    rows = [{int(word.strip(".")) for word in text.split() if word.strip(".").isdigit()} for text, _ in made]
    assert all(
        {news.names[news.labels[row]] for row in some} == {name} for some, (_, name) in zip(rows, made, strict=True)
    )


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_table_has_whole_rows_beside_damaged_ones_and_is_always_the_same(number):
    tables = [make_table(np.random.default_rng(7), number) for _ in range(2)]
    assert tables[0] == tables[1]
    assert NUM_ROWS - NUM_DAMAGED <= len(tables[0].whole) < NUM_ROWS
