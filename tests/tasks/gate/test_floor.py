import pytest
from scipy.stats import binom

from tasks.gate.floor import least_share, p_value_of_floor


@pytest.mark.parametrize("num_samples", [6, 30, 200, 5000])
def test_share_that_is_as_good_as_its_floor_is_rarely_below(num_samples):
    fewest = round(least_share(0.9, num_samples=num_samples, level=0.01) * num_samples)
    assert binom.cdf(fewest - 1, num_samples, 0.9) < 0.01 <= binom.cdf(fewest, num_samples, 0.9)


def test_too_few_samples_have_no_floor():
    assert least_share(0.5, num_samples=2, level=0.01) == 0


def test_p_value_is_that_of_the_exact_binomial():
    assert p_value_of_floor(0.5, floor=0.9, num_samples=4) == pytest.approx(binom.cdf(2, 4, 0.9))
