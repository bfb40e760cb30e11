import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from tasks.metrics.answered import Answered
from tasks.metrics.bootstrap import measure_once
from tasks.metrics.number import details, measures, parts
from tasks.targets.number import Number
from tests.kit.draws import check_draws

TARGET = Number(measure="degrees", tolerance=1.0, scale=10.0, interval=(-1.5, 2.0))


def made_up(n=400, *, seed=0, centre=1000.0):
    generator = np.random.default_rng(seed)
    truths = centre + 10 * generator.standard_normal(n)
    return Answered(
        TARGET.answers((truths + generator.standard_normal(n))[:, None] / 10, temperature=1.0), TARGET
    ), truths


def test_measures_are_those_of_scikit_learn():
    answered, truths = made_up()
    values = answered.answers[:, 0]
    measured = measure_once(measures(answered, truths, num_bins=15), n=len(truths))
    assert measured["mean_absolute_error"] == pytest.approx(mean_absolute_error(truths, values))
    assert measured["root_mean_squared_error"] == pytest.approx(root_mean_squared_error(truths, values))
    assert measured["r2"] == pytest.approx(r2_score(truths, values))
    assert measured["within_tolerance"] == pytest.approx((np.abs(values - truths) <= 1).mean())
    assert measured["coverage"] == pytest.approx(((truths - values >= -1.5) & (truths - values <= 2)).mean())
    assert measured["width"] == pytest.approx(3.5)


def test_sample_that_is_drawn_twice_counts_twice():
    check_draws(measures, *made_up(60))


def test_equal_truths_have_no_r2():
    answered, truths = made_up(5)
    assert measure_once(measures(answered, 0 * truths, num_bins=15), n=5)["r2"] is None


def test_level_and_tolerance_are_reported():
    answered, truths = made_up(5)
    assert details(answered, truths) == {"level": 0.9, "tolerance": 1.0}


def test_parts_are_quarters_of_the_truths_named_by_their_range():
    found = {name: int(of.sum()) for name, of in parts(np.arange(101.0), TARGET)}
    assert found == {
        "0 to 25 degrees": 25,
        "25 to 50 degrees": 25,
        "50 to 75 degrees": 25,
        "75 to 100 degrees": 26,
    }


def test_parts_of_numbers_that_agree_in_many_digits_have_names_of_their_own():
    names = [name for name, _ in parts(1_700_000_000 + np.arange(101.0), Number())]
    assert len(set(names)) == 4


@pytest.mark.parametrize(
    ("truths", "names"),
    [([0.0, 1.0], ["0 to 0.25", "0.75 to 1"]), ([5.0] * 4, ["5 to 5"]), ([0.0] * 9 + [1.0], ["0 to 1"])],
)
def test_every_sample_is_in_a_part_where_many_truths_are_equal(truths, names):
    found = list(parts(np.array(truths), Number()))
    assert [name for name, _ in found] == names
    assert sum(of.sum() for _, of in found) == len(truths)
