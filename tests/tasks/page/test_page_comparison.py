import pandas as pd
import pytest

from tasks.page.comparison import MEASURES, comparison
from tasks.page.outcomes import outcomes
from tasks.page.reliability import dots
from tasks.page.slices import MAX_ROWS, slices
from tasks.targets.classes import Classes
from tasks.targets.number import Number


def measured(value, width=0.1):
    keys = MEASURES["classes"]
    return dict.fromkeys(keys, value) | {"intervals": {key: [value - width, value + width] for key in keys}}


def compare(*, num_shared=9, shared=None, **models):
    """Return the rows of the first table."""
    metrics = {name: measured(value) for name, value in models.items()} | ({"shared": shared} if shared else {})
    return comparison(metrics | {"flips": {"num_samples": num_shared}}, {}, target=Classes(("x", "y")))[0]


def test_higher_accuracy_is_better_and_higher_loss_is_worse():
    rows = {row["title"]: row for row in compare(candidate=0.6, baseline=0.5)}
    assert rows["Accuracy"]["change"] == pytest.approx(0.1)
    assert rows["Accuracy"]["is_better"]
    assert not rows["Log-loss"]["is_better"]


def test_intervals_of_all_models_lie_on_one_scale():
    [row, *_] = compare(candidate=0.6, head=0.5, baseline=0.4)
    cells = {cell["model"]: cell for cell in row["cells"]}
    assert cells["baseline"]["low_at"] == pytest.approx(2)
    assert cells["candidate"]["high_at"] == pytest.approx(98)
    assert cells["head"]["at"] == pytest.approx(50)


def test_without_a_model_in_use_nothing_is_compared():
    [row, *_] = compare(candidate=0.6, head=0.6)
    assert row["change"] is None
    assert [cell["model"] for cell in row["cells"]] == ["candidate", "head"]


def test_coverage_nearer_to_the_level_is_better_and_a_missing_measure_has_no_row():
    models = {
        name: {"coverage": value, "r2": None, "width": 12345.678, "intervals": {"coverage": [0.5, 1.0]}}
        for name, value in (("candidate", 0.92), ("baseline", 0.99))
    }
    number = Number(measure="kg", level=0.9)
    [coverage, width] = comparison(models | {"flips": {"num_samples": 9}}, {}, target=number)[0]
    assert (coverage["better"], coverage["change"], coverage["is_better"]) == ("nearer to 0.9", -0.07, True)
    assert (width["title"], width["digits"]) == ("Width of the interval, kg", 0)
    assert width["cells"][0]["at"] is None


def test_change_that_is_too_small_to_be_seen_is_neither_better_nor_worse():
    [row, *_] = compare(candidate=0.60001, baseline=0.6)
    assert (row["change"], row["is_better"]) == (0, None)


def test_outcomes_are_counted_on_the_classes_that_both_know():
    rows = [
        ("x", "x", "x", True),
        ("x", "x", "y", True),
        ("x", "y", "x", True),
        ("x", "x", "y", True),
        ("new", "new", "x", False),
    ]
    counted = outcomes(pd.DataFrame(rows, columns=["label", "candidate", "baseline", "is_shared"]))
    assert counted["num"] == {"both": 1, "gained": 2, "lost": 1, "neither": 0}
    assert counted["num_shared"] == 4
    assert counted["gain"] == 0.25
    assert sum(part["share"] for part in counted["parts"]) == 100


def table(rows):
    columns = ["value", "candidate_accuracy", "candidate_low", "candidate_high", "baseline_accuracy", "negative_flips"]
    return pd.DataFrame(rows, columns=columns).assign(column="batch", num_samples=9, num_shared=9, positive_flips=1)


def test_slices_that_lost_come_before_slices_that_are_only_bad():
    rows = [("fine", 0.9, 0.8, 1.0, 0.9, 1), ("bad", 0.4, 0.3, 0.5, 0.3, 0), ("lost", 0.8, 0.7, 0.9, 0.95, 2)]
    [group] = slices(table(rows))
    assert [row["value"] for row in group["rows"]] == ["lost", "bad", "fine"]
    assert group["bottom"] == 0.3
    assert group["rows"][1]["low_at"] == pytest.approx(0)


def test_equal_slices_stay_in_order():
    values = ["8 to 15 px", "16 to 31 px", "128 to 255 px"]
    [group] = slices(table([(value, 0.9, 0.8, 1.0, 0.9, 1) for value in values]))
    assert [row["value"] for row in group["rows"]] == values


def test_slice_whose_other_samples_are_worse_has_not_lost():
    rows = table([("new class", 0.5, 0.4, 0.6, 0.9, 0), ("lost", 0.9, 0.8, 1.0, 0.95, 2)]).assign(num_shared=[4, 9])
    [group] = slices(rows)
    assert [row["value"] for row in group["rows"]] == ["lost", "new class"]
    assert [row["baseline_at"] is None for row in group["rows"]] == [False, True]


def test_slice_without_a_baseline_has_no_baseline_accuracy():
    [group] = slices(table([("a", 0.9, 0.85, 0.95, float("nan"), float("nan"))]))
    assert group["rows"][0]["baseline_accuracy"] is None
    assert group["rows"][0]["baseline_at"] is None


def test_long_table_of_slices_is_cut_and_counted():
    [group] = slices(table([(str(number), 0.9, 0.8, 1.0, 0.9, 1) for number in range(MAX_ROWS + 3)]))
    assert (len(group["rows"]), group["num_rows"]) == (MAX_ROWS, MAX_ROWS + 3)


def test_dot_of_a_bin_is_below_the_diagonal_if_the_model_is_too_sure():
    [dot] = dots(pd.DataFrame({"confidence": [0.9], "accuracy": [0.5], "count": [4]}), side=100)
    assert (dot["x"], dot["y"], dot["y_ideal"]) == (90, 50, pytest.approx(10))


def test_width_has_no_interval_of_chance_and_small_numbers_keep_their_digits():
    own = {"mean_absolute_error": 5.18e-31, "width": 2e-4}
    models = {"candidate": own | {"intervals": {"mean_absolute_error": [4e-31, 6e-31], "width": [2e-4, 2e-4]}}}
    [error, width] = comparison(models, {}, target=Number())[0]
    assert error["digits"] is None
    assert error["cells"][0]["low"] == 4e-31
    assert width["cells"][0]["at"] is None
