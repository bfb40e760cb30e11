import numpy as np
import pandas as pd
import pytest

from tasks.page.scatter import MAX_DOTS, SIDE, histogram, scatter, span, ticks
from tasks.targets.number import Number


def answers(truths, errors, *, half=1.0):
    """Return a number's answers, truth + error, with intervals of 2 * half."""
    truth = np.asarray(truths, float)
    value = truth + errors
    ids = [f"{number:05d}" for number in range(len(truth))]
    own = {"candidate_value": value, "candidate_low": value - half, "candidate_high": value + half}
    return pd.DataFrame({"sample_id": ids, "label_value": truth} | own)


def test_answer_whose_interval_misses_the_truth_is_drawn_apart():
    drawn = scatter(answers([0, 10], [0.5, 5]), Number())
    assert drawn["dots"]["inside"] == f"M0.0 {SIDE - SIDE * 0.5 / 15:.1f}h0"
    assert drawn["dots"]["outside"].startswith(f"M{SIDE * 10 / 15:.1f} 0.0")
    assert [group["inside"] for group in drawn["groups"]] == [0.5]


def test_answer_far_from_all_others_lies_on_the_edge_and_is_counted():
    rows = answers([*range(1000), 500], [*[0.0] * 1000, 1e20])
    drawn = scatter(rows, Number())
    assert drawn["num_beyond"] == 1
    assert drawn["dots"]["outside"].endswith(" 0.0h0")
    assert float(drawn["ticks"][-1]["text"]) <= 1500


def test_of_many_answers_a_random_part_is_drawn_and_all_are_in_the_table():
    drawn = scatter(answers(range(MAX_DOTS + 500), 0.0), Number())
    assert drawn["num_dots"] == sum(path.count("h0") for path in drawn["dots"].values()) == MAX_DOTS
    assert sum(group["count"] for group in drawn["groups"]) == MAX_DOTS + 500


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [1e30, -1e30], []])
def test_axis_of_few_or_equal_or_huge_values_has_a_length(values):
    bottom, top = span(np.array(values))
    assert np.isfinite([bottom, top]).all()
    assert bottom < top


@pytest.mark.parametrize(("ends", "expected"), [((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]), ((-192, 197), [-100, 0, 100])])
def test_ticks_are_round_numbers(ends, expected):
    assert ticks(*ends) == pytest.approx(expected)


def test_bar_around_zero_is_in_the_middle_and_far_errors_are_in_the_last_bars():
    bars = histogram(np.array([*[0.0] * 98, 1.0, -1e9]))
    assert sum(bar["height"] for bar in bars["bars"]) == pytest.approx(140 * 100 / 98)
    [middle] = [bar for bar in bars["bars"] if bar["height"] == 140]
    assert middle["x"] < bars["width"] / 2 < middle["x"] + middle["width"]
    assert bars["bars"][0]["x"] == 0
