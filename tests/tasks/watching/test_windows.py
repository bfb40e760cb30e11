"""Windows of answers: by count, by time whatever a clock does, and each sample once."""

import pandas as pd
import pytest

from tasks.watching.windows import by_count, by_time, seconds_of


def answers(times, *, ids=None, reasons=None, targets=("label",)):
    n = len(times)
    table = pd.DataFrame(
        {
            "sample_id": ids or [f"{number}" for number in range(n)],
            "reason": pd.Series(reasons or [None] * n, dtype=object),
            "answered_at": pd.to_datetime(pd.Series(times), utc=True),
        }
    )
    return pd.concat([table.assign(target=target) for target in targets]).sort_index(kind="stable", ignore_index=True)


def test_windows_of_a_count_have_so_many_answers_of_each_target():
    windows = list(by_count(answers([None] * 7, targets=("label", "age")), 3))
    assert [window.num_samples for window in windows] == [3, 3, 1]
    assert [window.is_open for window in windows] == [False, False, True]
    assert not any(window.is_open for window in by_count(answers([None] * 6), 3))
    assert [len(window.of("age")) for window in windows] == [3, 3, 1]


def test_inputs_without_an_answer_fill_no_window_and_are_counted():
    reasons = ["blank", None, None, "broken", None, None, "blank"]
    windows = list(by_count(answers([None] * 7, reasons=reasons), 2))
    assert [window.num_samples for window in windows] == [2, 2]
    assert sum(sum(window.reasons.values()) for window in windows) == 3


def test_sample_that_is_asked_again_counts_once():
    [window] = by_count(answers([None] * 4, ids=["a", "b", "a", "a"]), 30)
    assert window.num_samples == 2
    assert window.num_repeated == 2


def test_answers_go_to_the_window_of_their_own_time_though_the_clock_jumped():
    times = [
        "2026-03-01T12:10Z",
        "2026-03-01T12:50Z",
        "1970-01-01T00:00Z",
        "2026-03-01T11:59Z",
        None,
        "2026-03-01T12:20Z",
    ]
    windows, without_time = by_time(answers(times), 3600)
    assert [window.begin.isoformat()[:13] for window in windows] == ["1970-01-01T00", "2026-03-01T11", "2026-03-01T12"]
    assert [window.num_samples for window in windows] == [1, 1, 3]
    assert [window.is_open for window in windows] == [False, False, True]
    assert without_time == 1


def test_window_has_the_same_key_whatever_the_order_of_its_answers():
    [one], [other] = (
        by_count(answers([None] * 2, ids=["a", "b"]), 30),
        by_count(answers([None] * 2, ids=["b", "a"]), 30),
    )
    assert one.key == other.key
    [third] = by_count(answers([None] * 2, ids=["b", "c"]), 30)
    assert third.key != one.key


@pytest.mark.parametrize("period", ["", "1", "h", "0h", "-1h", "1w", "1h ", "9999999h"])
def test_period_that_is_none_is_refused(period):
    with pytest.raises(ValueError, match="expected one such as 30m, 1h or 7d"):
        seconds_of(period)
